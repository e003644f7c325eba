"""When cyclic garbage is collected: at checkpoints, and only there.

Python collects it when it has counted so many new objects, and in a worker those are the machinery's too: how many
there are follows from how messages happened to be grouped. What a collection sets off (`__del__`, weak references, the
closing of an abandoned asynchronous generator, which makes a task) would then come at another moment in a replay. So
the counting is put out of reach and collections follow from the number of checkpoints alone.
"""

from __future__ import annotations

import gc

# Checkpoints from one collection of young objects to the next.
CHECKPOINTS_PER_COLLECTION = 64
# Collections of young objects from one of all objects to the next: more after each that found nothing, since looking
# at everything is what costs.
COLLECTIONS_PER_FULL_MIN = 16
COLLECTIONS_PER_FULL_MAX = 1024
# A program that makes this many objects without a checkpoint would rather have its memory back.
_OBJECTS_MAX = 1 << 22


class Collector:
    """Counts checkpoints; the program's own objects are those made after it."""

    def __init__(self) -> None:
        gc.freeze()
        gc.set_threshold(_OBJECTS_MAX)
        self._checkpoints = 0
        self._collections = 0
        self._per_full = COLLECTIONS_PER_FULL_MIN

    def checkpoint(self) -> None:
        """A checkpoint is over; what is collected now may make requests and reach checkpoints of its own."""
        self._checkpoints += 1
        if self._checkpoints < CHECKPOINTS_PER_COLLECTION:
            return
        self._checkpoints = 0
        self._collections += 1
        if self._collections < self._per_full:
            gc.collect(0)
            return
        self._collections = 0
        found = gc.collect()
        self._per_full = (
            COLLECTIONS_PER_FULL_MIN if found else min(2 * self._per_full, COLLECTIONS_PER_FULL_MAX)
        )
