"""A process that records or rewinds and is killed at a point that it is told.

Called with `record`, the tape, the disk, a seed and a point it records `changes`; with `rewind`, the tape and a point
it rewinds. A point is a word and a count. `before:3` ends this process with SIGKILL when it is told for the third time
what a range held, before that is on the tape; `torn` when half of it is; `after` when all of it is and no worker knows;
`worker` kills the worker that told it instead. `write` is of a rewind, at its third write.

All that has this process's standard output has ended when that ends.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from typing import Any
from unittest import mock

import ringtape
from ringtape import Disk, rewinding
from ringtape.coordinator.supervisor import Supervisor
from ringtape.coordinator.tape import TapeWriter
from tests.programs.changing import changes


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def record_to(tape: str, disk: str, seed: int, word: str, count: int) -> None:
    told = itertools.count(1)
    undo, take = TapeWriter.undo, Supervisor._take

    def kept(self: TapeWriter, disk: int, offset: int, data: bytes) -> None:
        here = next(told) == count
        if here and word == "before":
            kill()
        if here and word == "torn":
            write = self._write
            with mock.patch.object(self, "_write", lambda frame: write(frame[: len(frame) // 2])):
                undo(self, disk, offset, data)
            kill()
        undo(self, disk, offset, data)
        if here and word == "after":
            kill()

    def taken(self: Supervisor, worker: Any, message: Any) -> None:
        take(self, worker, message)
        if word == "worker" and message.WhichOneof("body") == "before" and next(told) == count:
            os.kill(worker.pid, signal.SIGKILL)

    with (
        mock.patch.object(TapeWriter, "undo", kept if word != "worker" else undo),
        mock.patch.object(Supervisor, "_take", taken),
    ):
        disks = [Disk("a", disk, undo=True)]
        ringtape.record(changes, disks=disks, workers=2, seed=seed, arguments=20, tape=tape)


def rewind_to(tape: str, count: int) -> None:
    written = itertools.count(1)
    write = rewinding._Target.write

    def some(self: Any, undo: Any) -> None:
        if next(written) == count:
            kill()
        write(self, undo)

    with mock.patch.object(rewinding._Target, "write", some):
        ringtape.rewind(tape)


if __name__ == "__main__":
    word, _, count = sys.argv[-1].partition(":")
    try:
        if sys.argv[1] == "record":
            record_to(sys.argv[2], sys.argv[3], int(sys.argv[4]), word, int(count))
        else:
            rewind_to(sys.argv[2], int(count))
    except ringtape.WorkerDied:
        pass
