"""The whole table: row by row, what was found, what could not be measured, and all of it as JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringtape.benchmarks import machine
from ringtape.benchmarks.errors import BenchmarkError, Unavailable
from ringtape.benchmarks.findings import Finding
from ringtape.benchmarks.fio import Fio
from ringtape.benchmarks.rows import ROWS, Bench, Plan, Row

JSON_VERSION = 2


@dataclass
class Table:
    """What came of a plan, so far: one that is interrupted keeps the rounds that were whole."""

    plan: Plan
    fio: Fio
    facts: dict[str, Any] = field(default_factory=machine.facts)
    found: list[tuple[Row, list[Finding]]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    complete: bool = False

    @property
    def measured(self) -> list[tuple[Row, list[Finding]]]:
        """The rows of which there is something to show, and that."""
        shown = [(row, [one for one in findings if one.measured]) for row, findings in self.found]
        return [(row, findings) for row, findings in shown if findings]

    def run(self, on_step: Callable[[str], None]) -> None:
        """Measure; `on_step` is told what comes next, between measurements and never during one."""
        plan = self.plan
        with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as folder:
            for name in plan.rows:
                findings: list[Finding] = []
                self.found.append((ROWS[name], findings))
                bench = Bench(plan, self.fio, Path(folder), on_step, findings, self.skipped)
                try:
                    ROWS[name].measure(bench)
                except Unavailable as error:
                    if plan.insist:
                        raise
                    self.skipped[f"row {name}"] = str(error)
        if not self.measured:
            why = "; ".join(self.skipped.values()) or "none of these rows has one of these targets"
            raise BenchmarkError(f"there is nothing to measure: {why}")
        self.complete = True

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
                "data": "order",
            },
            "rows": [
                {"row": row.name, "title": row.title, "found": [one.as_json() for one in findings]}
                for row, findings in self.measured
            ],
            "skipped": self.skipped,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
