"""A program's breakpoints: pdb at the program's own line that is about to make a request, on the terminal.

It looks and does not touch: the program goes on from a breakpoint as if it had not stood there. One worker at a
time has the terminal; the others wait for it. Loaded only in workers that have breakpoints.
"""

from __future__ import annotations

import contextlib
import dis
import fcntl
import os
import pdb
import select
import signal
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from ringtape.engine import stacks
from ringtape.engine.link import Link
from ringtape.proto import wire_pb2
from ringtape.proto.errors import ProgramError

# `step` and `next` do not go into these.
_MACHINERY = [
    "ringtape.engine",
    "ringtape.engine.*",
    "ringtape.proto",
    "ringtape.proto.*",
    "asyncio",
    "asyncio.*",
]

Frames = list[tuple[types.FrameType, int]]


class Debugger:
    """Stops the program before the requests that have a breakpoint."""

    def __init__(self, link: Link, breaks: Iterable[wire_pb2.Break], lock_path: str) -> None:
        self._link = link
        self._breaks = {one.sequence: one.text for one in breaks}
        self._terminal = _Terminal(lock_path)
        self._pdb = _Pdb(self)
        #: Sends what the program did before; the gate's.
        self.flush: Callable[[], None] = _nothing

    def about_to_make(self, sequence: int) -> None:
        """The program is about to make this request."""
        text = self._breaks.get(sequence)
        if text is None:
            return
        sys.settrace(None)  # as set by an earlier breakpoint; not for what is ringtape's own
        frames = stacks.program_frames()
        if frames:
            self._pdb.stand(frames, text)

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """The program stands still, and has the terminal."""
        self.flush()
        self._tell(wire_pb2.Stopped(stopped=True))
        with self._terminal.taken(self._pdb.interruptible):
            yield
        if self._pdb.quitting:
            self._quit()
        self._tell(wire_pb2.Stopped(stopped=False))

    @property
    def terminal(self) -> _Terminal:
        """Where the user is."""
        return self._terminal

    def _tell(self, stopped: wire_pb2.Stopped) -> None:
        self._link.send(wire_pb2.WorkerMessage(stopped=stopped))

    def _quit(self) -> NoReturn:
        self._tell(wire_pb2.Stopped(quit=True))
        # The coordinator ends the run, and with it the link and this process.
        while True:
            select.select([self._link.fd], [], [])
            self._link.receive()


class _Pdb(pdb.Pdb):
    """pdb that shows the program's frames alone, and has the terminal while it prompts."""

    def __init__(self, debugger: Debugger) -> None:
        self._debugger = debugger
        terminal = debugger.terminal
        super().__init__(stdin=terminal.input, stdout=terminal.output, skip=_MACHINERY, nosigint=True)
        self._frames: Frames = []
        self._banner = ""

    def stand(self, frames: Frames, text: str) -> None:
        """Prompt before a request. `frames` are the program's, the innermost last; `text` says what it is about."""
        self.reset()
        self._frames = frames
        self.botframe = frames[0][0]
        self.set_step()
        self._banner = text
        self.interaction(frames[-1][0], None)
        self._frames = []
        if self.stopframe is self.botframe and self.stoplineno == -1 and not self.breaks:
            return  # continue
        for frame, _ in frames:
            frame.f_trace = self.trace_dispatch
        sys.settrace(self.trace_dispatch)

    def dispatch_return(self, frame: types.FrameType, arg: Any) -> Any:
        """As pdb does, but `next` at the end of a coroutine comes back too: pdb takes it for a wait."""
        if frame is self.stopframe and self.stoplineno != -1:
            opcode = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if opcode.startswith("RETURN_"):
                self.set_step()
        return super().dispatch_return(frame, arg)

    def user_exception(self, frame: types.FrameType, exc_info: Any) -> None:
        """Prompt at an exception; the StopIteration by which a coroutine gives its value is none to a user."""
        if exc_info[0] is not StopIteration:
            super().user_exception(frame, exc_info)

    def interruptible(self) -> bool:
        """Does Ctrl-C give the command up and prompt anew?"""
        return bool(getattr(self, "allow_kbdint", False))

    def interaction(self, frame: Any, *arguments: Any) -> None:
        """Prompt, wherever the program has come to."""
        with self._debugger.standing():
            if self._banner:
                self.message(self._banner)
                self._banner = ""
            super().interaction(frame, *arguments)
            self.stdout.flush()

    def get_stack(self, f: Any, t: Any) -> tuple[Frames, int]:
        """The program's frames; those of a coroutine that waits are not linked to one another."""
        if self._frames and f is self._frames[-1][0] and t is None:
            return list(self._frames), len(self._frames) - 1
        stack, current = super().get_stack(f, t)
        shown = [one for one in stack if not stacks.is_machinery(one[0])]
        return (shown, len(shown) - 1) if t is None and shown else (stack, current)


class _Terminal:
    """The terminal that the run was started on."""

    def __init__(self, lock_path: str) -> None:
        try:
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self._lock = os.open(lock_path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ProgramError(f"a worker cannot have the terminal for its debugger: {error}") from None
        self.input = os.fdopen(self._fd, encoding="utf-8", errors="replace", closefd=False)
        self.output = os.fdopen(self._fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)

    @contextlib.contextmanager
    def taken(self, interruptible: Callable[[], bool]) -> Iterator[None]:
        """This process alone has the terminal; Ctrl-C is a KeyboardInterrupt where `interruptible` says so."""

        def interrupt(_number: int, _frame: object) -> None:
            if interruptible():
                raise KeyboardInterrupt

        fcntl.flock(self._lock, fcntl.LOCK_EX)
        # To take the terminal from the background; and a stop of this process alone would hang the run.
        handlers: dict[int, Any] = {
            signal.SIGTTOU: signal.SIG_IGN,
            signal.SIGTSTP: signal.SIG_IGN,
            signal.SIGINT: interrupt,
        }
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        group = os.tcgetpgrp(self._fd)
        streams = sys.stdin, sys.stdout
        sys.stdout.flush()
        sys.stdin, sys.stdout = self.input, self.output
        try:
            os.tcsetpgrp(self._fd, os.getpgrp())
            yield
        finally:
            self.output.flush()
            sys.stdin, sys.stdout = streams
            with contextlib.suppress(OSError):  # the group may have ended
                os.tcsetpgrp(self._fd, group)
            for number, handler in before.items():
                signal.signal(number, handler)
            fcntl.flock(self._lock, fcntl.LOCK_UN)


def _nothing() -> None:
    pass
