"""What a run is set to: its arguments checked, its program found, what its workers are started with."""

from __future__ import annotations

import logging
import os
import pickle
import platform
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ringtape import __version__
from ringtape import disks as disk_setup
from ringtape.coordinator.faults import Faults
from ringtape.coordinator.policy import Fifo
from ringtape.programs import Named, main_file, named
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from ringtape.proto.errors import ProgramError, RingtapeError

WORKERS_MAX = 1024
STALL_TIMEOUT_S_MAX = 1e9

Program = Callable[..., Any] | str
StrPath = str | os.PathLike[str]
Data = Literal["order", "digest", "full"]
Overlap = Literal["order", "race"]
TapeSync = Literal["none", "block", "checkpoint"]

_LEVELS = {
    "order": messages_pb2.DATA_LEVEL_ORDER,
    "digest": messages_pb2.DATA_LEVEL_DIGEST,
    "full": messages_pb2.DATA_LEVEL_FULL,
}


logger = logging.getLogger("ringtape")


class UsageError(RingtapeError, ValueError):
    """An argument of a run that cannot be; the message shows it."""


@dataclass(frozen=True)
class Setting:
    """What every worker of a run is started with, and what its tape begins with."""

    program: Named
    disks: list[tape_pb2.DiskHeader]
    workers: int
    seed: int
    arguments: bytes
    overlap: str
    started_at_ns: int

    def __post_init__(self) -> None:
        if self.overlap not in ("order", "race"):
            raise UsageError(f"overlap {self.overlap!r} must be one of: order, race")

    @property
    def shared(self) -> list[bool]:
        """Of each disk: do requests on it wait for the coordinator to admit them?"""
        ordered = self.overlap != "race"
        return [ordered and disk_setup.is_shared(disk, self.workers) for disk in self.disks]

    def leased(self, *, strict: bool) -> list[bool]:
        """Of each worker: may it release its completions on its own? Not where a shared disk needs admission."""
        if strict or not Fifo.leases:
            return [False] * self.workers
        shared = [disk for disk, one in zip(self.disks, self.shared, strict=True) if one]
        return [
            not any(not disk.workers or worker in disk.workers for disk in shared)
            for worker in range(self.workers)
        ]

    def starts(
        self,
        *,
        plain: bool,
        level: int,
        offline: bool = False,
        faults: Faults | None = None,
        leased: Sequence[bool] = (),
        replay: bool = False,
    ) -> list[wire_pb2.Start]:
        """The first message to each worker; `faults` says to which more follow at once."""
        shared = [one and not plain for one in self.shared]
        main = main_file(self.program.wire.pickled, self.arguments)
        return [
            wire_pb2.Start(
                worker=worker,
                workers=self.workers,
                seed=self.seed,
                data=level,  # type: ignore[arg-type]
                plain=plain,
                disks=[
                    disk_setup.start_message(disk, worker, shared=one)
                    for disk, one in zip(self.disks, shared, strict=True)
                ],
                program=self.program.wire,
                arguments=self.arguments,
                started_at_ns=self.started_at_ns,
                overlap=self.overlap,
                main_file=main,
                faults=faults is not None and faults.has(worker),
                leased=worker < len(leased) and leased[worker],
                offline=offline,
                replay=replay,
            )
            for worker in range(self.workers)
        ]

    def header(self, level: int, arguments_text: str) -> tape_pb2.Header:
        """What the tape begins with."""
        return tape_pb2.Header(
            ringtape_version=__version__,
            python_version=platform.python_version(),
            kernel_version=platform.release(),
            started_at_ns=self.started_at_ns,
            program=self.program.name,
            program_file=self.program.file,
            program_sha256=self.program.sha256(),
            arguments=self.arguments,
            arguments_text=arguments_text[:1000],
            seed=self.seed,
            workers=self.workers,
            data=level,  # type: ignore[arg-type]
            disks=self.disks,
            policy=Fifo.name,
            hash_seed=hash_seed(self.seed),
            overlap=self.overlap,
        )


def program_of(recorded: tape_pb2.Header, program: Program | None) -> Named:
    """The program to replay, given or by its name on the tape; says so if it is not what was recorded."""
    if program is None:
        if not recorded.program:
            raise ProgramError("the tape has no name under which its program could be found: name it")
        found = named(recorded.program, file=recorded.program_file)
    else:
        found = named(program)
    _compare(recorded, found)
    if recorded.python_version != platform.python_version():
        logger.warning(
            "recorded on Python %s, replayed on %s", recorded.python_version, platform.python_version()
        )
    return found


def _compare(recorded: tape_pb2.Header, found: Named) -> None:
    """Say so if the program is not the one that was recorded: another one, or changed. Where it lies is no matter."""
    changed = bool(recorded.program_sha256) and found.sha256() != recorded.program_sha256
    moved = os.path.realpath(found.file) != os.path.realpath(recorded.program_file)
    if changed and moved:
        logger.warning(
            "%s is not the program that was recorded, %s; going on, a difference that matters shows as a divergence",
            found.name or found.file or "the program",
            recorded.program or recorded.program_file or "which has no name",
        )
    elif changed:
        logger.warning(
            "%s has changed since the recording; going on, a change that matters shows as a divergence",
            found.file or found.name or "the program",
        )


def name_of_recording(recorded: tape_pb2.Header) -> str:
    """What tells a recording from every other: the same for its tape and for the tapes of its replays."""
    return f"recording of {recorded.started_at_ns} with seed {recorded.seed}"


def checked_seed(workers: int, seed: int | None) -> int:
    """The seed, chosen if None; `UsageError` if it or the number of workers cannot be."""
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= WORKERS_MAX:
        raise UsageError(f"workers {workers!r} must be a whole number from 1 to {WORKERS_MAX}")
    if seed is None:
        return secrets.randbits(32)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise UsageError(f"seed {seed!r} must be a whole number from 0 to 2**64 - 1")
    return seed


def checked_stall_ns(stall_timeout_s: float) -> int:
    """How long a stall is waited for, in nanoseconds; `UsageError` if that cannot be."""
    if (
        isinstance(stall_timeout_s, bool)
        or not isinstance(stall_timeout_s, (int, float))
        or not 0 < stall_timeout_s <= STALL_TIMEOUT_S_MAX
    ):
        raise UsageError(
            f"stall_timeout_s {stall_timeout_s!r} must be positive, {STALL_TIMEOUT_S_MAX:.0f} at most"
        )
    return int(stall_timeout_s * 1e9)


def level_of(data: str) -> int:
    """The `DataLevel` of that name."""
    if data not in _LEVELS:
        raise UsageError(f"data {data!r} must be one of: {', '.join(_LEVELS)}")
    return _LEVELS[data]


def checked_sync(tape_sync: TapeSync) -> TapeSync:
    """When the tape is synced; `UsageError` if that cannot be."""
    if tape_sync not in ("none", "block", "checkpoint"):
        raise UsageError(f"tape_sync {tape_sync!r} must be one of: none, block, checkpoint")
    return tape_sync


def pickled_arguments(arguments: Any) -> bytes:
    """What the workers unpickle as `io.arguments`."""
    try:
        return pickle.dumps(arguments, protocol=5)
    except Exception as error:
        raise UsageError(f"the arguments cannot be sent to the workers: {error}") from None


def hash_seed(seed: int) -> str:
    """PYTHONHASHSEED of the workers."""
    return str(seed % (1 << 32))
