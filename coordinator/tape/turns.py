"""Turns of one worker by columns: how many requests it made, how many completions came, and the token after them.

Responsible for rows of counts and times alone, a row each turn; the requests and completions themselves are columns of
their own beside them. It never checks what a row means: whoever made the columns has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.uint64]


class Turns:
    """The columns, a row each turn: as on the wire (see `Turns` in wire.proto), counts as wide as sums of them.

    Those of one width are rows of one array: what is done to all of them costs one call.
    """

    __slots__ = ("counts", "mode", "sums", "times")

    def __init__(self, counts: Rows, sums: Rows, times: Values, mode: NDArray[np.uint8]) -> None:
        """Counts are of requests, completions, released and delivered, and `sums` those up to and with each turn.

        Times are of requests and completions, the clock and the deadline, nanoseconds.
        """
        self.counts = counts
        self.sums = sums
        self.times = times
        self.mode = mode

    def __len__(self) -> int:
        return len(self.mode)

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """Of all turns: requests, completions, released and delivered."""
        requests, completions, released, delivered = self.sums[:, -1].tolist()
        return requests, completions, released, delivered

    def between(self, start: int, stop: int) -> Turns:
        """The turns from `start` to `stop`; these themselves where that is all of them."""
        if start == 0 and stop == len(self.mode):
            return self
        sums = self.sums[:, start:stop]
        if start:
            sums = sums - self.sums[:, start - 1 : start]
        return Turns(self.counts[:, start:stop], sums, self.times[:, start:stop], self.mode[start:stop])

    def without_requests(self, count: int) -> Turns:
        """The same, the first having so many fewer requests."""
        counts, sums = self.counts.copy(), self.sums.copy()
        counts[0, 0] -= count
        sums[0] -= count
        return Turns(counts, sums, self.times, self.mode)


def joined(many: list[Turns]) -> tuple[Rows, Values, NDArray[np.uint8]]:
    """Counts, times and modes of all of them, one behind the other."""
    columns: tuple[list[NDArray[Any]], ...] = (
        [turns.counts for turns in many],
        [turns.times for turns in many],
        [turns.mode for turns in many],
    )
    return np.concatenate(columns[0], axis=1), np.concatenate(columns[1], axis=1), np.concatenate(columns[2])
