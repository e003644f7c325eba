"""ringtape: record what a multi-process program does to its disks, and replay it exactly.

`record` runs a program and puts everything that reaches it on a tape; `replay` lets it see exactly that again;
`run` is the same program without either. A program is `async def main(io: Worker)` or `def main(io: BlockingWorker)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringtape.checking import CheckResult, Difference, check
    from ringtape.conducting import Console, Progress
    from ringtape.coordinator.errors import Divergence, ProtocolError, WorkerDied
    from ringtape.coordinator.requests import ReplayedRequest
    from ringtape.coordinator.watch import WatchedRequest
    from ringtape.disks import Disk
    from ringtape.engine.faces import AsyncDisk, BlockingDisk, BlockingWorker, UnknownDisk, Worker
    from ringtape.engine.gate import Unrecorded
    from ringtape.engine.mail import InvalidMessage, Message
    from ringtape.engine.requests import InvalidRequest, RequestError
    from ringtape.jobs.errors import JobError
    from ringtape.proto.errors import (
        DiskError,
        ProgramError,
        RingtapeError,
        RingUnavailable,
        Stalled,
        TapeDamaged,
        TapeError,
        TraceError,
    )
    from ringtape.replaying import replay
    from ringtape.results import Failure, ProgramFailed, Result
    from ringtape.rewinding import RewoundDisk, rewind
    from ringtape.runs import record, run
    from ringtape.settings import UsageError
    from ringtape.tape.tape import Tape, TapeDisk, TapeHeader, TapeRequest, open_tape
    from ringtape.tape.writing import OutputError
    from ringtape.trace_replaying import TraceReplay, TraceReplayInterrupted, replay_trace

# Read from here by pyproject.toml. `importlib.metadata` would find it too, and import, late, modules of Python's that a
# file beside a program may have the name of.
__version__ = "0.1.0"

__all__ = [
    "AsyncDisk",
    "BlockingDisk",
    "BlockingWorker",
    "CheckResult",
    "Console",
    "Difference",
    "Disk",
    "DiskError",
    "Divergence",
    "Failure",
    "InvalidMessage",
    "InvalidRequest",
    "JobError",
    "Message",
    "OutputError",
    "ProgramError",
    "ProgramFailed",
    "Progress",
    "ProtocolError",
    "ReplayedRequest",
    "RequestError",
    "Result",
    "RewoundDisk",
    "RingUnavailable",
    "RingtapeError",
    "Stalled",
    "Tape",
    "TapeDamaged",
    "TapeDisk",
    "TapeError",
    "TapeHeader",
    "TapeRequest",
    "TraceError",
    "TraceReplay",
    "TraceReplayInterrupted",
    "UnknownDisk",
    "Unrecorded",
    "UsageError",
    "WatchedRequest",
    "Worker",
    "WorkerDied",
    "check",
    "open_tape",
    "record",
    "replay",
    "replay_trace",
    "rewind",
    "run",
]

# Where each name is. They are loaded when they are first asked for: a worker, which imports a program that imports
# this package, never loads the coordinator and its numpy, which would take several times as long to start.
_HOMES = {
    "ringtape.checking": (
        "CheckResult",
        "Difference",
        "check",
    ),
    "ringtape.coordinator.errors": (
        "Divergence",
        "ProtocolError",
        "WorkerDied",
    ),
    "ringtape.coordinator.requests": ("ReplayedRequest",),
    "ringtape.coordinator.watch": ("WatchedRequest",),
    "ringtape.disks": ("Disk",),
    "ringtape.engine.faces": (
        "AsyncDisk",
        "BlockingDisk",
        "BlockingWorker",
        "UnknownDisk",
        "Worker",
    ),
    "ringtape.engine.gate": ("Unrecorded",),
    "ringtape.engine.mail": (
        "InvalidMessage",
        "Message",
    ),
    "ringtape.engine.requests": (
        "InvalidRequest",
        "RequestError",
    ),
    "ringtape.jobs.errors": ("JobError",),
    "ringtape.proto.errors": (
        "DiskError",
        "ProgramError",
        "RingUnavailable",
        "RingtapeError",
        "Stalled",
        "TapeDamaged",
        "TapeError",
        "TraceError",
    ),
    "ringtape.results": (
        "Failure",
        "ProgramFailed",
        "Result",
    ),
    "ringtape.rewinding": (
        "RewoundDisk",
        "rewind",
    ),
    "ringtape.settings": ("UsageError",),
    "ringtape.conducting": (
        "Console",
        "Progress",
    ),
    "ringtape.replaying": ("replay",),
    "ringtape.runs": (
        "record",
        "run",
    ),
    "ringtape.tape.tape": (
        "Tape",
        "TapeDisk",
        "TapeHeader",
        "TapeRequest",
        "open_tape",
    ),
    "ringtape.tape.writing": ("OutputError",),
    "ringtape.trace_replaying": (
        "TraceReplay",
        "TraceReplayInterrupted",
        "replay_trace",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'ringtape' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
