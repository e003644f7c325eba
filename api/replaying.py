"""Replays from their start to their result: the tape, the disks again, what is looked into, how it ended."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator

from ringtape import disks as disk_setup
from ringtape.conditions import conditions_of
from ringtape.conducting import (
    STALL_TIMEOUT_S,
    Console,
    check_ring,
    check_tape_path,
    checker_of,
    interruptible,
    log_of,
    result_of,
    run_and_seal,
    supervisor_of,
)
from ringtape.coordinator.ahead import LookAhead, may_look_ahead
from ringtape.coordinator.difference import explain
from ringtape.coordinator.faults import Faults
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.offline import OfflineReplayer
from ringtape.coordinator.replayer import Replayer
from ringtape.coordinator.requests import ReplayedRequest
from ringtape.coordinator.tape import NullTape, TapeReader, TapeSink, TapeWriter
from ringtape.coordinator.undo import UndoKeeper
from ringtape.coordinator.watch import WatchedRequest
from ringtape.disks import Disk, Prepared, checked
from ringtape.engine.program import refuse_in_worker
from ringtape.initial import OnCopy
from ringtape.inspecting import Wanted, breaks_of, inspection_of, several, terminal_for_workers
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import RingtapeError, TapeError
from ringtape.results import Result
from ringtape.rewinding import changed_ranges
from ringtape.settings import (
    Program,
    Setting,
    StrPath,
    UsageError,
    checked_stall_ns,
    name_of_recording,
    program_of,
)


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
    strict: bool = False,
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
        strict: let each worker ask at each checkpoint. Else workers on disks of their own are told ahead what is to
            come, and ask only where it does not: the replay sees and finds the same, sooner.
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
    stall_ns = checked_stall_ns(stall_timeout_s)
    disks = checked(disks)
    wanted = Wanted(until, on_request, several("break_at", break_at), several("watch", watch), on_watched)
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
            check_ring()
        conditions = None if disturb is None else conditions_of(recorded, reader.find_seal(), disturb)
        with (
            interruptible(),
            terminal_for_workers(breaks) as debugger_lock,
            _disks_again(reader, disks, offline=offline, force=force, on_copy=on_copy) as headers,
        ):
            if output is not None:
                check_tape_path(output, headers)
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
            leased = [False] * recorded.workers
            if not (offline or inspection or breaks or conditions or output is not None) and may_look_ahead(
                reader
            ):
                leased = setting.leased(strict=strict)
            ahead = LookAhead(reader, leased) if any(leased) else None
            checker = checker_of(len(headers), recorded.workers, level)
            log = log_of(console)
            replayer = (
                OfflineReplayer(
                    reader, journal, checker, stall_ns=stall_ns, on_log=log, inspection=inspection
                )
                if offline
                else Replayer(
                    reader,
                    journal,
                    checker,
                    shared=setting.shared,
                    stall_ns=stall_ns,
                    on_log=log,
                    inspection=inspection,
                    ahead=ahead,
                )
            )
            faults = None if offline else Faults.of_tape(reader)
            starts = setting.starts(
                plain=False, level=level, offline=offline, faults=faults, leased=leased, replay=True
            )
            for start in starts:
                if conditions is not None:
                    start.disturbance.CopyFrom(conditions.disturbances[start.worker])
                start.breaks.extend(breaks.get(start.worker, ()))
                start.debugger_lock = debugger_lock
                start.watched.extend(watched.merged() if watched is not None else ())
            supervisor = supervisor_of(
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
            run_and_seal(supervisor, journal, list, stopped=lambda: replayer.stopped, watched=watched)
        if replayer.damage is not None:
            raise replayer.damage
        ended = replayer.stopped or _how_it_ended(reader, journal)
        if inspection is not None and not replayer.stopped:
            ended += inspection.missed()
        written = None if output is None else os.fspath(output)
        return result_of("replay", journal, supervisor, replayer, recorded.seed, written, ended)


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


def _check_offline(reader: TapeReader, disks: list[Disk], *, force: bool, disturb: int | None) -> None:
    if reader.header.data != messages_pb2.DATA_LEVEL_FULL:
        raise UsageError(
            f"{reader.path} cannot be replayed offline: it does not have the data; record with data level full"
        )
    if disks or force:
        raise UsageError("an offline replay opens no disk: there is nothing to say or to force about one")
    if disturb is not None:
        raise UsageError("an offline replay has no completions and no disks that could be disturbed")


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
