"""Memory of worker and coordinator over a long run: the most that they have, and how much of it grows with the run.

Two runs, each in a process of its own: a real one by the volume face, and one of the coordinator alone, which made-up
workers feed much faster. `python -m ringtape.benchmarks.memory` is that process. It prints JSON: the share of the run
that was done and the bytes that were resident, by process, as often as it looked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ringtape
from ringtape.benchmarks.contenders import Case, measurement_of, output_of
from ringtape.benchmarks.findings import Figure, Spread
from ringtape.benchmarks.jobs import JOBS
from ringtape.benchmarks.made_up import Fed, Shape, messages, resident_bytes
from ringtape.benchmarks.targets import Target

MIB = 1 << 20
MIB_MAX = 150.0
# Flat: from the most in the first quarter to the most in the rest.
GROWTH_MIB_MAX = 4.0
SAMPLES_MAX = 1000
MADE_UP_SHAPE = Shape(4096)

Samples = dict[str, list[tuple[float, int]]]


@dataclass
class Memory:
    """What processes had in one run, or in none yet; see `Finding`."""

    on: str
    requests: int
    samples: Samples = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def measured(self) -> bool:
        """See `Finding`."""
        return bool(self.samples)

    def figures(self) -> list[Figure]:
        """See `Finding`."""
        found = []
        for process, rows in self.samples.items():
            most, growth = most_and_growth(rows)
            found += [
                Figure(f"{process}, at most", "", MIB_MAX, Spread((most,)), at_most=True, unit="MiB"),
                Figure(f"{process}, growth", "", GROWTH_MIB_MAX, Spread((growth,)), at_most=True, unit="MiB"),
            ]
        return found

    def as_json(self) -> dict[str, Any]:
        """See `Finding`."""
        return {
            "on": self.on,
            "requests": self.requests,
            "seconds": self.seconds,
            "samples": {process: _thinned(rows) for process, rows in self.samples.items()},
            "figures": [figure.as_json() for figure in self.figures()],
        }


def most_and_growth(rows: list[tuple[float, int]]) -> tuple[float, float]:
    """MiB at most, and from the most in the first quarter of the run to the most in the rest."""
    first = max((size for share, size in rows if share <= 0.25), default=rows[0][1])
    rest = max((size for share, size in rows if share > 0.25), default=rows[-1][1])
    return max(first, rest) / MIB, (rest - first) / MIB


def _thinned(rows: list[tuple[float, int]]) -> list[tuple[float, int]]:
    return rows[:: max(len(rows) // SAMPLES_MAX, 1)]


def real(target: Target, requests: int, folder: Path) -> Samples:
    """A recording of random reads by the volume face, in a new process."""
    return _in_new_process("--target", target.path, "--requests", str(requests), "--folder", str(folder))


def made_up(requests: int, folder: Path) -> Samples:
    """The coordinator alone, in a new process."""
    return _in_new_process("--requests", str(requests), "--folder", str(folder))


def _in_new_process(*arguments: str) -> Samples:
    said = output_of([sys.executable, "-m", "ringtape.benchmarks.memory", *arguments])
    found: Samples = json.loads(said)
    return found


def _real(path: str, requests: int, folder: Path) -> Samples:
    samples: Samples = {"coordinator": [], "worker": []}

    def look(progress: ringtape.Progress) -> None:
        share = progress.requests / requests
        samples["coordinator"].append((share, resident_bytes()))
        for child in _children():
            samples["worker"].append((share, resident_bytes(child)))

    case = Case((Target("one", path, path),), JOBS["volume"], folder, "order")
    result = ringtape.record(
        case.job.program,
        disks=case.disks(),
        arguments=case.reads(requests),
        tape=folder / "memory.tape",
        data="order",
        strict=False,
        seed=0,
        console=ringtape.Console(on_progress=look),
    )
    measurement_of(result, requests)
    return samples


def _children() -> list[str]:
    pid = os.getpid()
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _made_up(requests: int, folder: Path) -> Samples:
    rows = []
    count = max(requests // MADE_UP_SHAPE.rows, 1)
    fed = Fed(folder / "memory.tape", 1, leased=False)
    for number in fed.take(messages(MADE_UP_SHAPE, 1, count)):
        rows.append((number / count, resident_bytes()))
    rows.append((1.0, resident_bytes()))
    fed.finish(count * MADE_UP_SHAPE.rows)
    return {"coordinator": rows}


def main(arguments: list[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Memory of a long run, as JSON.")
    parser.add_argument("--target", help="the file or device to read; without it the coordinator is alone")
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the tape")
    given = parser.parse_args(arguments)
    if given.target:
        samples = _real(given.target, given.requests, given.folder)
    else:
        samples = _made_up(given.requests, given.folder)
    print(json.dumps(samples))


if __name__ == "__main__":
    main()
