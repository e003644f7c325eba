"""A program whose requests are measured as those of a job are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ringtape.engine.faces import BlockingWorker
from ringtape.engine.requests import Kind
from ringtape.engine.rows import REQUEST
from ringtape.jobs.measured import Measured, Record
from ringtape.jobs.side import place_of

BLOCK = 4096


@dataclass(frozen=True)
class Work:
    """`arrays` arrays of `rows` requests of all kinds, on all disks; results are told as they came as well."""

    arrays: int
    rows: int
    file: str = ""
    log_interval_ms: int = 0


def rows_of(work: Work, worker: int, disks: int) -> list[Any]:
    rng = np.random.default_rng(worker)
    arrays = []
    for _ in range(work.arrays):
        array = np.zeros(work.rows, REQUEST)
        array["kind"] = rng.choice(
            [Kind.READ, Kind.WRITE, Kind.DISCARD, Kind.FSYNC], work.rows, p=[0.4, 0.4, 0.1, 0.1]
        )
        array["disk"] = rng.integers(0, disks, work.rows)
        ranged = array["kind"] != Kind.FSYNC
        array["length"] = np.where(ranged, rng.integers(1, 4, work.rows) * BLOCK, 0)
        array["offset"] = np.where(ranged, rng.integers(0, 200, work.rows) * BLOCK, 0)
        arrays.append(array)
    return arrays


def measured(io: BlockingWorker) -> tuple[Record, list[Any]]:
    """The record, and all that it was made of."""
    work: Work = io.arguments
    arrays = rows_of(work, io.index, len(io.disks))
    measured = Measured(
        io,
        [disk.name for disk in io.disks],
        log_interval_ms=work.log_interval_ms,
        place=place_of(work.file, 0, io.index),
    )
    came: list[Any] = []

    def take(results: Any) -> None:
        made = arrays[len(came)]
        came.append({name: results[name].copy() for name in ("sequence", "result", "latency_ns")})
        measured.add(made["kind"], made["disk"], made["length"], results)

    io.submit(iter(arrays), depth=16, on_results=take)
    return measured.finish(), came
