"""A stretch of an array of requests, made ready to go to the kernel by columns, and which of its rows must not.

All that can be known before a row's turn comes is found out here, for thousands of rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.block import PAGE_BYTES, Block
from ringtape.engine.columns_ring import ADDRESS, LENGTH_AND_FLAGS, USER_DATA, WORDS, Words, user_data
from ringtape.engine.columns_ring import OFFSET as ENTRY_OFFSET
from ringtape.engine.pattern import stamps
from ringtape.engine.requests import FLAG_FUA, Kind
from ringtape.engine.row_order import asked
from ringtape.engine.rows import Rows, distinct

if TYPE_CHECKING:
    from ringtape.engine.columns import Columns

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Of one chunk.
ROWS_MAX = 4096
_OP_READ_FIXED, _OP_WRITE_FIXED, _OP_READ, _OP_WRITE = 4, 5, 22, 23
_RWF_DSYNC = 2


@dataclass(frozen=True)
class Way:
    """How requests go to the kernel: what is the same for all of them."""

    files: NDArray[np.uint64]  # of each disk of the run, as the ring knows it
    file_flag: int
    by_columns: Flags  # of each disk of the run: may its requests go by columns?
    ordered: bool
    worker: int


class Chunk:
    """Rows `first` to before `last` of an array."""

    def __init__(
        self, rows: Rows, first: int, last: int, way: Way, columns: Columns, block: Block, start: int
    ) -> None:
        """`start` is the place in memory from which on these rows have theirs."""
        self.rows, self.first, self.count = rows, first, last - first
        self._worker = way.worker
        self.kind, self.disk = rows.kind[first:last], rows.disk[first:last]
        self.offset, self.length = rows.offset[first:last], rows.length[first:last]
        flags = rows.flags[first:last]
        #: Kinds, flags, disks, offsets and lengths as they are told.
        self.told: list[NDArray[Any]] = [
            self.kind,
            flags,
            self.disk.astype(np.uint16),
            self.offset,
            self.length,
        ]
        self.disks: list[int] = distinct(self.disk)
        self.writes = bool((self.kind == Kind.WRITE).any())
        fit = way.by_columns[self.disk] & (self.kind <= Kind.WRITE) & (self.length <= columns.longest)
        #: Rows that can go by columns; None for all of them.
        self.fit: Flags | None = None if fit.all() else fit
        self._pages, self.ends = _laid_out(start, self.offset, self.length, fit, block.size)
        self.starts = rows.start[first:last]
        self.starts[:] = self.ends - self._pages * PAGE_BYTES + self.offset % PAGE_BYTES
        # Does each begin with a page, and has as many as the others?
        self._alike = rows.only_length > 0 and self.fit is None and not (self.offset % PAGE_BYTES).any()
        #: The sequence number that the first row has, or had if it had been made when the last ones were.
        self.shift = -1
        # The stamps of the first sectors of the pattern.
        self._firsts: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.entries = _entries(self, flags, way, block, registered=columns.registered)
        # Rows that waited for others when they were entered, in ascending order, and which is the next.
        self._waiting = [self.count]
        self._next_waiting = 0
        if way.ordered:
            number = rows.base + first
            places = np.arange(first, last) if self.fit is None else first + fit.nonzero()[0]
            waiting = columns.order.enter(columns.active_rows(), asked(rows, places), block.size)
            self._waiting = [*(one - number for one in waiting), self.count]

    def waiting(self, first: int, last: int, blockers: dict[int, int]) -> list[int]:
        """Those of these rows that wait for an earlier one. It is asked in ascending order of `first`."""
        waiting, number = self._waiting, self.rows.base + self.first
        while waiting[self._next_waiting] < first:
            self._next_waiting += 1
        nth = self._next_waiting
        found: list[int] = []
        while waiting[nth] < last:
            if number + waiting[nth] in blockers:
                found.append(waiting[nth])
            nth += 1
        self._next_waiting = nth
        return found

    def give_sequences(self, first: int, sequence: int) -> None:
        """Row `first` has this sequence number, and those behind it have the next ones, as far as is known now.

        So it goes on while `shift` fits.
        """
        self.shift = sequence - first
        place = self.first
        self.rows.sequence[place + first : place + self.count] = np.arange(
            sequence, sequence + self.count - first
        )
        if self.writes and self.rows.data is None:
            sequences = np.arange(self.shift, self.shift + self.count)
            self._firsts = stamps(self._worker, sequences, self.offset)

    def fill(self, block: Block, first: int, last: int) -> None:
        """Put the data of the writes among the rows into their memory."""
        begin = int(self.ends[first] - self._pages[first] * PAGE_BYTES) & block.mask
        end = (int(self.ends[last - 1]) - 1 & block.mask) + 1
        if begin < end:
            self._fill(block, first, last, begin // PAGE_BYTES, end // PAGE_BYTES)
            return
        # Some are at the end of the memory, the others at its beginning.
        second = first + int((np.diff(self.starts[first:last] & block.mask) < 0).argmax()) + 1
        self.fill(block, first, second)
        self.fill(block, second, last)

    def _fill(self, block: Block, first: int, last: int, page: int, end: int) -> None:
        """As `fill`, of rows whose memory is in one piece, from page `page` on to before page `end`."""
        kind = self.kind[first:last]
        writes = None if self.rows.only == Kind.WRITE else kind == Kind.WRITE
        if self.rows.data is not None:
            self._fill_given(block, first, last, page, end)
        elif self._alike and writes is None:
            block.fill(page, end, None)
            block.stamp_alike(page, end, self.rows.only_length, self._firsts[first:last])
        elif writes is None:
            block.fill(page, end, None)
            block.stamp(self.starts[first:last], self.length[first:last], self._firsts[first:last])
        elif writes.any():
            block.fill(page, end, writes.repeat(self._pages[first:last]))
            places = first + writes.nonzero()[0]
            block.stamp(self.starts[places], self.length[places], self._firsts[places])
        else:
            block.spoil(page, end)

    def _fill_given(self, block: Block, first: int, last: int, page: int, end: int) -> None:
        """The data of writes, from the caller's memory."""
        rows, place, length = self.rows, self.first + first, self.rows.only_length
        block.spoil(page, end)
        if self._alike and rows.only == Kind.WRITE:
            # It lies one behind the other there as well.
            assert rows.data is not None
            data = np.frombuffer(rows.data, np.uint8, (last - first) * length, int(rows.place[place]))
            memory = block.bytes[page * PAGE_BYTES : end * PAGE_BYTES].reshape(last - first, -1)
            memory[:, :length] = data.reshape(-1, length)
            return
        for write in (self.kind[first:last] == Kind.WRITE).nonzero()[0].tolist():
            data_here = data_of_row(rows, place + write)
            block.data(int(self.starts[first + write]), len(data_here))[:] = data_here


def data_of_row(rows: Rows, row: int) -> memoryview:
    """What one write writes, of an array that came with its data."""
    assert rows.data is not None
    place = int(rows.place[row])
    return rows.data[place : place + int(rows.length[row])]


def _laid_out(
    start: int, offset: Integers, length: Integers, fit: Flags, size: int
) -> tuple[Integers, Integers]:
    """How many pages each row has in a memory of `size` bytes, and where they end; they do not go over its end."""
    pages = np.where(fit, (offset % PAGE_BYTES + length + PAGE_BYTES - 1) // PAGE_BYTES, 0)
    ends = start + pages.cumsum() * PAGE_BYTES
    while True:
        over = ((ends - 1) // size > (ends - pages * PAGE_BYTES) // size) & (pages > 0)
        if not over.any():
            return pages, ends
        row = int(over.argmax())
        ends[row:] += -int(ends[row] - pages[row] * PAGE_BYTES) % size


def _entries(chunk: Chunk, flags: NDArray[np.uint8], way: Way, block: Block, *, registered: bool) -> Words:
    """Submission entries."""
    reads, writes = (_OP_READ_FIXED, _OP_WRITE_FIXED) if registered else (_OP_READ, _OP_WRITE)
    entries = np.zeros((chunk.count, WORDS), np.uint64)
    codes = np.where(chunk.kind == Kind.WRITE, writes, reads).astype(np.uint64)
    entries[:, 0] = codes | np.uint64(way.file_flag << 8) | way.files[chunk.disk] << np.uint64(32)
    entries[:, ENTRY_OFFSET] = chunk.offset
    entries[:, ADDRESS] = (chunk.starts & block.mask) + block.address
    through = np.where((flags & FLAG_FUA != 0) & (chunk.kind == Kind.WRITE), _RWF_DSYNC, 0).astype(np.uint64)
    entries[:, LENGTH_AND_FLAGS] = chunk.length.astype(np.uint64) | through << np.uint64(32)
    entries[:, USER_DATA] = user_data(chunk.rows.number, np.arange(chunk.first, chunk.first + chunk.count))
    return entries
