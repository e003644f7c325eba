"""A stretch of an array of requests, made ready to go to the kernel by columns, and which of its rows must not.

All that can be known before a row's turn comes is found out here, for thousands of rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.columns import (
    COLUMNS,
    DISK,
    IN_KERNEL,
    KIND,
    LENGTH,
    OFFSET,
    PLACE,
    ROW,
    SEQUENCE,
    Flags,
    Integers,
)
from ringtape.engine.columns_ring import LENGTH_AND_FLAGS, WORDS, Slots, Words
from ringtape.engine.columns_ring import OFFSET as ENTRY_OFFSET
from ringtape.engine.requests import FLAG_FUA, Kind
from ringtape.engine.rows import Rows, pattern_words

ROWS_MAX = 4096
_OP_READ_FIXED, _OP_WRITE_FIXED, _OP_READ, _OP_WRITE = 4, 5, 22, 23
_RWF_DSYNC = 2
_KEY_MASK = (1 << 62) - 1
_GRANULE_MIN = 512


@dataclass(frozen=True)
class Way:
    """How requests go to the kernel: what is the same for all of them."""

    files: NDArray[np.uint64]  # of each disk of the run, as the ring knows it
    file_flag: int
    registered: bool  # the memory
    by_columns: Flags  # of each disk of the run: may its requests go by columns?
    ordered: bool
    longest: int
    worker: int


class Chunk:
    """Rows `first` to `first + count` of an array."""

    def __init__(self, rows: Rows, first: int, way: Way, in_flight: Integers) -> None:
        """`in_flight` is what is known of the requests that went by columns and have not been released."""
        last = min(first + ROWS_MAX, rows.count)
        self.first, self.count = first, last - first
        self._rows, self._worker = rows, way.worker
        kind, offset, length = rows.kind[first:last], rows.offset[first:last], rows.length[first:last]
        disk, flags = rows.disk[first:last], rows.flags[first:last]
        self.state = state = np.zeros((self.count, COLUMNS), np.int64)
        state[:, ROW] = np.arange(rows.base + first, rows.base + last)
        state[:, DISK], state[:, OFFSET], state[:, LENGTH], state[:, KIND] = disk, offset, length, kind
        state[:, PLACE] = rows.place[first:last]
        state[:, IN_KERNEL] = 1
        #: Kinds, flags, disks, offsets and lengths as they are told.
        self.told: list[NDArray[Any]] = [
            kind,
            flags,
            disk.astype(np.uint16),
            offset,
            length,
        ]
        self.disks: list[int] = np.unique(disk).tolist()
        self.writes = self.changes = bool((kind == Kind.WRITE).any())
        fit = way.by_columns[disk] & (kind <= Kind.WRITE) & (length <= way.longest)
        #: Rows that can go by columns; None for all of them.
        self.fit: Flags | None = None if fit.all() else fit
        lengths = np.unique(length)
        self.length = int(lengths[0]) if len(lengths) == 1 else 0
        self.entries = _entries(kind, flags, disk, offset, length, way)
        #: Of each row the last before it, by columns, that it may conflict with; None where nothing can.
        self.previous: Integers | None = None
        if way.ordered and (self.changes or (in_flight[:, KIND] == Kind.WRITE).any()):
            self.previous = _previous(in_flight, state[fit], fit, self.count)

    def fill(
        self,
        bytes_: NDArray[np.uint8],
        words: NDArray[np.uint64],
        scratch: NDArray[np.uint64],
        slots: Slots,
        first: int,
        last: int,
    ) -> None:
        """Put the data of the writes among the rows into their slots."""
        state = self.state[first:last]
        writes = state[:, KIND] == Kind.WRITE
        if not writes.all():
            state, slots = state[writes], slots[writes]
        data = self._rows.data
        if data is None:
            self._fill_pattern(words, scratch, state, slots)
        elif self.length and self._is_even(data, state[:, PLACE]):
            pieces = np.frombuffer(data, np.uint8).reshape(-1, self.length)
            _put(bytes_, slots, pieces[state[:, PLACE] // self.length])
        else:
            self._fill_each(bytes_, state, slots)

    def _fill_pattern(
        self, words: NDArray[np.uint64], scratch: NDArray[np.uint64], state: Integers, slots: Slots
    ) -> None:
        """The pattern of all rows of a length at once."""
        for length in [self.length] if self.length else np.unique(state[:, LENGTH]).tolist():
            some, into = state, slots
            if not self.length:
                chosen = state[:, LENGTH] == length
                some, into = state[chosen], slots[chosen]
            # Memory that is at hand: new memory for so much would be mapped anew each time.
            out = scratch[: len(into), : length // 8]
            _put(words, into, pattern_words(self._worker, some[:, SEQUENCE], some[:, OFFSET], length, out))

    def _is_even(self, data: memoryview, places: Integers) -> bool:
        """Do the rows' pieces stand in the buffer as in one of pieces of this length?"""
        return len(data) % self.length == 0 and not (places % self.length).any()

    def _fill_each(self, bytes_: NDArray[np.uint8], state: Integers, slots: Slots) -> None:
        for row, slot in zip(state.tolist(), slots.tolist(), strict=True):
            bytes_[slot, : row[LENGTH]] = np.frombuffer(
                data_of_row(self._rows, self._worker, row[SEQUENCE], row[OFFSET], row[LENGTH], row[PLACE]),
                np.uint8,
            )


def data_of_row(
    rows: Rows, worker: int, sequence: int, offset: int, length: int, place: int
) -> memoryview | bytes:
    """What one write writes."""
    if rows.data is not None:
        return rows.data[place : place + length]
    return pattern_words(worker, np.array([sequence]), np.array([offset]), length).tobytes()


def _put(memory: NDArray[Any], slots: Slots, values: NDArray[Any]) -> None:
    if values.shape[1] == memory.shape[1]:
        memory[slots] = values
    else:
        memory[slots, : values.shape[1]] = values


def _entries(
    kind: NDArray[np.uint8],
    flags: NDArray[np.uint8],
    disk: Integers,
    offset: Integers,
    length: Integers,
    way: Way,
) -> Words:
    """Submission entries, without addresses and user data."""
    reads, writes = (_OP_READ_FIXED, _OP_WRITE_FIXED) if way.registered else (_OP_READ, _OP_WRITE)
    entries = np.zeros((len(kind), WORDS), np.uint64)
    codes = np.where(kind == Kind.WRITE, writes, reads).astype(np.uint64)
    entries[:, 0] = codes | np.uint64(way.file_flag << 8) | way.files[disk] << np.uint64(32)
    entries[:, ENTRY_OFFSET] = offset
    through = np.where((flags & FLAG_FUA != 0) & (kind == Kind.WRITE), _RWF_DSYNC, 0).astype(np.uint64)
    entries[:, LENGTH_AND_FLAGS] = length.astype(np.uint64) | through << np.uint64(32)
    return entries


def _previous(in_flight: Integers, rows: Integers, fit: Flags, count: int) -> Integers:
    """Of each row the last before it that touches the same stretch of a disk, or -1; -1 for those that do not fit.

    Stretches are as long as most requests, so that these touch two at most. Rows of one stretch need not conflict; rows
    that conflict share one.
    """
    earlier = in_flight[np.argsort(in_flight[:, ROW])]
    known = np.concatenate((earlier, rows))
    found = np.full(count, -1, np.int64)
    if not len(known):
        return found
    granule = max(_GRANULE_MIN, 1 << (int(np.median(known[:, LENGTH])) - 1).bit_length())
    disks = int(known[:, DISK].max()) + 1
    first = known[:, OFFSET] // granule
    last = (known[:, OFFSET] + known[:, LENGTH] - 1) // granule
    numbers = np.arange(len(known))
    if (first == last).all():
        keys, owners = first * disks + known[:, DISK], numbers
    else:
        counts = last - first + 1
        owners = np.repeat(numbers, counts)
        nth = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        keys = (first[owners] + nth) * disks + known[owners, DISK]
    shift = int(len(known) - 1).bit_length() or 1
    # Two keys taken for one cost a slower way for a request and nothing else.
    together = np.sort(((keys & (_KEY_MASK >> shift)) << shift) | owners)
    key, owner = together >> shift, together & ((1 << shift) - 1)
    same = key[1:] == key[:-1]
    later, before = owner[1:][same], owner[:-1][same]
    previous = np.full(len(known), -1, np.int64)
    np.maximum.at(previous, later, known[before, ROW])
    found[fit] = previous[len(earlier) :]
    return found
