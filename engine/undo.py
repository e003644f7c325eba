"""What a range of a disk held before its first change: read and told, before the change may begin.

The queue asks here whenever a change's turn has come. A change of blocks that this worker has not told yet is held;
its blocks are read through the ring, told, and the change goes on when the coordinator says that all of it is on the
tape. So no change reaches a disk before the tape can take it back. Whether another worker told the same blocks is the
coordinator's business; which requests conflict is the queue's.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from ringtape.engine.buffers import Buffers
from ringtape.engine.requests import Kind, Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError
from ringtape.proto.ranges import BlockSet

# Sequence numbers of reads that are not the program's begin here.
OWN_FIRST = 1 << 62
PIECE_BYTES_MAX = 1 << 20
# Pieces that are read, or told and not on the tape yet: bounds memory, what waits in the link, and what is in the
# kernel beside the requests of the program, for which the completion ring has room.
PIECES_MAX = 24


class Queue(Protocol):
    """What this needs of the queue."""

    def read_for_undo(self, request: Request) -> None:
        """Put a read on the ring; `was_read` hears of its end."""

    def resume(self, request: Request) -> None:
        """Nothing holds this request any more."""

    def answer(self, request: Request, result: int) -> None:
        """This request completes with this result; the disk is left alone."""


class _Held:
    """A change that waits."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.reached = request.offset  # blocks before it are told, or under way
        self.waits_for = 0  # pieces
        self.error = 0
        self.gone = False

    @property
    def end(self) -> int:
        return self.request.offset + self.request.length


class _Piece:
    """Blocks that are being read or told, and who waits for them."""

    def __init__(self, read: Request) -> None:
        self.read = read
        self.disk, self.offset, self.end = read.disk, read.offset, read.offset + read.length
        self.waiting: list[_Held] = []


class Undo:
    """Of one worker."""

    def __init__(
        self,
        block_sizes: Mapping[int, int],
        buffers: Buffers,
        tell: Callable[[wire_pb2.WorkerMessage], None],
    ) -> None:
        """`block_sizes` has the disks that are to be taken back, by index."""
        self._block_sizes = block_sizes
        self._buffers = buffers
        self._tell = tell
        self._told = {disk: BlockSet() for disk in block_sizes}
        # Those with blocks that are not under way yet, oldest first.
        self._held: deque[_Held] = deque()
        self._pieces: dict[tuple[int, int], _Piece] = {}
        self._next = OWN_FIRST

    def holds(self, request: Request, queue: Queue) -> bool:
        """The turn of a change has come: must it wait? If so it is resumed or answered later."""
        block = self._block_sizes.get(request.disk)
        if block is None or self._told[request.disk].has(
            request.offset // block, (request.offset + request.length) // block
        ):
            return False
        self._held.append(_Held(request))
        self._go_on(queue)
        return True

    def was_read(self, read: Request, result: int, queue: Queue) -> None:
        """A piece was read: tell what was there."""
        piece = self._pieces[read.disk, read.offset]
        block = self._block_sizes[read.disk]
        length = max(result, 0) // block * block
        slot = read.slot
        assert slot is not None
        if not length:
            # What cannot be read could not be put back: the change fails as the read did.
            del self._pieces[read.disk, read.offset]
            self._settle(piece, -result if result < 0 else errno.EIO, queue)
        else:
            if length < read.length:
                piece.end = piece.offset + length
                for held in piece.waiting:
                    held.reached = min(held.reached, piece.end)
                    if held not in self._held:
                        self._held.appendleft(held)
            before = wire_pb2.Before(disk=read.disk, offset=read.offset, data=bytes(slot.view[:length]))
            self._tell(wire_pb2.WorkerMessage(before=before))
        read.slot = None
        self._buffers.give_back(slot)
        self._go_on(queue)

    def kept(self, disk: int, offset: int, queue: Queue) -> None:
        """A piece is on the tape; `FramingError` if there is no such piece."""
        piece = self._pieces.pop((disk, offset), None)
        if piece is None:
            raise FramingError(f"the coordinator kept what was not told: disk {disk}, offset {offset}")
        block = self._block_sizes[disk]
        self._told[disk].add(piece.offset // block, piece.end // block)
        self._settle(piece, 0, queue)
        self._go_on(queue)

    def _settle(self, piece: _Piece, error: int, queue: Queue) -> None:
        for held in piece.waiting:
            held.waits_for -= 1
            held.error = held.error or error
            self._let_go(held, queue)

    def _let_go(self, held: _Held, queue: Queue) -> None:
        if held.gone or held.waits_for or (held.reached < held.end and not held.error):
            return
        held.gone = True
        if held.error:
            queue.answer(held.request, -held.error)
        else:
            queue.resume(held.request)

    def _go_on(self, queue: Queue) -> None:
        """Begin pieces, as many as there may be."""
        while self._held and len(self._pieces) < PIECES_MAX:
            held = self._held[0]
            if held.gone or held.error or not self._begin_piece(held, queue):
                # Before it goes on: that may hold it again, or others.
                self._held.popleft()
                self._let_go(held, queue)

    def _begin_piece(self, held: _Held, queue: Queue) -> bool:
        """Begin the next piece of a change, or wait for one that is under way; False if there is none left."""
        disk, block = held.request.disk, self._block_sizes[held.request.disk]
        found = None
        while found is None:
            if held.reached >= held.end:
                return False
            until = min(held.end, held.reached + PIECE_BYTES_MAX)
            found = next(self._told[disk].missing(held.reached // block, until // block), None)
            held.reached = until if found is None else held.reached
        start, end = found[0] * block, found[1] * block
        for other in self._pieces.values():  # only requests that race are under way on the same blocks
            if other.disk == disk and other.offset < end and start < other.end:
                if other.offset <= start:
                    other.waiting.append(held)
                    held.waits_for += 1
                    held.reached = other.end
                    return True
                end = other.offset
        read = Request(Kind.READ, disk, start, end - start)
        read.sequence = self._next
        self._next += 1
        read.slot = self._buffers.take(read.length)
        piece = self._pieces[disk, start] = _Piece(read)
        piece.waiting.append(held)
        held.waits_for += 1
        held.reached = end
        queue.read_for_undo(read)
        return True
