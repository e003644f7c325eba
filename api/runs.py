"""Runs without a tape to follow, from their start to their result: plain and record."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from ringtape import disks as disk_setup
from ringtape.conducting import (
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
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.plain import PlainConductor
from ringtape.coordinator.policy import Fifo
from ringtape.coordinator.recorder import Recorder
from ringtape.coordinator.tape import NullTape, TapeWriter
from ringtape.coordinator.undo import UndoKeeper
from ringtape.disks import Disk
from ringtape.engine.program import refuse_in_worker
from ringtape.programs import named
from ringtape.proto import tape_pb2
from ringtape.results import Result, failures_of, returns_of
from ringtape.settings import (
    Data,
    Overlap,
    Program,
    Setting,
    StrPath,
    TapeSync,
    checked_seed,
    checked_sync,
    level_of,
    pickled_arguments,
)


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
    check_ring()
    with interruptible(), disk_setup.prepared(disks, workers=workers, tape=None) as headers:
        setting = Setting(
            found, headers, workers, seed, pickled_arguments(arguments), overlap, time.time_ns()
        )
        conductor = PlainConductor(workers, log_of(console))
        supervisor = supervisor_of(
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
    strict: bool = False,
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
        strict: let every worker wait for every token. With False one that uses no shared disk has a lease: it releases
            its completions on its own, in the order in which they come, and reports them, which is faster.
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
    check_ring()
    on_copy = console.on_copy if console is not None else None
    with (
        interruptible(),
        disk_setup.prepared(disks, workers=workers, tape=os.fspath(tape), on_copy=on_copy) as headers,
    ):
        check_tape_path(tape, headers)
        setting = Setting(
            found, headers, workers, seed, pickled_arguments(arguments), overlap, time.time_ns()
        )
        # A token that is on the device before the program sees it has to be asked for.
        leased = setting.leased(strict=strict or sync == "checkpoint")
        header = setting.header(level, repr(arguments))
        header.leased = any(leased)
        writer = TapeWriter(tape, header, sync=sync)
        journal = Journal(writer, workers)
        checker = checker_of(len(headers), workers, level)
        recorder = Recorder(
            journal,
            Fifo(),
            checker,
            workers=workers,
            shared=setting.shared,
            leased=leased,
            on_log=log_of(console),
        )
        starts = setting.starts(plain=False, level=level, leased=leased)
        undo = UndoKeeper(writer, headers)
        supervisor = supervisor_of(recorder, starts, writer, seed, console, recorder, headers, undo=undo)
        run_and_seal(supervisor, journal, lambda: _left(headers))
    return result_of("record", journal, supervisor, recorder, seed, os.fspath(tape), "finished")


def _left(headers: list[tape_pb2.DiskHeader]) -> list[tape_pb2.FinalContents]:
    """What the run left on the disks that it made itself, so that a replay may begin them anew."""
    return [
        tape_pb2.FinalContents(disk=index, contents=disk_setup.fingerprint_of(header))
        for index, header in enumerate(headers)
        if header.made
    ]
