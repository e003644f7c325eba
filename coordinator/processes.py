"""One worker process and the coordinator's end of its link. Nothing here blocks."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import IO

from google.protobuf.message import DecodeError

from ringtape.coordinator.errors import ProtocolError
from ringtape.proto import wire_pb2
from ringtape.proto.contents import LINK_DATA_BYTES_MAX
from ringtape.proto.framing import Deframer, FramingError, frame

_RECEIVE_BYTES = 1 << 18
_SEND_BYTES = 1 << 20
_ADDR_NO_RANDOMIZE = 0x0040000
_PERSONALITY_ASK = 0xFFFFFFFF

# Started this way and not through multiprocessing: no resource tracker stays behind, the starting script is not
# imported as a side effect, and a recording and a replay load the program in the same way.
#
# ringtape and what it needs are imported before the starting process's path counts: a user's `copy.py`, in the folder
# that comes first on it, is not Python's. A fresh interpreter's own path has Python and what is installed. With -P it
# does not begin with the current folder, where newer Pythons would look for a module before they run a line of this; an
# empty entry is that folder too. In front of it comes where this ringtape is, if that is on the path; behind it, only
# where something is not found without, the path itself.
_BOOT = """\
import sys
root, *path = sys.argv[3:]
own = [entry for entry in sys.path if entry]
sys.path[:] = own if root in own or root not in path else [root, *own]
try:
    from ringtape.engine.worker import main
except ModuleNotFoundError:
    sys.path += path
    from ringtape.engine.worker import main
own = sys.path[:]
sys.path[:] = path
main(own)
"""


class WorkerProcess:
    """A spawned worker: its process, its link, what is still to be sent to it."""

    def __init__(
        self, start: wire_pb2.Start, *, lifeline: int, hash_seed: str, stdout: IO[str] | int | None
    ) -> None:
        """`lifeline` is the reading end of a pipe whose other end this process alone holds, and never writes to."""
        self.index = start.worker
        self.finished = False
        #: The end of file has come: nothing more will.
        self.closed = False
        #: The run knows that it has ended before its program did.
        self.died = False
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):  # as far as the system lets it
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
        with theirs:
            self._process = _spawn(theirs, lifeline, hash_seed=hash_seed, stdout=stdout)
        ours.setblocking(False)
        self.socket = ours
        self.pid = self._process.pid
        #: Readable when the process has ended, although what its program has started may hold the link open.
        #: -1 where the kernel has no such thing.
        self.end_fd = -1
        with contextlib.suppress(OSError):
            self.end_fd = os.pidfd_open(self.pid)
        self._deframer = Deframer(data_bytes_max=LINK_DATA_BYTES_MAX)
        self._unsent = bytearray()
        # What comes after that; the first has been begun.
        self._later: deque[Iterator[wire_pb2.CoordinatorMessage]] = deque()
        self.send(wire_pb2.CoordinatorMessage(start=start))

    def send(self, messages: wire_pb2.CoordinatorMessage | Iterator[wire_pb2.CoordinatorMessage]) -> None:
        """Send messages as far as the link takes them; the rest goes with `flush`.

        Of those behind an iterator one is held at a time.
        """
        if not isinstance(messages, wire_pb2.CoordinatorMessage):
            self._later.append(messages)
            self.flush()
            return
        if self._later:
            self._later.append(iter((messages,)))
            return
        self._put(messages)

    def _put(self, message: wire_pb2.CoordinatorMessage) -> None:
        data = frame(message.SerializeToString())
        if self._unsent:
            self._unsent += data
            return
        sent = self._send(data)
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]

    def flush(self) -> bool:
        """Send what is left; True when nothing is."""
        if self._unsent:
            del self._unsent[: self._send(self._unsent)]
        while self._later and not self._unsent:
            message = next(self._later[0], None)
            if message is None:
                self._later.popleft()
            else:
                self._put(message)
        return not self.unsent

    @property
    def unsent(self) -> bool:
        """Is there something for `flush`?"""
        return bool(self._unsent or self._later)

    def _send(self, data: bytes | bytearray) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return len(data)  # it has died; the end of file says so

    def receive(self) -> list[wire_pb2.WorkerMessage | bytearray]:
        """The messages, and data between them, that have come whole; `ProtocolError` for what is none.

        Sets `closed` at the end of file.
        """
        try:
            room = self._deframer.room
            if room is not None:
                return self._receive_data(room)
            data = self.socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return []
        try:
            return [
                payload if isinstance(payload, bytearray) else wire_pb2.WorkerMessage.FromString(payload)
                for payload in self._deframer.feed(data)
            ]
        except (DecodeError, FramingError) as error:
            raise ProtocolError(f"a message from worker {self.index} does not parse: {error}") from error

    def _receive_data(self, room: memoryview) -> list[wire_pb2.WorkerMessage | bytearray]:
        count = self.socket.recv_into(room)
        if not count:
            self.closed = True
            return []
        data = self._deframer.filled(count)
        return [] if data is None else [data]

    def receive_rest(self) -> list[wire_pb2.WorkerMessage | bytearray]:
        """The process has ended: all that it sent. Sets `closed`."""
        messages: list[wire_pb2.WorkerMessage | bytearray] = []
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while not self.closed and poll.poll(0):
            messages.extend(self.receive())
        self.closed = True
        return messages

    def let_go(self, timeout_s: float) -> None:
        """Close the link, which lets a finished worker go, and see to it that it and its children have ended."""
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """End the worker and whatever it has started, now."""
        # The group outlives a leader that has been waited for only if the program left processes in it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()  # a program may have left the group
        self._process.wait()
        self.socket.close()
        if self.end_fd >= 0:
            os.close(self.end_fd)
            self.end_fd = -1

    def how_it_ended(self) -> str:
        """Exit status or signal of an ended worker, in words."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed its link"
        if code >= 0:
            return f"ended with exit status {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"


def _spawn(
    theirs: socket.socket, lifeline: int, *, hash_seed: str, stdout: IO[str] | int | None
) -> subprocess.Popen[bytes]:
    environment = dict(os.environ, PYTHONHASHSEED=hash_seed)
    with _without_address_randomisation():
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(theirs.fileno()), str(lifeline), _root(), *sys.path],
            pass_fds=[theirs.fileno(), lifeline],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            # Its own group: Ctrl-C reaches the coordinator alone, and its children end with it.
            process_group=0,
        )


def _root() -> str:
    """The folder in which this ringtape lies under its name; empty if it is found in another way (a link, a map)."""
    folder, name = os.path.split(sys.modules["ringtape"].__path__[0])
    return folder if name == "ringtape" else ""


@contextlib.contextmanager
def _without_address_randomisation() -> Iterator[None]:
    """What this thread starts meanwhile has the same memory layout each time, where the sandbox allows it."""
    personality = ctypes.CDLL(None).personality
    before = personality(ctypes.c_ulong(_PERSONALITY_ASK))
    if before == -1 or personality(ctypes.c_ulong(before | _ADDR_NO_RANDOMIZE)) == -1:
        yield
        return
    try:
        yield
    finally:
        personality(ctypes.c_ulong(before))
