"""Which rows of a volume must wait for an earlier one: the rule of `ringtape.proto.order`, found for thousands at once.

A row that touches what no other touches is not in here at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.requests import Kind
from ringtape.engine.rows import Rows

Integers = NDArray[np.int64]

_GRANULE_MIN = 512
_KEY_MASK = (1 << 62) - 1
# Columns of what is compared.
_ROW, _DISK, _OFFSET, _LENGTH, _WRITES, _START = range(6)
#: Of some rows, what is compared: of `asked`.
Asked = Integers


def asked(rows: Rows, places: Integers | slice) -> Asked:
    """What is compared of the reads and writes that are at these places."""
    numbers = np.arange(rows.base, rows.base + rows.count)[places]
    writes = rows.kind[places] == Kind.WRITE
    columns = (rows.disk, rows.offset, rows.length)
    return np.stack((numbers, *(column[places] for column in columns), writes, rows.start[places]), axis=1)


class RowOrder:
    """The rows that wait, and those that they wait for. A row is known by its number."""

    def __init__(self) -> None:
        #: Of each row that waits: for how many. They are there before they are made.
        self.blockers: dict[int, int] = {}
        # Of each row that others wait for: these.
        self._dependents: dict[int, list[int]] = {}

    def enter(self, active: Asked, rows: Asked, apart: int) -> list[int]:
        """Enter rows behind those that are active, all of them in the order of their numbers; returns those that wait.

        Rows whose places in memory are `apart` bytes or more from each other are never active at one time.
        """
        known = np.concatenate((active, rows))
        if not known[:, _WRITES].any():
            return []
        close = _close(known, apart)
        if close is None:
            return []
        known = known[close]
        waiting: dict[int, int] = {}
        first_new = int(rows[0, _ROW]) if len(rows) else 0
        for disk in set(known[:, _DISK].tolist()):
            on_disk = known[known[:, _DISK] == disk]
            before, later = _conflicts(on_disk)
            numbers, starts = on_disk[:, _ROW], on_disk[:, _START]
            new = (numbers[later] >= first_new) & (starts[later] - starts[before] < apart)
            pairs = numbers[before[new]].tolist(), numbers[later[new]].tolist()
            for one, other in zip(*pairs, strict=True):
                self._dependents.setdefault(one, []).append(other)
                waiting[other] = waiting.get(other, 0) + 1
        self.blockers.update(waiting)
        return sorted(waiting)

    @property
    def waited_for(self) -> bool:
        """Is there a row that another waits for?"""
        return bool(self._dependents)

    def complete(self, numbers: Sequence[int]) -> list[int]:
        """These rows have completed; returns those that now wait for nothing any more, made or not."""
        freed: list[int] = []
        dependents, blockers = self._dependents, self.blockers
        for number in numbers:
            for one in dependents.pop(number, ()):
                left = blockers.get(one, 0) - 1
                if left > 0:
                    blockers[one] = left
                elif left == 0:
                    del blockers[one]
                    freed.append(one)
        return freed

    def leave(self, number: int) -> None:
        """Whether this row has to wait is found out elsewhere; others wait for it as before."""
        self.blockers.pop(number, None)


def _close(known: Asked, apart: int) -> Integers | None:
    """Places of those that may conflict with another, by a look that takes little; None for none.

    Stretches of a disk are as long as most requests, so that these touch two at most. Rows of one stretch need not
    conflict; rows that conflict share one.
    """
    granule = max(_GRANULE_MIN, 1 << (int(np.median(known[:, _LENGTH])) - 1).bit_length())
    disks = int(known[:, _DISK].max()) + 1
    first = known[:, _OFFSET] // granule
    last = (known[:, _OFFSET] + known[:, _LENGTH] - 1) // granule
    numbers = np.arange(len(known))
    if (first == last).all():
        keys, owners = first * disks + known[:, _DISK], numbers
    else:
        counts = last - first + 1
        owners = numbers.repeat(counts)
        nth = np.arange(len(owners)) - (counts.cumsum() - counts).repeat(counts)
        keys = (first[owners] + nth) * disks + known[owners, _DISK]
    shift = int(len(known) - 1).bit_length() or 1
    # Two keys taken for one cost a closer look and nothing else.
    together = np.sort(((keys & (_KEY_MASK >> shift)) << shift) | owners)
    key, owner = together >> shift, together & ((1 << shift) - 1)
    before, later = owner[:-1], owner[1:]
    same = (key[1:] == key[:-1]) & (known[later, _START] - known[before, _START] < apart)
    if not same.any():
        return None
    found = np.zeros(len(known), np.bool_)
    found[before[same]] = found[later[same]] = True
    return found.nonzero()[0]


def _conflicts(known: Asked) -> tuple[Integers, Integers]:
    """Of requests of one disk, in their order: which are waited for, and by which, directly; by their places.

    The disk is cut where a request begins or ends. In each piece a write waits for the write before it and for the
    reads since, and a read for the write before it. Who waits for that one's predecessors waits for them through it.
    """
    start, end = known[:, _OFFSET], known[:, _OFFSET] + known[:, _LENGTH]
    cuts = np.sort(np.concatenate((start, end)))
    cuts = cuts[np.concatenate(([True], cuts[1:] != cuts[:-1]))]
    first, counts = cuts.searchsorted(start), cuts.searchsorted(end)
    counts -= first
    owner = np.arange(len(known)).repeat(counts)
    piece = first.repeat(counts) + np.arange(len(owner)) - (counts.cumsum() - counts).repeat(counts)
    by_piece = piece.argsort(kind="stable")
    piece, owner = piece[by_piece], owner[by_piece]
    writes = known[owner, _WRITES] != 0
    at = np.arange(len(owner))
    begins = np.concatenate(([True], piece[1:] != piece[:-1]))
    begin = np.maximum.accumulate(np.where(begins, at, 0))
    # The last write before each, and the first behind it, in its piece.
    before = np.concatenate(([-1], np.maximum.accumulate(np.where(writes, at, -1))[:-1]))
    after_write = before >= begin
    behind = np.minimum.accumulate(np.where(writes, at, len(at))[::-1])[::-1]
    piece_of_behind = np.append(piece, -1)[behind]
    before_write = ~writes & (piece_of_behind == piece)
    one = np.concatenate((owner[before[after_write]], owner[before_write]))
    other = np.concatenate((owner[after_write], owner[behind[before_write]]))
    # Two that share several pieces are one pair.
    pairs = np.sort(one * len(known) + other)
    pairs = pairs[np.concatenate(([True], pairs[1:] != pairs[:-1]))] if len(pairs) else pairs
    return pairs // len(known), pairs % len(known)
