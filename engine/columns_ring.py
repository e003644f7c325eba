"""The ring's entries as NumPy columns: many requests are put and many completions taken with a few calls.

The kernel's two rings are mapped once more, by the offsets that the kernel tells. Entries of the submission ring are
taken through the package and filled in here; completions are read here and given back through the package, so that it
stays the one that moves heads and tails. Where the mapping is not what it should be, `open_columns` says so by None and
requests go one by one. It knows nothing of programs, order or the coordinator.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

import liburing as uring
import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

# User data of what is put here: this bit, and a number below it.
MARK = 1 << 61
_MARK = np.uint64(MARK)
WORDS = 8
#: Words of a submission entry.
OFFSET, ADDRESS, LENGTH_AND_FLAGS, USER_DATA = 1, 2, 3, 4

_SYS_IO_URING_SETUP = 425
_OFF_SQES = 0x10000000
# 32-bit words of `struct io_uring_params`.
_PARAMS_WORDS, _SQ_ENTRIES, _CQ_ENTRIES, _FLAGS = 30, 0, 1, 2
_SQ_TAIL, _CQ_HEAD, _CQ_CQES = 11, 20, 25
# `put_sqe` takes at most so many.
_PUT_MAX = 255
_CHECK_ENTRIES = 8


class ColumnsRing:
    """The mapped rings of one `uring.Ring`."""

    def __init__(self, ring: Any, entries: int, flags: int) -> None:
        """Raise OSError where the kernel does not let the rings be mapped."""
        params = np.zeros(_PARAMS_WORDS, dtype=np.uint32)
        params[_FLAGS] = flags
        other = ctypes.CDLL(None, use_errno=True).syscall(
            _SYS_IO_URING_SETUP, ctypes.c_uint(entries), ctypes.c_void_p(params.ctypes.data)
        )
        if other < 0:
            raise OSError(ctypes.get_errno(), "no ring to ask for offsets")
        os.close(other)
        self._ring = ring
        self._sq_mask, self._cq_mask = int(params[_SQ_ENTRIES]) - 1, int(params[_CQ_ENTRIES]) - 1
        cqes = int(params[_CQ_CQES])
        self._memory = mmap.mmap(ring.ring_fd, cqes + 16 * (self._cq_mask + 1))
        self._sqe_memory = mmap.mmap(ring.ring_fd, 64 * (self._sq_mask + 1), offset=_OFF_SQES)
        self._sqes = np.frombuffer(self._sqe_memory, np.uint64).reshape(-1, WORDS)
        self._cqes = np.frombuffer(self._memory, np.uint64, 2 * (self._cq_mask + 1), cqes).reshape(-1, 2)
        words = memoryview(self._memory).cast("I")
        self._sq_tail, self._cq_head = int(params[_SQ_TAIL]) // 4, int(params[_CQ_HEAD]) // 4
        self._words = words
        self._blanks: dict[int, Any] = {}

    def put(self, rows: Words, unsubmitted: int) -> None:
        """Put entries, whose user data have `MARK`; `unsubmitted` are in the ring already.

        There has to be room for them.
        """
        count = len(rows)
        tail = self._words[self._sq_tail] + unsubmitted
        left = count
        while left:
            some = min(left, _PUT_MAX)
            blank = self._blanks.get(some)
            if blank is None:
                if len(self._blanks) >= 64:
                    self._blanks.clear()
                blank = self._blanks[some] = uring.Sqe(some)
            took = uring.put_sqe(self._ring, blank)
            assert took, "there is room for these entries"
            left -= some
        start = tail & self._sq_mask
        first = min(count, self._sq_mask + 1 - start)
        self._sqes[start : start + first] = rows[:first]
        if first < count:
            self._sqes[: count - first] = rows[first:]

    def take(self) -> tuple[Integers, Integers, list[tuple[int, int, int]]]:
        """Take all completions: numbers and results of what was put here; user data, result and flags of others."""
        ring = self._ring
        count = uring.io_uring_cq_ready(ring)
        start = self._words[self._cq_head] & self._cq_mask
        if start + count <= self._cq_mask + 1:
            taken = self._cqes[start : start + count].copy()
        else:
            taken = self._cqes.take(np.arange(start, start + count) & self._cq_mask, axis=0)
        if count:
            uring.io_uring_cq_advance(ring, count)
        marked = taken[:, 0] - _MARK
        numbers = marked.view(np.int64)
        results = taken.view(np.int32)[:, 2].astype(np.int64)
        ours = marked < _MARK
        if np.count_nonzero(ours) == count:
            return numbers, results, []
        others = [
            (int(data), int(result[0]), int(result[1]))
            for data, result in zip(taken[~ours, 0], taken.view(np.int32)[~ours, 2:4].tolist(), strict=True)
        ]
        return numbers[ours], results[ours], others


def open_columns(ring: Any, entries: int, flags: int) -> ColumnsRing | None:
    """The columns of a ring, or None where they cannot be had. A small ring of the same kind is tried first."""
    try:
        trial = uring.Ring()
        uring.io_uring_queue_init(_CHECK_ENTRIES, trial, flags)
        try:
            if not _works(trial, ColumnsRing(trial, _CHECK_ENTRIES, flags)):
                return None
        finally:
            uring.io_uring_queue_exit(trial)
        return ColumnsRing(ring, entries, flags)
    except (OSError, ValueError):
        return None


def _works(ring: Any, columns: ColumnsRing) -> bool:
    """Do no-operations come back as they were put, around the end of the ring as well?"""
    for start in range(0, 30, 5):
        numbers = np.arange(start, start + 5)
        entries = np.zeros((5, WORDS), np.uint64)
        entries[:, USER_DATA] = numbers.astype(np.uint64) + _MARK
        columns.put(entries, 0)
        uring.io_uring_submit_and_wait(ring, 5)
        got, results, others = columns.take()
        if others or not np.array_equal(got, numbers) or results.any():
            return False
    return True
