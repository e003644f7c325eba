"""Goal: `ringtape bench compare` shows differences that are known, and refuses what it cannot compare in one line."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.api.command_line import ringtape
from tests.jobs.test_compare import fio_report, our_report


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return ringtape("bench", "compare", *words, cwd=folder)


def saved(folder: Path, name: str, report: Any) -> str:
    (folder / name).write_text(json.dumps(report))
    return str(folder / name)


def test_from_the_command_line(tmp_path: Path) -> None:
    first = saved(tmp_path, "a.json", our_report(100, 50_000, seed=1))
    second = saved(tmp_path, "b.json", our_report(80, 62_500, seed=2))
    done = bench(tmp_path, first, second)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("IOPS")]
    assert "−" in line
    assert "seed 1" in done.stdout
    assert bench(tmp_path, first, second).stdout == done.stdout
    shown = json.loads(bench(tmp_path, first, second, "--json").stdout)
    assert {row["figure"] for row in shown["rows"]} >= {"IOPS", "bandwidth", "latency mean", "completion p99"}


def test_folders_are_repeated_runs(tmp_path: Path) -> None:
    for name, iops in (("before", 1000), ("after", 1500)):
        (tmp_path / name).mkdir()
        for run in range(4):
            saved(tmp_path / name, f"{run}.json", fio_report(iops + run))
    done = bench(tmp_path, str(tmp_path / "before"), str(tmp_path / "after"))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.strip().startswith("IOPS")]
    assert "+49.9 %" in line
    assert "…" in line


@pytest.mark.parametrize("case", ["one", "missing", "garbage", "empty folder", "nothing in common"])
def test_bad_input_is_one_line(tmp_path: Path, case: str) -> None:
    good = saved(tmp_path, "a.json", fio_report(1000))
    bad = tmp_path / "b.json"
    if case == "garbage":
        bad.write_bytes(random.Random(4).randbytes(1000))
    elif case == "empty folder":
        bad.mkdir()
    elif case == "nothing in common":
        saved(tmp_path, "b.json", {"fio version": "fio-3.33", "jobs": [{"jobname": "other"}]})
    done = bench(tmp_path, good, *([] if case == "one" else [str(bad)]))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
