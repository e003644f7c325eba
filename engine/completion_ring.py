"""The kernel's completion ring as memory: all that has completed is taken with a few calls, however much it is.

It is mapped once more, by the offsets that the kernel tells. Completions are read here and given back through the
package, so that it stays the one that moves the head. Where the mapping is not what it should be,
`open_completion_ring` says so by None and completions are taken one by one. It knows nothing of programs, order or the
coordinator.
"""

from __future__ import annotations

import mmap
from typing import Any

import liburing as uring

from ringtape.engine.mapped_ring import CQ_CQES, CQ_ENTRIES, CQ_HEAD, CQE_BYTES, parameters, tried


class CompletionRing:
    """That of one `uring.Ring`, to which this thread alone writes completions: when it enters the kernel."""

    def __init__(self, ring: Any, entries: int, flags: int) -> None:
        """Raise OSError where the kernel does not let the ring be mapped."""
        words = parameters(entries, flags)
        self._ring = ring
        self._count = words[CQ_ENTRIES]
        self._mask = self._count - 1
        cqes = words[CQ_CQES]
        end = cqes + CQE_BYTES * self._count
        memory = memoryview(mmap.mmap(ring.ring_fd, end))
        self._head = words[CQ_HEAD] // 4
        self._words = memory[: cqes - cqes % 4].cast("I")
        # User data are every second of the one, results and flags are the last two of each four of the other.
        self._data, self._results = memory[cqes:end].cast("Q"), memory[cqes:end].cast("i")

    def take(self) -> tuple[list[int], list[int], list[int]]:
        """Take all completions, the oldest first: user data, results (minus errno) and flags."""
        ring = self._ring
        count = uring.io_uring_cq_ready(ring)
        start = self._words[self._head] & self._mask
        end = start + count
        if end <= self._count:
            taken = self._between(start, end)
        else:
            taken = self._between(start, self._count)
            for column, rest in zip(taken, self._between(0, end - self._count), strict=True):
                column += rest
        if count:
            uring.io_uring_cq_advance(ring, count)
        return taken

    def _between(self, start: int, end: int) -> tuple[list[int], list[int], list[int]]:
        if end - start == 1:
            place = 4 * start
            return [self._data[2 * start]], [self._results[place + 2]], [self._results[place + 3]]
        results = self._results[4 * start : 4 * end]
        return self._data[2 * start : 2 * end : 2].tolist(), results[2::4].tolist(), results[3::4].tolist()


def open_completion_ring(ring: Any, entries: int, flags: int) -> CompletionRing | None:
    """The mapped ring, or None where it cannot be had. A small ring of the same kind is tried first."""
    return tried(CompletionRing, _works, ring, entries, flags)


def _works(ring: Any, completions: CompletionRing) -> bool:
    """Do operations come back as they were put, around the end of the ring as well?"""
    for start in range(1, 31, 5):
        numbers = list(range(start, start + 5))
        for number in numbers:
            sqe = uring.io_uring_get_sqe(ring)
            if number % 2:
                uring.io_uring_prep_nop(sqe)
            else:
                uring.io_uring_prep_close(sqe, -1)  # which fails
            sqe.user_data = number
        uring.io_uring_submit_and_wait(ring, 5)
        data, results, flags = completions.take()
        if (
            data != numbers
            or any(flags)
            or [result < 0 for result in results] != [not n % 2 for n in numbers]
        ):
            return False
    return True
