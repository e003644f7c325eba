"""A log-linear histogram of times: percentiles with a bounded error, in bounded memory.

The buckets are those of HdrHistogram (Gil Tene, https://hdrhistogram.github.io/HdrHistogram/) and of fio (stat.h): each
power of two is cut into equally wide buckets, so that the error is a share of the value. It is our own because the one
on PyPI takes values one by one, and these come in columns.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SUB_BITS = 6  # each power of two has 64 buckets
# A percentile is the middle of its bucket, which is off by half a bucket at most.
ERROR = 1 / (1 << (SUB_BITS + 1))
_BUCKETS = (64 - SUB_BITS + 1) << SUB_BITS

# Sums of squares are exact: values are cut into limbs of so many bits, the products of as many values as there are
# rows at once fit 64 bits, and Python's whole numbers have no limit.
_LIMB_BITS = 21
_ROWS_MAX = 1 << 20

_HEAD = struct.Struct("<QqqI")  # count, min, max, buckets that have any
_SUM_BYTES = 32


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
    low, high = edges_of(bucket)
    return low + (high - low) / 2


def edges_of(bucket: int) -> tuple[int, int]:
    """The lowest and the highest value of a bucket."""
    shift = max((bucket >> SUB_BITS) - 1, 0)
    low = (bucket - (shift << SUB_BITS)) << shift
    return low, low + (1 << shift) - 1


class Histogram:
    """How many values there are in each bucket, from the first that has any to the last.

    A percentile is off by at most `ERROR` (2^-7) of itself; count, min, max, mean and stddev are exact. It takes at
    most 30 KiB, and merging is exact: in any order it comes to the same.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self.min = 0
        self.max = 0
        self._squares = 0
        self._first = 0
        self._counts = np.zeros(0, dtype=np.int64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"<Histogram of {self.count} values from {self.min} to {self.max}>"

    def add(self, values: NDArray[np.int64]) -> None:
        """Takes in values, none of which is negative."""
        for start in range(0, len(values), _ROWS_MAX):
            self._add(values[start : start + _ROWS_MAX])

    def _add(self, values: NDArray[np.int64]) -> None:
        low, high = int(values.min()), int(values.max())
        assert low >= 0, f"a negative time: {low}"
        buckets = buckets_of(values)
        first = int(buckets.min())
        self._take(first, np.bincount(buckets - first))
        self.min, self.max = (min(self.min, low), max(self.max, high)) if self.count else (low, high)
        self.count += len(values)
        total, squares = _sums(values, high)
        self.sum += total
        self._squares += squares

    def merge(self, other: Histogram) -> None:
        """Takes in all that another has."""
        if not other.count:
            return
        self._take(other._first, other._counts)
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.count += other.count
        self.sum += other.sum
        self._squares += other._squares

    @property
    def mean(self) -> float:
        """Of all values; 0 where there is none."""
        return self.sum / self.count if self.count else 0.0

    @property
    def stddev(self) -> float:
        """The standard deviation of a sample, as fio has it; 0 of fewer than two values."""
        if self.count < 2:
            return 0.0
        deviations = self.count * self._squares - self.sum * self.sum  # exact, so never below 0
        return math.sqrt(deviations / (self.count * (self.count - 1)))

    def percentile(self, share: float) -> float:
        """The value that so many of the values (0 to 1) do not exceed, off by at most `ERROR` of itself."""
        assert self.count and 0 < share <= 1, f"percentile {share} of {self.count} values"
        rank = max(1, math.ceil(share * self.count))
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return float(min(max(middle_of(self._first + place), self.min), self.max))

    def share_up_to(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The share of the values (0 to 1) that do not exceed each of these, by whole buckets."""
        assert self.count
        shares = np.concatenate(([0], np.cumsum(self._counts) / self.count))
        places = np.clip(buckets_of(values) - self._first + 1, 0, len(self._counts))
        found: NDArray[np.float64] = shares[places]
        return found

    def copy(self) -> Histogram:
        """Another with the same values."""
        copy = Histogram()
        copy.merge(self)
        return copy

    def since(self, earlier: Histogram) -> Histogram:
        """What was added since this was a copy of `earlier`; its min and max are those of their buckets."""
        new = Histogram()
        new.count = self.count - earlier.count
        if not new.count:
            return new
        counts = self._counts.copy()
        start = earlier._first - self._first
        counts[start : start + len(earlier._counts)] -= earlier._counts
        assert counts.min() >= 0, "values have gone"
        (places,) = np.nonzero(counts)
        first, last = int(places[0]), int(places[-1])
        new._first, new._counts = self._first + first, counts[first : last + 1]
        new.min, new.max = edges_of(self._first + first)[0], edges_of(self._first + last)[1]
        new.sum, new._squares = self.sum - earlier.sum, self._squares - earlier._squares
        return new

    def to_bytes(self) -> bytes:
        """All of it; the same bytes for the same values, however they came."""
        (places,) = np.nonzero(self._counts)
        return b"".join(
            (
                _HEAD.pack(self.count, self.min, self.max, len(places)),
                self.sum.to_bytes(_SUM_BYTES, "little"),
                self._squares.to_bytes(_SUM_BYTES, "little"),
                (places + self._first).astype("<u2").tobytes(),
                self._counts[places].astype("<u8").tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """What `to_bytes` gave. Raises ValueError for anything else."""
        if len(data) < _HEAD.size + 2 * _SUM_BYTES:
            raise ValueError(f"{len(data)} bytes are no histogram")
        count, low, high, used = _HEAD.unpack_from(data)
        sums = _HEAD.size
        rows = sums + 2 * _SUM_BYTES
        if len(data) != rows + 10 * used:
            raise ValueError(f"{len(data)} bytes are no histogram of {used} buckets")
        buckets = np.frombuffer(data, "<u2", used, rows).astype(np.int64)
        counts = np.frombuffer(data, "<u8", used, rows + 2 * used).astype(np.int64)
        if int(counts.sum()) != count or (np.diff(buckets) <= 0).any() or (buckets >= _BUCKETS).any():
            raise ValueError("the buckets of a histogram do not add up")
        new = cls()
        new.count, new.min, new.max = count, low, high
        new.sum = int.from_bytes(data[sums : sums + _SUM_BYTES], "little")
        new._squares = int.from_bytes(data[sums + _SUM_BYTES : rows], "little")
        if used:
            new._first = int(buckets[0])
            new._counts = np.zeros(int(buckets[-1]) - new._first + 1, np.int64)
            new._counts[buckets - new._first] = counts
        return new

    def __reduce__(self) -> tuple[Callable[[bytes], Histogram], tuple[bytes]]:
        return Histogram.from_bytes, (self.to_bytes(),)

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


def _sums(values: NDArray[np.int64], highest: int) -> tuple[int, int]:
    """The sum of the values, and that of their squares, both exact."""
    mask = (1 << _LIMB_BITS) - 1
    limbs = [values & mask]
    while highest >> (_LIMB_BITS * len(limbs)):
        limbs.append(values >> (_LIMB_BITS * len(limbs)) & mask)
    total = squares = 0
    for one, low in enumerate(limbs):
        total += int(low.sum()) << (_LIMB_BITS * one)
        squares += int(low @ low) << (2 * _LIMB_BITS * one)
        for other in range(one + 1, len(limbs)):
            squares += int(low @ limbs[other]) << (_LIMB_BITS * (one + other) + 1)
    return total, squares
