"""Runs from their start to their result: plain, record and replay. Each part of the work is done elsewhere."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from ringtape import disks as disk_setup
from ringtape.conditions import conditions_of
from ringtape.coordinator.batches import BatchChecker
from ringtape.coordinator.conductor import AskData, Conductor
from ringtape.coordinator.difference import explain
from ringtape.coordinator.errors import Divergence, Interrupted, WorkerDied
from ringtape.coordinator.faults import Faults
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.offline import OfflineReplayer
from ringtape.coordinator.plain import PlainConductor
from ringtape.coordinator.policy import Fifo
from ringtape.coordinator.recorder import Recorder
from ringtape.coordinator.replayer import Replayer
from ringtape.coordinator.requests import ReplayedRequest
from ringtape.coordinator.supervisor import Supervisor
from ringtape.coordinator.tape import NullTape, TapeReader, TapeSink, TapeWriter
from ringtape.coordinator.undo import UndoKeeper
from ringtape.coordinator.watch import Watch, WatchedRequest
from ringtape.disks import Disk, Prepared
from ringtape.engine.claims import identity
from ringtape.engine.program import refuse_in_worker
from ringtape.initial import OnCopy
from ringtape.inspecting import Wanted, breaks_of, inspection_of, load, terminal_for_workers
from ringtape.programs import named
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError, Stalled, TapeError
from ringtape.results import Result, failures_of, returns_of
from ringtape.rewinding import changed_ranges
from ringtape.settings import (
    Data,
    Overlap,
    Program,
    Setting,
    StrPath,
    TapeSync,
    UsageError,
    checked_seed,
    checked_sync,
    hash_seed,
    level_of,
    name_of_recording,
    pickled_arguments,
    program_of,
)

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
        on_progress: called some ten times a second while the programs run.
        on_log: called with the worker and the text of what a program logs; None logs it.
        on_copy: called while a disk is copied for a snapshot: its name, bytes done, bytes in all.
    """

    stdout: IO[str] | int | None = None
    on_progress: Callable[[Progress], None] | None = None
    on_log: Callable[[int, str], None] | None = None
    on_copy: Callable[[str, int, int], None] | None = None


def run(
    program: Program,
    *,
    disks: Iterable[Disk] = (),
    workers: int = 1,
    seed: int | None = None,
    arguments: Any = None,
    overlap: Overlap = "order",
    console: Console | None = None,
) -> Result:
    """Run a program without a coordinator: nothing is recorded, completions come as they come.

    It is the baseline that `record` is measured against. Arguments are as in `record`.
    """
    refuse_in_worker()
    seed = checked_seed(workers, seed)
    found = named(program)
    _check_ring()
    with _interruptible(), disk_setup.prepared(disks, workers=workers, tape=None) as headers:
        setting = Setting(
            found, headers, workers, seed, pickled_arguments(arguments), overlap, time.time_ns()
        )
        conductor = PlainConductor(workers, _log_of(console))
        supervisor = _supervisor(
            conductor, setting.starts(plain=True, level=0), NullTape(), seed, console, None, headers
        )
        supervisor.run()
    finished = conductor.returns.finished
    return Result(
        mode="plain",
        digest=None,
        requests=sum(finish.requests for finish in finished if finish),
        checkpoints=sum(finish.checkpoints for finish in finished if finish),
        returns=returns_of(finished),
        failures=failures_of(finished),
        elapsed_s=supervisor.elapsed_ns / 1e9,
        seed=seed,
        tape=None,
        ended="finished",
    )


def record(
    program: Program,
    *,
    disks: Iterable[Disk] = (),
    workers: int = 1,
    seed: int | None = None,
    arguments: Any = None,
    tape: StrPath = "run.tape",
    tape_sync: TapeSync = "none",
    data: Data = "digest",
    overlap: Overlap = "order",
    console: Console | None = None,
) -> Result:
    """Run a program and put everything that reaches it on a tape.

    Args:
        program: a function at the top level of a module, `async def main(io)` or `def main(io)`, or its name:
            "file.py:function" or "package.module:function".
        disks: what the program finds under `io.disk(name)`.
        workers: how many processes run the program.
        seed: of `io.random` and of Python's hashes; chosen and put on the tape if None.
        arguments: what the program finds as `io.arguments`; anything that can be pickled.
        tape: the file to write; a tape that is there is replaced, any other file is refused.
        tape_sync: what of the tape is on its device, whatever happens to the machine: "none" leaves it to the kernel,
            which gets what the program did 100 ms later at the latest, and waits for the device once, when the tape
            is sealed; "block" waits after each block; "checkpoint" before a program gets what a checkpoint released.
        data: "digest" keeps a digest of what each request read or wrote, so that a replay that reads other data is
            found out; "order" does not; "full" keeps the data too, once where it repeats, so that a replay can do
            without the disks.
        overlap: "order" keeps overlapping requests in the order in which they were made, those of several workers
            on a shared disk in the order of their ids; "race" leaves them to the disk.
        console: for those who show runs on a terminal.

    Returns:
        The result. A program that raises is a result too: see `Result.failures`.

    Raises:
        DiskError: a disk cannot be used; nothing on any disk was touched.
        ProgramError: the program cannot be loaded or sent to the workers.
        TapeError: the tape cannot be written; what is written of it replays.
        RingUnavailable: there is no usable io_uring here.
        WorkerDied: a worker ended before its program did.
        KeyboardInterrupt: the run was interrupted. If it says by what, the tape is sealed; else no program had begun.
        UsageError: an argument is impossible.
    """
    refuse_in_worker()
    seed = checked_seed(workers, seed)
    level, sync = level_of(data), checked_sync(tape_sync)
    found = named(program)
    _check_ring()
    on_copy = console.on_copy if console is not None else None
    with (
        _interruptible(),
        disk_setup.prepared(disks, workers=workers, tape=os.fspath(tape), on_copy=on_copy) as headers,
    ):
        _check_tape_path(tape, headers)
        setting = Setting(
            found, headers, workers, seed, pickled_arguments(arguments), overlap, time.time_ns()
        )
        header = setting.header(level, repr(arguments))
        writer = TapeWriter(tape, header, sync=sync)
        journal = Journal(writer, workers)
        checker = _checker(len(headers), workers, level)
        recorder = Recorder(
            journal, Fifo(), checker, workers=workers, shared=setting.shared, on_log=_log_of(console)
        )
        starts = setting.starts(plain=False, level=level)
        undo = UndoKeeper(writer, headers)
        supervisor = _supervisor(recorder, starts, writer, seed, console, recorder, headers, undo=undo)
        _run_and_seal(supervisor, journal, lambda: _left(headers))
    return _result("record", journal, supervisor, recorder, seed, os.fspath(tape), "finished")


def replay(
    tape: StrPath,
    program: Program | None = None,
    *,
    disks: Iterable[Disk] = (),
    offline: bool = False,
    force: bool = False,
    output: StrPath | None = None,
    stall_timeout_s: float = STALL_TIMEOUT_S,
    until: int | str | None = None,
    on_request: Callable[[ReplayedRequest], None] | None = None,
    break_at: Iterable[int | str] = (),
    watch: Iterable[str] = (),
    on_watched: Callable[[WatchedRequest], None] | None = None,
    disturb: int | None = None,
    console: Console | None = None,
) -> Result:
    """Run the program of a tape again and let it see exactly what it saw in the recording.

    Args:
        tape: the tape.
        program: the program, if it is not to be found by the name on the tape.
        disks: where disks of the tape are now, by name; the others are where they were.
        offline: take results and data from the tape, recorded with `data="full"`, and open no disk; io_uring is not
            needed either.
        force: replay although a disk holds other contents than the recording began with.
        output: a tape to write of the replay.
        stall_timeout_s: how long the replay may wait for something that the recording had, beside ten times as
            long as the recording waited for it.
        until: where to stop: after the request of that id, "checkpoint:W:K" at checkpoint K of worker W, or
            "failure" at the first program that raised or request that failed. `Result.ended` says where that was.
        on_request: called with each request that the tape comes to, in the order of their ids. What it raises
            ends the replay and comes out of it.
        break_at: request ids; the program stands before it makes them, in pdb on the terminal. "watch" is all
            requests that touch a watched range.
        watch: ranges of disks, "DISK:OFFSET:LENGTH", to tell `on_watched` of.
        on_watched: called with each request that touches a watched range, in the order of their ids, with the
            range's digest before and after it.
        disturb: replay under the conditions that the replay of this number has in a `check`.
        console: for those who show runs on a terminal.

    Returns:
        The result; unless it was to stop before, its `digest` is the recording's. A recording that was cut or
        interrupted is replayed to its end, and `Result.ended` says what that was.

    Raises:
        Divergence: the program did something other than the tape says; see its attributes.
        Stalled: something that the recording had does not come.
        TapeDamaged: the tape is damaged; everything before the damage has been replayed.
        DiskError, ProgramError, TapeError, RingUnavailable, WorkerDied, KeyboardInterrupt: as in `record`.
    """
    refuse_in_worker()
    if not stall_timeout_s > 0:
        raise UsageError(f"stall_timeout_s {stall_timeout_s!r} must be positive")
    disks = list(disks)
    wanted = Wanted(until, on_request, tuple(break_at), tuple(watch), on_watched)
    on_copy = console.on_copy if console is not None else None
    with TapeReader.open(tape) as reader:
        recorded = reader.header
        if recorded.cut.first_id > 1:
            raise TapeError(
                f"{os.fspath(tape)} cannot be replayed: it is a cut of {recorded.cut.of}"
                f" that begins with its request id {recorded.cut.first_id}"
            )
        if offline:
            _check_offline(reader, disks, force=force, disturb=disturb)
        inspection = inspection_of(wanted, recorded)
        watched = None if inspection is None else inspection.watch
        breaks = breaks_of(wanted, watched, reader)
        found = program_of(recorded, program)
        if not offline:
            _check_ring()
        conditions = None if disturb is None else conditions_of(recorded, reader.find_seal(), disturb)
        with (
            _interruptible(),
            terminal_for_workers(breaks) as debugger_lock,
            _disks_again(reader, disks, offline=offline, force=force, on_copy=on_copy) as headers,
        ):
            if output is not None:
                _check_tape_path(output, headers)
            setting = Setting(
                found,
                headers,
                recorded.workers,
                recorded.seed,
                recorded.arguments,
                recorded.overlap,
                recorded.started_at_ns,
            )
            changed = changed_ranges(reader, headers, force=force)
            sink = _output(output, tape, setting, recorded, headers)
            journal = Journal(sink, recorded.workers)
            level = recorded.data
            if level == messages_pb2.DATA_LEVEL_FULL and (offline or output is None):
                level = messages_pb2.DATA_LEVEL_DIGEST  # the workers' data is not needed again
            replayer = (OfflineReplayer if offline else Replayer)(
                reader,
                journal,
                _checker(len(headers), recorded.workers, level),
                shared=() if offline else setting.shared,
                stall_ns=int(stall_timeout_s * 1e9),
                on_log=_log_of(console),
                inspection=inspection,
            )
            faults = None if offline else Faults.of_tape(reader)
            starts = setting.starts(plain=False, level=level, offline=offline, faults=faults)
            for start in starts:
                if conditions is not None:
                    start.disturbance.CopyFrom(conditions.disturbances[start.worker])
                start.breaks.extend(breaks.get(start.worker, ()))
                start.debugger_lock = debugger_lock
                start.watched.extend(watched.merged() if watched is not None else ())
            supervisor = _supervisor(
                replayer,
                starts,
                sink,
                recorded.seed,
                console,
                replayer,
                headers,
                watched=watched,
                faults=faults,
                undo=UndoKeeper(sink, headers, changed),
                offline=offline,
                explain=functools.partial(explain, reader.path),
            )
            _run_and_seal(supervisor, journal, list, stopped=lambda: replayer.stopped, watched=watched)
        if replayer.damage is not None:
            raise replayer.damage
        ended = replayer.stopped or _how_it_ended(reader, journal)
        if inspection is not None and not replayer.stopped:
            ended += inspection.missed()
        written = None if output is None else os.fspath(output)
        return _result("replay", journal, supervisor, replayer, recorded.seed, written, ended)


def _supervisor(
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
    console = console or Console()
    show = console.on_progress
    on_progress: Callable[[], None] | None = None
    if show is not None and counted is not None:
        shown, returns, begun_ns = show, counted.returns, time.monotonic_ns()

        def on_progress() -> None:
            elapsed_s = (time.monotonic_ns() - begun_ns) / 1e9
            shown(Progress(tape.request_count, tape.token_count, returns.left, elapsed_s))

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


def _check_ring() -> None:
    """Raise `RingUnavailable` if there is no usable io_uring. It is not even loaded for a replay that needs none."""
    from ringtape.engine.ring import check_available

    check_available()


def _check_offline(reader: TapeReader, disks: list[Disk], *, force: bool, disturb: int | None) -> None:
    if reader.header.data != messages_pb2.DATA_LEVEL_FULL:
        raise UsageError(
            f"{reader.path} cannot be replayed offline: it does not have the data; record with data level full"
        )
    if disks or force:
        raise UsageError("an offline replay opens no disk: there is nothing to say or to force about one")
    if disturb is not None:
        raise UsageError("an offline replay has no completions and no disks that could be disturbed")


@contextlib.contextmanager
def _disks_again(
    reader: TapeReader, disks: list[Disk], *, offline: bool, force: bool, on_copy: OnCopy | None
) -> Iterator[Prepared]:
    """The disks of a replay; offline none is looked at."""
    recorded = reader.header.disks
    if offline:
        headers = Prepared()
        for header in recorded:
            one = tape_pb2.DiskHeader()
            one.CopyFrom(header)
            one.undo = False  # nothing is changed that could be put back
            headers.append(one)
        yield headers
        return
    seal = reader.find_seal()
    left = {one.disk: one.contents for one in seal.made} if seal is not None else {}
    with disk_setup.prepared_again(
        recorded,
        disks,
        left,
        recording=name_of_recording(reader.header),
        force=force,
        on_copy=on_copy,
    ) as headers:
        yield headers


def _checker(disks: int, workers: int, level: int) -> BatchChecker:
    return BatchChecker(
        disks=disks,
        workers=workers,
        digests=level >= messages_pb2.DATA_LEVEL_DIGEST,
        contents=level == messages_pb2.DATA_LEVEL_FULL,
    )


def _run_and_seal(
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
def _interruptible() -> Iterator[None]:
    """To callers an interruption is what Python makes of one."""
    try:
        yield
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from None


def _left(headers: list[tape_pb2.DiskHeader]) -> list[tape_pb2.FinalContents]:
    """What the run left on the disks that it made itself, so that a replay may begin them anew."""
    return [
        tape_pb2.FinalContents(disk=index, contents=disk_setup.fingerprint_of(header))
        for index, header in enumerate(headers)
        if header.made
    ]


def _result(
    mode: str,
    journal: Journal,
    supervisor: Supervisor,
    conductor: Recorder | Replayer,
    seed: int,
    tape: str | None,
    ended: str,
) -> Result:
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


def _output(
    output: StrPath | None, tape: StrPath, setting: Setting, recorded: tape_pb2.Header, headers: Prepared
) -> TapeSink:
    if output is None:
        return NullTape()
    if os.path.exists(output) and os.path.samefile(output, tape):
        raise TapeError(f"the replay of {os.fspath(tape)} cannot be written over it; name another file")
    header = setting.header(recorded.data, recorded.arguments_text)
    for index, copied in headers.copied.items():
        header.disks[index].path = copied.path  # the copy goes; the snapshot stays
    header.replay_of = os.fsencode(os.path.abspath(tape)).decode(errors="backslashreplace")
    return TapeWriter(output, header)


def _how_it_ended(reader: TapeReader, journal: Journal) -> str:
    """In words; and the last check that the replay was exact."""
    requests = journal.tape.request_count
    seal = reader.seal
    if seal is None:
        return f"the recording was cut after request id {requests}"
    if seal.digest != journal.hexdigest():
        raise RingtapeError(
            f"the replay went along the whole tape and has digest {journal.hexdigest()}, the recording {seal.digest}: "
            "this is a defect of ringtape"
        )
    if seal.end == tape_pb2.Seal.END_FINISHED:
        return "finished"
    return f"the recording ends after request id {requests}: {seal.text}"


def _check_tape_path(tape: StrPath, headers: list[tape_pb2.DiskHeader]) -> None:
    if os.path.exists(tape) and not os.path.isdir(tape):
        for header in headers:
            # Offline a disk may have gone.
            if os.path.exists(header.path) and identity(os.fspath(tape)) == identity(header.path):
                raise TapeError(
                    f"{os.fspath(tape)} is disk {header.name!r} of this run and cannot be its tape"
                )


def _log_of(console: Console | None) -> Callable[[int, str], None]:
    return _log if console is None or console.on_log is None else console.on_log


def _log(worker: int, text: str) -> None:
    _worker_logger.info("[%d] %s", worker, text)
