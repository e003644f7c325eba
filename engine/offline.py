"""The worker's requests in an offline replay: nothing goes to a kernel, results and data come with the tokens.

It stands behind the same interface as `RequestQueue`, and loads neither liburing nor a disk. A request completes when
the token that releases it has come: until then there is nothing to know about it.
"""

from __future__ import annotations

import select
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xxhash import xxh3_64_intdigest

from ringtape.engine.outbox import Outbox
from ringtape.engine.requests import Kind, Request, data_of
from ringtape.engine.watched import Watched
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError

if TYPE_CHECKING:
    from ringtape.engine.debugger import Debugger
    from ringtape.engine.rows import Rows
    from ringtape.engine.volume import Volume


class Memory:
    """What a request read or is to write, where else its buffer would be."""

    __slots__ = ("view",)

    def __init__(self, view: memoryview) -> None:
        self.view = view


class OfflineQueue:
    """Takes the program's requests, and lets them complete as the tape says."""

    #: Made and not yet completed, as far as anybody could wait for it: none ever completes by itself.
    active = 0
    #: No request goes by columns.
    columns = None
    many = False
    #: Nothing waits to be admitted.
    unadmitted = False

    def __init__(self, link_fd: int, outbox: Outbox, *, digests: bool) -> None:
        self._outbox = outbox
        self._digests = digests
        self._poll = select.poll()
        self._poll.register(link_fd, select.POLLIN)
        # Data of reads that has come ahead of their token.
        self._given: dict[int, bytearray] = {}
        # Made and not yet released, oldest first.
        self.outstanding: dict[int, Request] = {}
        self.made = 0
        self.completed = 0
        # In a replay that is looked into: who stops before a request, and who is told of it.
        self.debugger: Debugger | None = None
        self.watched: Watched | None = None
        #: Volumes of which a token has released something, to be woken when it has released the rest.
        self.touched: dict[Volume, None] = {}
        #: Arrays of volumes that are not done, and the sequence number of their first request: the oldest first.
        self.held: dict[Rows, int] = {}

    def find(self, sequence: int) -> Request | None:
        """What is known of a request that is not released."""
        return self.outstanding.get(sequence)

    @property
    def waits(self) -> bool:
        """Is there a request that has been made and not released?"""
        return bool(self.outstanding)

    def issue(self, request: Request, data: memoryview | bytes | None = None) -> None:
        """Take a request from the program; `data` of a write is copied here and now."""
        if self.debugger is not None:
            self.debugger.about_to_make(self.made)
        request.sequence = self.made
        self.made += 1
        self.outstanding[request.sequence] = request
        if request.kind is Kind.WRITE:
            assert data is not None
            if self._digests:
                request.digest = xxh3_64_intdigest(data)
            slot: Any = Memory(memoryview(bytes(data)))
            request.slot = slot
        self._outbox.request(request, self.completed)
        if self.watched is not None:
            self.watched.made(request, data)

    def issue_read(self, request: Request) -> None:
        """As `issue`, of a read into memory of the queue's."""
        self.issue(request)

    def submit(self) -> None:
        """There is no kernel to hand anything to."""

    def hand_over(self, left_ns: int | None = None) -> None:
        """As `submit`, before a wait."""

    def wait(self, timeout_ns: int | None = None) -> None:
        """Wait for the link or the timeout."""
        self._poll.poll(None if timeout_ns is None else max(timeout_ns / 1e6, 0))

    def reap(self) -> tuple[list[Request], bool]:
        """Nothing completes here; and whether the link has something to read."""
        return [], bool(self._poll.poll(0))

    def admit(self, sequences: bytes) -> None:
        """Nothing waits to be admitted."""
        raise FramingError(f"{len(sequences) // 8} requests were admitted, and none waits for that")

    def kept(self, disk: int, offset: int) -> None:
        """Nothing is kept for undo."""
        raise FramingError(f"byte {offset} of disk {disk} was kept for undo, and nobody asked for that")

    def give(self, given: wire_pb2.Given) -> None:
        """Pieces of what reads returned; raises `FramingError` for what is of no read that waits."""
        pieces, start = memoryview(given.data), 0
        lengths = memoryview(given.length).cast("I")
        for sequence, length in zip(memoryview(given.sequence).cast("Q"), lengths, strict=True):
            request = self.outstanding.get(sequence)
            if request is None or request.kind is not Kind.READ:
                raise FramingError(f"data came for request {sequence}, which waits for none")
            data = self._given.setdefault(sequence, bytearray())
            if len(data) + length > request.length:
                raise FramingError(f"more data came for request {sequence} than it asked for")
            data += pieces[start : start + length]
            start += length

    def complete(self, token: wire_pb2.Token) -> None:
        """The requests that the token releases have completed, with the results that it has."""
        results = memoryview(token.results).cast("q")
        for sequence, result in zip(memoryview(token.sequences).cast("Q"), results, strict=True):
            request = self.outstanding[sequence]
            request.result = result
            request.completed = True
            self.completed += 1
            if request.kind is Kind.READ:
                data = self._given.pop(sequence, bytearray())
                if len(data) != max(result, 0):
                    raise FramingError(f"request {sequence} returned {result} bytes, and {len(data)} came")
                slot: Any = Memory(memoryview(data))
                request.slot = slot
                if request.aligned and result < request.length:
                    request.blank_rest()
            if self.watched is not None:
                read = data_of(request) if request.kind is Kind.READ and result > 0 else None
                self.watched.completed(request, read)

    def release(self, requests: Iterable[Request]) -> None:
        """A token released these requests, in this order: who waits for them is told."""
        for request in requests:
            assert request.completed, f"request {request.sequence} released before it completed"
            del self.outstanding[request.sequence]
            assert request.waiter is not None
            request.waiter.released(request)
            request.slot = None

    def oldest(self) -> int:
        """The sequence number of the oldest request whose id may be asked for, or the next to be made."""
        oldest = next(iter(self.outstanding), self.made)
        return min(oldest, next(iter(self.held.values()))) if self.held else oldest
