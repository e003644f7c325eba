"""The command `ringtape bench`: jobs from options, from a file of ours or of fio's, and their run.

It turns words into jobs and what came of them into words, and decides nothing else.
"""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ringtape import console
from ringtape.cli_bench_compare import CODES as COMPARE_CODES
from ringtape.cli_bench_compare import compare
from ringtape.cli_runs import disks_of
from ringtape.console import Exit

if TYPE_CHECKING:
    from ringtape.disks import Disk
    from ringtape.jobs.job import Job
    from ringtape.jobs.outcome import Outcome
    from ringtape.jobs.running import Ran
    from ringtape.jobs.toml import JobFile

_CODES = """\
[bold]Exit codes[/]
[cyan]  0[/]  done
[cyan]  1[/]  a request failed, or data was not what it should be; or a worker died
[cyan]  2[/]  a job, a disk or a file cannot be used
[cyan]  5[/]  there is no usable io_uring here
[cyan]130[/]  interrupted; a tape is sealed and can be replayed"""

# Of the job that is described on the command line.
_NAME = "bench"
LOG_INTERVAL_MS = (10, 3_600_000)

bench_app = typer.Typer(help="Measure disks: jobs as fio users know them, recorded where wanted.")


class Pattern(enum.StrEnum):
    """What a job does."""

    READ = "read"
    WRITE = "write"
    RANDREAD = "randread"
    RANDWRITE = "randwrite"
    RW = "rw"
    RANDRW = "randrw"
    TRIM = "trim"
    RANDTRIM = "randtrim"


class Mode(enum.StrEnum):
    """Whether there is a tape."""

    PLAIN = "plain"
    RECORD = "record"


class Data(enum.StrEnum):
    """How much of the data goes on the tape."""

    ORDER = "order"
    DIGEST = "digest"
    FULL = "full"


def _option(*names: str, help: str, metavar: str = "N", default: str | bool = False) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, show_default=default)


def _switch(*names: str, help: str) -> Any:
    return typer.Option(*names, help=help, show_default=False)


@bench_app.callback(invoke_without_command=True, epilog=_CODES)
def bench(
    context: typer.Context,
    job: Annotated[
        str | None,
        _option(
            "--job", metavar="FILE", help="A file of jobs, in TOML. Options here count more than its own."
        ),
    ] = None,
    from_fio: Annotated[
        str | None,
        _option("--from-fio", metavar="FILE", help="A file of jobs for fio. What is not known is named."),
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out what of fio's file is not known.")
    ] = False,
    disk: Annotated[
        list[str] | None,
        typer.Option(
            "--disk",
            "-d",
            metavar="NAME=PATH[,...]",
            show_default=False,
            help="A file or a block device, with options as in [bold]ringtape record[/]; once for each disk. A name "
            "that the file of jobs has is this disk instead.",
        ),
    ] = None,
    rw: Annotated[
        Pattern | None,
        typer.Option(
            "--rw", show_default="read", help="Reads, writes, a mix of both or discards; in order or random."
        ),
    ] = None,
    bs: Annotated[
        str | None,
        _option(
            "--bs",
            metavar="SIZE",
            default="4k",
            help="Block size; [bold]4k-64k[/] is a range, [bold]4k/60:64k/40[/] are shares in percent; after a comma "
            "comes that of writes.",
        ),
    ] = None,
    rwmixread: Annotated[
        int | None, _option("--rwmixread", default="50", help="Of a mix, the share of reads in percent.")
    ] = None,
    iodepth: Annotated[
        int | None,
        _option("--iodepth", default="1", help="So many requests of a worker are under way at once."),
    ] = None,
    workers: Annotated[
        int | None,
        _option("--workers", "-w", default="1", help="So many processes do this job, each all of it."),
    ] = None,
    offset: Annotated[
        str | None, _option("--offset", metavar="SIZE", default="0", help="Where it begins on each disk.")
    ] = None,
    size: Annotated[
        str | None,
        _option("--size", metavar="SIZE", default="up to the end", help="How much of each disk it uses."),
    ] = None,
    io_size: Annotated[
        str | None,
        _option(
            "--io-size",
            metavar="SIZE",
            default="once through all, or no limit beside another",
            help="A worker ends after so many bytes.",
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        _option(
            "--runtime",
            metavar="TIME",
            help="A worker ends after so long: [bold]30[/], [bold]500ms[/], [bold]2m[/].",
        ),
    ] = None,
    number_ios: Annotated[
        int | None, _option("--number-ios", help="A worker ends after so many requests, fsyncs not counted.")
    ] = None,
    rate_iops: Annotated[
        int | None, _option("--rate-iops", help="A worker makes so many requests a second at most.")
    ] = None,
    fsync: Annotated[
        int | None, _option("--fsync", default="none", help="An fsync after so many writes on a disk.")
    ] = None,
    fua: Annotated[
        bool | None, _switch("--fua", help="Writes are on stable storage when they complete.")
    ] = None,
    random_distribution: Annotated[
        str | None,
        _option(
            "--random-distribution",
            metavar="SHAPE",
            default="random",
            help="[bold]random[/], [bold]zipf:THETA[/], [bold]pareto:H[/] or [bold]normal:SIGMA[/].",
        ),
    ] = None,
    random_map: Annotated[
        bool | None,
        _switch(
            "--random-map/--no-random-map",
            help="Each random place once before any comes again, or not; where the block size is one and the "
            "distribution random, yes by default.",
        ),
    ] = None,
    verify: Annotated[
        bool | None,
        _switch(
            "--verify", help="Write data that says what it is, and check it when it is read, and at the end."
        ),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            "--mode", show_default="record with --output, else plain", help="Without a tape, or recorded."
        ),
    ] = None,
    output: Annotated[
        str | None,
        _option(
            "--output", "-o", metavar="TAPE", default="run.tape", help="The tape to write; replaces one."
        ),
    ] = None,
    data: Annotated[
        Data | None,
        typer.Option(
            "--data", show_default="digest", help="What the tape keeps of the data read and written."
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        _switch(
            "--strict/--no-strict",
            help="In a recording every worker waits for every token; or those that use no shared disk do not.",
        ),
    ] = None,
    seed: Annotated[
        int | None, _option("--seed", default="chosen", help="Of everything that is drawn.")
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the report as one JSON object, laid out as fio lays out its own."),
    ] = False,
    log_interval: Annotated[
        int | None,
        _option(
            "--log-interval",
            metavar="MS",
            help="Write logs over time as fio does, averages of so many milliseconds; the report's numbers over time "
            "are by these too.",
        ),
    ] = None,
    log_folder: Annotated[
        str | None,
        _option("--log-folder", metavar="DIR", default="the current one", help="Where the logs go."),
    ] = None,
    plot: Annotated[
        str | None,
        _option("--plot", metavar="FILE", help="Write an HTML page that shows it; it needs nothing else."),
    ] = None,
) -> int | None:
    """Measure disks by jobs: requests of one kind or two, so long, so many at once, here and there.

    [cyan]ringtape bench --rw randread --iodepth 32 --runtime 10 --disk a=a.img,size=1G[/]
    [cyan]ringtape bench --rw randwrite --bs 4k-64k --verify --disk a=/dev/loop0 -o bench.tape[/]
    [cyan]ringtape bench --job jobs.toml[/]
    [cyan]ringtape bench --from-fio nightly.fio --disk nvme=/dev/nvme0n1[/]

    A job without an end of its own goes once through its part of each disk.
    """
    if context.invoked_subcommand is not None:
        return None
    given = {
        name: value
        for name, value in {
            "rw": rw and rw.value,
            "bs": bs,
            "rwmixread": rwmixread,
            "iodepth": iodepth,
            "workers": workers,
            "offset": offset,
            "size": size,
            "io_size": io_size,
            "runtime": runtime,
            "number_ios": number_ios,
            "rate_iops": rate_iops,
            "fsync": fsync,
            "fua": fua,
            "random_distribution": random_distribution,
            "random_map": random_map,
            "verify": verify,
        }.items()
        if value is not None
    }
    recording = {
        name: value
        for name, value in {"tape": output, "data": data and data.value, "strict": strict}.items()
        if value is not None
    }
    asked = mode or (Mode.RECORD if output is not None else Mode.PLAIN)
    source = (job, from_fio, skip_unknown)
    reports = _Reports(json, log_interval, log_folder, plot)
    return _conduct(source, given, disk or [], reports, mode=asked.value, recording=recording, seed=seed)


class _Reports(NamedTuple):
    """What is to be made of the run."""

    json: bool
    log_interval_ms: int | None
    log_folder: str | None
    plot: str | None

    def check(self, jobs: Sequence[Job]) -> None:
        """Raise JobError for what cannot be, before the run."""
        from ringtape.jobs import logs
        from ringtape.jobs.errors import JobError

        if self.log_interval_ms is None:
            if self.log_folder is not None:
                raise JobError("--log-folder goes with --log-interval")
            return
        low, high = LOG_INTERVAL_MS
        if not low <= self.log_interval_ms <= high:
            raise JobError(f"--log-interval {self.log_interval_ms} is not from {low} to {high}")
        for job in jobs:
            logs.check(self.log_folder or "", job.name, job.workers)


def _conduct(
    source: tuple[str | None, str | None, bool],
    given: dict[str, Any],
    disks: list[str],
    reports: _Reports,
    *,
    mode: Any,
    recording: dict[str, Any],
    seed: int | None,
) -> int:
    """Run the jobs and show what came of them; returns the exit code."""
    from ringtape.jobs.errors import JobError
    from ringtape.proto.errors import RingtapeError

    try:
        file, given = _file_of(*source, given)
        for note in file.notes:
            console.say(f"ringtape: note: {note}")
        if mode == "plain" and recording:
            option = {"tape": "output"}.get(name := next(iter(recording)), name)
            raise JobError(f"--{option} goes with a recording, and --mode is plain")
        named = {one.name: one for one in [*file.disks, *disks_of(disks)]}
        jobs = file.jobs_with(given)
        reports.check(jobs)
        ran, outcome = _measure(jobs, list(named.values()), reports, mode=mode, seed=seed, **recording)
    except KeyboardInterrupt as interrupt:
        return console.interrupted(
            recording.get("tape", "run.tape") if interrupt.args and mode == "record" else None
        )
    except RingtapeError as error:
        return console.fail(error)
    try:
        _show(outcome, reports)
        sys.stdout.flush()
    except OSError as error:
        return console.output_failed(error)
    for problem in ran.problems:
        console.say_error(problem)
    return console.say_failures(ran.result.failures) or (Exit.PROGRAM_RAISED if ran.problems else Exit.DONE)


def _measure(
    jobs: Sequence[Job], disks: Sequence[Disk], reports: _Reports, **options: Any
) -> tuple[Ran, Outcome]:
    """Run the jobs, with a live table on a terminal, and write what goes to files."""
    from ringtape.jobs import fio_json, logs
    from ringtape.jobs.options import with_disks
    from ringtape.jobs.plan import Plan
    from ringtape.jobs.plot import new_page, write_page
    from ringtape.jobs.reporting import LiveRun, Measuring, side_folder
    from ringtape.jobs.running import run_jobs

    with contextlib.ExitStack() as stack:
        page = stack.enter_context(new_page(reports.plot)) if reports.plot is not None else None
        folder = stack.enter_context(side_folder())
        shown = stack.enter_context(console.shown_run(as_json=reports.json, progress=False))
        if sys.stderr.isatty():
            from rich.console import Console

            plan = Plan(tuple(with_disks(jobs, [disk.name for disk in disks])))
            live = stack.enter_context(LiveRun(plan, disks, folder, Console(stderr=True)))
            shown = replace(shown, on_tick=live.tick)
        measuring = Measuring(folder)
        interval_ms = reports.log_interval_ms or 0
        ran = run_jobs(jobs, disks, log_interval_ms=interval_ms, side_folder=folder, console=shown, **options)
        outcome = measuring.outcome(ran)
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
    from ringtape.jobs.errors import JobError
    from ringtape.jobs.fio import read_fio
    from ringtape.jobs.toml import JobFile, read_jobs

    if job is not None and from_fio is not None:
        raise JobError("--job and --from-fio are two files of jobs; give one")
    if skip_unknown and from_fio is None:
        raise JobError("--skip-unknown goes with --from-fio")
    if from_fio is not None:
        return read_fio(from_fio, skip_unknown=skip_unknown), given
    return (read_jobs(job), given) if job is not None else (JobFile({_NAME: given}, {}), {})


def _show(outcome: Outcome, reports: _Reports) -> None:
    """The report, on standard output."""
    if reports.json:
        from ringtape.jobs import fio_json

        print(fio_json.dumps(outcome))
        return
    from ringtape.jobs.report import show
    from ringtape.screen import Screen

    show(Screen(highlight=False), outcome)


bench_app.command(epilog=COMPARE_CODES)(compare)
