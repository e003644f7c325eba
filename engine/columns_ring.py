"""The ring's entries as NumPy columns: many requests are put and many completions taken with a few calls.

The kernel's two rings are mapped once more, by the offsets that the kernel tells. Entries of the submission ring are
taken through the package and filled in here; completions are read here and given back through the package, so that it
stays the one that moves heads and tails. Where the mapping is not what it should be, `open_columns` says so by None and
requests go one by one. It knows nothing of programs, order or the coordinator.
"""

from __future__ import annotations

import mmap
from typing import Any

import liburing as uring
import numpy as np
from numpy.typing import NDArray

from ringtape.engine.mapped_ring import (
    CQ_CQES,
    CQ_ENTRIES,
    CQ_HEAD,
    CQE_BYTES,
    SQ_ENTRIES,
    SQ_TAIL,
    parameters,
    tried,
)

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]
#: Of some requests of one array that have completed: the number of the array, their places in it, their results.
Completed = tuple[int, Integers, Integers]

# User data of what is put here: the place of a request in its array below, this bit and the array's number above.
PLACES_MAX = 1 << 31
_MARK = 1 << 29
_ARRAYS = _MARK - 1
WORDS = 8
#: Words of a submission entry.
OFFSET, ADDRESS, LENGTH_AND_FLAGS, USER_DATA = 1, 2, 3, 4

_OFF_SQES = 0x10000000
# `put_sqe` takes at most so many.
_PUT_MAX = 255


class ColumnsRing:
    """The mapped rings of one `uring.Ring`."""

    def __init__(self, ring: Any, entries: int, flags: int) -> None:
        """Raise OSError where the kernel does not let the rings be mapped."""
        words = parameters(entries, flags)
        self._ring = ring
        self._sq_mask, self._cq_mask = words[SQ_ENTRIES] - 1, words[CQ_ENTRIES] - 1
        cqes = words[CQ_CQES]
        self._memory = mmap.mmap(ring.ring_fd, cqes + CQE_BYTES * (self._cq_mask + 1))
        self._sqe_memory = mmap.mmap(ring.ring_fd, 64 * (self._sq_mask + 1), offset=_OFF_SQES)
        self._sqes = np.frombuffer(self._sqe_memory, np.uint64).reshape(-1, WORDS)
        self._cqes = np.frombuffer(self._memory, np.int32, 4 * (self._cq_mask + 1), cqes).reshape(-1, 4)
        # What the upper words are if all that has completed is of the array that some were of last.
        self._array = 0
        self._same = _upper_word(0).tobytes() * (self._cq_mask + 1)
        self._words = memoryview(self._memory).cast("I")
        self._sq_tail, self._cq_head = words[SQ_TAIL] // 4, words[CQ_HEAD] // 4
        # Of each count up to `_PUT_MAX` that was put.
        self._blanks: dict[int, Any] = {}

    def put(self, rows: Words, unsubmitted: int) -> None:
        """Put entries, whose user data are of `user_data`; `unsubmitted` are in the ring already.

        There has to be room for them.
        """
        count = left = len(rows)
        start = (self._words[self._sq_tail] + unsubmitted) & self._sq_mask
        while left:
            some = left if left < _PUT_MAX else _PUT_MAX
            blank = self._blanks.get(some)
            if blank is None:
                blank = self._blanks[some] = uring.Sqe(some)
            took = uring.put_sqe(self._ring, blank)
            assert took, "there is room for these entries"
            left -= some
        end = start + count
        if end <= self._sq_mask + 1:
            self._sqes[start:end] = rows
        else:
            first = self._sq_mask + 1 - start
            self._sqes[start:] = rows[:first]
            self._sqes[: count - first] = rows[first:]

    def take(self) -> tuple[list[Completed], list[tuple[int, int, int]]]:
        """Take all completions: what was put here, in the order of completion; user data, result, flags of others."""
        ring = self._ring
        count = uring.io_uring_cq_ready(ring)
        if not count:
            return [], []
        start = self._words[self._cq_head] & self._cq_mask
        if start + count <= self._cq_mask + 1:
            taken = self._cqes[start : start + count]
        else:
            taken = self._cqes.take(np.arange(start, start + count) & self._cq_mask, axis=0)
        if taken[:, 1].tobytes() == self._same[: 4 * count]:
            completed = [(self._array, taken[:, 0].astype(np.int64), taken[:, 2].astype(np.int64))]
            uring.io_uring_cq_advance(ring, count)
            return completed, []
        taken = taken.copy()
        uring.io_uring_cq_advance(ring, count)
        return self._apart(taken)

    def _apart(self, taken: NDArray[np.int32]) -> tuple[list[Completed], list[tuple[int, int, int]]]:
        """As `take`, of some that are of several arrays, or were not put here."""
        ours = taken[:, 1] >> 29 == 1
        others = [
            (int(data), int(result), int(flags))
            for data, (result, flags) in zip(
                taken[~ours].view(np.uint64)[:, 0], taken[~ours, 2:].tolist(), strict=True
            )
        ]
        taken = taken[ours]
        if not len(taken):
            return [], others
        arrays = taken[:, 1] & _ARRAYS
        ends = [*(np.flatnonzero(np.diff(arrays)) + 1).tolist(), len(taken)]
        completed = [
            (int(arrays[start]), taken[start:end, 0].astype(np.int64), taken[start:end, 2].astype(np.int64))
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        if self._array != completed[-1][0]:
            self._array = completed[-1][0]
            self._same = _upper_word(self._array).tobytes() * (self._cq_mask + 1)
        return completed, others


def user_data(array: int, places: Integers) -> Words:
    """The user data of requests that are at these places of an array, which is known by its number, from 0 on."""
    return places.astype(np.uint64) | np.uint64(int(_upper_word(array)) << 32)


def array_number(nth: int) -> int:
    """The number of the nth array: of those under way at one time no two have the same."""
    return nth & _ARRAYS


def _upper_word(array: int) -> np.int32:
    return np.int32(_MARK | array)


def open_columns(ring: Any, entries: int, flags: int) -> ColumnsRing | None:
    """The columns of a ring, or None where they cannot be had. A small ring of the same kind is tried first."""
    return tried(ColumnsRing, _works, ring, entries, flags)


def _works(ring: Any, columns: ColumnsRing) -> bool:
    """Do no-operations come back as they were put, around the end of the ring as well?"""
    for start in range(0, 30, 5):
        numbers = np.arange(start, start + 5)
        entries = np.zeros((5, WORDS), np.uint64)
        entries[:, USER_DATA] = user_data(start, numbers)
        columns.put(entries, 0)
        uring.io_uring_submit_and_wait(ring, 5)
        completed, others = columns.take()
        if others or len(completed) != 1:
            return False
        array, places, results = completed[0]
        if array != start or not np.array_equal(places, numbers) or results.any():
            return False
    return True
