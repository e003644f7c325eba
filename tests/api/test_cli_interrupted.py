"""Goal: whoever interrupts a measurement has what was measured, and a tape that replays; nothing else is left, whatever
ends the command.

Method: the command, which gets a signal when its workers have told something; it would go on for an hour.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ringtape as api
from tests.api.command_line import finished, ringtape
from tests.programs import interrupting
from tests.traces.encoders import TEXTS, WRITE, Row, write

DISK = ("--disk", "a=a.img,size=1M,fresh")
BENCH = ("bench", "--rw", "randrw", "--iodepth", "4", "--runtime", "1h", "--workers", "2", *DISK)
TRACE = ("trace", "replay", "trace", "--depth", "8", *DISK)
PATIENCE_S = 30


def sent(
    name: str, folder: Path, *words: str, workers: int = 1, **how: str
) -> subprocess.CompletedProcess[str]:
    # Two seconds apart, for an hour and a half.
    rows = [
        Row(number * 2 * 10**9 * (number > 9), WRITE, "a", number % 200 * 4096, 4096)
        for number in range(2700)
    ]
    write(folder / "trace", TEXTS["fio-iolog"].encode(rows))
    text = (folder / "trace").read_text() if "-" in words else None
    return finished([sys.executable, interrupting.__file__, name, str(workers), *words], folder, text, **how)


def interrupted(folder: Path, *words: str, workers: int = 1) -> subprocess.CompletedProcess[str]:
    done = sent("SIGINT", folder, *words, workers=workers)
    assert done.returncode == 130, done.stderr
    return done


def reported(folder: Path, *words: str, workers: int = 1) -> dict[str, Any]:
    done = interrupted(folder, *words, "--json", workers=workers)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def on_tape(folder: Path) -> int:
    with api.open_tape(folder / "run.tape") as opened:
        return sum(request.released_at is not None for request in opened.requests())


def check_replays(folder: Path) -> None:
    again = ringtape("replay", "run.tape", cwd=folder)
    assert again.returncode == 0
    assert "interrupted by SIGINT" in again.stdout


def test_a_benchmark_reports_what_was_measured(tmp_path: Path) -> None:
    report = reported(tmp_path, *BENCH, workers=2)
    (job,) = report["jobs"]
    ours = report["ringtape"]
    done = job["read"]["total_ios"] + job["write"]["total_ios"]
    assert (ours["interrupted"], ours["mode"], ours["requests"]) == (True, "plain", done)
    assert done > 0
    assert job["read"]["clat_ns"]["percentile"]["99.000000"] > 0
    assert sorted(os.listdir(tmp_path)) == ["a.img", "trace"]


def test_a_recorded_benchmark_leaves_a_tape_with_at_least_that(tmp_path: Path) -> None:
    report = reported(tmp_path, *BENCH, "-o", "run.tape", workers=2)
    assert report["ringtape"]["tape"] == "run.tape"
    assert 0 < report["ringtape"]["requests"] <= on_tape(tmp_path)
    check_replays(tmp_path)


def test_a_trace_reports_what_came_of_it(tmp_path: Path) -> None:
    report = reported(tmp_path, *TRACE)
    assert (report["interrupted"], report["mode"], report["digest"]) == (True, "plain", None)
    assert (report["requests"], report["trace_requests"]) == (10, 2700)
    assert report["kinds"]["write"]["requests"] == 10
    assert report["lag_ns"]["max"] >= report["lag_ns"]["min"]
    assert sorted(os.listdir(tmp_path)) == ["a.img", "trace"]


def test_a_recorded_trace_leaves_a_tape_with_at_least_that(tmp_path: Path) -> None:
    report = reported(tmp_path, *TRACE, "--mode", "record")
    assert report["tape"] == "run.tape"
    assert on_tape(tmp_path) == report["requests"] == 10
    check_replays(tmp_path)


@pytest.mark.parametrize("words", [BENCH, TRACE], ids=["bench", "trace"])
def test_for_people(words: tuple[str, ...], tmp_path: Path) -> None:
    done = interrupted(tmp_path, *words, workers=2 if words is BENCH else 1)
    assert done.stderr == "ringtape: interrupted\n"
    assert "interrupted" in done.stdout


def in_memory() -> set[str]:
    """What of ours is in /dev/shm, but for what other tests may make there meanwhile."""
    names = os.listdir("/dev/shm")
    return {name for name in names if re.match("ringtape-(?!test-|bench-)", name)}


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (BENCH, []),
        ((*BENCH, "-o", "run.tape", "--plot", "page.html"), ["run.tape"]),
        (TRACE, []),
        ((*TRACE, "--mode", "record"), ["run.tape"]),
        (("trace", "replay", "-", *TRACE[3:]), []),
    ],
    ids=["bench", "bench-recorded", "trace", "trace-recorded", "trace-from-stdin"],
)
def test_nothing_is_left_of_a_command_that_is_killed(
    words: tuple[str, ...], left: list[str], tmp_path: Path
) -> None:
    """No process, and no file but those that the user has named."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    workers = 2 if words[0] == "bench" else 1
    before = in_memory()
    done = sent("SIGKILL", tmp_path, *words, workers=workers, TMPDIR=str(temporary))
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = done.stdout.split()
    assert len(pids) == workers
    for pid in map(int, pids):
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid), "rb") as ended:
            assert select.select([ended], [], [], PATIENCE_S)[0], f"worker {pid} is alive"
    assert os.listdir(temporary) == []
    assert in_memory() <= before
    assert sorted(os.listdir(tmp_path)) == sorted(["a.img", "temporary", "trace", *left])
