"""A log-linear histogram of times: percentiles with a bounded error, in bounded memory.

The buckets are those of HdrHistogram (Gil Tene, https://hdrhistogram.github.io/HdrHistogram/) and fio: each power of
two is cut into equally wide buckets, so that the error is a share of the value. It is our own because the one on
PyPI takes values one by one, and these come in columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SUB_BITS = 6  # each power of two has 64 buckets
# A percentile is the middle of its bucket, which is off by half a bucket at most.
ERROR = 1 / (1 << (SUB_BITS + 1))
_BUCKETS = (64 - SUB_BITS + 1) << SUB_BITS


def buckets_of(values: NDArray[Any]) -> NDArray[np.int64]:
    """The bucket of each value, which is not negative."""
    values = values.astype(np.uint64)
    # How many bits each has. A large one may be rounded up to the next power of two: it is one bit too many then, and
    # comes to the same bucket.
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(bits - SUB_BITS - 1, 0)
    return (shift << SUB_BITS) + (values >> shift.astype(np.uint64)).astype(np.int64)


def middle_of(bucket: int) -> float:
    """The value in the middle of a bucket."""
    shift = max((bucket >> SUB_BITS) - 1, 0)
    low = (bucket - (shift << SUB_BITS)) << shift
    return low + ((1 << shift) - 1) / 2


class Histogram:
    """How many values there are in each bucket, from the first that has any to the last."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self.min = 0
        self.max = 0
        self._first = 0
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, values: NDArray[np.int64]) -> None:
        """Takes in values, none of which is negative."""
        if not len(values):
            return
        buckets = buckets_of(values)
        first = int(buckets.min())
        self._take(first, np.bincount(buckets - first))
        low, high = int(values.min()), int(values.max())
        self.min, self.max = (min(self.min, low), max(self.max, high)) if self.count else (low, high)
        self.count += len(values)
        self.sum += int(values.sum())

    def merge(self, other: Histogram) -> None:
        """Takes in all that another has."""
        if not other.count:
            return
        self._take(other._first, other._counts)
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.count += other.count
        self.sum += other.sum

    def percentile(self, share: float) -> float:
        """The value that so many of the values (0 to 1) do not exceed, off by at most `ERROR` of itself."""
        assert self.count and 0 < share <= 1, f"percentile {share} of {self.count} values"
        rank = max(1, int(np.ceil(share * self.count)))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(min(max(middle_of(self._first + place), self.min), self.max))

    def _take(self, first: int, counts: NDArray[np.int64]) -> None:
        assert 0 <= first and first + len(counts) <= _BUCKETS, f"buckets {first} to {first + len(counts)}"
        if not len(self._counts):
            self._first, self._counts = first, counts.astype(np.int64)
            return
        low = min(first, self._first)
        high = max(first + len(counts), self._first + len(self._counts))
        if high - low > len(self._counts):
            wider = np.zeros(high - low, dtype=np.int64)
            wider[self._first - low : self._first - low + len(self._counts)] = self._counts
            self._first, self._counts = low, wider
        self._counts[first - self._first : first - self._first + len(counts)] += counts
