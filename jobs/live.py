"""The table that is on a terminal while jobs run: IOPS, bandwidth and p99 by job, disk and worker, and the time left.

It reads what workers tell beside the run (`ringtape.jobs.side`) whenever it is called, and draws then: there is no
thread. It is gone when the run ends. It never asks a worker anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live as LiveDisplay
from rich.table import Table
from rich.text import Text

from ringtape.jobs.side import Live, LiveDisk, place_of, read_live
from ringtape.jobs.words import amount, duration, rate

DRAWN_EVERY_S = 0.25
#: Rates are those of about so long.
_WINDOW_S = 1.0
# With more rows than this, workers are added up.
ROWS_MAX = 24


@dataclass(frozen=True)
class Expected:
    """A job as the table knows it.

    Attributes:
        name: the job's.
        disks: names, in the order in which its workers have them.
        workers: the indexes of its workers.
        runtime_s, requests, bytes: at which of these a worker ends; None for those at which it does not.
    """

    name: str
    disks: Sequence[str]
    workers: Sequence[int]
    runtime_s: float | None = None
    requests: int | None = None
    bytes: int | None = None

    def left_s(self, shown: Live | None) -> float | None:
        """How long a worker that shows this has left; None where that is not known."""
        if shown is None:
            return self.runtime_s
        if shown.ended:
            return 0.0
        elapsed_s = shown.clock_ns / 1e9
        left = [] if self.runtime_s is None else [max(self.runtime_s - elapsed_s, 0.0)]
        done = (
            (self.requests, sum(disk.requests for disk in shown.disks)),
            (self.bytes, sum(disk.bytes for disk in shown.disks)),
        )
        for all_of_it, so_far in done:
            if all_of_it and so_far:
                left.append(elapsed_s * max(all_of_it - so_far, 0) / so_far)
        return min(left, default=None)


class _Row(NamedTuple):
    job: str
    disk: str
    worker: str
    iops: float
    bytes_s: float
    p99_ns: int
    requests: int
    errors: int


class LiveTable:
    """Call `tick` as often as you like while the run goes on; use it as a context."""

    def __init__(self, jobs: Sequence[Expected], file: str, console: Console) -> None:
        """`file` is where the workers tell, as `side.side_file` gives it; the console is a terminal."""
        self._jobs, self._file = jobs, file
        self._live = LiveDisplay(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._due_s = 0.0
        self._samples: deque[tuple[float, dict[tuple[int, int], Live]]] = deque()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """A line above it."""
        self._live.console.print(Text(line), soft_wrap=True)

    def tick(self, now_s: float) -> None:
        """Draw it anew if that is due; `now_s` is of a clock that does not go back."""
        if now_s >= self._due_s:
            self._due_s = now_s + DRAWN_EVERY_S
            self._look(now_s)
            self._live.update(self._drawn(), refresh=True)

    def _look(self, now_s: float) -> None:
        seen = {}
        for place, job in enumerate(self._jobs):
            for worker in job.workers:
                shown = read_live(place_of(self._file, place, worker))
                if shown is not None:
                    seen[place, worker] = shown
        self._samples.append((now_s, seen))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - _WINDOW_S:
            self._samples.popleft()

    def _drawn(self) -> Group:
        rows = list(self._rows())
        if len(rows) > ROWS_MAX:
            rows = _without_workers(rows)
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("job", "disk", "worker"):
            table.add_column(name, no_wrap=True)
        for name in ("IOPS", "bandwidth", "p99", "requests", "failed"):
            table.add_column(name, justify="right", no_wrap=True)
        for row in rows[:ROWS_MAX]:
            table.add_row(*_cells(row))
        if len(rows) > 1:
            total = _sum(rows, "all", "", "")
            table.add_row(*_cells(total), style="bold")
        return Group(table, Text(f"  time left: {self._left()}"))

    def _rows(self) -> Iterator[_Row]:
        (then_s, before), (now_s, now) = self._samples[0], self._samples[-1]
        for place, job in enumerate(self._jobs):
            for number, worker in enumerate(job.workers):
                shown = now.get((place, worker))
                if shown is None:
                    continue
                earlier = before.get((place, worker))
                for disk, name in enumerate(job.disks):
                    one = shown.disks[disk]
                    two = earlier.disks[disk] if earlier is not None else LiveDisk(0, 0, 0, 0)
                    # What began later than the first sample has been counted from 0 since.
                    since_s = now_s - then_s if earlier is not None else shown.clock_ns / 1e9
                    scale = 1 / since_s if since_s and not shown.ended else 0.0
                    rates = (one.requests - two.requests) * scale, (one.bytes - two.bytes) * scale
                    p99_ns = 0 if shown.ended else one.p99_ns
                    yield _Row(job.name, name, str(number), *rates, p99_ns, one.requests, one.errors)

    def _left(self) -> str:
        """Of the jobs that run or have run: until the last of their workers ends."""
        _, now = self._samples[-1]
        left = [
            job.left_s(now.get((place, worker)))
            for place, job in enumerate(self._jobs)
            if any((place, one) in now for one in job.workers)
            for worker in job.workers
        ]
        known = [one for one in left if one is not None]
        if not left or len(known) < len(left):
            return "not known"
        return f"{max(known):.0f} s"


def _without_workers(rows: Sequence[_Row]) -> list[_Row]:
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.job, row.disk), []).append(row)
    return [_sum(group, job, disk, f"all {len(group)}") for (job, disk), group in groups.items()]


def _sum(rows: Sequence[_Row], job: str, disk: str, worker: str) -> _Row:
    """Of several; the p99 is the highest of theirs."""
    return _Row(
        job,
        disk,
        worker,
        sum(row.iops for row in rows),
        sum(row.bytes_s for row in rows),
        max(row.p99_ns for row in rows),
        sum(row.requests for row in rows),
        sum(row.errors for row in rows),
    )


def _cells(row: _Row) -> tuple[str, ...]:
    return (
        row.job,
        row.disk,
        row.worker,
        rate(row.iops) if row.iops else "–",
        f"{amount(row.bytes_s)}/s" if row.bytes_s else "–",
        duration(row.p99_ns) if row.p99_ns else "–",
        f"{row.requests:,}",
        f"{row.errors:,}",
    )
