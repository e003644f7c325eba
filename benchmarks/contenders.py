"""Who is measured on disks: fio in its ways, and ringtape plain, recording and replaying. One interface for all."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import ringtape
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.fio import Fio
from ringtape.benchmarks.jobs import Job, Measurement
from ringtape.benchmarks.programs import Reads
from ringtape.benchmarks.targets import Target

DataLevel = Literal["order", "digest", "full"]


@dataclass(frozen=True)
class Case:
    """A job on targets (worker `i` of `n` has every `n`-th, from the `i`-th on), and a folder for tapes and logs."""

    targets: tuple[Target, ...]
    job: Job
    folder: Path
    data: DataLevel

    @property
    def on(self) -> str:
        """Where it runs, for people."""
        if not self.targets:
            return ""
        count = len(self.targets)
        return f"{self.targets[0].title}, {count} of them" if count > 1 else self.targets[0].title

    def disks(self) -> list[ringtape.Disk]:
        """The targets as disks of a run."""
        workers = self.job.workers
        return [
            ringtape.Disk(
                f"disk{index}",
                target.path,
                workers=[index % workers] if workers > 1 else None,
                buffered=target.cached,
            )
            for index, target in enumerate(self.targets)
        ]

    def reads(self, requests: int) -> Reads:
        """The arguments of a run that makes so many in all."""
        return Reads(requests // self.job.workers, self.job.depth, self.job.block_bytes)

    def files(self) -> list[list[str]]:
        """The paths of each worker's disks."""
        workers = self.job.workers
        return [[target.path for target in self.targets[index::workers]] for index in range(workers)]


class Contender(ABC):
    """Runs a case's job once and says how long the programs took.

    Attributes:
        name: in tables and JSON.
        paced_by: the contender whose speed says how many requests this one makes: pairs that are compared closely
            make the same requests. Empty for one that is run once as it is.
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

    def __init__(self, fio: Fio, way: str, options: Mapping[str, object]) -> None:
        self.name, self.paced_by = way, "fio"
        self._fio = fio
        self._options = options

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        return self._fio.measure(case.files(), case.job, requests=requests, seed=seed, options=self._options)


class FioRecord(FioContender):
    """fio, writing down what it does."""

    def __init__(self, fio: Fio, way: str, options: Mapping[str, object]) -> None:
        super().__init__(fio, way, options)
        self.name = f"{way} write_iolog"

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        return self._fio.measure(
            case.files(),
            case.job,
            requests=requests,
            seed=seed,
            options=self._options,
            write_iolog=case.folder / "fio.iolog",
        )


class FioReplay(FioContender):
    """fio, doing what it wrote down of the same job before the rounds, as fast as it goes."""

    def __init__(self, fio: Fio, way: str, options: Mapping[str, object]) -> None:
        super().__init__(fio, way, options)
        self.name = f"{way} read_iolog"

    def prepare(self, case: Case, requests: int) -> None:
        """See `Contender`."""
        self._iolog = case.folder / f"{self.name}.iolog"
        self._fio.measure(
            case.files(),
            case.job,
            requests=requests,
            seed=0,
            options=self._options,
            write_iolog=self._iolog,
        )

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        return self._fio.replay(self._iolog, case.job, requests=requests, options=self._options)


class Plain(Contender):
    """ringtape without a coordinator."""

    name = "plain"
    paced_by = "plain"

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        job = case.job
        result = ringtape.run(
            job.program,
            disks=case.disks(),
            workers=job.workers,
            seed=seed,
            arguments=case.reads(requests),
        )
        return measurement_of(result, requests)


class Record(Contender):
    """ringtape recording, with leases or without (`strict`), onto a tape on the disk that temporary files are on."""

    paced_by = "plain"

    def __init__(self, *, strict: bool = False, paced_by: str = "plain") -> None:
        self.name = "record strict" if strict else "record"
        self.paced_by = paced_by
        self._strict = strict

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        tape = case.folder / "record.tape"
        return measurement_of(record(case, requests, seed, tape, strict=self._strict), requests)


class Replay(Contender):
    """`ringtape replay`, the command, of a tape that was recorded before the rounds, on the disk itself."""

    name = "replay"
    paced_by = "plain"

    def prepare(self, case: Case, requests: int) -> None:
        """See `Contender`."""
        self._tape = case.folder / "replay.tape"
        measurement_of(record(case, requests, 0, self._tape), requests)

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`."""
        # What was written since the recording is of no matter to one that only writes.
        command = [sys.executable, "-m", "ringtape", "replay", str(self._tape), "--json"]
        said = output_of([*command, *(["--force"] if case.job.writes else [])])
        found: dict[str, Any] = json.loads(said)
        if found["requests"] != requests:
            raise BenchmarkError(f"the replay made {found['requests']} requests instead of {requests}")
        return Measurement(requests, found["elapsed_s"])


def record(case: Case, requests: int, seed: int, tape: Path, *, strict: bool = False) -> ringtape.Result:
    """Record the job once."""
    job = case.job
    return ringtape.record(
        job.program,
        disks=case.disks(),
        workers=job.workers,
        seed=seed,
        arguments=case.reads(requests),
        tape=tape,
        data=case.data,
        strict=strict,
    )


def measurement_of(result: ringtape.Result, requests: int) -> Measurement:
    """What a run measured; `BenchmarkError` if it is not the run that was meant."""
    for failure in result.failures:
        raise BenchmarkError(f"the program failed: {failure}")
    if result.requests != requests:
        raise BenchmarkError(f"the run made {result.requests} requests instead of {requests}")
    return Measurement(requests, result.elapsed_s)


def output_of(command: list[str]) -> str:
    """What a command prints; `BenchmarkError` with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise BenchmarkError(f"{' '.join(command)} ended with exit status {done.returncode}: {said}")
    return done.stdout
