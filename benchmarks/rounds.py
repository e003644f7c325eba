"""Alternating rounds, and what is made of them: medians, ratios of pairs, their spread.

A ratio is always that of two measurements of the same round: what the machine does beside the benchmark, which may
take minutes to change, then strikes both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ringtape.benchmarks.contenders import Case, Contender
from ringtape.benchmarks.jobs import Measurement

# The first try of a contender whose speed is not known, and how often it is tried with more.
FIRST_TRY_REQUESTS = 2000
TRIES_MAX = 12
REQUESTS_MAX = 1 << 32

Round = Mapping[str, Measurement]


@dataclass(frozen=True)
class Amount:
    """How much a measurement is: `requests`, or as many as fio and plain make in `seconds`."""

    seconds: float = 1.0
    requests: int | None = None


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


@dataclass
class Outcome:
    """What came of one case. `rounds` grows while it is measured; what is asked of it needs at least one."""

    case: Case
    rounds: list[dict[str, Measurement]] = field(default_factory=list)

    def rate(self, name: str) -> Spread:
        """Requests a second of one contender."""
        return Spread(tuple(each[name].rate for each in self.rounds))

    def ratio(self, name: str, beside: str) -> Spread:
        """The rate of one contender over that of another, round by round."""
        return ratio(self.rounds, name, beside)

    def best_peer(self) -> str:
        """The better of fio's ways: the one with the higher median, in all rounds."""
        return max((name for name in self.rounds[0] if name.startswith("fio")), key=self._median_rate)

    def _median_rate(self, name: str) -> float:
        return self.rate(name).median

    def ratios(self) -> dict[tuple[str, str], Spread]:
        """What the benchmark is about: each pair (of, beside)."""
        pairs = (("plain", self.best_peer()), ("record", "plain"), ("replay", "plain"))
        return {pair: self.ratio(*pair) for pair in pairs}

    def as_json(self) -> dict[str, Any]:
        """Raw numbers first, then what is made of them."""
        target, job = self.case.target, self.case.job
        return {
            "target": {"name": target.name, "title": target.title},
            "job": {"name": job.name, "depth": job.depth, "block_bytes": job.block_bytes},
            "data": self.case.data,
            "rounds": [
                # In the order in which they were measured.
                [
                    {"contender": name, "requests": one.requests, "elapsed_s": one.elapsed_s}
                    for name, one in each.items()
                ]
                for each in self.rounds
            ],
            "rates": {name: self.rate(name).as_json() for name in sorted(self.rounds[0])},
            "ratios": [
                {"of": of, "beside": beside, **spread.as_json()}
                for (of, beside), spread in self.ratios().items()
            ],
        }


def ratio(rounds: Sequence[Round], name: str, beside: str) -> Spread:
    """The rate of `name` over the rate of `beside`, each from one round."""
    return Spread(tuple(each[name].rate / each[beside].rate for each in rounds))


def rotated(contenders: Sequence[Contender], round_number: int) -> list[Contender]:
    """The order of a round: each contender is once in each place before one is in a place for the second time."""
    start = round_number % len(contenders)
    return [*contenders[start:], *contenders[:start]]


def measure(
    outcome: Outcome,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    amount: Amount,
    on_step: Callable[[str], None],
) -> None:
    """Measure a case: find out how much each contender makes, let them prepare, then the rounds."""
    case = outcome.case
    counts = {}
    for contender in contenders:
        if contender.name == contender.paced_by:
            on_step(f"trying {contender.name}")
            counts[contender.name] = requests_for(contender, case, amount)
    for contender in contenders:
        on_step(f"preparing {contender.name}")
        contender.prepare(case, counts[contender.paced_by])
    for number in range(rounds):
        this_round: dict[str, Measurement] = {}
        for contender in rotated(contenders, number):
            on_step(f"round {number + 1} of {rounds}: {contender.name}")
            this_round[contender.name] = contender.measure(case, counts[contender.paced_by], seed=number)
        outcome.rounds.append(this_round)


def requests_for(contender: Contender, case: Case, amount: Amount) -> int:
    """How many requests take the contender about as long as a measurement should; it is warm afterwards."""
    if amount.requests is not None:
        return amount.requests
    requests = FIRST_TRY_REQUESTS
    for _ in range(TRIES_MAX):
        tried = contender.measure(case, requests, seed=0)
        enough = min(max(int(tried.rate * amount.seconds), case.job.depth), REQUESTS_MAX)
        if tried.elapsed_s >= amount.seconds / 4:
            return enough
        # A first try may be slow for being the first: come close in steps.
        requests = min(max(enough // 2, 2 * requests), 50 * requests)
    return requests
