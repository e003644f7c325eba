"""When requests were made and handed to the kernel, found by their sequence numbers.

A gate tells at each checkpoint how many requests there were and what the clock read; see `handed_over` in
`ringtape.engine.gate`. It keeps what requests that are still under way may need, and no more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# How far behind the newest given a request may be and it is still known.
REQUESTS_KEPT = 1 << 14

Integers = NDArray[np.int64]


class Found(NamedTuple):
    """Of requests, in their order.

    Attributes:
        known: whether the rest is known of a request; what it says of one that is not means nothing.
        made_ns: what the clock read when it was made.
        submission_ns: how much later it was handed to the kernel.
    """

    known: NDArray[np.bool_]
    made_ns: Integers
    submission_ns: Integers


class Turns:
    """A row for each checkpoint of late."""

    def __init__(self) -> None:
        #: The gate's, which is emptied here.
        self.handed_over: list[tuple[int, int, int]] = []
        self._rows = np.zeros((0, 3), np.int64)
        self._forgotten = 0  # requests before this one are not known any more

    def find(self, sequences: Integers) -> Found:
        """Look up requests that have been handed over."""
        if self.handed_over:
            self._rows = np.concatenate((self._rows, np.array(self.handed_over, np.int64)))
            self.handed_over.clear()
        # A request was handed over at the first checkpoint that came after it was made.
        places = np.searchsorted(self._rows[:, 0], sequences, side="right")
        known = (sequences >= self._forgotten) & (places < len(self._rows))
        if not len(self._rows):
            return Found(known, sequences, sequences)
        rows = self._rows[np.where(known, places, 0)]
        return Found(known, rows[:, 1], rows[:, 2])

    def forget(self, sequences: Integers) -> None:
        """Requests long before these do not come any more."""
        if not len(sequences):
            return
        oldest = int(sequences.min()) - REQUESTS_KEPT
        gone = int(np.searchsorted(self._rows[:, 0], oldest, side="right"))
        if gone:
            self._forgotten = max(self._forgotten, int(self._rows[gone - 1, 0]))
            self._rows = self._rows[gone:]
