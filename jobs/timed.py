"""Times as a histogram, and the same over time: a row for each interval of the clock in which there were any."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.jobs.histogram import Histogram


def parts_of(numbers: NDArray[np.int64]) -> Iterator[tuple[int, slice | NDArray[np.bool_]]]:
    """Each number that there is, from the lowest, and where it is. They are few and near to each other.

    `numpy.unique` takes longer than all that is done with the parts.
    """
    if not len(numbers):
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low == high:
        yield low, slice(None)
        return
    for place in np.flatnonzero(np.bincount(numbers - low)).tolist():
        yield low + place, numbers == low + place


class Interval(NamedTuple):
    """The times of one interval: which one, how many, their sum and their p99 (ns)."""

    number: int
    requests: int
    sum_ns: int
    p99_ns: int


class Timed:
    """Times (ns), each in an interval; `intervals` has those that no more come to: all of them once it is closed."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.intervals: list[Interval] = []
        self._open: dict[int, Histogram] = {}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Timed)
            and self.histogram == other.histogram
            and self.intervals == other.intervals
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, numbers: NDArray[np.int64], values: NDArray[np.int64]) -> None:
        """Takes in times; `numbers` are those of their intervals, which are open."""
        for number, chosen in parts_of(numbers):
            new = Histogram()
            new.add(values[chosen])
            self.histogram.merge(new)
            self._open.setdefault(number, Histogram()).merge(new)

    def close(self, before: int | None = None) -> None:
        """No more come to the intervals before this one; without it, to any."""
        for number in sorted(self._open):
            if before is not None and number >= before:
                return
            row = _row(number, self._open.pop(number))
            assert not self.intervals or self.intervals[-1].number < number, f"interval {number} was closed"
            self.intervals.append(row)

    def so_far(self) -> Timed:
        """The same, closed, to be pickled at once: it shares what goes on to grow."""
        found = Timed()
        found.histogram = self.histogram
        found.intervals = self.intervals + [
            _row(*one) for one in sorted(self._open.items(), key=lambda one: one[0])
        ]
        return found

    def __getstate__(self) -> dict[str, Any]:
        assert not self._open, "it is pickled when it is closed"
        return {"histogram": self.histogram, "intervals": [tuple(one) for one in self.intervals]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.histogram = state["histogram"]
        self.intervals = [Interval(*one) for one in state["intervals"]]
        self._open = {}


def _row(number: int, times: Histogram) -> Interval:
    return Interval(number, times.count, times.sum, int(times.percentile(0.99)))
