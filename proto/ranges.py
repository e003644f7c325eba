"""Sets of blocks of a disk, for both sides of the link.

Bits by stretches of 4096 blocks; a stretch in which every block is in the set takes no more than its key. So a set is
never larger than one bit a block, and stays small where whole stretches are in it.
"""

from __future__ import annotations

from collections.abc import Iterator

_SHIFT = 12
_BLOCKS = 1 << _SHIFT
_FULL = (1 << _BLOCKS) - 1


class BlockSet:
    """Blocks by number. Ranges are given by their first block and the one after their last."""

    def __init__(self) -> None:
        self._stretches: dict[int, int] = {}

    def add(self, start: int, end: int) -> None:
        """Add every block of the range."""
        for key, window in _windows(start, end):
            bits = self._stretches.get(key, 0) | window
            self._stretches[key] = _FULL if bits == _FULL else bits

    def has(self, start: int, end: int) -> bool:
        """Is every block of the range in the set?"""
        get = self._stretches.get
        return all(not window & ~get(key, 0) for key, window in _windows(start, end))

    def missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The ranges of blocks in the range that are not in the set, in order, as long as they are."""
        open_at, open_end = start, start
        for key, window in _windows(start, end):
            left = window & ~self._stretches.get(key, 0)
            base = key << _SHIFT
            while left:
                first = (left & -left).bit_length() - 1
                ones = left >> first
                count = (ones ^ (ones + 1)).bit_length() - 1
                left &= ~(((1 << count) - 1) << first)
                if base + first != open_end:
                    if open_end > open_at:
                        yield open_at, open_end
                    open_at = base + first
                open_end = base + first + count
        if open_end > open_at:
            yield open_at, open_end


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Each stretch that the range touches, with the bits of the range in it."""
    assert 0 <= start < end, (start, end)
    for key in range(start >> _SHIFT, ((end - 1) >> _SHIFT) + 1):
        base = key << _SHIFT
        first, last = max(start - base, 0), min(end - base, _BLOCKS)
        yield key, _FULL if last - first == _BLOCKS else ((1 << (last - first)) - 1) << first
