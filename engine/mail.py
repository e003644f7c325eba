"""What a program is sent by other workers: messages, and openings of barriers, as tokens deliver them.

Two mails behind one interface, one for each face. Neither waits by itself: the gate does.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import NamedTuple, Protocol

from xxhash import xxh3_128_digest

from ringtape.proto import messages_pb2, wire_pb2
from ringtape.proto.errors import RingtapeError
from ringtape.proto.framing import MESSAGE_BYTES_MAX


class Message(NamedTuple):
    """What `io.receive()` gives: the index of the worker that sent it, and what it sent."""

    sender: int
    payload: bytes


class InvalidMessage(RingtapeError, ValueError):
    """A message that cannot be sent: to a worker that the run does not have, or too long."""


class Mail(Protocol):
    """What the gate needs: somewhere to put what tokens deliver."""

    #: How many parts of the program wait for a delivery.
    waiting: int

    def deliver(self, delivery: wire_pb2.Delivery) -> None:
        """A token brought this."""


class BlockingMail:
    """Of a blocking program, which looks into it between two checkpoints."""

    def __init__(self) -> None:
        self.waiting = 0
        self.messages: deque[Message] = deque()
        self.opened: Counter[str] = Counter()

    def deliver(self, delivery: wire_pb2.Delivery) -> None:
        """See `Mail`."""
        if delivery.WhichOneof("what") == "barrier":
            self.opened[delivery.barrier] += 1
        else:
            self.messages.append(Message(delivery.sender, delivery.payload))


class AsyncMail:
    """Of an asynchronous program: those who wait are woken in the order in which they began to."""

    def __init__(self) -> None:
        self.waiting = 0
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._opened: dict[str, asyncio.Queue[None]] = {}

    def deliver(self, delivery: wire_pb2.Delivery) -> None:
        """See `Mail`."""
        if delivery.WhichOneof("what") == "barrier":
            self._barrier(delivery.barrier).put_nowait(None)
        else:
            self._messages.put_nowait(Message(delivery.sender, delivery.payload))

    async def receive(self) -> Message:
        """The oldest message that nobody has received."""
        self.waiting += 1
        try:
            return await self._messages.get()
        finally:
            self.waiting -= 1

    async def opening(self, name: str) -> None:
        """Come back when the barrier has opened."""
        self.waiting += 1
        try:
            await self._barrier(name).get()
        finally:
            self.waiting -= 1

    def _barrier(self, name: str) -> asyncio.Queue[None]:
        return self._opened.setdefault(name, asyncio.Queue())


def sent(worker: int, payload: object, *, workers: int) -> messages_pb2.Note:
    """The note of a message; `InvalidMessage` for one that cannot be."""
    if isinstance(worker, bool) or not isinstance(worker, int) or not 0 <= worker < workers:
        raise InvalidMessage(f"there is no worker {worker!r} to send to: workers are 0 to {workers - 1}")
    if not isinstance(payload, bytes | bytearray | memoryview):
        raise InvalidMessage(f"a message is bytes, not {type(payload).__name__}: encode or pickle it")
    data = bytes(payload)
    if len(data) > MESSAGE_BYTES_MAX:
        raise InvalidMessage(
            f"a message of {len(data)} bytes is more than {MESSAGE_BYTES_MAX}: send it in parts, or by way of a disk"
        )
    return messages_pb2.Note(
        sent=messages_pb2.Sent(to=worker, size=len(data), digest=xxh3_128_digest(data), payload=data)
    )


def arrived(name: str) -> messages_pb2.Note:
    """The note of an arrival at a barrier."""
    if not isinstance(name, str):
        raise InvalidMessage(f"a barrier's name is text, not {type(name).__name__}")
    return messages_pb2.Note(barrier=name.encode(errors="backslashreplace").decode())
