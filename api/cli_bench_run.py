"""A run of `ringtape bench`, from what was given to its reports and exit code. Loaded when jobs are to be run.

It says what goes wrong in a line and decides nothing else.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from rich.console import Console

from ringtape import console
from ringtape.cli_runs import disks_of, next_step
from ringtape.console import Exit
from ringtape.disks import Disk
from ringtape.jobs import fio_json, logs
from ringtape.jobs.errors import JobError
from ringtape.jobs.fio import read_fio
from ringtape.jobs.job import Job
from ringtape.jobs.options import with_disks
from ringtape.jobs.outcome import Outcome
from ringtape.jobs.plan import Plan
from ringtape.jobs.plot import new_page, write_page
from ringtape.jobs.report import show
from ringtape.jobs.reporting import LiveRun, Measuring
from ringtape.jobs.running import Ran, run_jobs
from ringtape.jobs.side import side_file
from ringtape.jobs.toml import JobFile, read_jobs
from ringtape.proto.errors import RingtapeError
from ringtape.screen import Screen

# Of the job that is described on the command line.
_NAME = "bench"
LOG_INTERVAL_MS = (10, 3_600_000)


class Reports(NamedTuple):
    """What is to be made of the run."""

    json: bool
    log_interval_ms: int | None
    log_folder: str | None
    plot: str | None

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise JobError for what cannot be, before the run."""
        if self.log_interval_ms is None:
            if self.log_folder is not None:
                raise JobError("--log-folder goes with --log-interval")
            return
        low, high = LOG_INTERVAL_MS
        if not low <= self.log_interval_ms <= high:
            raise JobError(f"--log-interval {self.log_interval_ms} is not from {low} to {high}")
        for job in jobs:
            logs.check(self.log_folder or "", job.name, job.workers)


def conduct(
    source: tuple[str | None, str | None, bool],
    given: dict[str, Any],
    disks: list[str],
    reports: Reports,
    *,
    mode: Any,
    recording: dict[str, Any],
    seed: int | None,
) -> int:
    """Run the jobs and show what came of them; returns the exit code."""
    try:
        file, given = _file_of(*source, given)
        for note in file.notes:
            console.say(f"ringtape: note: {note}")
        if mode == "plain" and recording:
            option = {"tape": "output"}.get(name := next(iter(recording)), name)
            raise JobError(f"--{option} goes with a recording, and --mode is plain")
        jobs = file.jobs_with(given)
        reports.check(jobs)
        used = _disks_of(file, disks)
        ran, outcome = _measure(jobs, used, reports, mode=mode, seed=seed, **recording)
    except KeyboardInterrupt:
        return console.interrupted(None)
    except RingtapeError as error:
        return console.fail(error)
    code = Exit.DONE
    try:
        _show(outcome, reports)
        sys.stdout.flush()
    except OSError as error:
        code = console.output_failed(error)
    if ran is None:
        return console.interrupted(outcome.tape or None)
    for problem in ran.problems:
        console.say_error(problem)
    failed = Exit.PROGRAM_RAISED if ran.problems else Exit.DONE
    return code or console.say_failures(ran.result.failures) or failed


def _disks_of(file: JobFile, texts: list[str]) -> list[Disk]:
    """The file's, with those of the command line in the place of those with the same name, and behind them."""
    given = disks_of(texts)
    names = [disk.name for disk in given]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"disk name {name!r} is given twice")
    return list({disk.name: disk for disk in [*file.disks, *given]}.values())


def _measure(
    jobs: Sequence[Job], disks: Sequence[Disk], reports: Reports, **options: Any
) -> tuple[Ran | None, Outcome]:
    """Run the jobs, with a live table on a terminal, and write what goes to files.

    A run that was interrupted is None, and its outcome what had been measured.
    """
    with contextlib.ExitStack() as stack:
        page = stack.enter_context(new_page(reports.plot)) if reports.plot is not None else None
        beside = stack.enter_context(side_file())
        shown = stack.enter_context(console.shown_run(as_json=reports.json, progress=False))
        plan = Plan(tuple(with_disks(jobs, [disk.name for disk in disks])))
        if sys.stderr.isatty():
            live = stack.enter_context(LiveRun(plan, disks, beside, Console(stderr=True)))
            shown = replace(shown, on_tick=live.tick)
        measuring = Measuring(beside, disks)
        interval_ms = reports.log_interval_ms or 0
        ran = None
        try:
            ran = run_jobs(
                jobs, disks, log_interval_ms=interval_ms, side_file=beside, console=shown, **options
            )
            outcome = measuring.outcome(ran)
        except KeyboardInterrupt as interrupt:
            # With words where the run had begun: then a tape is sealed.
            if not interrupt.args:
                raise
            tape = options.get("tape", "run.tape") if options["mode"] == "record" else ""
            outcome = measuring.so_far(plan, mode=options["mode"], tape=tape)
        if reports.log_interval_ms is not None:
            for job in outcome.jobs:
                logs.write(reports.log_folder or "", job)
        if page is not None:
            write_page(page, [("", fio_json.report_of(outcome))])
    return ran, outcome


def _file_of(
    job: str | None, from_fio: str | None, skip_unknown: bool, given: dict[str, Any]
) -> tuple[JobFile, dict[str, Any]]:
    """What describes the jobs, and the options that count more."""
    if job is not None and from_fio is not None:
        raise JobError("--job and --from-fio are two files of jobs; give one")
    if skip_unknown and from_fio is None:
        raise JobError("--skip-unknown goes with --from-fio")
    if from_fio is not None:
        return read_fio(from_fio, skip_unknown=skip_unknown), given
    return (read_jobs(job), given) if job is not None else (JobFile({_NAME: given}, {}), {})


def _show(outcome: Outcome, reports: Reports) -> None:
    """The report, on standard output."""
    if reports.json:
        print(fio_json.dumps(outcome))
        return

    show(Screen(highlight=False), outcome)
    if outcome.tape:
        print(next_step(outcome.tape))
