"""The worker's registered buffer region, cut into slots.

A slot belongs to one request from the program's call until its release. Memory that the kernel may still write to is
never handed out again.
"""

from __future__ import annotations

import mmap

import liburing

REGION_BYTES = 8 << 20
SLOT_BYTES_MIN = 4096
# Slots made when the region is used up are kept for reuse up to this much: 64 requests of 1 MiB.
SPARE_BYTES_MAX = 64 << 20
# They are cut from pieces of this size: a process may have only so many mappings (65530 by default).
PIECE_BYTES = 1 << 20


class Slot:
    """Page-aligned memory for one request; `registered` if it lies in the region that the ring knows."""

    __slots__ = ("_iovecs", "capacity", "registered", "view")

    def __init__(self, view: memoryview, *, registered: bool) -> None:
        self.view = view
        self.capacity = len(view)
        self.registered = registered
        # An Iovec costs 400 ns to make and must outlive its request: one for each length, kept with the slot.
        self._iovecs: dict[int, liburing.Iovec] = {}

    def iovec(self, length: int) -> liburing.Iovec:
        """An iovec over the first `length` bytes."""
        found = self._iovecs.get(length)
        if found is None:
            if len(self._iovecs) >= 16:
                self._iovecs.clear()  # safe: the slot has no request in flight when a length is asked for
            found = self._iovecs[length] = liburing.Iovec([self.view[:length]])
        return found


class Buffers:
    """Hands out slots in powers of two, from the registered region first."""

    def __init__(self, region_bytes: int = REGION_BYTES) -> None:
        self._memory = mmap.mmap(-1, region_bytes)
        self.region = memoryview(self._memory)
        self._carved = 0
        self._free: dict[int, list[Slot]] = {}
        self._spare_bytes = 0
        # What is left of the last piece; the slots keep the piece alive.
        self._piece = memoryview(b"")

    def take(self, length: int) -> Slot:
        """A slot of at least `length` bytes; never waits."""
        size = SLOT_BYTES_MIN if length <= SLOT_BYTES_MIN else 1 << (length - 1).bit_length()
        free = self._free.get(size)
        if free:
            slot = free.pop()
            if not slot.registered:
                self._spare_bytes -= size
            return slot
        if self._carved + size <= len(self.region):
            view = self.region[self._carved : self._carved + size]
            self._carved += size
            return Slot(view, registered=True)
        if size >= PIECE_BYTES:
            return Slot(_memory(size), registered=False)
        if len(self._piece) < size:
            self._piece = _memory(PIECE_BYTES)
        view, self._piece = self._piece[:size], self._piece[size:]
        return Slot(view, registered=False)

    def give_back(self, slot: Slot) -> None:
        """The slot's request has been released."""
        if not slot.registered:
            if self._spare_bytes + slot.capacity > SPARE_BYTES_MAX:
                return
            self._spare_bytes += slot.capacity
        self._free.setdefault(slot.capacity, []).append(slot)


def _memory(size: int) -> memoryview:
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
