"""How long requests are: one size, a range of sizes, or sizes with their shares. Nothing here knows of disks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.disks import parse_size
from ringtape.engine.requests import REQUEST_BYTES_MAX
from ringtape.jobs.errors import JobError
from ringtape.proto.errors import DiskError

BLOCK_MIN = 512
_SIZES_MAX = 64


@dataclass(frozen=True)
class Blocks:
    """The sizes of the requests of a job, in bytes.

    Attributes:
        sizes: all there are; of a range its two ends, between which are the multiples of the lower.
        shares: of each size, in percent; empty for a range, and for one size.
    """

    sizes: tuple[int, ...]
    shares: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Blocks:
        """From `4k`, `4k-64k` or `4k/60:64k/40` (a share that is left out is an equal part of the rest).

        Raises `JobError`.
        """
        if "/" in text or ":" in text:
            return cls(*_split(text))
        low, dash, high = text.partition("-")
        if not dash:
            return cls((_size(text, text),))
        ends = (_size(low, text), _size(high, text))
        if ends[1] <= ends[0] or ends[1] % ends[0]:
            raise JobError(
                f"bs {text}: the upper end of a range is a multiple of the lower, and more than it"
            )
        return cls(ends)

    @property
    def smallest(self) -> int:
        """The smallest size."""
        return min(self.sizes)

    @property
    def largest(self) -> int:
        """The largest size."""
        return max(self.sizes)

    @property
    def unit(self) -> int:
        """What all sizes are multiples of."""
        return math.gcd(*self.sizes)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """So many sizes."""
        if len(self.sizes) == 1:
            return np.full(count, self.sizes[0], np.int64)
        if not self.shares:
            low, high = self.sizes
            return random.integers(1, high // low, count, endpoint=True) * low
        borders = np.cumsum(self.shares) / 100
        chosen = np.searchsorted(borders[:-1], random.random(count), side="right")
        return np.array(self.sizes, np.int64)[chosen]

    def __str__(self) -> str:
        if self.shares:
            return ":".join(f"{size}/{share:g}" for size, share in zip(self.sizes, self.shares, strict=True))
        return "-".join(map(str, self.sizes))


def _split(text: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
    sizes: list[int] = []
    shares: list[float | None] = []
    for part in text.split(":"):
        size, _, share = part.partition("/")
        sizes.append(_size(size, text))
        shares.append(_share(share, text) if share else None)
    if len(sizes) > _SIZES_MAX:
        raise JobError(f"bs {text}: a split has at most {_SIZES_MAX} sizes, not {len(sizes)}")
    given = math.fsum(share for share in shares if share is not None)
    left = shares.count(None)
    if given > 100 + 1e-9 or (not left and abs(given - 100) > 1e-9):
        raise JobError(f"bs {text}: the shares come to {given:g} %, not to 100 %")
    rest = max(100 - given, 0) / left if left else 0.0
    return tuple(sizes), tuple(rest if share is None else share for share in shares)


def _share(text: str, whole: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 100:
        raise JobError(f"bs {whole}: the share {text!r} is not a number from 0 to 100")
    return share


def _size(text: str, whole: Any) -> int:
    try:
        size = parse_size(text)
    except DiskError:
        raise JobError(
            f"bs {whole}: {text!r} is not a size; give 4k, a range 4k-64k, or shares 4k/60:64k/40"
        ) from None
    if size % BLOCK_MIN or size > REQUEST_BYTES_MAX:
        raise JobError(f"bs {whole}: {size} must be a multiple of {BLOCK_MIN}, 1G at most")
    return size
