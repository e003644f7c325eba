"""Suites: files of jobs that are run as they are, by `ringtape.jobs`, on a target made for them.

`compare-fio` is a job file of fio, which fio runs as well, in turns with ringtape. What is measured and how it is shown
is not decided here.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

import ringtape
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.fio import RUN_S_MAX, Fio
from ringtape.benchmarks.targets import Target
from ringtape.jobs import compare, compare_table, fio_json, report
from ringtape.jobs.fio import read_fio
from ringtape.jobs.outcome import Outcome
from ringtape.jobs.reporting import Measuring
from ringtape.jobs.running import run_jobs
from ringtape.jobs.side import side_file
from ringtape.jobs.toml import JobFile, read_jobs

FOLDER = Path(__file__).with_name("suites")
#: Of jobs of our own, by the names of their files.
SUITES = ("micro", "mixed")
COMPARE_FIO = "compare-fio"

Mode = Literal["plain", "record"]


@dataclass(frozen=True)
class Setting:
    """How a suite is run: each job so long, without a tape or recorded."""

    seconds: float
    mode: Mode = "plain"


def run_suite(name: str, target: Target, setting: Setting) -> Outcome:
    """Run the jobs of a suite on the target; `BenchmarkError` if a request failed."""
    return _run(read_jobs(FOLDER / f"{name}.toml"), ringtape.Disk("a", target.path), setting)


def compare_with_fio(
    fio: Fio, target: Target, setting: Setting, *, rounds: int, folder: Path, status: Callable[[str], None]
) -> None:
    """Let fio and ringtape run the same jobs in turns; leaves their reports in `folder`/fio and `folder`/ringtape."""
    job_file = folder / f"{COMPARE_FIO}.fio"
    # Sections of one name add up; what is said later counts.
    name = target.path.replace(":", r"\:")
    own = f"[global]\nfilename={name}\nruntime={setting.seconds:g}\ntime_based\n"
    job_file.write_text(own + (FOLDER / job_file.name).read_text())
    for kind in ("fio", "ringtape"):
        (folder / kind).mkdir()
    for number in range(rounds):
        status(f"round {number + 1} of {rounds}: fio")
        (folder / "fio" / f"{number}.json").write_text(_fio_report(fio, job_file))
        status(f"round {number + 1} of {rounds}: ringtape")
        file = read_fio(job_file)
        outcome = _run(file, file.disks[0], setting)
        (folder / "ringtape" / f"{number}.json").write_text(fio_json.dumps(outcome))


def show_comparison(console: Console, folder: Path) -> None:
    """What `compare_with_fio` has left in the folder, fio first."""
    first, other = (compare.load(str(folder / kind)) for kind in ("fio", "ringtape"))
    rows = compare.compare(first, [other])
    compare_table.show(console, first, [other], rows, compare.notes(first, [other], rows))


def show(console: Console, outcome: Outcome) -> None:
    """The report of a suite."""
    report.show(console, outcome)


def _run(file: JobFile, disk: ringtape.Disk, setting: Setting) -> Outcome:
    jobs = file.jobs_with({"runtime": setting.seconds})
    with side_file() as side, tempfile.TemporaryDirectory(prefix="ringtape-bench-") as tapes:
        measuring = Measuring(side, [disk])
        ran = run_jobs(jobs, [disk], mode=setting.mode, tape=Path(tapes) / "run.tape", side_file=side)
        ran.result.raise_for_failures()
        if ran.problems:
            raise BenchmarkError(ran.problems[0])
        return measuring.outcome(ran)


def _fio_report(fio: Fio, job_file: Path) -> str:
    command = [fio.path, "--output-format=json", str(job_file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_S_MAX)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"fio has not ended within {RUN_S_MAX} s: {' '.join(command)}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[:500]
        raise BenchmarkError(f"fio ended with exit status {done.returncode}: {said}")
    return done.stdout
