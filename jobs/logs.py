"""Logs over time in fio's format (fio 3.33: HOWTO, "Log File Formats", with log_avg_msec): files for each worker.

A line is `time (ms), value, direction, block size, priority`: the time at which an interval ended, and 0, 1 or 2 for
reads, writes and trims. As in fio's logs of averages, block size and priority are 0. Nothing here measures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ringtape.engine.requests import Kind
from ringtape.jobs.errors import JobError
from ringtape.jobs.measured import Record
from ringtape.jobs.outcome import JobOutcome
from ringtape.jobs.side import Ended

_DIRECTIONS = {Kind.READ: 0, Kind.WRITE: 1, Kind.DISCARD: 2}
#: What there is a file of: bandwidth in KiB/s, requests a second, and mean latencies in ns (submission, completion,
#: both).
NAMES = ("bw", "iops", "slat", "clat", "lat")
_LINE = re.compile(rb"\d+, \d+, \d, \d+, \d+\n")


class _Sums(NamedTuple):
    requests: int
    value: int


def path_of(folder: str, job: str, name: str, worker: int) -> str:
    """As fio names them, with workers of a job counted from 1."""
    return os.path.join(folder, f"{job.replace('/', '_')}_{name}.{worker + 1}.log")


def check(folder: str, job: str, workers: int) -> None:
    """Raise JobError if the logs of a job could not be written; a file that is no such log stays as it is."""
    if not os.path.isdir(folder or "."):
        raise JobError(f"cannot write logs to {folder}: it is no folder")
    for worker in range(workers):
        for name in NAMES:
            path = path_of(folder, job, name, worker)
            try:
                with open(path, "rb") as file:
                    line = file.readline(200)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise JobError(f"cannot write {path}: {error.strerror}") from None
            if line and not _LINE.fullmatch(line):
                raise JobError(f"{path} is there and is no log of fio or ringtape bench: it is left as it is")


def write(folder: str, job: JobOutcome) -> list[str]:
    """Write the logs of a job; returns their paths. What was not measured has no file. Raises JobError."""
    written = []
    for number, record in enumerate(job.records):
        for name, lines in _logs(record, job.ends.get(record.worker)):
            path = path_of(folder, job.name, name, number)
            try:
                with open(path, "w", encoding="ascii") as file:
                    file.writelines(lines)
            except OSError as error:
                raise JobError(f"cannot write {path}: {error.strerror}") from None
            written.append(path)
    return written


def _logs(record: Record, ended: Ended | None) -> Iterator[tuple[str, list[str]]]:
    interval_ms = record.interval_ms
    keys = [key for key in record.tallies if key[1] in _DIRECTIONS]
    latency = {key: record.tallies[key].latency.intervals for key in keys}
    requests = {key: [(one.number, one.requests, 0) for one in rows] for key, rows in latency.items()}
    moved = {
        key: [(number, 0, count) for number, count in record.tallies[key].interval_bytes.items()]
        for key in keys
    }
    yield "bw", _lines(moved, interval_ms, lambda row: row.value * 1000 // interval_ms >> 10)
    yield "iops", _lines(requests, interval_ms, lambda row: row.requests * 1000 // interval_ms)
    parts = {"lat": latency}
    if ended is not None:
        parts["slat"] = {key: ended.apart[key].submission.intervals for key in keys if key in ended.apart}
        parts["clat"] = {key: ended.apart[key].completion.intervals for key in keys if key in ended.apart}
    for name, part in parts.items():
        sums = {key: [(one.number, one.requests, one.sum_ns) for one in rows] for key, rows in part.items()}
        yield name, _lines(sums, interval_ms, lambda row: row.value // row.requests)


def _lines(
    parts: Mapping[tuple[int, int], Sequence[tuple[int, int, int]]],
    interval_ms: int,
    value_of: Callable[[_Sums], int],
) -> list[str]:
    """Of all disks together, by time and direction."""
    found: dict[tuple[int, int], _Sums] = {}
    for (_, kind), rows in parts.items():
        for number, requests, value in rows:
            key = number, _DIRECTIONS[Kind(kind)]
            before = found.get(key, _Sums(0, 0))
            found[key] = _Sums(before.requests + requests, before.value + value)
    return [
        f"{(number + 1) * interval_ms}, {value_of(row)}, {direction}, 0, 0\n"
        for (number, direction), row in sorted(found.items())
    ]
