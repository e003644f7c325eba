"""Reads and writes of the volume face on their way, by columns: no object, and no Python call, a request.

It stands beside the queue of single requests and shares its counters, its outbox and its order. It takes only requests
that need not wait for another; the volume makes all others one by one. What it has in the kernel is entered into the
order of a disk when a request comes that conflicts with it, and not before. It never decides when a program sees a
completion.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ringtape.engine.buffers import Slot
from ringtape.engine.columns_ring import MARK, ColumnsRing, Slots, Words
from ringtape.engine.requests import Kind, Request
from ringtape.proto import wire_pb2
from ringtape.proto.order import Ordered

if TYPE_CHECKING:
    from ringtape.engine.chunks import Chunk
    from ringtape.engine.queue import RequestQueue
    from ringtape.engine.volume import Volume

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Columns of what is known of the request in a slot; some are set together. `ROW` counts the rows of a volume, over all
# of its arrays.
SEQUENCE, ROW, DISK, OFFSET, LENGTH, KIND, PLACE, ISSUED_NS, RESULT, IN_KERNEL = range(10)
COLUMNS = 10
NOBODY = np.iinfo(np.int64).max

# Longer requests go one by one: what they cost is the transfer.
SLOT_BYTES_MAX = 128 << 10
BLOCK_BYTES_MAX = 4 << 20
# With more single requests active on a disk than this, they are not compared one by one.
_ACTIVE_MAX = 32
_NONE: Slots = np.empty(0, np.intp)


class _Entered:
    """A request in a slot, as the order of a disk knows it."""

    __slots__ = ("blockers", "changes", "dependents", "length", "offset")

    def __init__(self, offset: int, length: int, *, changes: bool) -> None:
        self.offset = offset
        self.length = length
        self.changes = changes
        self.blockers = 0
        self.dependents: list[Ordered] = []


class _Block:
    """Memory for `count` requests of up to `slot_bytes`, in one piece."""

    def __init__(self, slot: Slot, count: int, slot_bytes: int) -> None:
        self.slot = slot
        self.slot_bytes = slot_bytes
        memory = slot.view[: count * slot_bytes]
        self.bytes = np.frombuffer(memory, np.uint8).reshape(count, slot_bytes)
        self.words = self.bytes.view(np.uint64)
        self.scratch = np.empty_like(self.words)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self.addresses: Words = start + slot_bytes * np.arange(count, dtype=np.uint64)
        self.marks: Words = np.arange(count, dtype=np.uint64) | np.uint64(MARK)
        self._views = [memory[start : start + slot_bytes] for start in range(0, len(memory), slot_bytes)]
        self._cut: tuple[int, list[memoryview]] = slot_bytes, self._views

    def views(self, length: int) -> list[memoryview]:
        """The first `length` bytes of each slot."""
        if self._cut[0] != length:
            self._cut = length, [view[:length] for view in self._views]
        return self._cut[1]


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
        self._state = np.empty((0, COLUMNS), np.int64)
        self._free = _NONE
        self._free_count = 0
        self._block: _Block | None = None
        # Completed and not yet released, in the order of completion.
        self._done: Slots = _NONE
        self._entered: dict[int, _Entered] = {}

    @property
    def slot_bytes(self) -> int:
        """The longest request that can be taken now."""
        return 0 if self._block is None else self._block.slot_bytes

    @property
    def room(self) -> int:
        """How many requests can be taken now."""
        return self._free_count

    @property
    def completed(self) -> int:
        """How many wait to be released."""
        return self.unreleased - self.in_kernel

    def claim(self, volume: Volume) -> bool:
        """Is it this volume's from now on, or is it another's?"""
        if self.owner is None:
            self.owner, self._leaving = volume, False
            return True
        return False

    def leave(self) -> None:
        """The owner makes no more; others may have it when what it made has been released."""
        self._leaving = True
        self._leave_if_empty()

    def _leave_if_empty(self) -> None:
        if self._leaving and not self.unreleased:
            self.owner = None
            if self._block is not None:
                self._queue.buffers.give_back(self._block.slot)
            self._block, self._free_count = None, 0

    def make_room(self, depth: int, longest: int) -> None:
        """Have slots for requests of this length, if nothing is in the ones that there are."""
        count = min(depth, self._queue.in_kernel_max)
        size = max(4096, 1 << (longest - 1).bit_length())
        limit = min(SLOT_BYTES_MAX, BLOCK_BYTES_MAX // (1 << (count - 1).bit_length()))
        size = max(4096, min(size, limit))
        if self.unreleased or self.slot_bytes >= size:
            return
        if self._block is not None:
            self._queue.buffers.give_back(self._block.slot)
        self._block = _Block(self._queue.buffers.take(count * size), count, size)
        self._state = np.zeros((count, COLUMNS), np.int64)
        self._state[:, (SEQUENCE, ROW)] = NOBODY
        self._free = np.arange(count - 1, -1, -1)
        self._free_count = count

    @property
    def registered(self) -> bool:
        """Does the ring know the memory?"""
        return self._block is not None and self._block.slot.registered and self._queue.fixed_buffers

    # ---- what must wait

    def in_flight(self) -> Integers:
        """What is known of those that have not been released."""
        found: Integers = self._state[self._state[:, SEQUENCE] != NOBODY]
        return found

    def oldest_row(self) -> int:
        """The first row that is made and not released."""
        return int(self._state[:, ROW].min()) if self.unreleased else NOBODY

    def conflicts(self, chunk: Chunk, first: int, last: int) -> Flags | None:
        """Which of the rows conflict with single requests that are active; None for none."""
        found: Flags | None = None
        for disk in chunk.disks:
            order = self._queue.order(disk)
            if order is None or not order.active or not (order.changing or chunk.changes):
                continue
            on_disk = chunk.state[first:last, DISK] == disk
            if found is None:
                found = np.zeros(last - first, np.bool_)
            if len(order.active) > _ACTIVE_MAX:
                found |= on_disk
                continue
            start = chunk.state[first:last, OFFSET]
            end = start + chunk.state[first:last, LENGTH]
            for other in order.active:
                hit = on_disk & (start < other.offset + other.length) & (other.offset < end)
                if not other.changes:
                    hit &= chunk.state[first:last, KIND] == Kind.WRITE
                found |= hit
        return found

    def enter_conflicts(self, request: Request) -> None:
        """A single request is about to be entered into the order: enter what it conflicts with first."""
        order = self._queue.order(request.disk)
        if order is None:
            return
        state = self._state
        hit = (
            (state[:, IN_KERNEL] != 0)
            & (state[:, DISK] == request.disk)
            & (state[:, OFFSET] < request.offset + request.length)
            & (request.offset < state[:, OFFSET] + state[:, LENGTH])
        )
        if not request.changes:
            hit &= state[:, KIND] == Kind.WRITE
        for slot in np.flatnonzero(hit).tolist():
            if slot not in self._entered:
                row = state[slot].tolist()
                entered = _Entered(row[OFFSET], row[LENGTH], changes=row[KIND] == Kind.WRITE)
                order.add(entered)
                assert not entered.blockers, "what is in the kernel waits for nothing"
                self._entered[slot] = entered

    # ---- on their way

    def issue(self, chunk: Chunk, first: int, last: int, now_ns: int) -> None:
        """Make the rows of a chunk, from `first` to before `last`. There are slots, and nothing to wait for."""
        queue, block = self._queue, self._block
        assert block is not None
        count = last - first
        self._free_count -= count
        slots = self._free[self._free_count : self._free_count + count]
        state = chunk.state[first:last]
        sequence = queue.made
        state[:, SEQUENCE] = np.arange(sequence, sequence + count)
        state[:, ISSUED_NS] = now_ns
        self._state[slots] = state
        if chunk.writes:
            chunk.fill(block.bytes, block.words, block.scratch, slots, first, last)
        if queue.outbox.tells:
            self._tell_requests(chunk, first, last, slots)
        queue.made += count
        queue.active += count
        self.in_kernel += count
        self.unreleased += count
        queue.put_columns(chunk.entries[first:last], block.addresses[slots], block.marks[slots])

    def _tell_requests(self, chunk: Chunk, first: int, last: int, slots: Slots) -> None:
        outbox = self._queue.outbox
        digests: list[int] = []
        contents: list[int] = []
        if outbox.digests:
            digests = [0] * (last - first)
            contents = digests.copy()
            if chunk.writes:
                kinds = chunk.state[first:last, KIND]
                for place in np.flatnonzero(kinds == Kind.WRITE).tolist():
                    data = self._data(int(slots[place]), int(chunk.state[first + place, LENGTH]))
                    digests[place] = xxh3_64_intdigest(data)
                    if outbox.contents is not None:
                        contents[place] = outbox.contents.number_of(data)
        columns = [column[first:last].tobytes() for column in chunk.told]
        outbox.request_columns(*columns, digests=digests, contents=contents)

    def _data(self, slot: int, length: int) -> memoryview:
        assert self._block is not None
        return self._block.views(length)[slot]

    def complete(self, slots: Slots, results: NDArray[np.int32]) -> list[Request]:
        """The kernel has finished these; returns the single requests that waited for them alone."""
        queue, state = self._queue, self._state
        count = len(slots)
        ended = np.zeros((count, 2), np.int64)
        ended[:, 0] = results
        state[slots, RESULT:] = ended
        self.in_kernel -= count
        queue.completed += count
        queue.active -= count
        self._done = np.concatenate((self._done, slots)) if len(self._done) else slots
        if queue.outbox.tells:
            self._tell_completions(slots)
        freed: list[Request] = []
        if self._entered:
            for slot in slots.tolist():
                entered = self._entered.pop(slot, None)
                if entered is not None:
                    order = queue.order(int(state[slot, DISK]))
                    assert order is not None
                    freed += order.remove(entered)  # type: ignore[arg-type]  # only what is ordered depends on it
        return freed

    def _tell_completions(self, slots: Slots) -> None:
        outbox, known = self._queue.outbox, self._state[slots]
        digests: list[int] = []
        contents: list[int] = []
        if outbox.digests:
            digests = [0] * len(slots)
            contents = digests.copy()
            has_data = (known[:, KIND] == Kind.READ) & (known[:, RESULT] > 0)
            places = np.flatnonzero(has_data)
            lengths, chosen = known[places, RESULT].tolist(), slots[places].tolist()
            for place, slot, length in zip(places.tolist(), chosen, lengths, strict=True):
                data = self._data(slot, length)
                digests[place] = xxh3_64_intdigest(data)
                if outbox.contents is not None:
                    contents[place] = outbox.contents.number_of(data)
        outbox.completion_columns(
            known[:, SEQUENCE].tobytes(), known[:, RESULT].tobytes(), digests=digests, contents=contents
        )

    # ---- to the program

    def release(
        self, sequences: bytes | None, ids: Sequence[wire_pb2.IdRange], now_ns: int
    ) -> tuple[list[int], int]:
        """Release those of these sequence numbers (a u64 column, None for all that have completed) that are here.

        Returns the sequence numbers of others, and how many were released here.
        """
        others: list[int] = []
        if sequences is None:
            slots, self._done = self._done, _NONE
        else:
            slots, others = self._find(np.frombuffer(sequences, np.int64))
        if not len(slots):
            return others, 0
        assert self.owner is not None
        assert self._block is not None
        known = self._state[slots]
        self.owner.released_columns(known, _ids_of(known[:, SEQUENCE], ids), now_ns, self._block.bytes, slots)
        self._state[slots, : ROW + 1] = NOBODY
        count = len(slots)
        self._free[self._free_count : self._free_count + count] = slots
        self._free_count += count
        self.unreleased -= count
        self._leave_if_empty()
        return others, count

    def _find(self, sequences: Integers) -> tuple[Slots, list[int]]:
        # As a rule they are released in the order in which they completed.
        done, state = self._done, self._state
        first = done[: len(sequences)]
        if len(first) == len(sequences) and np.array_equal(state[first, SEQUENCE], sequences):
            self._done = done[len(sequences) :]
            return first, []
        known = state[done, SEQUENCE]
        by_sequence = np.argsort(known)
        places = np.searchsorted(known, sequences, sorter=by_sequence)
        here = places < len(done)
        places[~here] = 0
        if len(done):
            here &= known[by_sequence[places]] == sequences
        chosen = by_sequence[places[here]] if len(done) else _NONE
        slots = done[chosen]
        self._done = np.delete(done, chosen)
        return slots, sequences[~here].tolist()

    def oldest(self) -> int:
        """The sequence number of the oldest request not yet released."""
        return int(self._state[:, SEQUENCE].min()) if self.unreleased else NOBODY

    def request(self, sequence: int) -> Request | None:
        """What is known of one that is not released, for those who look into a run."""
        if not self.unreleased or self._block is None:
            return None
        (slots,) = np.nonzero(self._state[:, SEQUENCE] == sequence)
        if not len(slots):
            return None
        row: list[int] = self._state[slots[0]].tolist()
        request = Request(Kind(row[KIND]), row[DISK], row[OFFSET], row[LENGTH])
        request.sequence, request.result, request.completed = sequence, row[RESULT], not row[IN_KERNEL]
        request.slot = Slot(self._data(int(slots[0]), row[LENGTH]), registered=False)
        request.task = None if self.owner is None else self.owner.task
        return request


def _ids_of(sequences: Integers, ranges: Sequence[Any]) -> Integers:
    """The global ids of requests; 0 in a plain run, which has none."""
    if not ranges:
        return np.zeros(len(sequences), np.int64)
    found: Integers
    if len(ranges) == 1:
        found = sequences + (ranges[0].first_id - ranges[0].first_sequence)
        return found
    firsts = np.array([one.first_sequence for one in ranges], np.int64)
    distances = np.array([one.first_id - one.first_sequence for one in ranges], np.int64)
    found = sequences + distances[np.searchsorted(firsts, sequences, side="right") - 1]
    return found
