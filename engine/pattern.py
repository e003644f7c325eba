"""What the volume face writes where a program gives it no data: every sector says who wrote it, and where it belongs.

The first word of a sector is the stamp; the others are the same in every write to that place. So memory that has held a
write of the pattern needs new stamps and nothing else for the next one.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]

SECTOR_BYTES = 512
#: What is between the stamps repeats after so many bytes of the disk.
FILLER_BYTES = 4096
_SECTOR_WORDS, _FILLER_WORDS = SECTOR_BYTES // 8, FILLER_BYTES // 8
# Odd, so that it can be divided out again.
_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 1 << 64)
_WORKER_SHIFT = 48


def _filler() -> Words:
    """The outputs of SplitMix64 from state 0 (Steele, Lea, Flood: Fast splittable pseudorandom number generators)."""
    words = np.arange(1, _FILLER_WORDS + 1, dtype=np.uint64) * np.uint64(_FACTOR)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


FILLER = _filler()


# What is between the stamps, over and over: for the requests that are frequent.
_REPEATED = np.tile(FILLER, (1 << 20) // FILLER_BYTES + 1)


def _repeated(length: int) -> Words:
    """What is between the stamps for so many bytes, beginning anywhere in the first `FILLER_BYTES`."""
    if length + FILLER_BYTES <= _REPEATED.nbytes:
        return _REPEATED
    return np.tile(FILLER, length // FILLER_BYTES + 2)


@functools.lru_cache(maxsize=64)
def sector_steps(sectors: int) -> Words:
    """By how much the stamps of the sectors of one write differ from its first one's."""
    return np.arange(sectors, dtype=np.uint64) * np.uint64(_SECTOR_WORDS)


def stamps(worker: int, sequences: NDArray[np.int64], offsets: NDArray[np.int64]) -> Words:
    """Of each write, the stamp of its first sector."""
    writes = (sequences.astype(np.uint64) | np.uint64(worker << _WORKER_SHIFT)) * np.uint64(_FACTOR)
    found: Words = writes + (offsets.astype(np.uint64) >> np.uint64(3))
    return found


def put_stamps(firsts: Words, out: Words) -> None:
    """Put the stamps of writes, a row of `out` each, a column a sector; `firsts` are those of the first sectors."""
    np.add(sector_steps(out.shape[1]), firsts[:, None], out=out)


def all_stamps(firsts: Words, sectors: NDArray[np.int64]) -> tuple[Words, NDArray[np.int64]]:
    """The stamps of all sectors of writes that have so many each, and of each which of its write it is, from 0 on."""
    ends = sectors.cumsum()
    nth = np.arange(int(ends[-1])) - (ends - sectors).repeat(sectors)
    return firsts.repeat(sectors) + (nth * _SECTOR_WORDS).astype(np.uint64), nth


def pattern_words(firsts: Words, offsets: NDArray[np.int64], length: int) -> Words:
    """A row for each write: the 64-bit words of its `length` bytes at its offset."""
    words: Words = np.empty((len(offsets), length // 8), np.uint64)
    filler = _repeated(length)
    phases = offsets % FILLER_BYTES // 8
    for phase in set(phases.tolist()):
        words[phases == phase] = filler[phase : phase + length // 8]
    put_stamps(firsts, words[:, ::_SECTOR_WORDS])
    return words


def pattern(worker: int, sequence: int, offset: int, length: int) -> bytes:
    """What `submit` writes where it is given no data: `length` bytes at byte `offset` of a disk, of whole sectors.

    The little-endian 64-bit word at byte p of the disk is p / 8 + (sequence + worker * 2**48) * 0x9E3779B97F4A7C15,
    modulo 2**64, where p is a multiple of 512 and `sequence` that of the result's row. The other words are output
    number p / 8 modulo 512, counted from 0, of SplitMix64 from state 0.
    """
    if offset % SECTOR_BYTES or length % SECTOR_BYTES:
        raise ValueError(f"offset {offset} and length {length} must be multiples of {SECTOR_BYTES}")
    phase, count = offset % FILLER_BYTES // 8, length // 8
    words = _repeated(length)[phase : phase + count].copy()
    first = ((sequence | worker << _WORKER_SHIFT) * _FACTOR + (offset >> 3)) % (1 << 64)
    words[::_SECTOR_WORDS] = sector_steps(count // _SECTOR_WORDS) + np.uint64(first)
    return words.tobytes()


def pattern_of(data: Any, offset: int) -> tuple[int, int] | None:
    """Which (worker, sequence) wrote this data, of whole sectors at byte `offset`; None if no one write did."""
    words = np.frombuffer(data, np.uint64)
    if offset % SECTOR_BYTES or len(words) % _SECTOR_WORDS or not len(words):
        raise ValueError(
            f"offset {offset} must be a multiple of {SECTOR_BYTES}, and so must the data's {8 * len(words)} bytes"
        )
    stamp = (int(words[0]) - (offset >> 3)) * _INVERSE % (1 << 64)
    worker, sequence = stamp >> _WORKER_SHIFT, stamp % (1 << _WORKER_SHIFT)
    return (worker, sequence) if pattern(worker, sequence, offset, 8 * len(words)) == bytes(data) else None
