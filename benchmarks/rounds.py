"""Alternating rounds: how much everyone makes, in which order they are measured, and what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ringtape.benchmarks.contenders import Case, Contender
from ringtape.benchmarks.findings import Figure, Pair, rate
from ringtape.benchmarks.jobs import Measurement

# The first try of a contender whose speed is not known, and how often it is tried with more.
FIRST_TRY_REQUESTS = 2000
TRIES_MAX = 12
REQUESTS_MAX = 1 << 32


@dataclass(frozen=True)
class Amount:
    """How much a measurement is: `requests`, or as many as fio and plain make in `seconds`."""

    seconds: float = 1.0
    requests: int | None = None


@dataclass
class Outcome:
    """What came of one case; see `Finding`. `rounds` grows while it is measured."""

    case: Case
    pairs: tuple[Pair, ...]
    rounds: list[dict[str, Measurement]] = field(default_factory=list)
    #: What is measured on, where it is no target.
    instead: str = ""

    @property
    def on(self) -> str:
        """See `Finding`."""
        return self.instead or self.case.on

    @property
    def measured(self) -> bool:
        """See `Finding`."""
        return bool(self.rounds)

    def figures(self) -> list[Figure]:
        """See `Finding`."""
        return [pair.figure(self.rounds) for pair in self.pairs]

    def as_json(self) -> dict[str, Any]:
        """See `Finding`."""
        job = self.case.job
        return {
            "on": [target.name for target in self.case.targets] or self.instead or None,
            "job": {
                "name": job.name,
                "depth": job.depth,
                "block_bytes": job.block_bytes,
                "workers": job.workers,
            },
            "rounds": [
                # In the order in which they were measured.
                [
                    {"contender": name, "requests": one.requests, "elapsed_s": one.elapsed_s}
                    for name, one in each.items()
                ]
                for each in self.rounds
            ],
            "rates": {name: rate(self.rounds, name).as_json() for name in sorted(self.rounds[0])},
            "figures": [figure.as_json() for figure in self.figures()],
        }


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
        contender.prepare(case, counts.get(contender.paced_by, 1))
    for number in range(rounds):
        this_round: dict[str, Measurement] = {}
        for contender in rotated(contenders, number):
            on_step(f"round {number + 1} of {rounds}: {contender.name}")
            this_round[contender.name] = contender.measure(
                case, counts.get(contender.paced_by, 1), seed=number
            )
        outcome.rounds.append(this_round)


def requests_for(contender: Contender, case: Case, amount: Amount) -> int:
    """How many requests take the contender about as long as a measurement should; it is warm afterwards."""
    workers = case.job.workers
    if amount.requests is not None:
        return _shared(amount.requests, workers)
    requests = FIRST_TRY_REQUESTS
    for _ in range(TRIES_MAX):
        tried = contender.measure(case, _shared(requests, workers), seed=0)
        least = case.job.depth * workers
        enough = min(max(int(tried.rate * amount.seconds), least), REQUESTS_MAX)
        if tried.elapsed_s >= amount.seconds / 4:
            return _shared(enough, workers)
        # A first try may be slow for being the first: come close in steps.
        requests = min(max(enough // 2, 2 * requests), 50 * requests)
    return _shared(requests, workers)


def _shared(requests: int, workers: int) -> int:
    """As many, of which each worker makes the same."""
    return max(requests // workers, 1) * workers
