"""The worker's end of the link to the coordinator.

Sending waits while the coordinator is slow (that is the back-pressure); receiving never waits, the ring does.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import NoReturn

from google.protobuf.message import DecodeError

from ringtape.proto import wire_pb2
from ringtape.proto.framing import Deframer, FramingError, data_start, frame

_RECEIVE_BYTES = 1 << 16


class Link:
    """Messages to and from the coordinator; its end of file is the worker's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._deframer = Deframer()
        self._first: deque[wire_pb2.CoordinatorMessage] = deque()
        self.fd = sock.fileno()
        # The worker has told its outcome: the end of file is now the leave to go.
        self.finished = False

    def send(self, message: wire_pb2.WorkerMessage) -> None:
        """Send one message whole; ends the process if the coordinator has gone."""
        try:
            self._socket.sendall(frame(message.SerializeToString()))
        except (BrokenPipeError, ConnectionResetError):
            self._gone()

    def send_data(self, parts: Sequence[bytes | memoryview]) -> None:
        """Send a frame of data, given in parts, without gathering them first."""
        left = [
            memoryview(data_start(sum(map(len, parts)))),
            *(memoryview(part) for part in parts if len(part)),
        ]
        try:
            while left:
                sent = self._socket.sendmsg(left)
                while left and sent >= len(left[0]):
                    sent -= len(left.pop(0))
                if sent:
                    left[0] = left[0][sent:]
        except (BrokenPipeError, ConnectionResetError):
            self._gone()

    def receive(self) -> list[wire_pb2.CoordinatorMessage]:
        """Every message that has arrived whole."""
        assert not self._first, "the coordinator sends nothing but the first messages unasked"
        messages: list[wire_pb2.CoordinatorMessage] = []
        while True:
            try:
                data = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return messages
            except ConnectionResetError:
                self._gone()
            if not data:
                self._gone()
            messages.extend(parse(payload) for payload in self._deframer.feed(data))
            if len(data) < _RECEIVE_BYTES:
                return messages

    def receive_one(self) -> wire_pb2.CoordinatorMessage:
        """Wait for one of the first messages; for the start of a worker, which takes all of them before `receive`."""
        while not self._first:
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                self._gone()
            self._first.extend(parse(payload) for payload in self._deframer.feed(data))
        return self._first.popleft()

    def _gone(self) -> NoReturn:
        # Nobody is left to tell anything: end at once, run nothing more of the program.
        os._exit(0 if self.finished else 1)


def parse(payload: bytes | bytearray) -> wire_pb2.CoordinatorMessage:
    """Raise `FramingError` for bytes that are no message."""
    assert isinstance(payload, bytes), "frames of data go to the coordinator alone"
    try:
        return wire_pb2.CoordinatorMessage.FromString(payload)
    except DecodeError as error:
        raise FramingError(f"a message from the coordinator does not parse: {error}") from error
