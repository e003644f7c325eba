"""A stretch of an array of requests, made ready to go to the kernel by columns, and which of its rows must not.

All that can be known before a row's turn comes is found out here, for thousands of rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.columns_ring import ADDRESS, LENGTH_AND_FLAGS, USER_DATA, WORDS, Words, user_data
from ringtape.engine.columns_ring import OFFSET as ENTRY_OFFSET
from ringtape.engine.pattern import FILLER_BYTES, pattern_words, put_stamps, stamps
from ringtape.engine.requests import FLAG_FUA, Kind
from ringtape.engine.rows import Rows, distinct

if TYPE_CHECKING:
    from ringtape.engine.columns import Block, Columns, Flags, Integers

ROWS_MAX = 4096
_OP_READ_FIXED, _OP_WRITE_FIXED, _OP_READ, _OP_WRITE = 4, 5, 22, 23
_RWF_DSYNC = 2
_KEY_MASK = (1 << 62) - 1
_GRANULE_MIN = 512
# Columns of what is compared.
_ROW, _DISK, _OFFSET, _LENGTH, _KIND = range(5)


@dataclass(frozen=True)
class Way:
    """How requests go to the kernel: what is the same for all of them."""

    files: NDArray[np.uint64]  # of each disk of the run, as the ring knows it
    file_flag: int
    by_columns: Flags  # of each disk of the run: may its requests go by columns?
    ordered: bool
    worker: int


class Chunk:
    """Rows `first` to `first + count` of an array."""

    def __init__(self, rows: Rows, first: int, way: Way, columns: Columns, block: Block) -> None:
        last = min(first + ROWS_MAX, rows.count)
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
        fit = way.by_columns[self.disk] & (self.kind <= Kind.WRITE) & (self.length <= block.slot_bytes)
        #: Rows that can go by columns; None for all of them.
        self.fit: Flags | None = None if fit.all() else fit
        lengths = distinct(self.length)
        #: The one length of all rows if all are writes; else 0.
        self.only_writes_of = lengths[0] if len(lengths) == 1 and bool((self.kind == Kind.WRITE).all()) else 0
        #: The sequence number that the first row has, or had if it had been made when the last ones were.
        self.shift = -1
        # The stamps of the first sectors of the pattern, and whether what is between stamps is the same for all.
        self._firsts: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._fills = self.only_writes_of > 0 and not (self.offset % FILLER_BYTES).any()
        numbers = np.arange(rows.base + first, rows.base + last)
        self.entries = _entries(self, flags, numbers, way, block, registered=columns.registered)
        #: Of each row the last before it, by columns, that it may conflict with; None where nothing can.
        self.previous: Integers | None = None
        # Rows that have one, in ascending order, and which of these is the next.
        self._near = [self.count]
        self._next_near = 0
        if way.ordered:
            in_flight = _in_flight(columns)
            if self.writes or (in_flight[:, _KIND] == Kind.WRITE).any():
                known = _columns(numbers, self.disk, self.offset, self.length, self.kind)
                previous = _previous(in_flight, known[fit], fit, self.count)
                # There is memory for so many rows at most from the oldest on that is under way.
                near = previous >= numbers - (block.mask + 1)
                if near.any():
                    self.previous = np.where(near, previous, -1)
                    self._near = [*np.flatnonzero(near).tolist(), self.count]

    def may_wait(self, first: int, last: int) -> bool:
        """May some of these rows conflict with one before it? It is asked in ascending order of `first`."""
        near = self._near
        while near[self._next_near] < first:
            self._next_near += 1
        return near[self._next_near] < last

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
        start = (self.rows.base + self.first + first) & block.mask
        while first < last:
            count = min(last - first, block.mask + 1 - start)
            self._fill(block, first, first + count, start)
            first, start = first + count, 0

    def _fill(self, block: Block, first: int, last: int, start: int) -> None:
        """As `fill`, of rows whose memory is in one piece, from slot `start` on."""
        rows, place, length = self.rows, self.first + first, self.only_writes_of
        end = start + last - first
        if rows.data is None:
            firsts = self._firsts[first:last]
            if self._fills:
                block.fill(start, end)
                put_stamps(firsts, block.words[start:end, : length // 8])
                return
            block.filled = None
            lengths = np.where(self.kind[first:last] == Kind.WRITE, self.length[first:last], 0)
            for one in distinct(lengths[lengths > 0]):
                (writes,) = np.nonzero(lengths == one)
                block.words[start + writes, : one // 8] = pattern_words(
                    firsts[writes], self.offset[first:last][writes], one
                )
            return
        block.filled = None
        if length:
            # Their data lies one behind the other, in the caller's memory as well.
            data = np.frombuffer(rows.data, np.uint8, (last - first) * length, int(rows.place[place]))
            block.bytes[start:end, :length] = data.reshape(-1, length)
            return
        for write in np.flatnonzero(self.kind[first:last] == Kind.WRITE).tolist():
            data_here = np.frombuffer(data_of_row(rows, place + write), np.uint8)
            block.bytes[start + write, : len(data_here)] = data_here


def data_of_row(rows: Rows, row: int) -> memoryview:
    """What one write writes, of an array that came with its data."""
    assert rows.data is not None
    place = int(rows.place[row])
    return rows.data[place : place + int(rows.length[row])]


def _entries(
    chunk: Chunk, flags: NDArray[np.uint8], numbers: Integers, way: Way, block: Block, *, registered: bool
) -> Words:
    """Submission entries."""
    reads, writes = (_OP_READ_FIXED, _OP_WRITE_FIXED) if registered else (_OP_READ, _OP_WRITE)
    entries = np.zeros((chunk.count, WORDS), np.uint64)
    codes = np.where(chunk.kind == Kind.WRITE, writes, reads).astype(np.uint64)
    entries[:, 0] = codes | np.uint64(way.file_flag << 8) | way.files[chunk.disk] << np.uint64(32)
    entries[:, ENTRY_OFFSET] = chunk.offset
    entries[:, ADDRESS] = block.addresses[numbers & block.mask]
    through = np.where((flags & FLAG_FUA != 0) & (chunk.kind == Kind.WRITE), _RWF_DSYNC, 0).astype(np.uint64)
    entries[:, LENGTH_AND_FLAGS] = chunk.length.astype(np.uint64) | through << np.uint64(32)
    entries[:, USER_DATA] = user_data(chunk.rows.number, numbers - chunk.rows.base)
    return entries


def _columns(
    numbers: Integers, disk: Integers, offset: Integers, length: Integers, kind: NDArray[np.uint8]
) -> Integers:
    return np.stack((numbers, disk, offset, length, kind), axis=1)


def _in_flight(columns: Columns) -> Integers:
    """What is known of the requests that went by columns and have not been released."""
    found = [
        _columns(
            places + rows.base,
            rows.disk[places],
            rows.offset[places],
            rows.length[places],
            rows.kind[places],
        )
        for rows, places in columns.unreleased_rows()
    ]
    return np.concatenate(found) if found else np.empty((0, 5), np.int64)


def _previous(in_flight: Integers, rows: Integers, fit: Flags, count: int) -> Integers:
    """Of each row the last before it that touches the same stretch of a disk, or -1; -1 for those that do not fit.

    Stretches are as long as most requests, so that these touch two at most. Rows of one stretch need not conflict; rows
    that conflict share one.
    """
    known = np.concatenate((in_flight, rows))
    found = np.full(count, -1, np.int64)
    if not len(known):
        return found
    granule = max(_GRANULE_MIN, 1 << (int(np.median(known[:, _LENGTH])) - 1).bit_length())
    disks = int(known[:, _DISK].max()) + 1
    first = known[:, _OFFSET] // granule
    last = (known[:, _OFFSET] + known[:, _LENGTH] - 1) // granule
    numbers = np.arange(len(known))
    if (first == last).all():
        keys, owners = first * disks + known[:, _DISK], numbers
    else:
        counts = last - first + 1
        owners = np.repeat(numbers, counts)
        nth = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = (first[owners] + nth) * disks + known[owners, _DISK]
    shift = int(len(known) - 1).bit_length() or 1
    # Two keys taken for one cost a slower way for a request and nothing else.
    together = np.sort(((keys & (_KEY_MASK >> shift)) << shift) | owners)
    key, owner = together >> shift, together & ((1 << shift) - 1)
    same = key[1:] == key[:-1]
    later, before = owner[1:][same], owner[:-1][same]
    previous = np.full(len(known), -1, np.int64)
    np.maximum.at(previous, later, known[before, _ROW])
    found[fit] = previous[len(in_flight) :]
    return found
