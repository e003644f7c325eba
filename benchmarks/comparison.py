"""The whole comparison: each job on each target, one after the other, and all that is known of it as JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringtape.benchmarks import machine
from ringtape.benchmarks.contenders import Case, DataLevel, contenders
from ringtape.benchmarks.errors import BenchmarkError, TargetUnavailable
from ringtape.benchmarks.fio import Fio
from ringtape.benchmarks.jobs import JOBS
from ringtape.benchmarks.rounds import Amount, Outcome, measure
from ringtape.benchmarks.targets import TARGETS, Setup

JSON_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What to measure; `insist` says that a target that is not to be had is an error and not left out."""

    targets: list[str]
    jobs: list[str]
    rounds: int
    amount: Amount
    setup: Setup
    data: DataLevel
    insist: bool


@dataclass
class Comparison:
    """What came of a plan, so far: a comparison that is interrupted keeps the rounds that were whole."""

    plan: Plan
    fio: Fio
    facts: dict[str, Any] = field(default_factory=machine.facts)
    outcomes: list[Outcome] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    @property
    def measured(self) -> list[Outcome]:
        """The cases of which there is at least one round."""
        return [outcome for outcome in self.outcomes if outcome.rounds]

    def run(self, on_step: Callable[[str], None]) -> None:
        """Measure; `on_step` is told what comes next, between measurements and never during one."""
        plan = self.plan
        with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as folder:
            for name in plan.targets:
                try:
                    self._on_target(name, Path(folder), on_step)
                except TargetUnavailable as error:
                    if plan.insist:
                        raise
                    self.skipped[name] = str(error)
        if not self.outcomes:
            raise BenchmarkError(f"there is nothing to measure on: {'; '.join(self.skipped.values())}")
        self.complete = True

    def _on_target(self, name: str, folder: Path, on_step: Callable[[str], None]) -> None:
        plan = self.plan
        on_step(f"making {name}")
        with TARGETS[name](plan.setup) as target:
            for job in (JOBS[name] for name in plan.jobs):
                outcome = Outcome(Case(target, job, folder, plan.data))
                self.outcomes.append(outcome)
                place = f"{target.title}, {job.title}: "
                measure(
                    outcome,
                    contenders(self.fio, job),
                    rounds=plan.rounds,
                    amount=plan.amount,
                    on_step=lambda text, place=place: on_step(place + text),  # type: ignore[misc]
                )

    def as_json(self) -> str:
        """Raw numbers, what is made of them, and where they come from."""
        plan = self.plan
        whole = {
            "version": JSON_VERSION,
            "complete": self.complete,
            "machine": {**self.facts, "fio": self.fio.version},
            "settings": {
                "rounds": plan.rounds,
                "seconds": plan.amount.seconds if plan.amount.requests is None else None,
                "requests": plan.amount.requests,
                "size_bytes": plan.setup.size_bytes,
                "data": plan.data,
            },
            "cases": [outcome.as_json() for outcome in self.measured],
            "skipped": self.skipped,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
