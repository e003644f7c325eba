"""The determinism check: one recording, and replays of it under conditions that are different on purpose."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ringtape.check_disks import CheckDisks
from ringtape.conditions import conditions_of
from ringtape.conducting import STALL_TIMEOUT_S, Console
from ringtape.coordinator.errors import Divergence, WorkerDied
from ringtape.coordinator.tape import TapeReader
from ringtape.disks import Disk
from ringtape.proto.errors import RingtapeError, Stalled
from ringtape.replaying import replay
from ringtape.results import Result
from ringtape.runs import record
from ringtape.settings import Data, Overlap, Program, StrPath, UsageError

RUNS_MAX = 1_000_000


@dataclass(frozen=True)
class Difference:
    """A replay that did not go as the recording.

    Attributes:
        replay: its number, from 1.
        conditions: under which it ran, in words.
        error: what ended it: a `Divergence`, `Stalled`, `WorkerDied`, or another digest.
        repeat: the command that replays under these conditions again.
    """

    replay: int
    conditions: str
    error: RingtapeError
    repeat: str


@dataclass(frozen=True)
class CheckResult:
    """What came of a check.

    Attributes:
        recorded: the result of the recording.
        runs: how many replays were made; the last one is the one that differs, if one does.
        difference: the first; None if all replays were the recording.
        tape: path of the tape, if it was kept.
        elapsed_s: seconds for all of it.
    """

    recorded: Result
    runs: int
    difference: Difference | None
    tape: str | None
    elapsed_s: float

    def raise_for_difference(self) -> None:
        """Raise what ended the replay that differs, if one does."""
        if self.difference is not None:
            raise self.difference.error


def check(
    program: Program,
    *,
    disks: Iterable[Disk] = (),
    workers: int = 1,
    seed: int | None = None,
    arguments: Any = None,
    data: Data = "digest",
    overlap: Overlap = "order",
    runs: int = 20,
    keep: StrPath | None = None,
    stall_timeout_s: float = STALL_TIMEOUT_S,
    on_replay: Callable[[int, str], None] | None = None,
    console: Console | None = None,
) -> CheckResult:
    """Record a program once and replay it again and again, each time under other conditions.

    Completions are kept back, workers are held up at checkpoints, the kernel gets fewer requests at once, workers run
    on other CPUs, and all of this together; what is done in which replay follows from the seed. It ends at the first
    replay that is not the recording.

    Files that are not `fresh` are copied to a temporary folder first, and the copies are used. The replays' standard
    output and log lines are not shown.

    Args:
        program: as in `record`.
        disks: as in `record`.
        workers: as in `record`.
        seed: as in `record`; the conditions follow from it as well.
        arguments: as in `record`.
        data: as in `record`.
        overlap: as in `record`.
        runs: how many replays.
        keep: where to leave the tape. Without it the tape is kept only if a replay differs, in a temporary folder.
        stall_timeout_s: as in `replay`.
        on_replay: called before each replay with its number, from 1, and its conditions in words.
        console: for those who show runs on a terminal.

    Raises:
        DiskError: also for a block device that is not `fresh`. For the rest see `record`.
    """
    if isinstance(runs, bool) or not isinstance(runs, int) or not 1 <= runs <= RUNS_MAX:
        raise UsageError(f"runs {runs!r} must be a whole number from 1 to {RUNS_MAX}")
    began_s = time.monotonic()
    folder = tempfile.mkdtemp(prefix="ringtape-check-")
    tape = os.fspath(keep) if keep is not None else os.path.join(folder, "check.tape")
    difference: Difference | None = None
    with contextlib.ExitStack() as stack:
        remove = stack.enter_context(contextlib.ExitStack())
        remove.callback(shutil.rmtree, folder, ignore_errors=True)
        prepared = CheckDisks(disks, folder)
        stack.callback(prepared.remove_made)
        recorded = record(
            program,
            disks=prepared.disks,
            workers=workers,
            seed=seed,
            arguments=arguments,
            tape=tape,
            data=data,
            overlap=overlap,
            console=console,
        )
        quiet = replace(console or Console(), stdout=subprocess.DEVNULL, on_log=_nobody)
        number = 0
        while difference is None and number < runs:
            number += 1
            difference = _replay(
                number, program, tape, quiet, stall_timeout_s=stall_timeout_s, on_replay=on_replay
            )
        if difference is not None and (keep is None or prepared.copied):
            remove.pop_all()  # what repeats it is in there
    kept = tape if keep is not None or difference is not None else None
    return CheckResult(replace(recorded, tape=kept), number, difference, kept, time.monotonic() - began_s)


def _replay(
    number: int,
    program: Program,
    tape: str,
    console: Console,
    *,
    stall_timeout_s: float,
    on_replay: Callable[[int, str], None] | None,
) -> Difference | None:
    with TapeReader.open(tape) as reader:
        conditions = conditions_of(reader.header, reader.find_seal(), number)
    if on_replay is not None:
        on_replay(number, conditions.text)
    try:
        replay(tape, program, disturb=number, stall_timeout_s=stall_timeout_s, console=console)
    except RingtapeError as error:
        # A digest that is another one is said by the root of the errors itself.
        if not isinstance(error, Divergence | Stalled | WorkerDied) and type(error) is not RingtapeError:
            raise
        repeat = f"ringtape replay {shlex.quote(tape)} --disturb {number}"
        return Difference(number, conditions.text, error, repeat)
    return None


def _nobody(_worker: int, _text: str) -> None:
    pass
