"""The program that replays a trace: one worker that reads the trace and asks the disks for what it says.

It is a program like any other, so it is recorded and replayed like any other. What it asks for follows from the trace,
its arguments and the recorded clock alone: how late requests are is measured beside that, and reported, never used.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape import traces
from ringtape.engine.faces import BlockingWorker
from ringtape.engine.requests import REQUEST_BYTES_MAX
from ringtape.jobs.histogram import Histogram
from ringtape.jobs.side import SoFar, place_of
from ringtape.proto.errors import TraceError
from ringtape.trace_verifying import READ_BYTES_MAX, Verifier
from ringtape.traces.columns import KIND_NAMES, READ, WRITE, Array
from ringtape.traces.placing import ROW, Fit, Place, Placing
from ringtape.traces.survey import fingerprint
from ringtape.traces.trace import Trace

# Of a trace that is replayed by its times, so much text is parsed at once: it takes less than a millisecond, in which
# no request is made.
_TIMED_CHUNK_BYTES = 32 << 10
ARRAY_ROWS = 4096
# Results come by arrays. By the trace's times one is due in so long, so that what came of it is known soon.
_ARRAY_NS = 1_000_000_000
#: A request that is so much behind its schedule is late.
LATE_NS = 1_000_000

_PERCENTILES = {"p50": 0.5, "p99": 0.99, "p99_9": 0.999}


@dataclass(frozen=True)
class Plan:
    """All that a replay of a trace is: the program's arguments, so they are on the tape.

    Attributes:
        path: of the trace, absolute.
        fingerprint: of the trace's files, which have to be what they were.
        speed: how many times faster than in the trace; 0 is as fast as the disks go.
        depth: how many requests are under way at once, at most.
        under_way: with each request at most as many are under way as were with it in the traced system.
        verify: compare what is read with what was written, and read all of it at the end.
        side_file: where it is told what came of it so far; in a replay of the tape it is not there any more.
    """

    path: str
    format: str
    action: str
    time_unit: str
    skip_bad: bool
    fingerprint: str
    places: tuple[Place, ...]
    fit: Fit
    align: bool
    speed: float
    depth: int
    under_way: bool
    verify: bool
    side_file: str = ""

    def placing(self) -> Placing:
        """What places the trace's requests on the disks."""
        return Placing(
            self.places,
            fit=self.fit,
            align=self.align,
            transfer_bytes_max=REQUEST_BYTES_MAX,
            speed=self.speed,
            with_depth=self.under_way,
        )

    def open(self, **options: Any) -> Trace:
        """The trace from its beginning."""
        return traces.open(
            self.path,
            self.format,
            action=self.action,
            time_unit=self.time_unit,
            skip_bad=self.skip_bad,
            under_way=self.under_way,
            **options,
        )


def main(io: BlockingWorker) -> dict[str, Any]:
    """Replay the trace of the plan that is the run's arguments; returns what came of it."""
    plan: Plan = io.arguments
    with plan.open(**({"chunk_bytes": _TIMED_CHUNK_BYTES} if plan.speed else {})) as trace:
        if fingerprint(trace.files) != plan.fingerprint:
            raise TraceError(f"{plan.path} has changed: it is not the trace that this replay is of")
        return _Player(io, plan, trace).play()


class _Player:
    """One replay: gives the requests, and takes in what comes of them."""

    def __init__(self, io: BlockingWorker, plan: Plan, trace: Trace) -> None:
        self._io, self._plan, self._trace = io, plan, trace
        self._placing = plan.placing()
        # Those that have not completed, in order, and where they read into.
        self._given: deque[tuple[Array, bytearray | None]] = deque()
        self._verifier = Verifier(io.disks) if plan.verify else None
        self._kinds = {kind: _OfKind() for kind in KIND_NAMES}
        self._lags = _Lags() if plan.speed else None
        self._began_ns = 0
        self._so_far = SoFar(place_of(plan.side_file, 0, io.index))

    def play(self) -> dict[str, Any]:
        io, lags = self._io, self._lags
        arrays = self._arrays()
        # Before the clock starts the first is read, and all is loaded and set up that is slow to be.
        first = next(arrays, None)
        io.submit(np.empty(0, ROW))
        if lags is not None:
            lags.begin()
        io.checkpoint()
        self._began_ns = io.now_ns()
        io.submit(
            self._with_buffers(self._scheduled(first, arrays)),
            depth=self._plan.depth,
            on_results=self._take,
            on_made=lags.made if lags is not None else None,
        )
        elapsed_ns = io.now_ns() - self._began_ns
        if self._verifier is not None:
            io.submit(self._with_buffers(self._verifier.all_written()), on_results=self._verify)
        # Measured, and so on the tape as what came from outside.
        return self._facts(elapsed_ns, io.capture(lags.facts) if lags is not None else None)

    def _facts_so_far(self) -> dict[str, Any]:
        lags = self._lags
        return self._facts(self._io.now_ns() - self._began_ns, lags.facts() if lags is not None else None)

    def _facts(self, elapsed_ns: int, lag_ns: dict[str, Any] | None) -> dict[str, Any]:
        verifier, placing = self._verifier, self._placing
        return {
            "elapsed_s": elapsed_ns / 1e9,
            "kinds": {KIND_NAMES[kind]: one.facts() for kind, one in self._kinds.items() if one.requests},
            "empty": placing.empty,
            "left_out": placing.left_out,
            "shortened": placing.shortened,
            "lag_ns": lag_ns,
            "verify": verifier.facts() if verifier is not None else None,
        }

    def _arrays(self) -> Iterator[Array]:
        placed = (self._placing.rows(batch) for batch in self._trace)
        for rows in ending_before_pauses(placed) if self._plan.speed else placed:
            reads = np.cumsum(np.where(rows["kind"] == READ, rows["length"], 0)) if self._verifier else None
            first = 0
            while first < len(rows):
                last = first + ARRAY_ROWS
                if reads is not None:
                    most = READ_BYTES_MAX + (int(reads[first - 1]) if first else 0)
                    last = min(last, max(first + 1, int(np.searchsorted(reads, most, side="right"))))
                if self._plan.speed:
                    until_ns = rows["time_ns"][first] + _ARRAY_NS
                    last = min(last, int(np.searchsorted(rows["time_ns"], until_ns, side="right")))
                yield rows[first:last]
                first = last

    def _scheduled(self, first: Array | None, arrays: Iterator[Array]) -> Iterator[Array]:
        while first is not None:
            if self._lags is not None:
                self._lags.given(first["time_ns"])
            yield first
            first = next(arrays, None)

    def _with_buffers(self, arrays: Iterator[Array]) -> Iterator[tuple[Array, bytearray | None]]:
        for rows in arrays:
            self._given.append((rows, self._verifier.buffer(rows) if self._verifier is not None else None))
            yield self._given[-1]

    def _verify(self, results: Any) -> Array:
        rows, into = self._given.popleft()
        if self._verifier is not None and into is not None:
            self._verifier.take(rows, results, into)
        return rows

    def _take(self, results: Any) -> None:
        rows = self._verify(results)
        kinds = rows["kind"]
        for kind in np.unique(kinds).tolist():
            chosen = kinds == kind
            self._kinds[kind].add(rows["length"][chosen], results[chosen], moves=kind <= WRITE)
        self._so_far.tell(self._facts_so_far)


def ending_before_pauses(arrays: Iterable[Array]) -> Iterator[Array]:
    """The same rows in arrays that end before a pause, where there is time to read the next."""
    rest: Array | None = None
    for array in arrays:
        rows = array if rest is None else np.concatenate((rest, array))
        middle = len(rows) // 2
        pauses = np.diff(rows["time_ns"][middle:])
        end = middle + int(np.argmax(pauses)) + 1 if len(pauses) else middle
        if end:
            yield rows[:end]
        rest = rows[end:]
    if rest is not None and len(rest):
        yield rest


class _OfKind:
    """What came of the requests of one kind."""

    def __init__(self) -> None:
        self.requests = self._bytes = self._failed = self._short = 0
        self._first_error = 0
        self._latencies = Histogram()

    def add(self, lengths: NDArray[np.uint64], results: Any, *, moves: bool) -> None:
        result = results["result"]
        failed = result < 0
        self.requests += len(result)
        self._bytes += int(lengths[~failed].sum()) if not moves else int(result[~failed].sum())
        self._failed += int(np.count_nonzero(failed))
        if moves:
            self._short += int(np.count_nonzero(~failed & (result < lengths.astype(np.int64))))
        if failed.any() and not self._first_error:
            self._first_error = -int(result[failed][0])
        self._latencies.add(results["latency_ns"])

    def facts(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "bytes": self._bytes,
            "failed": self._failed,
            "first_errno": self._first_error or None,
            "short": self._short,
            "latency_ns": facts_of(self._latencies),
        }


class _Lags:
    """How long after its time each request was handed to the kernel.

    It is measured by a clock that is not on the tape, so in a replay of the tape what it finds is of no account.
    """

    def __init__(self) -> None:
        self._lags = Histogram()
        self._late = 0
        self._began_ns = 0
        # Of requests that are not looked at yet: when they were due; and how many had been made, and when.
        self._due: deque[NDArray[np.int64]] = deque()
        self._counts: list[int] = []
        self._times: list[int] = []
        self._looked_at = 0

    def begin(self) -> None:
        """Times count from now."""
        self._began_ns = time.monotonic_ns()

    def given(self, due_ns: NDArray[np.int64]) -> None:
        """So many more are to be made, due at these times."""
        self._look()
        self._due.append(due_ns)

    def made(self, count: int) -> None:
        """So many have been made by now."""
        self._counts.append(count)
        self._times.append(time.monotonic_ns())

    def _look(self) -> None:
        if not self._counts:
            return
        counts = np.diff(np.array(self._counts), prepend=self._looked_at)
        made_ns = np.repeat(np.array(self._times) - self._began_ns, counts)
        self._looked_at = self._counts[-1]
        self._counts, self._times = [], []
        while len(made_ns):
            due_ns = self._due.popleft()
            count = min(len(due_ns), len(made_ns))
            # A replay of the tape does not take the time: requests are made before they are due.
            lags = np.maximum(made_ns[:count] - due_ns[:count], 0)
            self._lags.add(lags)
            self._late += int(np.count_nonzero(lags > LATE_NS))
            made_ns = made_ns[count:]
            if count < len(due_ns):
                self._due.appendleft(due_ns[count:])

    def facts(self) -> dict[str, Any]:
        self._look()
        return {**facts_of(self._lags), "late": self._late}


def facts_of(times: Histogram) -> dict[str, Any]:
    """Least, mean, percentiles and most of times in nanoseconds."""
    if not times.count:
        return {}
    return {
        "min": times.min,
        "mean": round(times.sum / times.count),
        **{name: round(times.percentile(share)) for name, share in _PERCENTILES.items()},
        "max": times.max,
    }
