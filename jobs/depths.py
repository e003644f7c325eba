"""How many requests were under way with each, in the classes of fio's `iodepth_level`.

It follows from when each was made and released, and is counted array by array; what is kept is as much as is under way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: The lower end of each class; the last has no upper one (fio 3.33: stat.h, FIO_IO_U_MAP_NR).
CLASSES = (1, 2, 4, 8, 16, 32, 64)

Integers = NDArray[np.int64]


class Depths:
    """Counts requests by how many had been made and not released when it was made, itself included."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(CLASSES), np.int64)
        # When those of earlier arrays were released that may have been under way with the next.
        self._released_ns = np.zeros(0, np.int64)

    def add(self, made_ns: Integers, released_ns: Integers) -> None:
        """An array of requests, in the order in which they were made, none before those of the last array."""
        if not len(made_ns):
            return
        earlier = len(self._released_ns)
        # Nearly in order as they are: the kind of sort that makes use of it.
        released = np.sort(np.concatenate((self._released_ns, released_ns)), kind="stable")
        # What is released at a checkpoint is so before anything is made there.
        under_way = np.arange(earlier + 1, earlier + 1 + len(made_ns))
        under_way -= np.searchsorted(released, made_ns, side="right")
        places = np.searchsorted(CLASSES, np.maximum(under_way, 1), side="right") - 1
        self._counts += np.bincount(places, minlength=len(CLASSES))
        self._released_ns = released[np.searchsorted(released, made_ns[-1], side="right") :]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many there were of each class."""
        return tuple(self._counts.tolist())
