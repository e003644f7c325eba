"""Reads and writes of the volume face on their way, by columns: no object, and no Python call, a request.

It stands beside the queue of single requests and shares its counters, its outbox and its order. It takes only requests
that need not wait for another; the volume makes all others one by one. What it has in the kernel is entered into the
order of a disk when a request comes that conflicts with it, and not before. It never decides when a program sees a
completion.

A request is known by the number of its row, counted over all arrays of its volume. The kernel gets that number as user
data, and a row's place in memory follows from it: rows that are made together lie together, in the arrays, on the ring
and in memory, and nothing has to be looked up.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ringtape.engine.buffers import Slot
from ringtape.engine.columns_ring import ColumnsRing, Completed
from ringtape.engine.pattern import FILLER
from ringtape.engine.requests import Kind, Request
from ringtape.engine.rows import RELEASED, Rows
from ringtape.proto.order import Ordered

if TYPE_CHECKING:
    from ringtape.engine.chunks import Chunk
    from ringtape.engine.queue import RequestQueue
    from ringtape.engine.volume import Volume

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Longer requests go one by one: what they cost is the transfer.
SLOT_BYTES_MAX = 128 << 10
BLOCK_BYTES_MAX = 4 << 20
# There is memory for so many times as many requests as may be under way: a slow one holds up those behind it only when
# so many of them have come and gone.
WINDOW = 4
# With more single requests active on a disk than this, they are not compared one by one.
_ACTIVE_MAX = 256
_READ, _WRITE = int(Kind.READ), int(Kind.WRITE)
# Rows of an array: their places in it.
_Some = tuple[Rows, Integers]


class _Entered:
    """A request that goes by columns, as the order of a disk knows it."""

    __slots__ = ("blockers", "changes", "dependents", "length", "offset")

    def __init__(self, offset: int, length: int, *, changes: bool) -> None:
        self.offset = offset
        self.length = length
        self.changes = changes
        self.blockers = 0
        self.dependents: list[Ordered] = []


class Block:
    """Memory for the requests of `count` rows, a power of two, of up to `slot_bytes` each, in one piece."""

    def __init__(self, slot: Slot, count: int, slot_bytes: int) -> None:
        self.slot = slot
        self.slot_bytes = slot_bytes
        self.mask = count - 1
        memory = slot.view[: count * slot_bytes]
        self.bytes = np.frombuffer(memory, np.uint8).reshape(count, slot_bytes)
        self.words = self.bytes.view(np.uint64)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.addresses = start + slot_bytes * np.arange(count, dtype=np.uint64)
        self._views = [memory[start : start + slot_bytes] for start in range(0, len(memory), slot_bytes)]
        self._cut: tuple[int, list[memoryview]] = slot_bytes, self._views
        #: Of each slot, whether it holds what is between the stamps of the pattern; None for no slot.
        self.filled: bytearray | None = None

    def fill(self, first: int, last: int) -> None:
        """Let these slots hold what is between the stamps of the pattern, for writes to where it begins."""
        if self.filled is None:
            self.filled = bytearray(len(self._views))
        count = last - first
        if self.filled.count(1, first, last) < count:
            self.filled[first:last] = b"\1" * count
            self.words[first:last].reshape(count, -1, len(FILLER))[:] = FILLER

    def views(self, length: int) -> list[memoryview]:
        """The first `length` bytes of each slot; a row's slot is its number without the bits above the mask."""
        if self._cut[0] != length:
            self._cut = length, [view[:length] for view in self._views]
        return self._cut[1]

    def data(self, number: int, length: int) -> memoryview:
        """The first `length` bytes of the memory of a row."""
        return self.views(length)[number & self.mask]


class Columns:
    """The requests of one volume at a time that go by columns."""

    def __init__(self, ring: ColumnsRing, queue: RequestQueue) -> None:
        self.ring = ring
        self._queue = queue
        self._put = queue.put_columns
        self.owner: Volume | None = None
        self._leaving = False
        #: Made and not yet completed; completed and not yet released; both of these.
        self.in_kernel = self.completed = self.unreleased = 0
        self._arrays: deque[Rows] = deque()
        # No row before the first is made and not released, none from the other on is made.
        self._oldest = self._next = 0
        self._count_max = 0
        self._block: Block | None = None
        # Completed and not yet released, in the order of completion.
        self._done: list[_Some] = []
        self._entered: dict[int, _Entered] = {}

    @property
    def slot_bytes(self) -> int:
        """The longest request that can be taken now."""
        return 0 if self._block is None else self._block.slot_bytes

    def claim(self, volume: Volume) -> bool:
        """Is it this volume's from now on, or is it another's?"""
        if self.owner is None:
            self.owner, self._leaving = volume, False
            self._arrays = volume.arrays
            self._oldest = self._next = 0
            return True
        return False

    def leave(self) -> None:
        """The owner makes no more; others may have it when what it made has been released."""
        self._leaving = True
        self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if self._leaving and not self.unreleased:
            self.owner = None
            self._arrays = deque()
            if self._block is not None:
                self._queue.buffers.give_back(self._block.slot)
            self._block = None

    def make_room(self, depth: int, longest: int) -> Block:
        """Have memory for requests of this length, if nothing is in what there is."""
        count = min(depth, self._queue.in_kernel_max)
        rows = 1 << (count - 1).bit_length()
        size = max(4096, 1 << (longest - 1).bit_length())
        size = max(4096, min(size, SLOT_BYTES_MAX, BLOCK_BYTES_MAX // rows))
        block = self._block
        if block is not None and (self.unreleased or block.slot_bytes >= size):
            return block
        if block is not None:
            self._queue.buffers.give_back(block.slot)
        rows *= WINDOW
        self._count_max = count
        self._block = Block(self._queue.buffers.take(rows * size), rows, size)
        return self._block

    @property
    def registered(self) -> bool:
        """Does the ring know the memory?"""
        return self._block is not None and self._block.slot.registered and self._queue.fixed_buffers

    # ---- what must wait

    def room(self, number: int) -> int:
        """How many rows can be taken now, of those from this number on."""
        assert self._block is not None
        window = self._oldest + self._block.mask + 1 - number
        free = self._count_max - self.unreleased
        if window >= free:
            return free
        window = self.oldest_row() + self._block.mask + 1 - number
        return min(window, free)

    def oldest_row(self) -> int:
        """The first row that is made and not released, or what is the next to be made."""
        for rows in self._arrays:
            first, last = max(self._oldest - rows.base, 0), min(self._next - rows.base, rows.count)
            if first < last:
                status = rows.status[first:last]
                place = int(np.argmin(status))
                if status[place] < RELEASED:
                    self._oldest = rows.base + first + place
                    return self._oldest
        self._oldest = self._next
        return self._oldest

    def unreleased_rows(self) -> Iterator[tuple[Rows, Integers]]:
        """Those that are made and not released: arrays, and places in them."""
        first_row = self.oldest_row()
        for rows in self._arrays:
            first, last = max(first_row - rows.base, 0), min(self._next - rows.base, rows.count)
            if first < last:
                yield rows, first + np.flatnonzero(rows.status[first:last] < RELEASED)

    def conflicts(self, chunk: Chunk, first: int, last: int) -> Flags | None:
        """Which of the rows conflict with single requests that are active; None for none."""
        found: Flags | None = None
        for disk in chunk.disks:
            order = self._queue.order_with_reads(disk)
            if order is None or not order.active or not (order.changing or chunk.writes):
                continue
            on_disk = chunk.disk[first:last] == disk
            if found is None:
                found = np.zeros(last - first, np.bool_)
            if len(order.active) > _ACTIVE_MAX:
                found |= on_disk
                continue
            start = chunk.offset[first:last, None]
            end = start + chunk.length[first:last, None]
            others = np.array([(one.offset, one.length, one.changes) for one in order.active], np.int64)
            begins, lengths, changes = others.T
            hit = (start < begins + lengths) & (begins < end)
            if chunk.rows.only != _WRITE:
                hit &= (changes > 0) | (chunk.kind[first:last, None] == _WRITE)
            found |= on_disk & hit.any(axis=1)
        return found

    def enter_conflicts(self, request: Request) -> None:
        """A single request is about to be entered into the order: enter what it conflicts with first."""
        order = self._queue.order(request.disk)
        if order is None:
            return
        done = {rows.base + place for rows, places in self._done for place in places.tolist()}
        for rows, places in self.unreleased_rows():
            hit = (
                (rows.disk[places] == request.disk)
                & (rows.offset[places] < request.offset + request.length)
                & (request.offset < rows.offset[places] + rows.length[places])
            )
            if not request.changes:
                hit &= rows.kind[places] == _WRITE
            for place in places[hit].tolist():
                number = rows.base + place
                if number in done or number in self._entered:
                    continue
                entered = _Entered(
                    int(rows.offset[place]), int(rows.length[place]), changes=rows.kind[place] == _WRITE
                )
                order.add(entered)
                assert not entered.blockers, "what is in the kernel waits for nothing"
                self._entered[number] = entered

    # ---- on their way

    def issue(self, chunk: Chunk, first: int, last: int, now_ns: int) -> None:
        """Make the rows of a chunk, from `first` to before `last`. There is room, and nothing to wait for."""
        queue, rows = self._queue, chunk.rows
        count = last - first
        if queue.made - first != chunk.shift:
            chunk.give_sequences(first, queue.made)
        start = chunk.first + first
        rows.issued_ns[start : start + count] = now_ns
        assert self._block is not None
        if chunk.writes:
            chunk.fill(self._block, first, last)
        else:
            self._block.filled = None
        outbox = queue.outbox
        if outbox.tells:
            outbox.request_rows(chunk.told, first, last)
            if chunk.writes and outbox.digests:
                self._tell_writes(chunk, first, last)
        queue.made += count
        queue.active += count
        self.in_kernel += count
        self.unreleased += count
        self._next = rows.base + start + count
        self._put(chunk.entries[first:last])

    def skip(self, number: int) -> None:
        """The row of this number goes alone."""
        self._next = number + 1

    def _tell_writes(self, chunk: Chunk, first: int, last: int) -> None:
        outbox, block = self._queue.outbox, self._block
        assert block is not None
        number = chunk.rows.base + chunk.first + first
        if chunk.only_writes_of and outbox.contents is None:
            views, mask = block.views(chunk.only_writes_of), block.mask
            outbox.request_digests(
                [xxh3_64_intdigest(views[row & mask]) for row in range(number, number + last - first)], ()
            )
            return
        digests = [0] * (last - first)
        contents = digests.copy()
        writes = np.flatnonzero(chunk.kind[first:last] == _WRITE).tolist()
        lengths = chunk.length[first:last].tolist()
        for place in writes:
            data = block.data(number + place, lengths[place])
            digests[place] = xxh3_64_intdigest(data)
            if outbox.contents is not None:
                contents[place] = outbox.contents.number_of(data)
        outbox.request_digests(digests, contents)

    def complete(self, taken: list[Completed]) -> list[Request]:
        """The kernel has finished these; returns the single requests that waited for them alone."""
        queue = self._queue
        tells = queue.outbox.tells
        freed: list[Request] = []
        for array, places, results in taken:
            count = len(places)
            self.in_kernel -= count
            self.completed += count
            queue.completed += count
            queue.active -= count
            rows = self._array(array)
            rows.result[places] = results
            self._done.append((rows, places))
            if tells:
                self._tell_completions(rows, places, results)
            if self._entered:
                freed += self._leave_order(rows, places)
        return freed

    def _array(self, number: int) -> Rows:
        for rows in self._arrays:
            if rows.number == number:
                return rows
        raise AssertionError(f"a request of array {number} has completed, and there is no such array")

    def _leave_order(self, rows: Rows, places: Integers) -> list[Request]:
        """Single requests that waited for some of these alone."""
        freed: list[Request] = []
        for place in places.tolist():
            entered = self._entered.pop(rows.base + place, None)
            if entered is not None:
                order = self._queue.order(int(rows.disk[place]))
                assert order is not None
                freed += order.remove(entered)  # type: ignore[arg-type]  # only what is ordered depends on it
        return freed

    def _tell_completions(self, rows: Rows, places: Integers, results: Integers) -> None:
        outbox = self._queue.outbox
        outbox.completion_columns(rows.sequence[places].tobytes(), results.tobytes())
        if not outbox.digests:
            return
        assert self._block is not None
        if rows.only == _WRITE:
            zeros = [0] * len(places)
            outbox.completion_digests(zeros, zeros)
            return
        block, lengths = self._block, results.tolist()
        slots = ((places + rows.base) & block.mask).tolist()
        alike = lengths[0] > 0 and lengths.count(lengths[0]) == len(lengths)
        if alike and rows.only == _READ and outbox.contents is None:
            views = block.views(lengths[0])
            outbox.completion_digests([xxh3_64_intdigest(views[slot]) for slot in slots], ())
            return
        digests = [0] * len(places)
        contents = digests.copy()
        for at in np.flatnonzero((rows.kind[places] == _READ) & (results > 0)).tolist():
            data = block.data(slots[at], lengths[at])
            digests[at] = xxh3_64_intdigest(data)
            if outbox.contents is not None:
                contents[at] = outbox.contents.number_of(data)
        outbox.completion_digests(digests, contents)

    # ---- to the program

    def release(self, sequences: Sequence[int] | None, now_ns: int) -> tuple[list[int], int]:
        """Release those of these sequence numbers (None for all that have completed) that are here.

        Returns the sequence numbers of others, and how many were released here.
        """
        others: list[int] = []
        if sequences is None:
            released, self._done = self._done, []
        else:
            released, others = self._find(sequences)
        count = 0
        for rows, places in released:
            count += len(places)
            rows.released_ns[places] = now_ns
            rows.status[places] = RELEASED
            rows.left -= len(places)
            if rows.into is not None and not self._leaving:
                assert self._block is not None
                rows.take_reads(places, self._block.bytes, self._block.mask)
        if count:
            self.unreleased -= count
            self.completed -= count
            assert self.owner is not None
            self.owner.released_columns(count)
            if self._leaving:
                self._leave_if_empty()
        return others, count

    def _find(self, sequences: Sequence[int]) -> tuple[list[_Some], list[int]]:
        """Take those that have these sequence numbers from what has completed; returns the other numbers too."""
        wanted = np.array(sequences, np.int64)
        if not self._done or not len(wanted):
            return [], wanted.tolist()
        done, self._done = self._done, []
        known = np.concatenate([rows.sequence[places] for rows, places in done])
        # As a rule all are released, in the order in which they completed.
        if np.array_equal(known, wanted):
            return done, []
        # `np.isin` would look at both twice.
        ascending = np.sort(wanted)
        nearest = np.minimum(ascending.searchsorted(known), len(ascending) - 1)
        of_wanted = ascending[nearest] == known
        chosen: list[_Some] = []
        start = 0
        for rows, places in done:
            here = of_wanted[start : start + len(places)]
            start += len(places)
            if here.any():
                chosen.append((rows, places[here]))
            if not here.all():
                self._done.append((rows, places[~here]))
        if int(of_wanted.sum()) == len(wanted):
            return chosen, []
        return chosen, wanted[~np.isin(wanted, known)].tolist()

    def request(self, sequence: int) -> Request | None:
        """What is known of one that is not released, for those who look into a run."""
        if not self.unreleased or self._block is None:
            return None
        for rows, places in self.unreleased_rows():
            for place in places[rows.sequence[places] == sequence].tolist():
                request = Request(
                    Kind(int(rows.kind[place])),
                    int(rows.disk[place]),
                    int(rows.offset[place]),
                    int(rows.length[place]),
                )
                number = rows.base + place
                request.sequence, request.result = sequence, int(rows.result[place])
                request.completed = any(other is rows and place in places for other, places in self._done)
                request.slot = Slot(self._block.data(number, request.length), registered=False)
                request.task = None if self.owner is None else self.owner.task
                return request
        return None
