"""What requests do to watched ranges of disks: a copy of each range, and its digest before and after every request.

The copies begin as what the disks hold when the run begins (`load`; unknown without). Requests are applied in the order
of their ids, with the data that workers tell (`Touched`), and only when they have completed: a failed or short write
has changed no more than it wrote. All that is known of the data comes through `touched`: a replay that has no disks
and sends the same messages for what its workers write and are given is watched in the same way.

Nothing here looks at a disk once the run has begun. What else changes the disk is seen when a read returns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xxhash import xxh3_64_intdigest

from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.requests import Place, ReplayedRequest, request_of
from ringtape.proto import messages_pb2, wire_pb2


@dataclass(frozen=True)
class Range:
    """Bytes of a disk that are watched. `discard_zeroes` says that what is discarded reads back as zeros."""

    disk: int
    name: str
    offset: int
    length: int
    discard_zeroes: bool

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.offset + self.length

    def __str__(self) -> str:
        return f"{self.name}:{self.offset}:{self.length}"


@dataclass(frozen=True, slots=True)
class WatchedRequest:
    """A request that touches a watched range, once it has completed.

    Attributes:
        request: the request.
        range: the range, as "disk:offset:length" in bytes.
        result: bytes moved, or minus errno; None if the replay ended before it completed.
        before: xxh3-64 of the whole range before the request; None if some of it is not known.
        after: the same after it.
    """

    request: ReplayedRequest
    range: str
    result: int | None
    before: int | None
    after: int | None


@dataclass(slots=True)
class _Touch:
    """What a worker has told of one request."""

    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    completed: bool = False
    result: int = 0


class _Shadow:
    """What one range holds, as far as that is known."""

    def __init__(self, watched: Range) -> None:
        self.range = watched
        self._data = bytearray(watched.length)
        self._known = bytearray(watched.length)  # a byte each, 0 or 1
        self._unknown = watched.length
        self._digest: int | None = None

    def digest(self) -> int | None:
        if self._unknown:
            return None
        if self._digest is None:
            self._digest = xxh3_64_intdigest(self._data)
        return self._digest

    def put(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """The disk holds `data` at `offset`, of which this takes what lies in the range."""
        start, end = self._clipped(offset, len(data))
        if start < end:
            self._learn(start, end)
            self._data[start:end] = memoryview(data)[start + self.range.offset - offset :][: end - start]

    def zero(self, offset: int, length: int) -> None:
        """The disk holds zeros there."""
        start, end = self._clipped(offset, length)
        if start < end:
            self._learn(start, end)
            self._data[start:end] = bytes(end - start)

    def forget(self, offset: int, length: int) -> None:
        """Nobody knows what the disk holds there."""
        start, end = self._clipped(offset, length)
        if start < end:
            self._unknown += end - start - self._known.count(0, start, end)
            self._known[start:end] = bytes(end - start)

    def _clipped(self, offset: int, length: int) -> tuple[int, int]:
        return max(offset - self.range.offset, 0), min(offset + length - self.range.offset, self.range.length)

    def _learn(self, start: int, end: int) -> None:
        self._unknown -= self._known.count(0, start, end)
        self._known[start:end] = b"\1" * (end - start)
        self._digest = None


class Watch:
    """Tells `on_watched` of each request that touches a range, in the order of their ids."""

    def __init__(
        self,
        ranges: Sequence[Range],
        disks: Sequence[str],
        workers: int,
        on_watched: Callable[[WatchedRequest], None],
    ) -> None:
        self.ranges = ranges
        self._disks = disks
        self._shadows = [_Shadow(watched) for watched in ranges]
        self._on_watched = on_watched
        # By worker: what it has told of requests, by sequence; and of those that the tape has not come to, the
        # sequences in order.
        self._touches: list[dict[int, _Touch]] = [{} for _ in range(workers)]
        self._made: list[deque[int]] = [deque() for _ in range(workers)]
        # The tape has come to these; of the first, the completion is not known yet.
        self._entries: deque[tuple[ReplayedRequest, _Touch]] = deque()

    def merged(self) -> list[wire_pb2.WatchedRange]:
        """The ranges for the workers: those of one disk neither overlap nor touch one another."""
        merged: list[wire_pb2.WatchedRange] = []
        for one in sorted(self.ranges, key=lambda one: (one.disk, one.offset)):
            last = merged[-1] if merged else None
            if last is not None and last.disk == one.disk and one.offset <= last.offset + last.length:
                last.length = max(last.length, one.end - last.offset)
            else:
                merged.append(wire_pb2.WatchedRange(disk=one.disk, offset=one.offset, length=one.length))
        return merged

    def load(self, read: Callable[[Range], bytes]) -> None:
        """Take in what the disks hold, before the run begins; `read` gives the bytes of a range."""
        for shadow in self._shadows:
            shadow.put(shadow.range.offset, read(shadow.range))

    def touched(self, worker: int, told: wire_pb2.Touched) -> None:
        """Take what a worker tells of a request."""
        touch = self._touches[worker].get(told.sequence)
        if touch is None:
            if told.completed or (self._made[worker] and self._made[worker][-1] >= told.sequence):
                raise ProtocolError(f"worker {worker} tells of its request {told.sequence} out of turn")
            touch = self._touches[worker][told.sequence] = _Touch()
            self._made[worker].append(told.sequence)
        if told.data:
            touch.pieces.append((told.offset, told.data))
        if told.completed:
            touch.completed, touch.result = True, told.result
            self._tell()

    def requests(self, columns: messages_pb2.Requests, count: int, place: Place) -> None:
        """The tape has come to these requests."""
        made, end = self._made[place.worker], place.first_sequence + count
        while made and made[0] < end:
            sequence = made.popleft()
            request = request_of(columns, sequence - place.first_sequence, place, self._disks)
            self._entries.append((request, self._touches[place.worker][sequence]))
        self._tell()

    def end(self) -> None:
        """The run has ended: tell of those that have not completed too."""
        while self._entries:
            request, touch = self._entries.popleft()
            self._tell_of(request, touch)

    def _tell(self) -> None:
        while self._entries and self._entries[0][1].completed:
            request, touch = self._entries.popleft()
            del self._touches[request.worker][request.sequence]
            self._tell_of(request, touch)

    def _tell_of(self, request: ReplayedRequest, touch: _Touch) -> None:
        disk, end = self._disks.index(request.disk), request.offset + request.length
        for shadow in self._shadows:
            watched = shadow.range
            if watched.disk != disk or watched.end <= request.offset or end <= watched.offset:
                continue
            before = shadow.digest()
            _apply(shadow, request, touch)
            result = touch.result if touch.completed else None
            self._on_watched(WatchedRequest(request, str(watched), result, before, shadow.digest()))


def _apply(shadow: _Shadow, request: ReplayedRequest, touch: _Touch) -> None:
    """What the range holds after the request."""
    if not touch.completed:
        if request.kind != "read":
            shadow.forget(request.offset, request.length)
    elif touch.result < 0:
        pass
    elif request.kind in ("read", "write"):
        end = request.offset + touch.result
        for offset, data in touch.pieces:
            if offset < end:
                shadow.put(offset, memoryview(data)[: end - offset])
    elif request.kind == "write_zeroes" or shadow.range.discard_zeroes:
        shadow.zero(request.offset, request.length)
    else:
        shadow.forget(request.offset, request.length)
