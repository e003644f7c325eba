"""What came of jobs: what their workers measured, put together, and what the run cost.

Every report is made of it: the table, fio's JSON, the logs, the page. Nothing here prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ringtape.engine.requests import Kind
from ringtape.jobs.depths import CLASSES
from ringtape.jobs.histogram import Histogram
from ringtape.jobs.measured import Key, Record
from ringtape.jobs.side import Ended, Usage

NameT = TypeVar("NameT", str, Kind)


@dataclass
class Moment:
    """One interval: its requests, bytes, the sum of their latencies, and the highest p99 of any worker in it (ns)."""

    requests: int = 0
    bytes: int = 0
    latency_sum_ns: int = 0
    p99_ns: int = 0


@dataclass
class Numbers:
    """What came of requests, of one kind or on one disk.

    Attributes:
        errors: requests that failed; they are in none of the others.
        first_error: an errno of these; 0 for none.
        latency: ns, of the clock; see `measured.Tally`.
        submission: of these, until the request was handed to the kernel; empty where that is not known.
        completion: of these, from then on.
        moments: by the number of the interval, of those in which there was something.
    """

    bytes: int = 0
    errors: int = 0
    first_error: int = 0
    short: int = 0
    latency: Histogram = field(default_factory=Histogram)
    submission: Histogram = field(default_factory=Histogram)
    completion: Histogram = field(default_factory=Histogram)
    moments: dict[int, Moment] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many there were, without those that failed."""
        return self.latency.count

    def merge(self, other: Numbers) -> None:
        """Takes in what another has."""
        self.bytes += other.bytes
        self.errors += other.errors
        self.first_error = self.first_error or other.first_error
        self.short += other.short
        self.latency.merge(other.latency)
        self.submission.merge(other.submission)
        self.completion.merge(other.completion)
        for number, more in other.moments.items():
            moment = self.moments.setdefault(number, Moment())
            moment.requests += more.requests
            moment.bytes += more.bytes
            moment.latency_sum_ns += more.latency_sum_ns
            moment.p99_ns = max(moment.p99_ns, more.p99_ns)


@dataclass
class JobOutcome:
    """What came of one job.

    Attributes:
        name: the job's.
        options: what it was given, as words, by fio's names for them.
        records: what its workers measured, in their order.
        ends: what they told beside the run, by the worker's index; of a replay nothing.
    """

    name: str
    options: Mapping[str, str]
    records: Sequence[Record]
    ends: Mapping[int, Ended]

    @property
    def elapsed_s(self) -> float:
        """How long it took the worker that took longest."""
        return max((record.elapsed_ns for record in self.records), default=0) / 1e9

    @property
    def interval_ms(self) -> int:
        """How long the intervals of its numbers over time are."""
        return self.records[0].interval_ms

    @property
    def disks(self) -> list[str]:
        """Their names, in the order in which the workers have them."""
        return list(dict.fromkeys(disk for record in self.records for disk in record.disks))

    @property
    def usage(self) -> Usage | None:
        """What its workers used; None where it is not known of all."""
        if any(record.worker not in self.ends for record in self.records):
            return None
        total = Usage()
        for record in self.records:
            total.add(self.ends[record.worker].usage)
        return total

    @property
    def depths(self) -> list[int]:
        """Requests by how many were under way with them; none where that is not known of all workers."""
        if not self.ends or any(record.worker not in self.ends for record in self.records):
            return [0] * len(CLASSES)
        return [sum(counts) for counts in zip(*(ended.depths for ended in self.ends.values()), strict=True)]

    def by_kind(self) -> dict[Kind, Numbers]:
        """Of all disks and workers; only the kinds that there were."""
        return dict(sorted(_merged((kind, numbers) for _, _, kind, numbers in self.parts())))

    def by_disk(self) -> dict[str, Numbers]:
        """Of all kinds and workers."""
        return dict(_merged((disk, numbers) for _, disk, _, numbers in self.parts()))

    def parts(self) -> Iterator[tuple[int, str, Kind, Numbers]]:
        """Of each worker, disk and kind, as they were measured."""
        for record in self.records:
            for (disk, kind), numbers in sorted(numbers_of(record, self.ends.get(record.worker)).items()):
                yield record.worker, record.disks[disk], Kind(kind), numbers


def _merged(parts: Iterable[tuple[NameT, Numbers]]) -> Iterator[tuple[NameT, Numbers]]:
    found: dict[NameT, Numbers] = {}
    for name, numbers in parts:
        found.setdefault(name, Numbers()).merge(numbers)
    return iter(found.items())


def numbers_of(record: Record, ended: Ended | None) -> dict[Key, Numbers]:
    """What one worker measured, by disk and kind."""
    found: dict[Key, Numbers] = {}
    for key, tally in record.tallies.items():
        numbers = found[key] = Numbers(
            tally.bytes, tally.errors, tally.first_error, tally.short, tally.latency.histogram.copy()
        )
        for one in tally.latency.intervals:
            moved = tally.interval_bytes[one.number]
            numbers.moments[one.number] = Moment(one.requests, moved, one.sum_ns, one.p99_ns)
        if ended is not None and key in ended.apart:
            numbers.submission = ended.apart[key].submission.histogram.copy()
            numbers.completion = ended.apart[key].completion.histogram.copy()
    return found


@dataclass
class Outcome:
    """What came of a run of jobs.

    Attributes:
        mode: "plain", "record" or "replay".
        started_at_ns: when it began, since 1970.
        jobs: in the order in which they were given.
        requests: of the whole run, by the coordinator's count; of one that was interrupted, those that were measured.
        checkpoints: of all workers; None for a run that was interrupted.
        elapsed_s: from the start of the programs to the end of the last.
        seed: the run's; None for a run that was interrupted.
        coordinator: what its process used while the run lasted; with the live table where one was shown.
        tape: the tape that was written; empty for none.
        tape_bytes: how long it is.
    """

    mode: str
    started_at_ns: int
    jobs: Sequence[JobOutcome]
    requests: int
    checkpoints: int | None
    elapsed_s: float
    seed: int | None
    coordinator: Usage
    tape: str = ""
    tape_bytes: int = 0

    @property
    def interrupted(self) -> bool:
        """Whether it is what had been measured when the run was interrupted."""
        return self.checkpoints is None
