"""What every run needs around its conductor: the supervisor, how it is shown, how it ends, its result."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from ringtape.coordinator.batches import BatchChecker
from ringtape.coordinator.conductor import AskData, Conductor
from ringtape.coordinator.errors import Divergence, Interrupted, WorkerDied
from ringtape.coordinator.faults import Faults
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.recorder import Recorder
from ringtape.coordinator.replayer import Replayer
from ringtape.coordinator.supervisor import Supervisor
from ringtape.coordinator.tape import TapeSink
from ringtape.coordinator.undo import UndoKeeper
from ringtape.coordinator.watch import Watch
from ringtape.disks import Prepared
from ringtape.engine.claims import identity
from ringtape.inspecting import load
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError, Stalled, TapeError
from ringtape.results import Result, failures_of, returns_of
from ringtape.settings import StrPath, hash_seed

STALL_TIMEOUT_S = 30.0

_worker_logger = logging.getLogger("ringtape.worker")


@dataclass(frozen=True)
class Progress:
    """How far a run is: requests and checkpoints so far, programs still running, seconds since their start."""

    requests: int
    checkpoints: int
    workers: int
    elapsed_s: float


@dataclass(frozen=True)
class Console:
    """Where a run shows itself; the command line sets it.

    Attributes:
        stdout: what the workers' standard output goes to; None is this process's own.
        on_progress: called some ten times a second while the programs run; not in a plain run, which counts nothing.
        on_tick: called as often, in every run.
        on_log: called with the worker and the text of what a program logs; None logs it.
        on_copy: called while a disk is copied for a snapshot: its name, bytes done, bytes in all.
    """

    stdout: IO[str] | int | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_log: Callable[[int, str], None] | None = None
    on_copy: Callable[[str, int, int], None] | None = None
    on_tick: Callable[[], None] | None = None


def supervisor_of(
    conductor: Conductor,
    starts: list[wire_pb2.Start],
    tape: TapeSink,
    seed: int,
    console: Console | None,
    counted: Recorder | Replayer | None,
    headers: Prepared,
    *,
    watched: Watch | None = None,
    faults: Faults | None = None,
    undo: UndoKeeper | None = None,
    offline: bool = False,
    explain: Callable[[Divergence, AskData], None] | None = None,
) -> Supervisor:
    """Who runs the workers of a run and moves their messages; `counted` is whose programs the progress counts."""
    console = console or Console()
    show = console.on_progress
    on_progress = tick = console.on_tick
    if show is not None and counted is not None:
        shown, returns, begun_ns = show, counted.returns, time.monotonic_ns()

        def on_progress() -> None:
            elapsed_s = (time.monotonic_ns() - begun_ns) / 1e9
            shown(Progress(tape.request_count, tape.token_count, returns.left, elapsed_s))
            if tick is not None:
                tick()

    def on_begin() -> None:
        headers.begin()
        if watched is not None and not offline:
            load(watched, headers)

    return Supervisor(
        conductor,
        starts,
        tape,
        hash_seed=hash_seed(seed),
        stdout=console.stdout,
        on_begin=on_begin,
        on_progress=on_progress,
        take_other=conductor.take if isinstance(conductor, Replayer) else None,
        faults=faults,
        undo=undo,
        explain=explain,
    )


def check_ring() -> None:
    """Raise `RingUnavailable` if there is no usable io_uring. It is not even loaded for a replay that needs none."""
    from ringtape.engine.ring import check_available

    check_available()


def checker_of(disks: int, workers: int, level: int) -> BatchChecker:
    """What holds the workers' messages against what a run of this size and level may have."""
    return BatchChecker(
        disks=disks,
        workers=workers,
        digests=level >= messages_pb2.DATA_LEVEL_DIGEST,
        contents=level == messages_pb2.DATA_LEVEL_FULL,
    )


def run_and_seal(
    supervisor: Supervisor,
    journal: Journal,
    left: Callable[[], list[tape_pb2.FinalContents]],
    *,
    stopped: Callable[[], str] = str,
    watched: Watch | None = None,
) -> None:
    """Conduct the run and seal its tape with how it ended; the error that ended it is raised.

    `stopped` says afterwards where a replay has stopped before its tape did.
    """
    ends = {
        WorkerDied: tape_pb2.Seal.END_WORKER_DIED,
        Interrupted: tape_pb2.Seal.END_INTERRUPTED,
        Divergence: tape_pb2.Seal.END_DIVERGED,
        Stalled: tape_pb2.Seal.END_STALLED,
    }
    try:
        supervisor.run()
    except BaseException as error:
        if watched is not None and isinstance(error, RingtapeError):
            watched.end()
        if not supervisor.began:
            journal.tape.abandon()
            if isinstance(error, Interrupted):
                raise KeyboardInterrupt from None
        elif isinstance(error, RingtapeError) and not isinstance(error, TapeError):
            end = ends.get(type(error), tape_pb2.Seal.END_ERROR)
            _seal(supervisor, journal, end, str(error), left)
        else:
            journal.tape.close()
        raise
    if watched is not None:
        watched.end()
    end = tape_pb2.Seal.END_STOPPED if stopped() else tape_pb2.Seal.END_FINISHED
    _seal(supervisor, journal, end, stopped(), left)


def _seal(
    supervisor: Supervisor,
    journal: Journal,
    end: tape_pb2.Seal.End,
    text: str,
    left: Callable[[], list[tape_pb2.FinalContents]],
) -> None:
    """Seal the tape; whoever interrupts the look at what is left on the disks gets a seal that does not know it."""
    try:
        made = left()
    except BaseException:
        journal.seal(end, text, supervisor.elapsed_ns, [])
        raise
    journal.seal(end, text, supervisor.elapsed_ns, made)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """To callers an interruption is what Python makes of one."""
    try:
        yield
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None


def result_of(
    mode: str,
    journal: Journal,
    supervisor: Supervisor,
    conductor: Recorder | Replayer,
    seed: int,
    tape: str | None,
    ended: str,
) -> Result:
    """The result of a run with a journal that has come to its end."""
    finished = conductor.returns.finished
    return Result(
        mode=mode,
        digest=journal.hexdigest(),
        requests=journal.tape.request_count,
        checkpoints=journal.tape.token_count,
        returns=returns_of(finished),
        failures=failures_of(finished),
        elapsed_s=supervisor.elapsed_ns / 1e9,
        seed=seed,
        tape=tape,
        ended=ended,
    )


def check_tape_path(tape: StrPath, headers: list[tape_pb2.DiskHeader]) -> None:
    """Raise `TapeError` if a tape that is to be written is a disk of the run."""
    if os.path.exists(tape) and not os.path.isdir(tape):
        for header in headers:
            # Offline a disk may have gone.
            if os.path.exists(header.path) and identity(os.fspath(tape)) == identity(header.path):
                raise TapeError(
                    f"{os.fspath(tape)} is disk {header.name!r} of this run and cannot be its tape"
                )


def log_of(console: Console | None) -> Callable[[int, str], None]:
    """Who is called with what programs log."""
    return _log if console is None or console.on_log is None else console.on_log


def _log(worker: int, text: str) -> None:
    _worker_logger.info("[%d] %s", worker, text)
