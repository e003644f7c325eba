"""Made-up measurements, whose every figure is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ringtape.engine.requests import Kind
from ringtape.jobs.measured import Key, Record, Tally
from ringtape.jobs.outcome import JobOutcome, Outcome
from ringtape.jobs.side import Apart, Ended, Usage

DEPTHS = (1, 2, 4, 93, 0, 0, 0)
USAGE = Usage(user_s=0.25, system_s=0.5, switches=1000, major_faults=2, minor_faults=300)


def make_record(
    latencies: Mapping[Key, Sequence[Sequence[int]]],
    *,
    worker: int = 0,
    disks: tuple[str, ...] = ("a", "b"),
    interval_ms: int = 500,
    length: int = 4096,
) -> tuple[Record, Ended]:
    """Latencies (ns) of each interval, by disk and kind; a quarter of each is submission."""
    tallies: dict[Key, Tally] = {}
    aside: dict[Key, Apart] = {}
    most = 0
    for key, intervals in latencies.items():
        tally, apart = tallies.setdefault(key, Tally()), aside.setdefault(key, Apart())
        most = max(most, len(intervals))
        for number, times in enumerate(intervals):
            values = np.array(times, np.int64)
            if not len(values):
                continue
            numbers = np.full(len(values), number)
            tally.latency.add(numbers, values)
            apart.submission.add(numbers, values // 4)
            apart.completion.add(numbers, values - values // 4)
            moved = 0 if key[1] == Kind.FSYNC else length * len(values)
            tally.bytes += moved
            tally.interval_bytes[number] = moved
        for timed in (tally.latency, apart.submission, apart.completion):
            timed.close()
    record = Record(worker, disks, interval_ms, most * interval_ms * 1_000_000, tallies)
    return record, Ended(aside, USAGE, DEPTHS)


def make_outcome(jobs: Sequence[JobOutcome], *, mode: str = "record") -> Outcome:
    return Outcome(
        mode,
        1_700_000_000_000_000_000,
        jobs,
        requests=sum(numbers.requests for job in jobs for *_, numbers in job.parts()),
        checkpoints=400,
        elapsed_s=10.5,
        seed=7,
        coordinator=Usage(0.125, 0.0625),
        tape="run.tape" if mode == "record" else "",
        tape_bytes=64_000 if mode == "record" else 0,
    )


def make_job(name: str, *records: tuple[Record, Ended], **options: str) -> JobOutcome:
    return JobOutcome(
        name, options, [one for one, _ in records], {one.worker: ended for one, ended in records}
    )
