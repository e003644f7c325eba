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
from ringtape.engine.columns_ring import ColumnsRing
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
_ACTIVE_MAX = 32
_NONE: Integers = np.empty(0, np.int64)


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

    def data(self, number: int, length: int) -> memoryview:
        """The first `length` bytes of the memory of a row."""
        if self._cut[0] != length:
            self._cut = length, [view[:length] for view in self._views]
        return self._cut[1][number & self.mask]


class Columns:
    """The requests of one volume at a time that go by columns."""

    def __init__(self, ring: ColumnsRing, queue: RequestQueue) -> None:
        self.ring = ring
        self._queue = queue
        self.owner: Volume | None = None
        self._leaving = False
        #: Made and not yet completed, and made and not yet released.
        self.in_kernel = 0
        self.unreleased = 0
        self._arrays: deque[Rows] = deque()
        # No row before the first is made and not released, none from the other on is made.
        self._oldest = self._next = 0
        self._count_max = 0
        self._block: Block | None = None
        # Completed and not yet released, in the order of completion.
        self._done: list[Integers] = []
        self._entered: dict[int, _Entered] = {}

    @property
    def slot_bytes(self) -> int:
        """The longest request that can be taken now."""
        return 0 if self._block is None else self._block.slot_bytes

    @property
    def completed(self) -> int:
        """How many wait to be released."""
        return self.unreleased - self.in_kernel

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
        if window < free:
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

    @property
    def oldest_row_at_least(self) -> int:
        """No row before this one is made and not released; it may be that later ones are not either."""
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
            start = chunk.offset[first:last]
            end = start + chunk.length[first:last]
            for other in order.active:
                hit = on_disk & (start < other.offset + other.length) & (other.offset < end)
                if not other.changes:
                    hit &= chunk.kind[first:last] == Kind.WRITE
                found |= hit
        return found

    def enter_conflicts(self, request: Request) -> None:
        """A single request is about to be entered into the order: enter what it conflicts with first."""
        order = self._queue.order(request.disk)
        if order is None:
            return
        done = set(np.concatenate(self._done).tolist()) if self._done else set()
        for rows, places in self.unreleased_rows():
            hit = (
                (rows.disk[places] == request.disk)
                & (rows.offset[places] < request.offset + request.length)
                & (request.offset < rows.offset[places] + rows.length[places])
            )
            if not request.changes:
                hit &= rows.kind[places] == Kind.WRITE
            for place in places[hit].tolist():
                number = rows.base + place
                if number in done or number in self._entered:
                    continue
                entered = _Entered(
                    int(rows.offset[place]), int(rows.length[place]), changes=rows.kind[place] == Kind.WRITE
                )
                order.add(entered)
                assert not entered.blockers, "what is in the kernel waits for nothing"
                self._entered[number] = entered

    # ---- on their way

    def issue(self, chunk: Chunk, first: int, last: int, now_ns: int) -> None:
        """Make the rows of a chunk, from `first` to before `last`. There is room, and nothing to wait for."""
        queue, block, rows = self._queue, self._block, chunk.rows
        assert block is not None
        count = last - first
        chunk.give_sequences(first, queue.made)
        start = chunk.first + first
        rows.issued_ns[start : start + count] = now_ns
        if chunk.writes:
            chunk.fill(block, first, last)
        outbox = queue.outbox
        if outbox.tells:
            outbox.request_rows(chunk.told, first, last)
            if chunk.writes and outbox.digests:
                self._tell_writes(chunk, first, last, block)
        queue.made += count
        queue.active += count
        self.in_kernel += count
        self.unreleased += count
        self._next = rows.base + start + count
        queue.put_columns(chunk.entries[first:last])

    def skip(self, number: int) -> None:
        """The row of this number goes alone."""
        self._next = number + 1

    def _tell_writes(self, chunk: Chunk, first: int, last: int, block: Block) -> None:
        outbox = self._queue.outbox
        digests = [0] * (last - first)
        contents = digests.copy()
        number = chunk.rows.base + chunk.first + first
        writes = np.flatnonzero(chunk.kind[first:last] == Kind.WRITE).tolist()
        lengths = chunk.length[first:last].tolist()
        for place in writes:
            data = block.data(number + place, lengths[place])
            digests[place] = xxh3_64_intdigest(data)
            if outbox.contents is not None:
                contents[place] = outbox.contents.number_of(data)
        outbox.request_digests(digests, contents)

    def complete(self, numbers: Integers, results: Integers) -> list[Request]:
        """The kernel has finished these; returns the single requests that waited for them alone."""
        queue = self._queue
        count = len(numbers)
        self.in_kernel -= count
        queue.completed += count
        queue.active -= count
        self._done.append(numbers)
        tells = queue.outbox.tells
        if len(self._arrays) == 1:
            rows = self._arrays[0]
            places = numbers - rows.base if rows.base else numbers
            rows.result[places] = results
            if tells:
                self._tell_completions(rows, places, results)
        else:
            for rows, places, here in self._split(numbers):
                rows.result[places] = results[here]
            if tells:
                self._tell_completions_of_many(numbers, results)
        freed: list[Request] = []
        if self._entered:
            for number in numbers.tolist():
                entered = self._entered.pop(number, None)
                if entered is not None:
                    order = queue.order(self._disk_of(number))
                    assert order is not None
                    freed += order.remove(entered)  # type: ignore[arg-type]  # only what is ordered depends on it
        return freed

    def _split(self, numbers: Integers) -> Iterator[tuple[Rows, Integers, Flags]]:
        """Rows by their arrays: the array, their places in it, and which of them they are."""
        for rows in self._arrays:
            here = (numbers >= rows.base) & (numbers < rows.base + rows.count)
            if here.any():
                yield rows, numbers[here] - rows.base, here

    def _disk_of(self, number: int) -> int:
        for rows in self._arrays:
            if rows.base <= number < rows.base + rows.count:
                return int(rows.disk[number - rows.base])
        raise AssertionError(f"row {number} is in no array")

    def _sequences(self, numbers: Integers) -> Integers:
        found = np.empty(len(numbers), np.int64)
        for rows, places, here in self._split(numbers):
            found[here] = rows.sequence[places]
        return found

    def _tell_completions(self, rows: Rows, places: Integers, results: Integers) -> None:
        outbox = self._queue.outbox
        outbox.completion_columns(rows.sequence[places].tobytes(), results.tobytes())
        if not outbox.digests:
            return
        assert self._block is not None
        block, base = self._block, rows.base
        digests = [0] * len(places)
        contents = digests.copy()
        reads = np.flatnonzero((rows.kind[places] == Kind.READ) & (results > 0)).tolist()
        lengths, numbers = results.tolist(), places.tolist()
        for at in reads:
            data = block.data(base + numbers[at], lengths[at])
            digests[at] = xxh3_64_intdigest(data)
            if outbox.contents is not None:
                contents[at] = outbox.contents.number_of(data)
        outbox.completion_digests(digests, contents)

    def _tell_completions_of_many(self, numbers: Integers, results: Integers) -> None:
        """In their order, those of one array after the other as far as they go."""
        arrays = np.zeros(len(numbers), np.int64)
        for index, rows in enumerate(self._arrays):
            arrays[numbers >= rows.base] = index
        ends = [*(np.flatnonzero(np.diff(arrays)) + 1).tolist(), len(numbers)]
        start = 0
        for end in ends:
            rows = self._arrays[int(arrays[start])]
            self._tell_completions(rows, numbers[start:end] - rows.base, results[start:end])
            start = end

    # ---- to the program

    def release(self, sequences: Sequence[int] | None, now_ns: int) -> tuple[list[int], int]:
        """Release those of these sequence numbers (None for all that have completed) that are here.

        Returns the sequence numbers of others, and how many were released here.
        """
        others: list[int] = []
        if sequences is None:
            released, self._done = self._done, []
        else:
            chosen, others = self._find(np.array(sequences, np.int64))
            released = [chosen]
        count = 0
        assert self.owner is not None
        for numbers in released:
            count += len(numbers)
            if len(self._arrays) == 1:
                base = self._arrays[0].base
                self._let_through(self._arrays[0], numbers - base if base else numbers, now_ns)
            else:
                for rows, places, _ in self._split(numbers):
                    self._let_through(rows, places, now_ns)
        if count:
            self.unreleased -= count
            self.owner.released_columns(count)
            self._leave_if_empty()
        return others, count

    def _let_through(self, rows: Rows, places: Integers, now_ns: int) -> None:
        rows.released_ns[places] = now_ns
        rows.status[places] = RELEASED
        rows.left -= len(places)
        if rows.into is not None and not self._leaving:
            assert self._block is not None
            rows.take_reads(places, self._block.bytes, self._block.mask)

    def _find(self, sequences: Integers) -> tuple[Integers, list[int]]:
        # As a rule they are released in the order in which they completed.
        done = np.concatenate(self._done) if self._done else _NONE
        known = self._sequences(done)
        if np.array_equal(known[: len(sequences)], sequences):
            self._done = [done[len(sequences) :]] if len(done) > len(sequences) else []
            return done[: len(sequences)], []
        by_sequence = np.argsort(known)
        places = np.searchsorted(known, sequences, sorter=by_sequence)
        here = places < len(done)
        places[~here] = 0
        if not len(done):
            return _NONE, sequences.tolist()
        here &= known[by_sequence[places]] == sequences
        chosen = by_sequence[places[here]]
        left = np.delete(done, chosen)
        self._done = [left] if len(left) else []
        return done[chosen], sequences[~here].tolist()

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
                request.completed = any(number in done for done in self._done)
                request.slot = Slot(self._block.data(number, request.length), registered=False)
                request.task = None if self.owner is None else self.owner.task
                return request
        return None
