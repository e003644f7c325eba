"""The suite `trace`: traces of the field on a target, each so fast that it lasts about so long.

Without traces of the field two are generated, the same each time. How a trace is replayed is not decided here.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import ringtape
from ringtape import traces
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.suite import Setting
from ringtape.benchmarks.targets import Target
from ringtape.jobs.words import amount, duration
from ringtape.traces.survey import surveyed

#: Where traces of the field are, beside the repository.
FIELD = Path(__file__).resolve().parents[2] / "shared" / "traces"
GENERATED_REQUESTS = 20_000
_SPAN_S = 10.0


@contextlib.contextmanager
def found() -> Iterator[list[Path]]:
    """The traces: all files in FIELD, or generated ones where there are none."""
    paths = sorted(path for path in FIELD.iterdir() if path.is_file()) if FIELD.is_dir() else []
    if paths:
        yield paths
        return
    with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as made:
        yield generated(Path(made))


def generated(folder: Path) -> list[Path]:
    """A steady mix at random places, and bursts of sequential writes, in the format of Alibaba's block traces."""
    random = np.random.default_rng(1)
    count = GENERATED_REQUESTS
    steady = np.cumsum(random.exponential(_SPAN_S * 1e6 / count, count))
    bursts = np.repeat(np.arange(count // 100) * _SPAN_S * 1e6 / (count // 100), 100)
    blocks = {"steady": random.integers(0, 1 << 14, count), "bursts": np.arange(count) % (1 << 14)}
    kinds = {"steady": np.where(random.random(count) < 0.7, "R", "W"), "bursts": np.full(count, "W")}
    paths = []
    for name, times in (("steady", steady), ("bursts", bursts)):
        path = folder / f"{name}.csv"
        rows = zip(kinds[name].tolist(), blocks[name].tolist(), times.astype(int).tolist(), strict=True)
        path.write_text("".join(f"0,{kind},{block * 4096},4096,{at_us}\n" for kind, block, at_us in rows))
        paths.append(path)
    return paths


def replay(path: Path, target: Target, setting: Setting) -> dict[str, Any]:
    """Replay a trace, scaled to the target, so fast that it lasts as long as the setting says at most; the report."""
    with traces.open(path) as trace:
        span_ns = surveyed(trace)["span_ns"]
    speed = max(span_ns / 1e9 / setting.seconds, 1.0)
    with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as tapes:
        done = ringtape.replay_trace(
            path,
            disks=[ringtape.Disk("a", target.path)],
            mapping={"*": "a"},
            fit="scale",
            align=True,
            speed=speed,
            tape=Path(tapes) / "run.tape" if setting.mode == "record" else None,
        )
    done.result.raise_for_failures()
    for kind, one in done.report["kinds"].items():
        if one["failed"]:
            raise BenchmarkError(
                f"{path.name}: {one['failed']} of {one['requests']} requests ({kind}) failed"
            )
    return done.report


def run(target: Target, setting: Setting) -> list[dict[str, Any]]:
    """Replay all of them, one after the other; their reports."""
    with found() as paths:
        return [replay(path, target, setting) for path in paths]


def show(console: Console, reports: list[dict[str, Any]]) -> None:
    """A table with a row for each trace: what there was, how fast, how long requests took, and how late they were."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("trace", no_wrap=True)
    for name in (
        *("requests", "bytes", "seconds", "speed", "p50", "p99"),
        *("lag p50", "lag p99", "lag max"),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for one in reports:
        kinds = [kind for kind in one["kinds"].values() if kind["latency_ns"]]
        busiest = max(kinds, key=lambda kind: kind["requests"])["latency_ns"] if kinds else {}
        times = [_time(busiest, "p50"), _time(busiest, "p99")]
        lags = [_time(one["lag_ns"], name) for name in ("p50", "p99", "max")]
        moved = sum(kind["bytes"] for kind in one["kinds"].values())
        row = [f"{one['requests']:,}", amount(moved), f"{one['elapsed_s']:.2f}", f"{one['speed']:,.1f}x"]
        table.add_row(Path(one["trace"]).name, *row, *times, *lags)
    console.print(table)


def _time(times: dict[str, int], name: str) -> str:
    return duration(times[name]) if times else "–"
