"""What the kernel failed or cut short in the recording, answered in a replay as it was then.

The disk of a replay may be healthy. A request that failed does not touch it; one that was cut short does what it did
then and no more. When a request's turn comes is for the queue to say, and what its program sees for the token.
"""

from __future__ import annotations

import errno
import mmap
import os
from array import array
from collections.abc import Iterable, Sequence

from ringtape.engine.requests import Kind, Request
from ringtape.proto import wire_pb2
from ringtape.proto.framing import FramingError

_NONE = -1


class Faults:
    """Those of one worker; the queue takes out each when the program makes its request."""

    def __init__(self, files: Sequence[int] = (), block_sizes: Sequence[int] = ()) -> None:
        self._files = files
        self._block_sizes = block_sizes
        self._sequences = array("Q")
        self._results = array("q")
        self._place = 0
        #: The sequence number of the next request that has one; -1 when there is none.
        self.next = _NONE
        #: By sequence number: recorded results of requests that were made and have not completed.
        self.due: dict[int, int] = {}

    def add(self, messages: Iterable[wire_pb2.CoordinatorMessage]) -> None:
        """Take all that the coordinator tells before the program begins; `FramingError` if it is something else."""
        for message in messages:
            if message.WhichOneof("body") != "faults":
                raise FramingError(f"waited for faults, got {message.WhichOneof('body')}")
            self._sequences.frombytes(message.faults.sequence)
            self._results.frombytes(message.faults.result)
            if message.faults.last:
                break
        assert len(self._sequences) == len(self._results), "columns of one message have one length"
        self._find_next()

    def _find_next(self) -> None:
        self.next = self._sequences[self._place] if self._place < len(self._sequences) else _NONE

    def made(self, request: Request) -> None:
        """The program made the request numbered `next`."""
        assert request.sequence == self.next, (request.sequence, self.next)
        result = self._results[self._place]
        self._place += 1
        self._find_next()
        self.due[request.sequence] = result

    def answer(self, request: Request) -> int | None:
        """The request's turn has come: its result if the disk is to be left alone, else None; may be asked again."""
        result: int | None = self.due[request.sequence]
        assert result is not None
        if result >= 0 and request.kind is Kind.READ:
            return None  # the queue gives it memory
        if result > 0:
            result = (
                self._fill_up(request, min(result, request.length)) if request.kind is Kind.WRITE else None
            )
        if result is not None:
            del self.due[request.sequence]
        return result

    def _fill_up(self, request: Request, moved: int) -> int | None:
        """Make whole blocks of a write that ended within one: what the disk holds there follows in its memory.

        Nobody else changes the range meanwhile: it is the request's own turn. Returns minus errno if it cannot be read.
        """
        whole = self.transfer_bytes(request)
        if whole > moved:
            assert request.slot is not None
            block = self._block_sizes[request.disk]
            memory = memoryview(mmap.mmap(-1, block))  # page-aligned, as O_DIRECT wants it
            try:
                count = os.preadv(self._files[request.disk], [memory], request.offset + whole - block)
            except OSError as error:
                return -(error.errno or errno.EIO)
            kept = moved - (whole - block)
            request.slot.view[moved : whole - block + count] = memory[kept:count]
        return None

    def transfer_bytes(self, request: Request) -> int:
        """How much a request with a recorded result reads or writes: in whole blocks."""
        if request.kind is not Kind.WRITE:
            return request.length
        block = self._block_sizes[request.disk]
        return min(-(-self.due[request.sequence] // block) * block, request.length)

    def completed(self, request: Request, result: int) -> int:
        """The disk gave `result`; what the request's result is."""
        recorded = self.due.pop(request.sequence)
        return min(result, recorded) if request.kind in (Kind.READ, Kind.WRITE) else result
