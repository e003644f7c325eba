"""What a measured figure is: a value a round, what it has to reach, and whether it does.

A ratio is always that of two measurements of the same round: what the machine does beside the benchmark, which may
take minutes to change, then strikes both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, Protocol

from ringtape.benchmarks.jobs import Measurement

Round = Mapping[str, Measurement]
Unit = Literal["×", "/s", "MiB"]
# What grows by nothing, or shrinks, is better by any factor.
SHARE_MAX = 10.0


@dataclass(frozen=True)
class Spread:
    """A value a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return {"median": self.median, "min": self.low, "max": self.high, "values": list(self.values)}


@dataclass(frozen=True)
class Pair:
    """What is compared, and what it has to reach.

    Attributes:
        of: the contender that it is about.
        beside: its peers; the one with the best median rate, in all rounds, counts. None: its rate stands alone.
        reach: the ratio of the rates that is wanted at least, or that of the times, at most; or a rate.
        times: it is the times that are compared, and not the rates.
    """

    of: str
    beside: tuple[str, ...]
    reach: float
    times: bool = False

    def figure(self, rounds: Sequence[Round]) -> Figure:
        """What came of it."""
        if not self.beside:
            return Figure(self.of, "", self.reach, rate(rounds, self.of), unit="/s")
        peer = max(self.beside, key=lambda name: rate(rounds, name).median)
        of, beside = (peer, self.of) if self.times else (self.of, peer)
        return Figure(self.of, peer, self.reach, ratio(rounds, of, beside), at_most=self.times)


@dataclass(frozen=True)
class Figure:
    """A figure of a row; its median counts. `beside` is empty where it stands alone."""

    of: str
    beside: str
    reach: float
    spread: Spread
    at_most: bool = False
    unit: Unit = "×"

    @property
    def reached(self) -> bool:
        """Does the median reach what is wanted?"""
        found = self.spread.median
        return found <= self.reach if self.at_most else found >= self.reach

    @property
    def share(self) -> float:
        """How far it comes: 1 is just what is wanted, more is better."""
        found = self.spread.median
        share = self.reach / max(found, self.reach / SHARE_MAX) if self.at_most else found / self.reach
        return min(share, SHARE_MAX)

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "of": self.of,
            "beside": self.beside or None,
            "unit": self.unit,
            "reach": self.reach,
            "at_most": self.at_most,
            "reached": self.reached,
            **self.spread.as_json(),
        }


class Finding(Protocol):
    """What came of a row of the table in one place, so far."""

    @property
    def on(self) -> str:
        """Where it was measured, for people."""

    @property
    def measured(self) -> bool:
        """Is there something to show?"""

    def figures(self) -> list[Figure]:
        """What is wanted, and what was found."""

    def as_json(self) -> dict[str, Any]:
        """Raw numbers, and what is made of them."""


def rate(rounds: Sequence[Round], name: str) -> Spread:
    """Requests a second of one contender."""
    return Spread(tuple(each[name].rate for each in rounds))


def ratio(rounds: Sequence[Round], name: str, beside: str) -> Spread:
    """The rate of `name` over the rate of `beside`, each from one round."""
    return Spread(tuple(each[name].rate / each[beside].rate for each in rounds))
