"""What is on a tape in the order of time.

A tape is in the order in which the coordinator heard of things; times of different workers may be a little out of
order in it. Responsible for sorting them within a window: a row waits until the tape is so far beyond it that
nothing earlier is to be expected. It never keeps more than the window, and not more than a limit of that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_NS = 100_000_000
ROWS_MAX = 1 << 16

Rows = NDArray[Any]


class InTime:
    """Sorts rows, arrays with a field `at_ns`, of which nearly all come in order.

    A row that is further behind than the window allows comes out late.
    """

    def __init__(self, dtype: np.dtype[Any], *, rows_max: int = ROWS_MAX) -> None:
        self._waiting = np.zeros(0, dtype=dtype)
        self._rows_max = rows_max

    def take(self, rows: Rows) -> Rows:
        """Takes in rows; gives those that are far enough back, in order. Rows of one time stay as they were."""
        if not len(rows):
            return rows
        waiting = np.concatenate((self._waiting, rows))
        at_ns = waiting["at_ns"]
        if (at_ns[1:] < at_ns[:-1]).any():
            waiting = waiting[np.argsort(at_ns, kind="stable")]
        ready = int(np.searchsorted(waiting["at_ns"], waiting["at_ns"][-1] - WINDOW_NS, side="right"))
        ready = max(ready, len(waiting) - self._rows_max)
        self._waiting = waiting[ready:]
        return waiting[:ready]

    def rest(self) -> Rows:
        """What still waits."""
        rest, self._waiting = self._waiting, self._waiting[:0]
        return rest
