"""Requests of a tape as records: the columns that every export has, under one set of names.

A record is a request with what came of it. Values are Python's own; None stands for what did not happen or is not on
the tape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import NEVER, Table
from ringtape.proto import tape_pb2
from ringtape.tape.words import KINDS, flag_names

NAMES = (
    "id",
    "worker",
    "sequence",
    "checkpoint",
    "kind",
    "disk",
    "offset",
    "length",
    "flags",
    "covers",
    "request_digest",
    "submitted_ns",
    "completed_ns",
    "result",
    "digest",
    "released_ns",
    "released_at",
)
# The flags of a request, by their bits, in one word.
FLAG_WORDS = tuple(" ".join(flag_names(flags)) for flags in range(4))


def unknown(rows: Table) -> dict[str, NDArray[np.bool_]]:
    """For each column in which a value may be missing: where it is."""
    uncompleted = rows["completed_ns"] == NEVER
    unreleased = rows["released_at"] == 0
    return {
        "covers": rows["covers"] < 0,
        "request_digest": rows["request_digest"] == 0,
        "completed_ns": uncompleted,
        "result": uncompleted,
        "digest": rows["digest"] == 0,
        "released_ns": unreleased,
        "released_at": unreleased,
    }


def columns(rows: Table, header: tape_pb2.Header) -> dict[str, list[Any]]:
    """The records of the rows, a list a column, in the order of `NAMES`."""
    disks = [disk.name for disk in header.disks]
    result: dict[str, list[Any]] = {name: rows[name].tolist() for name in NAMES}
    result["kind"] = [KINDS[kind] for kind in result["kind"]]
    result["disk"] = [disks[disk] for disk in result["disk"]]
    result["flags"] = [FLAG_WORDS[flags] for flags in result["flags"]]
    for name in ("request_digest", "digest"):
        if rows[name].any():
            result[name] = [f"{digest:016x}" for digest in result[name]]
    for name, where in unknown(rows).items():
        column = result[name]
        if where.all():
            result[name] = [None] * len(column)
        else:
            for row in np.flatnonzero(where).tolist():
                column[row] = None
    return result


def records(rows: Table, header: tape_pb2.Header) -> Iterator[dict[str, Any]]:
    """The rows as objects for JSON; flags are a list of words there."""
    found = columns(rows, header)
    found["flags"] = [flags.split() for flags in found["flags"]]
    for values in zip(*found.values(), strict=True):
        yield dict(zip(NAMES, values, strict=True))
