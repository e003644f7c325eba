"""`ringtape tape dump`: a tape row by row, or request by request, as a stream.

It prints what is whole before it lets a damage through.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ringtape.coordinator.tape import (
    CompletionRow,
    RequestRow,
    Row,
    Table,
    TapeReader,
    TokenRow,
    iter_rows,
)
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.tape import records
from ringtape.tape.opening import opened, say_unsealed
from ringtape.tape.selection import Selection, selected
from ringtape.tape.words import result_words, row_fields, row_line


def print_rows(path: str, choose: Callable[[TapeReader], Selection], *, as_json: bool) -> None:
    """Print every row about the chosen requests, in the order in which they happened.

    At the end, on standard error, that the tape has no seal if it has none. Raises TapeError, UsageError, and
    TapeDamaged after what is whole was printed.
    """
    in_form = (lambda row: json.dumps(row_fields(row))) if as_json else row_line
    write = sys.stdout.write
    with opened(path, "dumping") as reader:
        for row in _rows(reader, choose(reader)):
            write(in_form(row) + "\n")
        _say_end(reader, path)


def print_requests(path: str, choose: Callable[[TapeReader], Selection], *, as_json: bool) -> None:
    """Print a line for each chosen request, with what came of it, when that is known.

    Errors are those of `print_rows`.
    """
    damage: list[TapeDamaged] = []
    write = sys.stdout.write
    with opened(path, "dumping") as reader:
        header = reader.header
        if not as_json:
            write(_HEADING + "\n")
        for rows in selected(reader, choose(reader), damage):
            if as_json:
                write("".join(f"{json.dumps(one)}\n" for one in records.records(rows, header)))
            else:
                write("".join(_lines(rows, header)))
        if damage:
            raise damage[0]
        _say_end(reader, path)


def _say_end(reader: TapeReader, path: str) -> None:
    if reader.end is not None:  # else it was not read to its end
        sys.stdout.flush()
        say_unsealed(reader, path)


def _rows(reader: TapeReader, selection: Selection) -> Iterator[Row]:
    """Rows about the selected requests; and what else the workers did between them, if that can be meant."""
    if selection.is_all:
        yield from iter_rows(reader)
        return
    disks = {disk.name: index for index, disk in enumerate(reader.header.disks)}
    with_others = not (selection.disks or selection.kinds)
    begun, ended = selection.first_id is None, False
    open_ids: set[int] = set()  # of selected requests that are not released yet
    for row in iter_rows(reader, selection.start(reader)):
        if isinstance(row, RequestRow):
            begun = begun or row.id == selection.first_id
            ended = ended or (selection.last_id is not None and row.id > selection.last_id)
            if selection.takes(row, disks[row.disk]):
                open_ids.add(row.id)
                yield row
        elif isinstance(row, CompletionRow):
            if row.id in open_ids:
                yield row
        else:
            other = with_others and begun and not ended
            other = other and (not selection.workers or row.worker in selection.workers)
            if not isinstance(row, TokenRow):
                if other:
                    yield row
            elif (ids := tuple(id_ for id_ in row.ids if id_ in open_ids)) or (other and not row.ids):
                open_ids.difference_update(ids)
                yield dataclasses.replace(row, ids=ids)
        if ended and not open_ids:
            return


_HEADING = (
    f"{'id':>10}  {'submitted s':>12}  {'worker':<6} {'after':<8} {'kind':<12} {'disk':<8} "
    f"{'offset':>14} {'length':>10}  {'result':<12} {'latency µs':>12}  released"
)


def _lines(rows: Table, header: tape_pb2.Header) -> Iterator[str]:
    columns: dict[str, list[Any]] = records.columns(rows, header)
    for (
        (id_, worker, _, checkpoint, kind, disk, offset, length, flags, _, _, submitted_ns),
        (completed_ns, result, released_at),
    ) in zip(
        zip(*(columns[name] for name in records.NAMES[:12]), strict=True),
        zip(*(columns[name] for name in ("completed_ns", "result", "released_at")), strict=True),
        strict=True,
    ):
        what = f"{kind} {flags}".rstrip()
        latency = "" if completed_ns is None else f"{(completed_ns - submitted_ns) / 1e3:.3f}"
        came = "in flight" if result is None else result_words(result)
        released = "never" if released_at is None else f"c{released_at}"
        yield (
            f"{id_:>10}  {submitted_ns / 1e9:>12.6f}  w{worker:<5} c{checkpoint:<7} {what:<12} {disk:<8} "
            f"{offset:>14} {length:>10}  {came:<12} {latency:>12}  {released}\n"
        )
