"""The memory of requests that go by columns: a ring of pages, of which each row takes the next ones.

A place in it is a number of bytes that only grows; what is above the mask is cut off. What a row reads or writes lies
as far behind the beginning of a page as on its disk. So what is between the stamps of the pattern is the same in all
pages, and a page that has held a write of the pattern needs new stamps and nothing else for the next one.
"""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.buffers import Slot
from ringtape.engine.pattern import FILLER, FILLER_BYTES, SECTOR_BYTES, all_stamps, put_stamps, sector_steps

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Words = NDArray[np.uint64]

PAGE_BYTES = FILLER_BYTES
_SECTORS = PAGE_BYTES // SECTOR_BYTES
# Fewer writes are stamped one by one.
_FEW = 8


class Block:
    """The first `size` bytes, a power of two, of a slot."""

    def __init__(self, slot: Slot, size: int) -> None:
        self.slot, self.size, self.mask = slot, size, size - 1
        self._memory = slot.view[:size]
        self.bytes = np.frombuffer(self._memory, np.uint8)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        words = self.bytes.view(np.uint64)
        self._pages = words.reshape(-1, PAGE_BYTES // 8)
        #: The first word of each sector.
        self._stamps = words[:: SECTOR_BYTES // 8]
        # Of each page, whether it holds what is between the stamps.
        self._filled = bytearray(size // PAGE_BYTES)
        self._filled_column = np.frombuffer(self._filled, np.bool_)
        self._any_filled = False
        self._views: tuple[int, list[memoryview]] = (0, [])

    def data(self, start: int, length: int) -> memoryview:
        """`length` bytes from a place on."""
        start &= self.mask
        return self._memory[start : start + length]

    def views(self, length: int) -> list[memoryview]:
        """The first `length` bytes from each page on, by its number; for many requests of one length."""
        if self._views[0] != length:
            places = range(0, self.size, PAGE_BYTES)
            self._views = length, [self._memory[place : place + length] for place in places]
        return self._views[1]

    def spoil_all(self) -> None:
        """As `spoil`, whichever they are."""
        if self._any_filled:
            self._any_filled = False
            self._filled_column[:] = False

    def spoil(self, first: int, last: int) -> None:
        """Pages `first` to before `last` will hold something else than the pattern."""
        self._filled[first:last] = bytes(last - first)

    def fill(self, first: int, last: int, writes: Flags | None) -> None:
        """Let pages hold what is between the stamps: all, or those that are of `writes` while the others are spoilt."""
        filled, self._any_filled = self._filled, True
        if writes is None:
            if filled.count(1, first, last) < last - first:
                filled[first:last] = b"\1" * (last - first)
                self._pages[first:last] = FILLER
            return
        here = self._filled_column[first:last]
        missing = (writes > here).nonzero()[0]
        if len(missing):
            self._pages[missing + first] = FILLER
        here[:] = writes

    def stamp_alike(self, first: int, last: int, length: int, firsts: Words) -> None:
        """Stamp writes of one length that begin with a page each, and take pages `first` to before `last`."""
        stamps = self._stamps[first * _SECTORS : last * _SECTORS].reshape(len(firsts), -1)
        put_stamps(firsts, stamps[:, : length // SECTOR_BYTES])

    def stamp(self, starts: Integers, lengths: Integers, firsts: Words) -> None:
        """Stamp writes of any lengths at any places."""
        if len(starts) <= _FEW:
            sector = ((starts & self.mask) // SECTOR_BYTES).tolist()
            for one, length, first in zip(sector, lengths.tolist(), firsts, strict=True):
                count = length // SECTOR_BYTES
                np.add(sector_steps(count), first, out=self._stamps[one : one + count])
            return
        sectors = lengths // SECTOR_BYTES
        values, nth = all_stamps(firsts, sectors)
        self._stamps[((starts & self.mask) // SECTOR_BYTES).repeat(sectors) + nth] = values
