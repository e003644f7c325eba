"""What stands on the command line, checked: everything wrong with it is said before anything is measured."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from ringtape.benchmarks.contenders import DataLevel
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import JOBS
from ringtape.benchmarks.rounds import Amount
from ringtape.benchmarks.targets import Setup
from ringtape.engine.disks import parse_size
from ringtape.proto.errors import DiskError

SECONDS = 0.25
SECONDS_MAX = 600.0
MINUTES_MAX = 24 * 60.0
REQUESTS_MIN = max(job.depth for job in JOBS.values())
REQUESTS_MAX = 1_000_000_000
ROUNDS_MAX = 1000
SIZE_STEP_BYTES = 1 << 20


def amount_of(seconds: float | None, requests: int | None) -> Amount:
    """How much a measurement is."""
    if seconds is not None and requests is not None:
        raise BenchmarkError("--seconds and --requests exclude each other")
    if requests is not None and not REQUESTS_MIN <= requests <= REQUESTS_MAX:
        raise BenchmarkError(f"--requests {requests} must be from {REQUESTS_MIN} to {REQUESTS_MAX}")
    return Amount(SECONDS if seconds is None else seconds_of(seconds), requests)


def seconds_of(seconds: float) -> float:
    """How long something is measured."""
    if not 0 < seconds <= SECONDS_MAX:
        raise BenchmarkError(f"--seconds {seconds:g} must be more than 0 and at most {SECONDS_MAX:g}")
    return seconds


def rounds_of(rounds: int) -> int:
    """The number of rounds."""
    if not 1 <= rounds <= ROUNDS_MAX:
        raise BenchmarkError(f"--rounds {rounds} must be from 1 to {ROUNDS_MAX}")
    return rounds


def minutes_of(minutes: float) -> float:
    """How long something may take."""
    if not 0 < minutes <= MINUTES_MAX:
        raise BenchmarkError(f"--minutes {minutes:g} must be more than 0 and at most {MINUTES_MAX:g}")
    return minutes


def count_of(option: str, count: int, most: int) -> int:
    """A number of things, at least one."""
    if not 1 <= count <= most:
        raise BenchmarkError(f"{option} {count} must be from 1 to {most}")
    return count


def chart_of(path: Path | None) -> Path | None:
    """The file of a chart, which can be drawn and written."""
    if path is None:
        return None
    if path.suffix not in (".svg", ".png"):
        raise BenchmarkError(f"--chart {path}: its name must end in .svg or .png")
    if not path.parent.is_dir():
        raise BenchmarkError(f"--chart {path}: there is no folder {path.parent}")
    if find_spec("matplotlib") is None:
        raise BenchmarkError("--chart needs matplotlib: pip install 'ringtape[bench]'")
    return path


def names_of(option: str, text: str, known: Collection[str]) -> list[str]:
    """The names in a list with commas, in the order of `known`; all of those for an empty list."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise BenchmarkError(f"{option} {name}: there are {', '.join(known)}")
    return [name for name in known if not names or name in names]


def name_of(option: str, text: str, known: Collection[str]) -> str:
    """One of the names."""
    if text not in known:
        raise BenchmarkError(f"{option} {text}: there are {', '.join(known)}")
    return text


def setup_of(size: str, folder: Path | None) -> Setup:
    """How targets are made."""
    try:
        size_bytes = parse_size(size)
    except DiskError as error:
        raise BenchmarkError(f"--size {size}: {error}") from None
    if size_bytes <= 0 or size_bytes % SIZE_STEP_BYTES:
        raise BenchmarkError(f"--size {size} must be a multiple of 1M")
    if folder is not None and not folder.is_dir():
        raise BenchmarkError(f"--folder {folder}: there is no such folder")
    return Setup(size_bytes, folder)


def level_of(data: str) -> DataLevel:
    """The data level of tapes."""
    if data == "order":
        return "order"
    if data == "digest":
        return "digest"
    if data == "full":
        return "full"
    raise BenchmarkError(f"--data {data}: there are order, digest, full")
