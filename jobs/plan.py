"""What a run of jobs is made of, and who does what in it. It travels to the workers and is on the tape.

Jobs run together, and those after a stonewall when all before it have ended: a group of jobs, then the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ringtape.jobs.job import Job


class Seat(NamedTuple):
    """Which job a worker does (its index), and which of the job's workers it is."""

    job: int
    number: int


@dataclass(frozen=True)
class Plan:
    """The jobs of a run; each names its disks.

    Attributes:
        jobs: in the order given.
        log_interval_ms: what is measured is kept by intervals of this length as well; 0 is not.
        side_file: where workers tell what is not on the tape, as `side.side_file` makes it; empty for nowhere. In a
            replay it is not there any more, and that changes nothing.
    """

    jobs: tuple[Job, ...]
    log_interval_ms: int = 0
    side_file: str = ""

    @property
    def groups(self) -> list[list[int]]:
        """Indexes of the jobs that run together, one group after the other."""
        groups: list[list[int]] = [[]]
        for index, job in enumerate(self.jobs):
            if job.stonewall and groups[-1]:
                groups.append([])
            groups[-1].append(index)
        return groups

    @property
    def workers(self) -> int:
        """How many the run needs."""
        return max(sum(self.jobs[index].workers for index in group) for group in self.groups)

    def seat(self, group: list[int], worker: int) -> Seat | None:
        """What a worker does in a group; None if nothing."""
        for index in group:
            if worker < self.jobs[index].workers:
                return Seat(index, worker)
            worker -= self.jobs[index].workers
        return None

    def workers_of(self, disk: str) -> list[int]:
        """The workers that use a disk, in any group."""
        return [
            worker
            for worker in range(self.workers)
            if any(
                (seat := self.seat(group, worker)) and disk in self.jobs[seat.job].disks
                for group in self.groups
            )
        ]
