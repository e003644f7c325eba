"""Logs are fio's in form and ours in numbers, and no file of somebody else's is lost for them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ringtape.engine.requests import Kind
from ringtape.jobs import logs
from ringtape.jobs.errors import JobError
from ringtape.jobs.outcome import JobOutcome
from tests.jobs.making import make_job, make_record

LATENCIES = {
    (0, Kind.READ): [[100_000] * 50, [], [300_000] * 25],
    (1, Kind.READ): [[200_000] * 50, [], []],
    (1, Kind.WRITE): [[400_000] * 10, [800_000] * 5, []],
    (1, Kind.FSYNC): [[5_000_000]],
}


def lines(path: Path) -> list[list[int]]:
    return [[int(cell) for cell in line.split(", ")] for line in path.read_text().splitlines()]


def job() -> JobOutcome:
    return make_job("a job", *(make_record(LATENCIES, worker=worker, interval_ms=100) for worker in (0, 1)))


def test_numbers_are_those_of_each_interval_and_worker(tmp_path: Path) -> None:
    written = logs.write(str(tmp_path), job())
    assert sorted(written) == sorted(map(str, tmp_path.iterdir()))
    assert len(written) == 2 * len(logs.NAMES)
    for worker in (1, 2):
        found = {name: lines(tmp_path / f"a job_{name}.{worker}.log") for name in logs.NAMES}
        moments = [(100, 0), (100, 1), (200, 1), (300, 0)]  # ms, direction
        for name in logs.NAMES:
            assert [(row[0], row[2]) for row in found[name]] == moments
        assert [row[1] for row in found["iops"]] == [1000, 100, 50, 250]
        assert [row[1] for row in found["bw"]] == [4000, 400, 200, 1000]
        assert [row[1] for row in found["lat"]] == [150_000, 400_000, 800_000, 300_000]
        assert [row[1] for row in found["slat"]] == [37_500, 100_000, 200_000, 75_000]
        assert [row[1] for row in found["clat"]] == [112_500, 300_000, 600_000, 225_000]


def test_what_was_not_measured_has_no_file(tmp_path: Path) -> None:
    of_a_replay = JobOutcome("j", {}, job().records[:1], {})
    assert [Path(path).name for path in logs.write(str(tmp_path), of_a_replay)] == [
        "j_bw.1.log",
        "j_iops.1.log",
        "j_lat.1.log",
    ]


def test_fio_writes_lines_of_the_same_form(tmp_path: Path) -> None:
    fio = shutil.which("fio")
    if fio is None:
        pytest.skip("fio is not on PATH")
    command = [fio, "--name=j", f"--filename={tmp_path}/disk", "--size=4M", "--rw=randread", "--bs=4k"]
    log = ["--write_lat_log=theirs", "--log_avg_msec=1"]
    subprocess.run([*command, *log], cwd=tmp_path, capture_output=True, check=True)
    logs.write(str(tmp_path), job())
    for path in (tmp_path / "theirs_clat.1.log", tmp_path / "a job_clat.1.log"):
        text = path.read_text()
        assert text
        assert all(re.fullmatch(r"\d+, \d+, [012], 0, \d+", line) for line in text.splitlines())


def test_logs_are_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    logs.write(str(tmp_path), job())
    logs.check(str(tmp_path), "a job", 2)
    mine = tmp_path / "a job_bw.2.log"
    mine.write_text("a diary\n")
    with pytest.raises(JobError, match="is no log"):
        logs.check(str(tmp_path), "a job", 2)
    logs.check(str(tmp_path), "a job", 1)
    with pytest.raises(JobError, match="no folder"):
        logs.check(str(tmp_path / "missing"), "a job", 1)


def test_a_name_stays_in_its_folder(tmp_path: Path) -> None:
    assert Path(logs.path_of(str(tmp_path), "../x", "bw", 0)).parent == tmp_path
