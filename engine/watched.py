"""Tells the coordinator what requests do to the ranges of disks that somebody watches.

A queue calls `made` and `completed` for every request; whatever has its data tells in the same way, with or without a
disk under it. A worker of a run in which nobody watches anything has no `Watched`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ringtape.engine.link import Link
from ringtape.engine.requests import Kind, Request
from ringtape.proto import wire_pb2

# Of the data in one message.
_PIECE_BYTES_MAX = 1 << 20


class Watched:
    """The watched ranges. What is told is sent at once: it may be much, and needs no place among the batches."""

    def __init__(self, link: Link, ranges: Iterable[wire_pb2.WatchedRange]) -> None:
        self._link = link
        self._ranges: dict[int, list[tuple[int, int]]] = {}
        for one in ranges:
            self._ranges.setdefault(one.disk, []).append((one.offset, one.offset + one.length))

    def made(self, request: Request, data: memoryview | bytes | None) -> None:
        """The program made a request; `data` is what it writes."""
        touched = self._touched(request, request.length)
        if touched:
            pieces = _pieces(touched, request.offset, data) if request.kind is Kind.WRITE else ()
            for offset, piece in pieces:
                self._tell(wire_pb2.Touched(sequence=request.sequence, offset=offset, data=piece))
            if request.kind is not Kind.WRITE:
                self._tell(wire_pb2.Touched(sequence=request.sequence))

    def completed(self, request: Request, data: memoryview | None) -> None:
        """The request has completed, with its result; `data` is what was read."""
        if not self._touched(request, request.length):
            return
        if data is not None:
            for offset, piece in _pieces(self._touched(request, len(data)), request.offset, data):
                self._tell(wire_pb2.Touched(sequence=request.sequence, offset=offset, data=piece))
        self._tell(wire_pb2.Touched(sequence=request.sequence, completed=True, result=request.result))

    def _touched(self, request: Request, length: int) -> list[tuple[int, int]]:
        """The watched parts of the first so many bytes of the request's range: start and end on the disk."""
        start, end = request.offset, request.offset + length
        return [
            (max(start, one), min(end, other))
            for one, other in self._ranges.get(request.disk, ())
            if one < end and start < other
        ]

    def _tell(self, touched: wire_pb2.Touched) -> None:
        self._link.send(wire_pb2.WorkerMessage(touched=touched))


def _pieces(
    parts: list[tuple[int, int]], offset: int, data: memoryview | bytes | None
) -> Iterator[tuple[int, bytes]]:
    """Offsets and bytes of the parts of `data`, which begins at `offset` on the disk."""
    assert data is not None, "a write has data"
    view = memoryview(data)
    for start, end in parts:
        for at in range(start, end, _PIECE_BYTES_MAX):
            yield at, bytes(view[at - offset : min(at + _PIECE_BYTES_MAX, end) - offset])
