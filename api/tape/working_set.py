"""Which bytes of a disk were touched: exactly, up to a limit, and then from a sample of the disk.

Touched stretches are kept as intervals, so a long request costs no more than a short one. Where there are more than
the limit the disk is thinned: it is cut into pieces, one in three stays in the sample, and what is kept is measured
and multiplied. One in three because programs stride by powers of two, which would fall in step with one in two;
which of the three is drawn from a seeded generator, so that the same tape always gives the same estimate.
"""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

INTERVALS_MAX = 1 << 18  # of one working set, before it is thinned; 16 bytes each
PIECE_BYTES = 1 << 16
_THIN = 3
_PENDING_MAX = 1 << 16
_END = (1 << 63) - 1  # of a disk; what reaches beyond is not believed

Positions = NDArray[np.int64]


class WorkingSet:
    """The union of the stretches that it was given."""

    def __init__(self, intervals_max: int = INTERVALS_MAX) -> None:
        self._limit = intervals_max
        self._starts: Positions = np.zeros(0, dtype=np.int64)
        self._ends: Positions = np.zeros(0, dtype=np.int64)
        self._pending: list[tuple[Positions, Positions]] = []
        self._pending_rows = 0
        self._kept: list[int] = []  # of each thinning: which of three pieces stayed
        self._random = random.Random(1)

    @property
    def estimated(self) -> bool:
        """It has been thinned: `bytes` is an estimate."""
        self._merge()
        return bool(self._kept)

    @property
    def bytes(self) -> int:
        """How many bytes the stretches cover."""
        self._merge()
        found: int = int((self._ends - self._starts).sum()) * _THIN ** len(self._kept)
        return found

    def add(self, offset: NDArray[np.uint64], length: NDArray[np.uint64]) -> None:
        """Takes in stretches, in bytes."""
        end = np.uint64(_END)
        starts = np.minimum(offset, end)
        ends = (starts + np.minimum(length, end - starts)).astype(np.int64)
        thinned = starts.astype(np.int64)
        for kept in self._kept:
            thinned, ends = _thinned(thinned, kept), _thinned(ends, kept)
        # Neighbours that follow one another, as of a sequential reader, become one at once.
        starts, ends = _union(thinned, ends)
        self._pending.append((starts, ends))
        self._pending_rows += len(starts)
        # So that merging costs each row the same however much is kept.
        if self._pending_rows > max(_PENDING_MAX, len(self._starts) // 2):
            self._merge()

    def _merge(self) -> None:
        if not self._pending:
            return
        starts = np.concatenate((self._starts, *(starts for starts, _ in self._pending)))
        ends = np.concatenate((self._ends, *(ends for _, ends in self._pending)))
        self._pending, self._pending_rows = [], 0
        self._starts, self._ends = _union(starts, ends)
        while len(self._starts) > self._limit:
            kept = self._random.randrange(_THIN)
            self._kept.append(kept)
            self._starts, self._ends = _union(_thinned(self._starts, kept), _thinned(self._ends, kept))


def _thinned(positions: Positions, kept: int) -> Positions:
    """Where the positions are once only every third piece is left, and these stand side by side."""
    piece, within = np.divmod(positions, PIECE_BYTES)
    group, place = np.divmod(piece, _THIN)
    return group * PIECE_BYTES + np.where(place == kept, within, np.where(place > kept, PIECE_BYTES, 0))


def _union(starts: Positions, ends: Positions) -> tuple[Positions, Positions]:
    """The stretches without what they have in common: apart from one another, in order."""
    there = ends > starts
    if not there.all():
        starts, ends = starts[there], ends[there]
    if not len(starts):
        return starts, ends
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    first = np.ones(len(starts), dtype=bool)
    first[1:] = starts[1:] > ends[:-1]
    last = np.append(first[1:], True)
    return starts[first], ends[last]
