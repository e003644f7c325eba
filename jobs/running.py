"""From jobs and disks to a run and what came of it: everything is checked before the run begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import ringtape
from ringtape.engine.disks import BLOCK_SIZE_MIN, probe
from ringtape.jobs.errors import JobError
from ringtape.jobs.job import Job, region_of
from ringtape.jobs.options import with_disks
from ringtape.jobs.plan import Plan
from ringtape.jobs.program import Worked, work

Mode = Literal["plain", "record"]


@dataclass(frozen=True)
class Ran:
    """A run of jobs: what it was, and what came of it. A worker whose program raised has done nothing."""

    plan: Plan
    result: ringtape.Result

    def worked(self, job: int) -> list[Worked]:
        """What the workers of a job have done, in their order."""
        done = [one for returned in self.result.returns for one in returned or () if one.job == job]
        return sorted(done, key=lambda one: one.number)

    @property
    def problems(self) -> list[str]:
        """A line for each worker's failed request, and for data that is not what it should be."""
        lines = []
        for index, job in enumerate(self.plan.jobs):
            for one in self.worked(index):
                where = f"job {job.name}, worker {one.number}: "
                if one.failure:
                    lines.append(f"{where}{one.failure}")
                lines += [f"{where}{line}" for line in one.told]
                if one.bad > len(one.told):
                    lines.append(f"{where}and {one.bad - len(one.told)} more")
        return lines


def run_jobs(
    jobs: Iterable[Job],
    disks: Sequence[ringtape.Disk],
    *,
    mode: Mode = "plain",
    tape: str | os.PathLike[str] = "run.tape",
    seed: int | None = None,
    data: Literal["order", "digest", "full"] = "digest",
    strict: bool = False,
    log_interval_ms: int = 0,
    side_file: str = "",
    console: ringtape.Console | None = None,
) -> Ran:
    """Run jobs on disks, without a tape or recorded.

    A disk belongs to the workers whose jobs name it, unless it says itself to whom.

    Args:
        jobs: those that a stonewall does not part run together.
        disks: what jobs name.
        mode: "plain", or "record", to which `tape`, `data` and `strict` belong.
        tape: the file to write; `data` and `strict` are as in `ringtape.record`, too.
        data: what the tape keeps of the data.
        strict: let every worker wait for every token.
        seed: of everything that is drawn; chosen if None.
        log_interval_ms: see `Plan`.
        side_file: see `Plan`.
        console: for those who show runs on a terminal.

    Raises:
        JobError: a job cannot be, or a disk does not do for it; nothing on any disk was touched.
        RingtapeError: what `ringtape.run` and `ringtape.record` raise.
    """
    plan = Plan(tuple(with_disks(jobs, [disk.name for disk in disks])), log_interval_ms, side_file)
    if not plan.jobs:
        raise JobError("there is no job")
    names = [job.name for job in plan.jobs]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"job {name}: the name is given twice")
    _check_disks(plan, disks)
    used = [disk for disk in disks if plan.workers_of(disk.name)]
    owned = [
        disk if disk.workers is not None else replace(disk, workers=plan.workers_of(disk.name))
        for disk in used
    ]
    if mode == "plain":
        result = ringtape.run(
            work, disks=owned, workers=plan.workers, seed=seed, arguments=plan, console=console
        )
    else:
        result = ringtape.record(
            work,
            disks=owned,
            workers=plan.workers,
            seed=seed,
            arguments=plan,
            tape=tape,
            data=data,
            strict=strict,
            console=console,
        )
    return Ran(plan, result)


def _check_disks(plan: Plan, disks: Sequence[ringtape.Disk]) -> None:
    """Raise `JobError` for a job that a disk does not do for, `DiskError` for a disk that is none."""
    for disk in disks:
        jobs = [job for job in plan.jobs if disk.name in job.disks]
        if not jobs:
            raise JobError(f"no job goes to disk {disk.name!r}; leave it out")
        if disk.workers is not None:
            left_out = [worker for worker in plan.workers_of(disk.name) if worker not in disk.workers]
            if left_out:
                raise jobs[0].error(
                    f"worker {left_out[0]} needs disk {disk.name!r}, whose workers leave it out"
                )
        size, block_size = geometry(disk)
        for job in jobs:
            region_of(job, disk.name, size, block_size)


def geometry(disk: ringtape.Disk) -> tuple[int, int]:
    """How many bytes the disk will have, and its block size. A missing file's is that of a nameless one beside it."""
    path, wanted = os.path.abspath(os.fspath(disk.path)), disk.size_bytes()
    if wanted is None or (os.path.exists(path) and os.path.getsize(path)):
        there = probe(path, disk.name)
        own = disk.fresh and wanted is not None and not there.block_device
        return (wanted if own and wanted is not None else there.size), there.block_size
    folder = os.path.dirname(path)
    try:
        with tempfile.TemporaryFile(dir=folder) as stand_in:
            stand_in.truncate(wanted)
            found = probe(f"/proc/self/fd/{stand_in.fileno()}", disk.name)
    except OSError:  # the run itself says what is wrong with the folder
        return wanted, BLOCK_SIZE_MIN
    return found.size, found.block_size
