"""What the data levels cost: `digest` beside `order` with small requests, and how fast `full` fills a tape.

`python -m ringtape.benchmarks.data_levels` records reads of a file full of random data on tmpfs, which no compression
makes smaller, onto a tape on tmpfs, at all levels of one job in each round, in rotating order. A ratio is that of two
recordings of one round; medians are printed, and the lowest and highest. Beside the time of the programs (see `Result.
elapsed_s`) stands the processor time of the busier of worker and coordinator: what the time would come to on two cores
that do nothing else. It exits with 1 where a target is missed by that; the machine may be too busy to show more.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import ringtape
from ringtape.benchmarks.tape_recording import stretches
from ringtape.benchmarks.targets import SHARED_MEMORY, Setup, tmpfs

DIGEST_OVER_ORDER = 1.15  # of the time, at most
FULL_BYTES_PER_S = 300e6  # of tape, at least
ROUNDS = 5
LEVELS = ("order", "digest", "full")


class Job(NamedTuple):
    """Reads one after another, so many at a time."""

    length: int  # bytes
    depth: int


SMALL, LARGE = Job(4096, 64), Job(128 << 10, 16)


class Cost(NamedTuple):
    """Of one recording."""

    elapsed_s: float
    busiest_s: float  # processor time of the busier process
    tape_bytes: int


def cost(job: Job, data: str, path: str, size_bytes: int, tape: Path) -> Cost:
    """Record the job."""
    begun: list[float] = []

    def begin(progress: ringtape.Progress) -> None:
        if not begun:
            begun.append(time.process_time())

    recorded = ringtape.record(
        stretches,
        disks=[ringtape.Disk("a", path)],
        arguments=(job.length, job.depth, size_bytes),
        tape=tape,
        data=data,  # type: ignore[arg-type]
        console=ringtape.Console(on_progress=begin),
    )
    ours = time.process_time() - begun[0]
    recorded.raise_for_failures()
    (theirs,) = recorded.returns
    tape_bytes = os.path.getsize(tape)
    tape.unlink()
    return Cost(recorded.elapsed_s, max(ours, theirs), tape_bytes)


def rounds_of(job: Job, rounds: int, path: str, size_bytes: int, folder: Path) -> list[dict[str, Cost]]:
    """The costs of each level in each round."""
    found = []
    for number in range(rounds):
        start = number % len(LEVELS)
        order = (*LEVELS[start:], *LEVELS[:start])
        found.append({level: cost(job, level, path, size_bytes, folder / "tape") for level in order})
    return found


def ratios(found: list[dict[str, Cost]], level: str, other: str, field: str) -> str:
    """Median, lowest and highest of a level's time over another's."""
    values = [getattr(costs[level], field) / getattr(costs[other], field) for costs in found]
    return f"{median(values):.2f} ({min(values):.2f}…{max(values):.2f})"


def show(job: Job, found: list[dict[str, Cost]], size_bytes: int) -> None:
    """A table."""
    print(f"\nreads of {job.length} bytes, {job.depth} at a time, {size_bytes >> 20} MiB")
    print(
        f"{'level':<8} {'MB/s':>8} {'÷ order':>20} {'MB/s of processor':>18} {'÷ order':>20} {'tape MB/s':>10}"
    )
    for level in LEVELS:
        elapsed = median(costs[level].elapsed_s for costs in found)
        busiest = median(costs[level].busiest_s for costs in found)
        print(
            f"{level:<8} {size_bytes / elapsed / 1e6:>8.0f} {ratios(found, level, 'order', 'elapsed_s'):>20}"
            f" {size_bytes / busiest / 1e6:>18.0f} {ratios(found, level, 'order', 'busiest_s'):>20}"
            f" {median(costs[level].tape_bytes / costs[level].elapsed_s for costs in found) / 1e6:>10.0f}"
        )


def main() -> None:
    """Prints a table a job and what it says about the targets."""
    parser = argparse.ArgumentParser(description="Costs of the data levels; ratios of time, 1 is no cost.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--size", type=int, default=256, help="MiB that each recording reads")
    given = parser.parse_args()
    size_bytes = given.size << 20
    with tmpfs(Setup(size_bytes)) as target, tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
        small, large = (
            rounds_of(job, given.rounds, target.path, size_bytes, Path(folder)) for job in (SMALL, LARGE)
        )
    show(SMALL, small, size_bytes)
    show(LARGE, large, size_bytes)
    costs = median(one["digest"].busiest_s / one["order"].busiest_s for one in small)
    speed = median(one["full"].tape_bytes / one["full"].busiest_s for one in large)
    print(f"\ndigest ÷ order: {costs:.2f}, of at most {DIGEST_OVER_ORDER}")
    print(
        f"full: {speed / 1e6:.0f} MB of tape a second of processor time, ÷ target {speed / FULL_BYTES_PER_S:.2f}"
    )
    raise SystemExit(1 if costs > DIGEST_OVER_ORDER or speed < FULL_BYTES_PER_S else 0)


if __name__ == "__main__":
    main()
