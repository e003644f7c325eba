"""Goal: the suites are what they are called, and run. Method: their files read; then each run, briefly, on tmpfs."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ringtape.benchmarks import suite, trace_suite
from ringtape.benchmarks.__main__ import app
from ringtape.jobs.job import PATTERNS, Job
from ringtape.jobs.toml import read_jobs


def jobs_of(name: str) -> list[Job]:
    return read_jobs(suite.FOLDER / f"{name}.toml").jobs_with({})


def test_micro_has_a_job_for_each_kind_and_depth_by_itself() -> None:
    jobs = jobs_of("micro")
    kinds = [rw for rw in PATTERNS if rw not in ("rw", "randrw")]
    assert sorted((job.rw, job.iodepth) for job in jobs) == sorted(product(kinds, (1, 16, 64)))
    assert all(job.stonewall and job.name == f"{job.rw}-{job.iodepth}" for job in jobs)


def test_mixed_is_mixed() -> None:
    jobs = jobs_of("mixed")
    assert {"randrw", "write", "read"} == {job.rw for job in jobs}
    assert any(len(job.reads.sizes) > 1 for job in jobs)
    assert any(job.workers > 1 for job in jobs)


@pytest.mark.parametrize(("name", "mode"), [("micro", "plain"), ("mixed", "record")])
def test_a_suite_runs_and_is_reported(name: str, mode: str, tmp_path: Path) -> None:
    options = ["--seconds", "0.02", "--size", "8M", "--mode", mode, "--json", str(tmp_path / "report.json")]
    done = CliRunner().invoke(app, ["suite", name, *options])
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert [job["jobname"] for job in report["jobs"]] == [job.name for job in jobs_of(name)]
    assert report["ringtape"]["mode"] == mode
    for job in report["jobs"]:
        assert any(job[direction]["total_ios"] for direction in ("read", "write", "trim")), job["jobname"]
        assert f"{job['jobname']}: rw=" in done.output


@pytest.mark.parametrize("mode", ["plain", "record"])
def test_traces_are_replayed(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated ones, where there are none of the field."""
    monkeypatch.setattr(trace_suite, "FIELD", tmp_path / "missing")
    monkeypatch.setattr(trace_suite, "GENERATED_REQUESTS", 1000)
    options = ["--seconds", "0.5", "--size", "8M", "--mode", mode, "--json", str(tmp_path / "report.json")]
    done = CliRunner().invoke(app, ["suite", "trace", *options])
    assert done.exit_code == 0, done.output
    reports = json.loads((tmp_path / "report.json").read_text())
    assert [Path(one["trace"]).name for one in reports] == ["steady.csv", "bursts.csv"]
    assert [one["requests"] for one in reports] == [1000, 1000]
    assert set(reports[0]["kinds"]) == {"read", "write"}
    assert all(one["mode"] == mode and one["elapsed_s"] >= 0.45 for one in reports)
    assert "steady.csv" in done.output


def test_traces_of_the_field_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_suite, "FIELD", tmp_path)
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    with trace_suite.found() as paths:
        assert [path.name for path in paths] == ["a", "b"]


@pytest.mark.skipif(shutil.which("fio") is None, reason="there is no fio")
def test_fio_and_ringtape_run_the_same_jobs() -> None:
    done = CliRunner().invoke(
        app, ["suite", "compare-fio", "--seconds", "0.05", "--size", "8M", "--rounds", "1"]
    )
    assert done.exit_code == 0, done.output
    for heading in (
        "randread-1: read",
        "randread-64: read",
        "randwrite-64: write",
        "randrw-16: write",
        "read-8: read",
    ):
        assert f"\n{heading}\n" in done.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["nothing"], "suite nothing: there are micro, mixed, trace, compare-fio"),
        (["micro", "--seconds", "0"], "--seconds 0 must be more than 0"),
        (["micro", "--mode", "replay"], "--mode replay: there are plain, record"),
        (["micro", "--target", "moon"], "--target moon: there are"),
        (["compare-fio", "--json", "x"], "--json is for a suite of one report"),
        (["micro", "--json", "/nowhere/x"], "--json /nowhere/x: No such file"),
    ],
)
def test_what_cannot_be_is_one_line(options: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["suite", *options])
    assert done.exit_code == 2
    assert says in done.output
    assert len(done.output.splitlines()) == 1
