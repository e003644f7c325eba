"""Times as a histogram, and the same over time: a row for each interval of the clock in which there were any."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.jobs.histogram import Histogram


class Interval(NamedTuple):
    """The times of one interval: which one, how many, their sum and their p99 (ns)."""

    number: int
    requests: int
    sum_ns: int
    p99_ns: int


class Timed:
    """Times (ns), added as the clock goes on; `intervals` is whole once it is closed."""

    def __init__(self) -> None:
        self.histogram = Histogram()
        self.intervals: list[Interval] = []
        self._number = -1
        self._before = Histogram()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Timed)
            and self.histogram == other.histogram
            and self.intervals == other.intervals
        )

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, number: int, values: NDArray[np.int64]) -> None:
        """Takes in times of this interval, which is none before that of the last."""
        assert number >= self._number, f"interval {number} after {self._number}"
        if number != self._number:
            self.close()
            self._number = number
        self.histogram.add(values)

    def close(self) -> None:
        """No more of the interval come."""
        new = self.histogram.since(self._before)
        if new.count:
            p99_ns = int(new.percentile(0.99))
            self.intervals.append(Interval(self._number, new.count, new.sum, p99_ns))
            self._before = self.histogram.copy()

    def __getstate__(self) -> dict[str, Any]:
        return {"histogram": self.histogram, "intervals": [tuple(one) for one in self.intervals]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.histogram = state["histogram"]
        self.intervals = [Interval(*one) for one in state["intervals"]]
        self._number = self.intervals[-1].number if self.intervals else -1
        self._before = self.histogram.copy()
