"""Around a run of jobs: the live table, and the outcome.

It changes nothing of the run: it looks on, and puts together what came of it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console

import ringtape
from ringtape.engine.disks import probe
from ringtape.jobs.blocks import Blocks
from ringtape.jobs.job import Job, bounded, region_of
from ringtape.jobs.live import Expected, LiveTable
from ringtape.jobs.outcome import JobOutcome, Outcome
from ringtape.jobs.plan import Plan
from ringtape.jobs.running import Ran, geometry
from ringtape.jobs.side import Ended, Usage, place_of, read_end, read_so_far
from ringtape.proto.errors import DiskError


class Measuring:
    """Made before the run; `outcome` after it."""

    def __init__(self, file: str, disks: Sequence[ringtape.Disk]) -> None:
        self._file = file
        self._disks = {disk.name: disk for disk in disks}
        self._started_at_ns = time.time_ns()
        self._used = Usage.now()

    def outcome(self, ran: Ran) -> Outcome:
        """What came of the run that has just ended."""
        result = ran.result
        jobs = (self._job(ran, index, job) for index, job in enumerate(ran.plan.jobs))
        return Outcome(
            mode=result.mode,
            started_at_ns=self._started_at_ns,
            jobs=[job for job in jobs if job.records],
            requests=result.requests,
            checkpoints=result.checkpoints,
            elapsed_s=result.elapsed_s,
            seed=result.seed,
            coordinator=Usage.now().since(self._used),
            tape=result.tape or "",
            tape_bytes=os.path.getsize(result.tape) if result.tape else 0,
        )

    def so_far(self, plan: Plan, *, mode: str, tape: str) -> Outcome:
        """What workers had measured of a run that was interrupted; `tape` is the tape that it left, or empty."""
        jobs = []
        for index, job in enumerate(plan.jobs):
            told = (read_so_far(place_of(self._file, index, worker)) for worker in range(plan.workers))
            pairs = [pair for pair in told if pair is not None]
            ends = {record.worker: ended for record, ended in pairs}
            if pairs:
                options = options_of(job, self._disks)
                jobs.append(JobOutcome(job.name, options, [record for record, _ in pairs], ends))
        records = [record for job_outcome in jobs for record in job_outcome.records]
        return Outcome(
            mode=mode,
            started_at_ns=self._started_at_ns,
            jobs=jobs,
            requests=sum(
                tally.requests + tally.errors for record in records for tally in record.tallies.values()
            ),
            checkpoints=None,
            elapsed_s=(time.time_ns() - self._started_at_ns) / 1e9,
            seed=None,
            coordinator=Usage.now().since(self._used),
            tape=tape,
            tape_bytes=os.path.getsize(tape) if tape else 0,
        )

    def _job(self, ran: Ran, index: int, job: Job) -> JobOutcome:
        records = [one.measured for one in ran.worked(index)]
        ends: dict[int, Ended] = {}
        for record in records:
            ended = read_end(place_of(self._file, index, record.worker))
            if ended is not None:
                ends[record.worker] = ended
        return JobOutcome(job.name, options_of(job, self._disks), records, ends)


def options_of(job: Job, disks: Mapping[str, ringtape.Disk]) -> Mapping[str, str]:
    """A job that was run, as fio's options say it; those that are as fio has them anyway are left out."""
    options = {"rw": job.rw, **_block_options(job), "iodepth": job.iodepth, "numjobs": job.workers}
    options |= {"ioengine": "io_uring", **_ways(job), **_disk_options([disks[name] for name in job.disks])}
    if job.rw in ("rw", "randrw"):
        options["rwmixread"] = job.rwmixread
    given = {
        "offset": job.offset,
        "size": job.size,
        "io_size": job.io_size,
        "runtime": None if job.runtime_s is None else f"{job.runtime_s:g}",
        "number_ios": job.number_ios,
        "rate_iops": job.rate_iops,
        "fsync": job.fsync,
        "fdatasync": job.fdatasync,
    }
    options |= {name: value for name, value in given.items() if value}
    if job.random_distribution.shape != "random":
        options["random_distribution"] = str(job.random_distribution)
    return {name: str(value) for name, value in options.items()}


def _ways(job: Job) -> dict[str, object]:
    """What is done otherwise than fio does it where nothing is said."""
    ways = {"sync": "dsync" if job.fua else "", "verify": "xxhash" if job.verify else ""}
    ways |= {"norandommap": "1" if job.random_map is False else "", "stonewall": "1" if job.stonewall else ""}
    return {name: value for name, value in ways.items() if value}


def _disk_options(disks: Sequence[ringtape.Disk]) -> dict[str, object]:
    """Where it was done, and whether all of it around the page cache; that is left out where a file is gone by now."""
    paths = [os.fspath(disk.path) for disk in disks]
    options: dict[str, object] = {"filename": ":".join(path.replace(":", "\\:") for path in paths)}
    with contextlib.suppress(DiskError):
        around = [not disk.buffered and probe(os.path.abspath(disk.path), disk.name).direct for disk in disks]
        options["direct"] = int(all(around))
    return options


def _block_options(job: Job) -> dict[str, object]:
    blocks = (job.reads, job.writes)
    if any(one.shares for one in blocks):
        return {"bssplit": _pair(blocks, str)}
    if any(len(one.sizes) > 1 for one in blocks):
        return {"bsrange": _pair(blocks, lambda one: f"{one.smallest}-{one.largest}")}
    return {"bs": _pair(blocks, str)}


def _pair(blocks: tuple[Blocks, Blocks], worded: Callable[[Blocks], str]) -> str:
    reads, writes = map(worded, blocks)
    return reads if reads == writes else f"{reads},{writes}"


class LiveRun:
    """The live table of a run that has not begun: call `tick` while it goes on, and leave the context at its end."""

    def __init__(self, plan: Plan, disks: Sequence[ringtape.Disk], file: str, console: Console) -> None:
        self._plan, self._disks, self._file, self._console = plan, disks, file, console
        self._table: LiveTable | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._table is not None:
            self._table.__exit__(kind, error, trace)

    def tick(self) -> None:
        """Draw, if that is due; the first time the run has begun, and so everything was found to be in order."""
        if self._table is None:
            jobs = expected(self._plan, self._disks)
            self._table = LiveTable(jobs, self._file, self._console).__enter__()
        self._table.tick(time.monotonic())


def expected(plan: Plan, disks: Sequence[ringtape.Disk]) -> list[Expected]:
    """The jobs of a plan whose disks are there, as the live table knows them."""
    sizes = {disk.name: geometry(disk) for disk in disks}
    found = []
    for group in plan.groups:
        seats = [(worker, plan.seat(group, worker)) for worker in range(plan.workers)]
        for index in group:
            job = plan.jobs[index]
            workers = [worker for worker, seat in seats if seat is not None and seat.job == index]
            whole = bounded(job, [region_of(job, disk, *sizes[disk]) for disk in job.disks])
            found.append(
                Expected(job.name, job.disks, workers, whole.runtime_s, whole.number_ios, whole.io_size)
            )
    return found
