"""What workers are given to do: jobs, and one measurement of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ringtape.benchmarks import programs, volume


@dataclass(frozen=True)
class Job:
    """Random reads, or writes, in one face, at one depth.

    Attributes:
        name: as on the command line.
        title: for people.
        depth: requests under way at once, of each worker.
        program: what a worker runs; its arguments are `programs.Reads`.
        profiled: the same under a sampler.
        writes: it writes, and does not read.
        workers: how many do it, each on disks of its own.
    """

    name: str
    title: str
    depth: int
    program: Callable[..., Any]
    profiled: Callable[..., Any]
    block_bytes: int = 4096
    writes: bool = False
    workers: int = 1


JOBS = {
    job.name: job
    for job in (
        Job(
            "asyncio",
            "asyncio face, 32 tasks",
            32,
            programs.awaited_reads,
            programs.profiled_awaited_reads,
        ),
        Job(
            "blocking",
            "blocking face, depth 1",
            1,
            programs.blocking_reads,
            programs.profiled_blocking_reads,
        ),
        Job(
            "volume",
            "volume face, reads, depth 64",
            64,
            volume.volume_reads,
            volume.profiled_volume_reads,
        ),
        Job(
            "volume-writes",
            "volume face, writes, depth 64",
            64,
            volume.volume_writes,
            volume.profiled_volume_writes,
            writes=True,
        ),
    )
}


@dataclass(frozen=True)
class Measurement:
    """One run of a job: how many requests, in how many seconds of the programs' own time."""

    requests: int
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.elapsed_s
