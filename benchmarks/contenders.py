"""Who is measured: fio in its two ways, and ringtape plain, recording and replaying. One interface for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ringtape
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.fio import Fio, ways
from ringtape.benchmarks.jobs import Job, Measurement
from ringtape.benchmarks.programs import DISK, Reads
from ringtape.benchmarks.targets import Target

DataLevel = Literal["order", "digest", "full"]


@dataclass(frozen=True)
class Case:
    """A job on a target, and a folder for tapes."""

    target: Target
    job: Job
    folder: Path
    data: DataLevel

    def disk(self) -> ringtape.Disk:
        """The target as a disk of a run."""
        return ringtape.Disk(DISK, self.target.path)

    def reads(self, requests: int) -> Reads:
        """The arguments of a run."""
        return Reads(requests, self.job.depth, self.job.block_bytes)


class Contender(ABC):
    """Runs a case's job once and says how long the programs took.

    Attributes:
        name: in tables and JSON.
        paced_by: the contender whose speed says how many requests this one makes: pairs that are compared closely
            make the same requests.
    """

    name: str
    paced_by: str

    def prepare(self, case: Case, requests: int) -> None:  # noqa: B027  # most need nothing
        """Once, before the rounds, without being measured."""

    @abstractmethod
    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """Run the job once; `seed` is the round's."""


class FioContender(Contender):
    """fio, in one of its ways."""

    paced_by = "fio"

    def __init__(self, fio: Fio, name: str, options: Mapping[str, object]) -> None:
        self.name = name
        self._fio = fio
        self._options = options

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        return self._fio.measure(
            case.target.path, case.job, requests=requests, seed=seed, options=self._options
        )


class Plain(Contender):
    """ringtape without a coordinator."""

    name = "plain"
    paced_by = "plain"

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        result = ringtape.run(
            case.job.program, disks=[case.disk()], seed=seed, arguments=case.reads(requests)
        )
        return measurement_of(result, requests)


class Record(Contender):
    """ringtape recording, onto a tape on the disk that temporary files are on."""

    name = "record"
    paced_by = "plain"

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        return measurement_of(record(case, requests, seed, case.folder / "record.tape"), requests)


class Replay(Contender):
    """ringtape replaying a tape that was recorded before the rounds, on the disk itself."""

    name = "replay"
    paced_by = "plain"

    def prepare(self, case: Case, requests: int) -> None:
        """See `Contender`."""
        self._tape = case.folder / "replay.tape"
        measurement_of(record(case, requests, 0, self._tape), requests)

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        # What was written since the recording is of no matter to one that only writes.
        replayed = ringtape.replay(self._tape, case.job.program, force=case.job.writes)
        return measurement_of(replayed, requests)


def record(case: Case, requests: int, seed: int, tape: Path) -> ringtape.Result:
    """Record the job once."""
    return ringtape.record(
        case.job.program,
        disks=[case.disk()],
        seed=seed,
        arguments=case.reads(requests),
        tape=tape,
        data=case.data,
    )


def measurement_of(result: ringtape.Result, requests: int) -> Measurement:
    """What a run measured; `BenchmarkError` if it is not the run that was meant."""
    for failure in result.failures:
        raise BenchmarkError(f"the program failed: {failure}")
    if result.requests != requests:
        raise BenchmarkError(f"the run made {result.requests} requests instead of {requests}")
    return Measurement(requests, result.elapsed_s)


def contenders(fio: Fio, job: Job) -> list[Contender]:
    """All of them, in the order of the first round."""
    return [
        *(FioContender(fio, name, options) for name, options in ways(job).items()),
        Plain(),
        Record(),
        Replay(),
    ]
