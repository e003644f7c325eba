"""Goal: what `ringtape bench` says of a run is true of it. Method: runs on real files, from the command line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import ringtape as api
from tests.api.command_line import SCRIPT, TIMEOUT_S, plain_environment, ringtape

WORK = (
    "--rw",
    "randrw",
    "--iodepth",
    "8",
    "--number-ios",
    "3000",
    "--fsync",
    "50",
    "--workers",
    "2",
    "--seed",
    "5",
)
DISKS = ("--disk", "a=a.img,size=8M,fresh", "--disk", "b=b.img,size=8M,fresh")


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return ringtape("bench", *WORK, *DISKS, *words, cwd=folder)


@pytest.fixture(scope="module", params=["plain", "record"])
def reported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which everything was asked for, and the mode."""
    folder = tmp_path_factory.mktemp(request.param)
    tape = ["-o", "bench.tape"] if request.param == "record" else []
    done = bench(
        folder, "--json", "--log-interval", "10", "--log-folder", "logs", "--plot", "page.html", *tape
    )
    assert done.returncode == 2, "the folder of logs is not there"
    assert not (folder / "a.img").exists()
    (folder / "logs").mkdir()
    done = bench(
        folder, "--json", "--log-interval", "10", "--log-folder", "logs", "--plot", "page.html", *tape
    )
    assert done.returncode == 0, done.stderr
    (folder / "report.json").write_text(done.stdout)
    return folder, request.param


def test_the_json_says_what_the_tape_has(reported: tuple[Path, str]) -> None:
    folder, mode = reported
    report = json.loads((folder / "report.json").read_text())
    (job,) = report["jobs"]
    counts = {kind: job[kind]["total_ios"] for kind in ("read", "write", "trim", "sync")}
    assert counts["read"] + counts["write"] == 6000
    assert report["ringtape"]["requests"] == sum(counts.values())
    assert report["ringtape"]["seed"] == 5
    assert job["job options"]["numjobs"] == "2"
    assert job["read"]["slat_ns"]["N"] == job["read"]["clat_ns"]["N"] == counts["read"]
    assert job["usr_cpu"] > 0
    if mode == "record":
        assert report["ringtape"]["tape_bytes"] == (folder / "bench.tape").stat().st_size
        with api.open_tape(folder / "bench.tape") as tape:
            on_tape = Counter(request.kind for request in tape.requests())
        assert on_tape == {"read": counts["read"], "write": counts["write"], "fsync": counts["sync"]}


def test_logs_come_to_what_was_done(reported: tuple[Path, str]) -> None:
    folder, _ = reported
    report = json.loads((folder / "report.json").read_text())
    for direction, kind in ((0, "read"), (1, "write")):
        requests = 0.0
        for worker in (1, 2):
            for line in (folder / "logs" / f"bench_iops.{worker}.log").read_text().splitlines():
                _, value, found, *_ = map(int, line.split(", "))
                requests += value * 0.010 * (found == direction)
        assert requests == report["jobs"][0][kind]["total_ios"]
    assert len(list((folder / "logs").iterdir())) == 10


def test_the_page_has_the_job(reported: tuple[Path, str]) -> None:
    folder, _ = reported
    page = (folder / "page.html").read_text()
    assert "bench: read" in page
    assert "http://" not in page.split("<script>")[0]


def test_the_tape_replays_without_the_folder(reported: tuple[Path, str]) -> None:
    folder, mode = reported
    if mode == "plain":
        pytest.skip("a plain run has no tape")
    done = ringtape("replay", "bench.tape", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("exact")


def test_the_report_for_people(tmp_path: Path) -> None:
    done = bench(tmp_path)
    assert done.returncode == 0, done.stderr
    for part in (
        "bench: rw=randrw",
        "submission",
        "completion",
        "p99.99",
        "CPU of each worker",
        "CPU of the coordinator",
    ):
        assert part in done.stdout
    assert done.stderr == ""


def test_a_terminal_has_a_live_table(tmp_path: Path) -> None:
    """Standard error is a terminal; standard output is not, and has the report alone."""
    master, slave = pty.openpty()
    words = ("--rw", "randread", "--runtime", "1500ms", "--disk", "a=a.img,size=8M")
    with subprocess.Popen(
        [SCRIPT, "bench", *words],
        cwd=tmp_path,
        env={**plain_environment(), "TERM": "xterm", "COLUMNS": "120"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    ) as process:
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 1 << 16):
                shown += data
        except OSError:  # nobody has the other end any more
            pass
        assert process.stdout is not None
        output = process.stdout.read().decode()
        assert process.wait(TIMEOUT_S) == 0
    os.close(master)
    assert b"time left" in shown
    assert b"bandwidth" in shown
    assert "time left" not in output
    assert output.startswith("bench: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--log-interval", "5"), "--log-interval 5 is not from 10"),
        (("--log-interval", "-1"), "--log-interval -1"),
        (("--log-folder", "."), "--log-folder goes with --log-interval"),
        (("--plot", "taken.html"), "taken.html is there and is not a page"),
        (("--plot", "missing/page.html"), "cannot write missing/page.html"),
        (("--log-interval", "100", "--log-folder", "missing"), "missing"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "taken.html").write_text("a letter")
    done = bench(tmp_path, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"]
