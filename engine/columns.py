"""Reads and writes of the volume face on their way, by columns: no object, and no Python call, a request.

It stands beside the queue of single requests and shares its counters, its outbox and its order. A row that conflicts
with an earlier one waits here; one that conflicts with a single request of somebody else is for the volume to make by
itself. What it has made is entered into the order of a disk when a single request comes that conflicts with it, and not
before. It never decides when a program sees a completion.

A request is known by the number of its row, counted over all arrays of its volume. The kernel gets its place in its
array as user data: rows that are made together lie together, in the arrays, on the ring and in memory, and nothing has
to be looked up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.block import PAGE_BYTES, Block
from ringtape.engine.buffers import Slot
from ringtape.engine.chunks import ROWS_MAX, Chunk, Way
from ringtape.engine.columns_ring import ColumnsRing, Completed, Words
from ringtape.engine.requests import Kind, Request
from ringtape.engine.row_data import tell_reads, tell_writes
from ringtape.engine.row_order import Asked, RowOrder, asked
from ringtape.engine.rows import ALONE, RELEASED, Rows
from ringtape.proto.order import Ordered

if TYPE_CHECKING:
    from ringtape.engine.queue import RequestQueue
    from ringtape.engine.volume import Volume

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Longer requests go one by one: what they cost is the transfer.
LENGTH_MAX = 256 << 10
BLOCK_BYTES_MAX = 64 << 20
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


class Columns:
    """The requests of one volume at a time that go by columns."""

    def __init__(self, ring: ColumnsRing, queue: RequestQueue) -> None:
        self.ring = ring
        self._queue = queue
        self._put = queue.put_columns
        self.owner: Volume | None = None
        self._leaving = False
        #: What waits, and for what.
        self.order = RowOrder()
        #: Made and waiting; in the kernel; completed and not yet released; made and not yet released.
        self.held = self.in_kernel = self.completed = self.unreleased = 0
        # The entries of those that wait for other rows, by the numbers of their rows; and of those that only wait for
        # room in the kernel, in their order.
        self._held: dict[int, Words] = {}
        self._backlog: deque[Words] = deque()
        #: Rows that could have gone by columns and are active as single requests, by their sequence numbers.
        self.alone: dict[int, tuple[Rows, int]] = {}
        self._arrays: deque[Rows] = deque()
        # No row before the first is made and not released, none from the other on is made.
        self._oldest = self._next = 0
        self._block: Block | None = None
        # Where the memory of the next chunk begins, and where that of any row has to end for now.
        self._start = self._limit = 0
        # Completed and not yet released, in the order of completion.
        self._done: list[_Some] = []
        self._entered: dict[int, _Entered] = {}

    @property
    def longest(self) -> int:
        """The longest request that can be taken now."""
        return 0 if self._block is None else min(self._block.size // WINDOW, LENGTH_MAX)

    @property
    def active(self) -> bool:
        """Is there a row that was made and has not completed?"""
        return self.in_kernel > 0 or self.held > 0

    @property
    def active_for_reads(self) -> bool:
        """As `active`, and may a read have to wait for one?"""
        return self.active and any(rows.only != _READ for rows in self._arrays)

    def claim(self, volume: Volume) -> bool:
        """Is it this volume's from now on, or is it another's?"""
        if self.owner is None:
            self.owner, self._leaving = volume, False
            self._arrays = volume.arrays
            self._oldest = self._next = 0
            self._start = self._limit = 0
            self.order, self.alone = RowOrder(), {}
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

    def prepare(self, rows: Rows, first: int, way: Way, depth: int) -> Chunk:
        """Make rows ready, from this one of an array on: not more than there is room for at one time."""
        some = slice(first, first + ROWS_MAX)
        moved = np.where(rows.kind[some] <= Kind.WRITE, rows.length[some], 0)
        block = self._make_room(depth, max(int(moved.max()), 1))
        moved = moved.cumsum()
        count = max(int(moved.searchsorted(BLOCK_BYTES_MAX, side="right")), 1)
        start, oldest = self._start, self._oldest_start()
        if oldest is None:
            oldest = start
        needed = int(moved[count - 1]) + 2 * PAGE_BYTES * count
        if needed <= oldest & block.mask and start // block.size == oldest // block.size:
            # There is room before what is in use: the first part of the memory, which is near, is used over and over.
            start += -start % block.size
        chunk = Chunk(rows, first, first + count, way, self, block, start)
        self._start = int(chunk.ends[-1])
        return chunk

    def _make_room(self, depth: int, longest: int) -> Block:
        """Have memory for requests of this length, if nothing is in what there is."""
        size = WINDOW << (depth - 1).bit_length() + max(12, (longest - 1).bit_length())
        size = min(size, BLOCK_BYTES_MAX)
        block = self._block
        if block is not None and (self.unreleased or block.size >= size):
            return block
        if block is not None:
            self._queue.buffers.give_back(block.slot)
        self._block = Block(self._queue.buffers.take(size), size)
        return self._block

    @property
    def registered(self) -> bool:
        """Does the ring know the memory?"""
        return self._block is not None and self._block.slot.registered and self._queue.fixed_buffers

    # ---- what must wait

    def room(self, chunk: Chunk, first: int, last: int) -> int:
        """How many of these rows there is memory for now."""
        ends = chunk.ends
        if ends[last - 1] > self._limit:
            assert self._block is not None
            start = self._oldest_start()
            if start is None:
                start = int(chunk.starts[first])
            self._limit = start - start % PAGE_BYTES + self._block.size
            if ends[last - 1] > self._limit:
                return int(ends[first:last].searchsorted(self._limit, side="right"))
        return last - first

    def _oldest_start(self) -> int | None:
        """Where the memory is of the first row that is made and not released; None if there is no such row."""
        number = self.oldest_row()
        for rows in self._arrays:
            if rows.base <= number < min(self._next, rows.base + rows.count):
                return int(rows.start[number - rows.base])
        return None

    def oldest_row(self) -> int:
        """The first row that is made and not released, or what is the next to be made."""
        for rows in self._arrays:
            first, last = max(self._oldest - rows.base, 0), min(self._next - rows.base, rows.count)
            if first < last:
                unreleased = rows.status[first:last] != RELEASED
                place = int(unreleased.argmax())
                if unreleased[place]:
                    self._oldest = rows.base + first + place
                    return self._oldest
        self._oldest = self._next
        return self._oldest

    def unreleased_rows(self) -> Iterator[tuple[Rows, Integers]]:
        """Those that went by columns and are not released: arrays, and places in them."""
        first_row = self.oldest_row()
        for rows in self._arrays:
            first, last = max(first_row - rows.base, 0), min(self._next - rows.base, rows.count)
            if first < last:
                yield rows, first + (rows.status[first:last] == 0).nonzero()[0]

    def active_rows(self) -> Asked:
        """What is compared of the rows that are made and have not completed, in their order."""
        found: list[Asked] = [np.empty((0, 6), np.int64)]
        for rows, places in self.unreleased_rows():
            active = np.zeros(rows.count, np.bool_)
            active[places] = True
            for other, done in self._done:
                if other is rows:
                    active[done] = False
            for other, row in self.alone.values():
                if other is rows:
                    active[row] = True
            found.append(asked(rows, active.nonzero()[0]))
        return np.concatenate(found)

    def conflicts(self, chunk: Chunk, first: int, last: int) -> Flags | None:
        """Which of the rows conflict with single requests of somebody else that are active; None for none."""
        queue, alone = self._queue, self.alone
        if queue.active == self.in_kernel + self.held + len(alone):
            return None
        found: Flags | None = None
        for disk in chunk.disks:
            order = queue.order_with_reads(disk)
            if order is None or not (order.changing or chunk.writes):
                continue
            singles = [one for one in order.active if isinstance(one, Request) and one.sequence not in alone]
            if not singles:
                continue
            on_disk = chunk.disk[first:last] == disk
            if found is None:
                found = np.zeros(last - first, np.bool_)
            if len(singles) > _ACTIVE_MAX:
                found |= on_disk
                continue
            start = chunk.offset[first:last, None]
            end = start + chunk.length[first:last, None]
            others = np.array([(one.offset, one.length, one.changes) for one in singles], np.int64)
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
                order.add(entered, waits=False)
                self._entered[number] = entered

    # ---- on their way

    def issue(self, chunk: Chunk, first: int, last: int, now_ns: int) -> None:
        """Make the rows of a chunk, from `first` to before `last`. There is room."""
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
            self._block.spoil_all()
        outbox = queue.outbox
        if outbox.tells:
            outbox.request_rows(chunk.told, first, last)
            if chunk.writes and outbox.digests:
                tell_writes(outbox, self._block, chunk, first, last)
        queue.made += count
        queue.active += count
        self.unreleased += count
        self._next = rows.base + start + count
        waiting = chunk.waiting(first, last, self.order.blockers) if self.order.blockers else None
        self.held += count
        if not waiting:
            self._hand_over(chunk.entries[first:last])
            return
        go = np.ones(count, np.bool_)
        number = rows.base + chunk.first
        for one in waiting:
            go[one - first] = False
            self._held[number + one] = chunk.entries[one : one + 1]
        if len(waiting) < count:
            self._hand_over(chunk.entries[first:last][go])

    def _hand_over(self, entries: Words) -> None:
        """These wait for no row any more: as many as the kernel may have go there, the others when it has fewer."""
        count = len(entries)
        if count > self._queue.in_kernel_max - self.in_kernel or self._backlog:
            self._backlog.append(entries)
            self._hand_over_backlog()
            return
        self.held -= count
        self.in_kernel += count
        self._put(entries)

    def _hand_over_backlog(self) -> None:
        while self._backlog and (free := self._queue.in_kernel_max - self.in_kernel):
            entries = self._backlog.popleft()
            if len(entries) > free:
                self._backlog.appendleft(entries[free:])
                entries = entries[:free]
            self.held -= len(entries)
            self.in_kernel += len(entries)
            self._put(entries)

    def make_alone(self, rows: Rows, row: int, sequence: int, *, fit: bool) -> None:
        """The row goes alone; `fit` if it could have gone by columns. It is about to get this sequence number."""
        number = rows.base + row
        self._next = number + 1
        rows.status[row] = ALONE if fit else RELEASED
        if fit:
            self.order.leave(number)
            self.alone[sequence] = rows, row

    def complete_alone(self, finished: list[Request]) -> None:
        """These have completed: rows that waited for them go on."""
        found = [self.alone.pop(one.sequence, None) for one in finished]
        self._go_on([one[0].base + one[1] for one in found if one is not None])

    def _go_on(self, completed: list[int]) -> None:
        """Rows that waited for these alone go to the kernel."""
        freed = [one for one in self.order.complete(completed) if one in self._held]
        if freed:
            entries = [self._held.pop(one) for one in freed]
            self._hand_over(entries[0] if len(entries) == 1 else np.concatenate(entries))

    def complete(self, taken: list[Completed]) -> list[Request]:
        """The kernel has finished these; returns the single requests that waited for them alone.

        Rows that waited for them go on.
        """
        queue = self._queue
        outbox, waited_for = queue.outbox, self.order.waited_for
        tells = outbox.tells
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
                outbox.completion_columns(rows.sequence[places].tobytes(), results.tobytes())
                if outbox.digests:
                    assert self._block is not None
                    tell_reads(outbox, self._block, rows, places, results)
            if self._entered:
                freed += self._leave_order(rows, places)
            if waited_for:
                self._go_on((places + rows.base).tolist())
        if self._backlog:
            self._hand_over_backlog()
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
                rows.take_reads(places, self._block)
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
                request.sequence, request.result = sequence, int(rows.result[place])
                request.completed = any(other is rows and place in places for other, places in self._done)
                data = self._block.data(int(rows.start[place]), request.length)
                request.slot = Slot(data, registered=False)
                request.task = None if self.owner is None else self.owner.task
                return request
        return None
