"""A ring's memory mapped once more: where the kernel says that its parts are, and a trial before it is relied upon.

What is read and written there is for those who map it. It knows nothing of programs, order or the coordinator.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any, TypeVar

import liburing as uring

Mapped = TypeVar("Mapped")

#: 32-bit words of `struct io_uring_params`: entries of both rings, and offsets of their parts.
SQ_ENTRIES, CQ_ENTRIES, SQ_TAIL, CQ_HEAD, CQ_CQES = 0, 1, 11, 20, 25
CQE_BYTES = 16

_SYS_IO_URING_SETUP = 425
_PARAMS_WORDS, _FLAGS = 30, 2
_TRIAL_ENTRIES = 8


def parameters(entries: int, flags: int) -> list[int]:
    """What the kernel fills in for a ring with these entries and flags. Raise OSError where it makes none."""
    words = (ctypes.c_uint32 * _PARAMS_WORDS)()
    words[_FLAGS] = flags
    other = ctypes.CDLL(None, use_errno=True).syscall(
        _SYS_IO_URING_SETUP, ctypes.c_uint(entries), ctypes.byref(words)
    )
    if other < 0:
        raise OSError(ctypes.get_errno(), "no ring to ask for offsets")
    os.close(other)
    return list(words)


def tried(
    make: Callable[[Any, int, int], Mapped],
    works: Callable[[Any, Mapped], bool],
    ring: Any,
    entries: int,
    flags: int,
) -> Mapped | None:
    """What is made of a ring, or None where it cannot be had. A small ring of the same kind is tried first."""
    try:
        trial = uring.Ring()
        uring.io_uring_queue_init(_TRIAL_ENTRIES, trial, flags)
        try:
            if not works(trial, make(trial, _TRIAL_ENTRIES, flags)):
                return None
        finally:
            uring.io_uring_queue_exit(trial)
        return make(ring, entries, flags)
    except (OSError, ValueError):
        return None
