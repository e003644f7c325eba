"""Turns of one worker by columns: how many requests it made, how many completions came, and the token after them.

Responsible for rows of counts and times alone, a row each turn; the requests and completions themselves are columns of
their own beside them. It never checks what a row means: whoever made the columns has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Values = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Turns:
    """The columns, a row each turn: as on the wire (see `Turns` in wire.proto), counts as wide as sums of them."""

    requests: Rows
    completions: Rows
    requests_ns: Values
    completions_ns: Values
    clock_ns: Values
    deadline_ns: Values
    mode: NDArray[np.uint8]
    released: Rows
    delivered: Rows

    def __len__(self) -> int:
        return len(self.mode)

    def between(self, start: int, stop: int) -> Turns:
        """The turns from `start` to `stop`; these themselves where that is all of them."""
        if start == 0 and stop == len(self):
            return self
        columns: tuple[NDArray[Any], ...] = (
            self.requests,
            self.completions,
            self.requests_ns,
            self.completions_ns,
            self.clock_ns,
            self.deadline_ns,
            self.mode,
            self.released,
            self.delivered,
        )
        return Turns(*(column[start:stop] for column in columns))
