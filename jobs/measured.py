"""What a worker measures of its requests while it makes them, array by array.

In the record, which the program may return, is what comes from the tape alone: counts, and latencies and moments on
the recorded clock. So a replay measures the same. What it cannot give again (when requests were handed to the kernel,
CPU time, live numbers) goes out beside the run, by `ringtape.jobs.side`. Nothing here may influence which requests a
program makes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.faces import BlockingWorker, Worker
from ringtape.engine.requests import Kind
from ringtape.jobs.depths import Depths
from ringtape.jobs.histogram import Histogram
from ringtape.jobs.side import NOWHERE, Apart, Ended, LiveDisk, Place, Side, SoFar, Usage
from ringtape.jobs.timed import Timed, parts_of
from ringtape.jobs.turns import Found, Turns

#: How long an interval of the numbers over time is where nothing else is asked for; as in fio.
INTERVAL_MS = 500
# Live numbers are put out so often, at most.
LIVE_NS_MIN = 100_000_000
_KIND_BITS = 3

Key = tuple[int, int]  # the disk's place among the job's, the kind


@dataclass
class Tally:
    """What came of the requests of one kind on one disk.

    Attributes:
        bytes: read or written, zeroed or discarded.
        errors: requests that failed; they are in none of the others.
        first_error: the errno of the first of these; 0 for none.
        short: reads and writes that came back with fewer bytes than they asked for.
        latency: of the requests that did not fail: from the clock's reading when a request was made to its reading when
            the program was given the result.
        interval_bytes: bytes of each of the intervals of `latency`.
    """

    bytes: int = 0
    errors: int = 0
    first_error: int = 0
    short: int = 0
    latency: Timed = field(default_factory=Timed)
    interval_bytes: dict[int, int] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many there were, without those that failed."""
        return self.latency.histogram.count


@dataclass(repr=False)
class Record:
    """What one worker measured of one job.

    Attributes:
        worker: its index.
        disks: names of the disks of the job.
        interval_ms: how long the intervals are; the first begins with the job.
        elapsed_ns: from the job's first moment to its last, on the recorded clock.
        tallies: by disk (its place in `disks`) and kind, of those that there were.
    """

    worker: int
    disks: tuple[str, ...]
    interval_ms: int
    elapsed_ns: int
    tallies: dict[Key, Tally]

    def __repr__(self) -> str:
        requests = sum(tally.requests for tally in self.tallies.values())
        errors = sum(tally.errors for tally in self.tallies.values())
        return f"<{requests} requests, {errors} failed, in {self.elapsed_ns / 1e9:.3f} s>"


class Measured:
    """Takes in results of `submit` as they come. One for each worker and job; it begins when it is made."""

    def __init__(
        self,
        worker: Worker | BlockingWorker,
        disks: Sequence[str],
        *,
        log_interval_ms: int = 0,
        place: Place = NOWHERE,
    ) -> None:
        """`worker` is what the program was given; `disks` are the names of its `disks`.

        `place` is from `side.place_of`; where its file is not there nothing is told beside the run.
        """
        self._gate = worker._gate
        self._worker, self._disks = worker.index, tuple(disks)
        self._interval_ms = log_interval_ms or INTERVAL_MS
        self._tallies: dict[Key, Tally] = {}
        self._began_ns = self._gate.clock.ns
        self._closed = 0  # the first interval that is open
        self._turns = Turns()
        self._gate.handed_over = self._turns.handed_over
        self._outside = _Outside.open(place, len(self._disks))
        self._so_far = SoFar(place if self._outside is not None else NOWHERE)

    def add(
        self,
        kind: NDArray[np.uint8],
        disk: NDArray[Any],
        length: NDArray[Any],
        results: NDArray[Any],
    ) -> None:
        """Takes in what came of an array of requests: its columns, and the results that `submit` gave for it.

        Arrays come in the order in which they were made. Over time, a request counts in the moment at which it was
        released to the program, which is when it was made and its latency later.
        """
        if not len(results):
            return
        # Columns: rows of records take long to choose from.
        sequences, result, latency_ns = (
            results[name].astype(np.int64) for name in ("sequence", "result", "latency_ns")
        )
        found = self._turns.find(sequences)
        released_ns = np.where(found.known, found.made_ns + latency_ns, self._gate.clock.ns)
        numbers = np.maximum(self._number(released_ns), self._closed)
        good = result >= 0
        for number, where in parts_of(disk.astype(np.int64) << _KIND_BITS | kind):
            key = number >> _KIND_BITS, number & ((1 << _KIND_BITS) - 1)
            tally = self._tallies.setdefault(key, Tally())
            moves = key[1] in (Kind.READ, Kind.WRITE)
            _count(tally, length[where] if moves else None, result[where])
            chosen = np.zeros(len(results), np.bool_)
            chosen[where] = good[where]
            if chosen.any():
                _add(tally, numbers[chosen], (result if moves else length)[chosen], latency_ns[chosen])
                if self._outside is not None:
                    self._outside.add(key, chosen, found, numbers, latency_ns)
        self._turns.forget(sequences)
        # What comes later was made later as well, and released after that.
        if found.known.any():
            self._close(int(self._number(found.made_ns[found.known].max())))
        if self._outside is not None:
            self._outside.add_depths(found, released_ns)
            self._outside.show(self._gate.clock.ns - self._began_ns, self._tallies)
            self._so_far.tell(self._measured_so_far)

    def _measured_so_far(self) -> tuple[Record, Ended]:
        assert self._outside is not None
        record = self._record()
        tallies = {key: replace(one, latency=one.latency.so_far()) for key, one in record.tallies.items()}
        return replace(record, tallies=tallies), self._outside.ended()

    def _record(self) -> Record:
        elapsed_ns = self._gate.clock.ns - self._began_ns
        tallies = dict(sorted(self._tallies.items()))
        return Record(self._worker, self._disks, self._interval_ms, elapsed_ns, tallies)

    def _number(self, clock_ns: Any) -> Any:
        """The interval of a moment."""
        return (clock_ns - self._began_ns) // (self._interval_ms * 1_000_000)

    def _close(self, before: int) -> None:
        if before > self._closed:
            self._closed = before
            for tally in self._tallies.values():
                tally.latency.close(before)
            if self._outside is not None:
                self._outside.close(before)

    def finish(self) -> Record:
        """The job has ended: the record of it, which can be pickled. Tells the rest beside the run."""
        for tally in self._tallies.values():
            tally.latency.close()
        self._gate.handed_over = None
        record = self._record()
        if self._outside is not None:
            self._outside.end(record.elapsed_ns, self._tallies)
            self._so_far.tell(self._measured_so_far, ended=True)
        return record


def _count(tally: Tally, length: NDArray[Any] | None, result: NDArray[np.int64]) -> None:
    """What failed, and what came short where there is a length to come short of."""
    bad = result < 0
    if bad.any():
        tally.errors += int(bad.sum())
        tally.first_error = tally.first_error or -int(result[bad][0])
    if length is not None:
        tally.short += int((~bad & (result < length)).sum())


def _add(
    tally: Tally, numbers: NDArray[np.int64], moved: NDArray[Any], latency_ns: NDArray[np.int64]
) -> None:
    """Requests that did not fail: intervals, bytes and latencies."""
    tally.bytes += int(moved.sum())
    for number, chosen in parts_of(numbers):
        tally.interval_bytes[number] = tally.interval_bytes.get(number, 0) + int(moved[chosen].sum())
    tally.latency.add(numbers, latency_ns)


class _Outside:
    """What goes out beside the run."""

    def __init__(self, side: Side, disks: int) -> None:
        self._side, self._disks = side, disks
        self._apart: dict[Key, Apart] = {}
        self._usage = Usage.now()
        self._depths = Depths()
        self._shown: dict[Key, Histogram] = {}
        self._due_ns = 0

    @classmethod
    def open(cls, place: Place, disks: int) -> _Outside | None:
        side = Side.open(place, disks)
        return None if side is None else cls(side, disks)

    def add(
        self,
        key: Key,
        chosen: NDArray[np.bool_],
        found: Found,
        numbers: NDArray[np.int64],
        latency_ns: NDArray[np.int64],
    ) -> None:
        """Cut the latencies of those that are chosen into submission and completion, where it is known."""
        chosen = chosen & found.known
        latency_ns, numbers = latency_ns[chosen], numbers[chosen]
        submission_ns = np.minimum(found.submission_ns[chosen], latency_ns)
        apart = self._apart.setdefault(key, Apart())
        apart.submission.add(numbers, submission_ns)
        apart.completion.add(numbers, latency_ns - submission_ns)

    def add_depths(self, found: Found, released_ns: NDArray[np.int64]) -> None:
        """Count how many were under way with each, where it is known when it was made."""
        self._depths.add(found.made_ns[found.known], released_ns[found.known])

    def close(self, before: int) -> None:
        """No more come to the intervals before this one."""
        for apart in self._apart.values():
            apart.submission.close(before)
            apart.completion.close(before)

    def show(self, since_ns: int, tallies: dict[Key, Tally], *, ended: bool = False) -> None:
        """Put out live numbers, if that is due."""
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns and not ended:
            return
        self._due_ns = now_ns + LIVE_NS_MIN
        rows = []
        for disk in range(self._disks):
            new = Histogram()
            requests = moved = errors = 0
            for key, tally in tallies.items():
                if key[0] != disk:
                    continue
                latency = tally.latency.histogram
                new.merge(latency.since(self._shown.get(key, Histogram())))
                self._shown[key] = latency.copy()
                requests += latency.count
                moved += tally.bytes
                errors += tally.errors
            rows.append(LiveDisk(requests, moved, errors, int(new.percentile(0.99)) if new.count else 0))
        self._side.show(since_ns, rows, ended=ended)

    def end(self, elapsed_ns: int, tallies: dict[Key, Tally]) -> None:
        self.show(elapsed_ns, tallies, ended=True)
        self._side.end(self.ended())

    def ended(self) -> Ended:
        """What is told at the end, as far as it is known."""
        apart = {
            key: Apart(one.submission.so_far(), one.completion.so_far()) for key, one in self._apart.items()
        }
        return Ended(apart, Usage.now().since(self._usage), self._depths.counts)
