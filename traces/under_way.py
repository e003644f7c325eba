"""How many requests the traced system had under way when it made each: from when each completed, or how long it took.

It follows from the trace alone, and is the same however the trace comes in batches. Memory is bounded by what is under
way, and that by `UNDER_WAY_MAX`.
"""

from __future__ import annotations

from bisect import bisect_right, insort

import numpy as np
from numpy.typing import NDArray

from ringtape.traces.columns import Bools, Ints, Unsigned

Counts = NDArray[np.uint32]

#: More are not told apart from this many.
UNDER_WAY_MAX = 1 << 16
# Linux gives a request up after so long. One whose completion is not in the trace would be under way for ever.
LOST_NS = 30 * 10**9
_LOOKED_FOR_LOST_EVERY = 4096


class ByDuration:
    """For formats that say of each request how long it took."""

    def __init__(self) -> None:
        self.completions = 0
        self._ends: Ints = np.zeros(0, np.int64)
        self._latest: int | None = None

    def count(self, time_ns: Ints, took_ns: Ints) -> Counts:
        """Of each request of a batch, how many were under way with it; a time that goes back counts as the latest."""
        if not len(time_ns):
            return np.zeros(0, np.uint32)
        self.completions += int(np.count_nonzero(took_ns))
        times = np.maximum.accumulate(time_ns)
        if self._latest is not None:
            times = np.maximum(times, self._latest)
        self._latest = int(times[-1])
        # All end after their own beginning, and so after those of all before them.
        ends = np.sort(np.concatenate((self._ends, times + np.maximum(took_ns, 1))))
        begun = np.arange(len(self._ends) + 1, len(ends) + 1)
        found = begun - np.searchsorted(ends, times, side="right")
        # Of more than can be told apart, those that end first make no difference.
        self._ends = ends[ends > self._latest][-UNDER_WAY_MAX:]
        counts: Counts = np.minimum(found, UNDER_WAY_MAX).astype(np.uint32)
        return counts


class ByCompletion:
    """For formats that say when what range of a device completed, which may be several requests that were merged.

    A request is done when the range of a completion has its last byte; one without data, when something without data
    is done on its device, the oldest first.
    """

    def __init__(self) -> None:
        self.completions = 0
        # By device: where requests end and when they were made, ascending; and when those without data were.
        self._ends: dict[int, list[tuple[int, int]]] = {}
        self._without: dict[int, list[int]] = {}
        self._under_way = self._seen = 0

    def count(
        self, completed: Bools, time_ns: Ints, device: Ints, offset: Unsigned, length: Unsigned
    ) -> Counts:
        """Of each event of a batch that is none of `completed`, how many requests were under way with it."""
        found = np.zeros(len(completed), np.uint32)
        rows = zip(
            completed.tolist(),
            time_ns.tolist(),
            device.tolist(),
            offset.tolist(),
            length.tolist(),
            strict=True,
        )
        for row, (done, at_ns, where, begin, size) in enumerate(rows):
            self._seen += 1
            if self._seen % _LOOKED_FOR_LOST_EVERY == 0:
                self._forget_lost(at_ns)
            if done:
                self._complete(where, begin, size)
                continue
            if size:
                insort(self._ends.setdefault(where, []), (begin + size, at_ns))
            else:
                self._without.setdefault(where, []).append(at_ns)
            self._under_way += 1
            found[row] = min(self._under_way, UNDER_WAY_MAX)
        self.completions += int(np.count_nonzero(completed))
        counts: Counts = found[~completed]
        return counts

    def _complete(self, where: int, begin: int, size: int) -> None:
        if not size:
            waiting = self._without.get(where)
            if waiting:
                waiting.pop(0)
                self._under_way -= 1
            return
        ends = self._ends.get(where, [])
        first, last = (bisect_right(ends, edge, key=lambda one: one[0]) for edge in (begin, begin + size))
        del ends[first:last]
        self._under_way -= last - first

    def _forget_lost(self, now_ns: int) -> None:
        """Those that were made so long ago that their completion is lost; of too many, the oldest."""
        times = [at_ns for ends in self._ends.values() for _, at_ns in ends]
        times += [at_ns for waiting in self._without.values() for at_ns in waiting]
        before = now_ns - LOST_NS
        if len(times) > UNDER_WAY_MAX:
            before = max(before, sorted(times)[-UNDER_WAY_MAX])
        for where, ends in self._ends.items():
            self._ends[where] = [one for one in ends if one[1] >= before]
        for where, waiting in self._without.items():
            self._without[where] = [at_ns for at_ns in waiting if at_ns >= before]
        self._under_way = sum(map(len, self._ends.values())) + sum(map(len, self._without.values()))
