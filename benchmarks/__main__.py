"""The command: `python -m ringtape.benchmarks`, or `make bench ARGS=...`."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Annotated, NoReturn

import typer
from rich.console import Console

from ringtape.benchmarks import charts, fio, machine, profiling, report, sizes_report, splitting, trace_suite
from ringtape.benchmarks import suite as suites
from ringtape.benchmarks.arguments import (
    REQUESTS_MAX,
    SECONDS,
    amount_of,
    chart_of,
    count_of,
    level_of,
    minutes_of,
    name_of,
    names_of,
    rounds_of,
    seconds_of,
    setup_of,
)
from ringtape.benchmarks.contenders import Case, Plain
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import JOBS
from ringtape.benchmarks.rounds import requests_for
from ringtape.benchmarks.rows import ROWS, Plan
from ringtape.benchmarks.sizes import AXES, Sizes, Survey
from ringtape.benchmarks.table import Table
from ringtape.benchmarks.targets import TARGETS
from ringtape.coordinator.errors import Interrupted
from ringtape.jobs import fio_json
from ringtape.proto.errors import RingtapeError, RingUnavailable

ROUNDS = 5
PROFILE_SECONDS = 2.0
SIZE = "128M"
MINUTES, SIZES_ROUNDS = 8.0, 3
REAL_REQUESTS, MADE_UP_REQUESTS = 5_000_000, 100_000_000
QUICK_ROUNDS, QUICK_REQUESTS, QUICK_SIZE = 2, 2000, "16M"

TRACE = "trace"
SUITE_NAMES = (*suites.SUITES, TRACE, suites.COMPARE_FIO)

EXIT_USAGE = 2
EXIT_NO_RING = 5
EXIT_INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

Size = Annotated[str, typer.Option("--size", help="Size of the data on each target.")]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Where the local file goes, if not in /var/tmp.", show_default=False),
]
Data = Annotated[str, typer.Option("--data", help="Data level of the tapes: order, digest or full.")]


Chart = Annotated[
    Path | None,
    typer.Option("--chart", help="Draw it into this file, .svg or .png.", show_default=False),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write raw numbers and machine facts to this file.", show_default=False),
]


@app.callback(invoke_without_command=True)
def table(
    context: typer.Context,
    rows: Annotated[
        str, typer.Option("--rows", help=f"Which, with commas: {', '.join(ROWS)}.", show_default="all")
    ] = "",
    targets: Annotated[
        str,
        typer.Option("--targets", help=f"On what, with commas: {', '.join(TARGETS)}.", show_default="all"),
    ] = "",
    rounds: Annotated[
        int, typer.Option("--rounds", help="Alternating rounds; five or more to state anything.")
    ] = ROUNDS,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            help="How long fio and plain each take; record and replay read as much as plain.",
            show_default=f"{SECONDS:g}",
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", help="How much everyone reads, instead of --seconds.", show_default=False),
    ] = None,
    real: Annotated[
        int, typer.Option("--real", help="Requests of the recording in which memory is looked at.")
    ] = REAL_REQUESTS,
    made_up: Annotated[
        int, typer.Option("--made-up", help="Requests of made-up workers, for the coordinator's memory.")
    ] = MADE_UP_REQUESTS,
    size: Size = SIZE,
    folder: Folder = None,
    json_file: Json = None,
    chart: Chart = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"See that it works: {QUICK_ROUNDS} rounds of {QUICK_REQUESTS} requests."
        ),
    ] = False,
) -> None:
    """Measure ringtape beside its peers, row by row: what is to be reached, and what is.

    In each round each is measured once, in rotating order; a ratio is that of two measurements of one round. Beside
    plain, recording and replaying stands fio with the same job, in the better of its defaults and of registered
    files, registered buffers and batches of 16; with write_iolog where ringtape records, and with read_iolog where
    it replays.

    The time is that of the programs, `Result.elapsed_s` and fio's own run time of the job; not that of starting
    processes, fingerprinting disks and sealing tapes.

    The targets are made, filled with random data and removed again, after Ctrl-C too. Nothing that is there already
    is used. The loop device and zram need root.

    "sizes" shows how costs grow with depth, size and number; "profile" where the time of a request goes; "suite" runs
    jobs of many kinds.
    """
    if context.invoked_subcommand is not None:
        return
    with _one_line_errors():
        if quick:
            rounds, size = QUICK_ROUNDS, QUICK_SIZE
            requests = QUICK_REQUESTS if requests is None and seconds is None else requests
            real = made_up = 20 * QUICK_REQUESTS
        plan = Plan(
            rows=names_of("--rows", rows, ROWS),
            targets=names_of("--targets", targets, TARGETS),
            rounds=rounds_of(rounds),
            amount=amount_of(seconds, requests),
            setup=setup_of(size, folder),
            insist=bool(targets),
            real_requests=count_of("--real", real, REQUESTS_MAX),
            made_up_requests=count_of("--made-up", made_up, REQUESTS_MAX),
        )
        chart = chart_of(chart)
        found = Table(plan, fio.find())
        try:
            with _written(json_file, found), _status_line() as status:
                found.run(status)
        finally:
            # What was measured before a Ctrl-C, too.
            if found.measured:
                if markdown:
                    print(report.markdown(found))
                else:
                    report.show(Console(highlight=False), found)
                if chart is not None:
                    charts.draw_table(found, chart)


@app.command()
def sizes(
    axes: Annotated[
        str, typer.Option("--axes", help=f"Which, with commas: {', '.join(AXES)}.", show_default="all")
    ] = "",
    target: Annotated[str, typer.Option("--target", help=f"One of: {', '.join(TARGETS)}.")] = "tmpfs",
    minutes: Annotated[float, typer.Option("--minutes", help="How long all of it may take.")] = MINUTES,
    rounds: Annotated[int, typer.Option("--rounds", help="Alternating rounds.")] = SIZES_ROUNDS,
    size: Size = SIZE,
    folder: Folder = None,
    json_file: Json = None,
    chart: Chart = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help=f"See that it works: one round of {QUICK_REQUESTS} requests.")
    ] = False,
) -> None:
    """Show how the cost of a request grows: with depth, block size, workers, disks, and the length of the run.

    Nanoseconds a request of fio, plain and record, for random reads by the volume face. One of these varies at a time,
    from 4 KiB, 64 under way, one worker, one disk. A run whose length the minutes leave no room for is left out.
    """
    with _one_line_errors():
        survey = Survey(
            axes=names_of("--axes", axes, AXES),
            target=name_of("--target", target, TARGETS),
            rounds=1 if quick else rounds_of(rounds),
            minutes=minutes_of(minutes),
            setup=setup_of(size, folder),
            requests=QUICK_REQUESTS if quick else None,
        )
        chart = chart_of(chart)
        found = Sizes(survey, fio.find())
        try:
            with _written(json_file, found), _status_line() as status:
                found.run(status)
        finally:
            if found.measured:
                if markdown:
                    print(sizes_report.markdown(found))
                else:
                    sizes_report.show(Console(highlight=False), found)
                if chart is not None:
                    charts.draw_sizes(found, chart)


@app.command()
def profile(
    mode: Annotated[
        str, typer.Option("--mode", help=f"Which, with commas: {', '.join(profiling.MODES)}.")
    ] = "plain,record",
    job: Annotated[str, typer.Option("--job", help=f"One of: {', '.join(JOBS)}.")] = "volume",
    target: Annotated[str, typer.Option("--target", help=f"One of: {', '.join(TARGETS)}.")] = "tmpfs",
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", help="How long plain would take for as much.", show_default=f"{PROFILE_SECONDS:g}"
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option("--requests", help="How much to read, instead of --seconds.", show_default=False),
    ] = None,
    size: Size = SIZE,
    folder: Folder = None,
    data: Data = "order",
    top: Annotated[int, typer.Option("--top", min=1, help="How many functions to show.")] = 15,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the parts alone, as one table in Markdown.")
    ] = False,
) -> None:
    """Show where the time of a request goes: nanoseconds by part and by function, in worker and coordinator.

    A timer samples both processes by wall-clock time, waits included, some 2000 times a second. A call into C counts
    for the Python function that makes it. Recordings have leases.
    """
    with _one_line_errors():
        if seconds is None and requests is None:
            seconds = PROFILE_SECONDS
        amount, setup, level = amount_of(seconds, requests), setup_of(size, folder), level_of(data)
        modes = names_of("--mode", mode, profiling.MODES)
        chosen = JOBS[name_of("--job", job, JOBS)]
        made = TARGETS[name_of("--target", target, TARGETS)](setup)
        with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as tapes, made as ready:
            case = Case((ready,), chosen, Path(tapes), level)
            count = requests_for(Plain(), case, amount)
            found = {one: profiling.profile(case, profiling.MODES[one], count) for one in modes}
        columns = splitting.split(found)
        if markdown:
            print(splitting.markdown(columns) + "\n")
        else:
            console = report.wide(Console(highlight=False))
            for one, profiled in found.items():
                print(one)
                for shown in profiling.tables(profiled, top=top):
                    console.print(shown)
            console.print(splitting.table(columns))
        for one, profiled in found.items():
            rate = profiled.measurement.rate
            print(f"{one}, {chosen.title}, {ready.title}: {rate:,.0f} requests a second under the sampler")
        print(machine.in_words(machine.facts()))


@app.command()
def suite(
    name: Annotated[
        str,
        typer.Argument(help=f"One of: {', '.join(SUITE_NAMES)}.", metavar="NAME"),
    ],
    target: Annotated[str, typer.Option("--target", help=f"One of: {', '.join(TARGETS)}.")] = "tmpfs",
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long each job, or trace, takes.")
    ] = SECONDS,
    rounds: Annotated[
        int, typer.Option("--rounds", help=f"Of {suites.COMPARE_FIO}: how often each runs, in turns.")
    ] = ROUNDS,
    mode: Annotated[str, typer.Option("--mode", help="One of: plain, record.")] = "plain",
    size: Size = SIZE,
    folder: Folder = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", help="Write the report to this file, of jobs as fio lays it out.", show_default=False
        ),
    ] = None,
) -> None:
    """Run a suite of jobs, or of traces, and report it; or, compare-fio, the same jobs by fio and by ringtape."""
    with _one_line_errors():
        compared = name_of("suite", name, SUITE_NAMES) == suites.COMPARE_FIO
        setting = suites.Setting(
            seconds_of(seconds),
            "record" if name_of("--mode", mode, ("plain", "record")) == "record" else "plain",
        )
        if compared and json_file is not None:
            raise BenchmarkError(
                f"--json is for a suite of one report; {suites.COMPARE_FIO} has {2 * rounds}"
            )
        peer = fio.find() if compared else None
        made = TARGETS[name_of("--target", target, TARGETS)](setup_of(size, folder))
        console = Console(highlight=False)
        with (
            _opened(json_file) as file,
            made as ready,
            tempfile.TemporaryDirectory(prefix="ringtape-bench-") as left,
        ):
            if peer is not None:
                with _status_line() as status:
                    suites.compare_with_fio(
                        peer, ready, setting, rounds=rounds_of(rounds), folder=Path(left), status=status
                    )
                suites.show_comparison(console, Path(left))
            elif name == TRACE:
                reports = trace_suite.run(ready, setting)
                trace_suite.show(report.wide(console), reports)
                if file is not None:
                    file.write(json.dumps(reports, indent=2))
            else:
                outcome = suites.run_suite(name, ready, setting)
                suites.show(console, outcome)
                if file is not None:
                    file.write(fio_json.dumps(outcome))
            print(f"{name}, {ready.title}")
        print(machine.in_words(machine.facts()))


@contextlib.contextmanager
def _opened(path: Path | None) -> Iterator[IO[str] | None]:
    """The file of that name, if there is one; what cannot be is found out first."""
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise BenchmarkError(f"--json {path}: {error.strerror}") from None
    with file:
        yield file


@contextlib.contextmanager
def _written(path: Path | None, found: Table | Sizes) -> Iterator[None]:
    """Write what was found to a file at the end, also if it ended early; a file that cannot be is found out first."""
    with _opened(path) as file:
        try:
            yield
        finally:
            if file is not None:
                file.write(found.as_json())


@contextlib.contextmanager
def _status_line() -> Iterator[Callable[[str], None]]:
    """Show what is being measured, on a terminal. No thread draws it: it would be measured too."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return

    def show(text: str) -> None:
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")


@contextlib.contextmanager
def _one_line_errors() -> Iterator[None]:
    """End the process with one line and an exit code for what can go wrong; SIGTERM and SIGHUP end it in order."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        _end("interrupted; what was made is removed", EXIT_INTERRUPTED)
    except RingUnavailable as error:
        _end(str(error), EXIT_NO_RING)
    except RingtapeError as error:
        _end(str(error), EXIT_USAGE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(text: str, code: int) -> NoReturn:
    print(f"ringtape benchmarks: {text}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    app(prog_name="python -m ringtape.benchmarks")
