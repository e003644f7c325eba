"""Where requests go within a stretch of a disk: one after the other, or at random by one of four distributions.

`place` gives the offsets, counted from the start of the stretch, for requests of so many bytes. All follows from what
is given here, by whole arrays. Nothing here makes a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
#: Gives so many places, numbered from 0.
Draw = Callable[[int], Integers]

_WORD = (1 << 64) - 1
# Odd, for multiplying modulo 2**64: the golden ratio, and a constant of MurmurHash3's finisher.
_MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC4CEB9FE1A85EC53)
# Four rounds make a pseudorandom permutation of pseudorandom functions (Luby and Rackoff 1988).
_ROUNDS = 4


class Offsets(Protocol):
    """What gives offsets."""

    def place(self, lengths: Integers) -> tuple[Integers, Integers]:
        """The offsets of requests of these lengths; and the lengths, which may be cut at the stretch's end."""


class Sequential:
    """One behind the other, and at the end of the stretch from its start again; what would go beyond it is cut."""

    def __init__(self, size: int) -> None:
        """`size` is that of the stretch, in bytes."""
        self._size = size
        self._at = 0

    def place(self, lengths: Integers) -> tuple[Integers, Integers]:
        """See `Offsets`."""
        count = len(lengths)
        length = int(lengths[0]) if count else 1
        if self._size % length == 0 and self._at % length == 0 and (lengths == length).all():
            offsets = (self._at + np.arange(count, dtype=np.int64) * length) % self._size
            self._at = (self._at + count * length) % self._size
            return offsets, lengths
        offsets, lengths = np.empty(count, np.int64), lengths.copy()
        of_a_pass = self._size // int(lengths.min()) + 1
        first = 0
        while first < count:
            first = self._place_to_the_end(offsets, lengths, first, of_a_pass)
        return offsets, lengths

    def _place_to_the_end(self, offsets: Integers, lengths: Integers, first: int, most: int) -> int:
        """Place requests from `first` on, up to the end of the stretch; returns the first that is not placed."""
        ends = self._at + np.cumsum(lengths[first : first + most])
        fit = int(np.searchsorted(ends, self._size, side="right"))
        last = first + fit
        offsets[first:last] = ends[:fit] - lengths[first:last]
        self._at = int(ends[fit - 1]) if fit else self._at
        if last < len(lengths) and self._at < self._size and fit < len(ends):
            offsets[last], lengths[last] = self._at, self._size - self._at
            self._at, last = self._size, last + 1
        self._at %= self._size
        return last


class Drawn:
    """At places that are drawn one by one: multiples of a unit."""

    def __init__(self, draw: Draw, unit: int) -> None:
        self._draw, self._unit = draw, unit

    def place(self, lengths: Integers) -> tuple[Integers, Integers]:
        """See `Offsets`."""
        return self._draw(len(lengths)) * self._unit, lengths


# ---- draws


def uniform(places: int, random: np.random.Generator) -> Draw:
    """Each place as often as any other, some more than once before all have been."""
    return lambda count: random.integers(0, places, count)


def covering(places: int, random: np.random.Generator) -> Draw:
    """Each place once, in a random order; then each once more, in another."""
    at, order = places, Permutation(1, 0)

    def draw(count: int) -> Integers:
        nonlocal at, order
        drawn = np.empty(count, np.int64)
        done = 0
        while done < count:
            if at == places:
                at, order = 0, Permutation(places, int(random.integers(0, _WORD, dtype=np.uint64)))
            some = min(count - done, places - at)
            drawn[done : done + some] = order(np.arange(at, at + some, dtype=np.uint64))
            at, done = at + some, done + some
        return drawn

    return draw


def zipf(places: int, theta: float, random: np.random.Generator, key: int) -> Draw:
    """The k-th most wanted place has a share in proportion to k**-theta; which places these are follows from `key`.

    Exact for every theta above 0, by rejection-inversion: W. Hörmann and G. Derflinger, "Rejection-inversion to
    generate variates from monotone discrete distributions", ACM TOMACS 6 (1996).
    """
    spread = Permutation(places, key)
    power = 1 - theta

    def area(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The integral of t**-theta from 1 to x."""
        log = np.log(x)
        return np.expm1(power * log) / power if abs(power) > 1e-9 else log

    def inverse(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(np.log1p(np.maximum(power * y, -1)) / power) if abs(power) > 1e-9 else np.exp(y)

    low = area(np.array([1.5]))[0] - 1
    high = area(np.array([places + 0.5]))[0]
    sure = 2 - inverse(area(np.array([2.5])) - 2.0**-theta)[0]

    def draw(count: int) -> Integers:
        ranks = np.empty(count, np.float64)
        left = np.arange(count)
        while len(left):
            y = high + random.random(len(left)) * (low - high)
            x = inverse(y)
            rank = np.clip(np.floor(x + 0.5), 1, places)
            ranks[left] = rank
            taken = (rank - x <= sure) | (y >= area(rank + 0.5) - rank**-theta)
            left = left[~taken]
        return spread(ranks.astype(np.uint64) - np.uint64(1))

    return draw


def pareto(places: int, share: float, random: np.random.Generator, key: int) -> Draw:
    """A `share` of the places has all but that share of the requests, and within it it is so again.

    The self-similar distribution of J. Gray and others, "Quickly generating billion-record synthetic databases", SIGMOD
    1994; fio calls it pareto. Which places are wanted follows from `key`.
    """
    spread = Permutation(places, key)
    exponent = math.log(share) / math.log(1 - share)

    def draw(count: int) -> Integers:
        ranks = np.minimum(places * random.random(count) ** exponent, places - 1)
        return spread(ranks.astype(np.uint64))

    return draw


def normal(places: int, percent: float, random: np.random.Generator) -> Draw:
    """About the middle of the stretch, with a standard deviation of so many percent of it; drawn anew if outside."""
    deviation = places * percent / 100

    def draw(count: int) -> Integers:
        drawn = np.empty(count, np.int64)
        left = np.arange(count)
        while len(left):
            found = np.floor(places / 2 + random.standard_normal(len(left)) * deviation)
            inside = (found >= 0) & (found < places)
            drawn[left[inside]] = found[inside].astype(np.int64)
            left = left[~inside]
        return drawn

    return draw


class Permutation:
    """A pseudorandom order of the numbers below `count`, which is not kept but computed.

    A Feistel network over as many bits as the numbers have, in halves that may differ by one; a result that is too
    large is put through it again, which keeps it a permutation (cycle walking: J. Black and P. Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002).
    """

    def __init__(self, count: int, key: int) -> None:
        self._count = count
        bits = max((count - 1).bit_length(), 2)
        self._low_bits = bits // 2
        self._high_bits = bits - self._low_bits
        keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
        self._keys = [np.uint64(one) for one in keys]

    def __call__(self, numbers: NDArray[np.uint64]) -> Integers:
        """Where numbers below `count` are in it, as int64."""
        placed = self._walk(numbers)
        outside = np.flatnonzero(placed >= self._count)
        while len(outside):
            placed[outside] = self._walk(placed[outside])
            outside = outside[placed[outside] >= self._count]
        return placed.astype(np.int64)

    def _walk(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        low = numbers & np.uint64((1 << self._low_bits) - 1)
        high = numbers >> np.uint64(self._low_bits)
        for number, key in enumerate(self._keys):
            if number % 2:
                low ^= _mixed(high, key, self._low_bits)
            else:
                high ^= _mixed(low, key, self._high_bits)
        return (high << np.uint64(self._low_bits)) | low


def _mixed(half: NDArray[np.uint64], key: np.uint64, bits: int) -> NDArray[np.uint64]:
    word = half * np.uint64(_MULTIPLIERS[0]) + key
    word ^= word >> np.uint64(32)
    word *= np.uint64(_MULTIPLIERS[1])
    word >>= np.uint64(64 - bits)
    return word
