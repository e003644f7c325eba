"""The command: `python -m ringtape.benchmarks`, or `make bench ARGS=...`."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Annotated, NoReturn

import typer
from rich.console import Console

from ringtape.benchmarks import fio, machine, profiling, report
from ringtape.benchmarks import suite as suites
from ringtape.benchmarks.arguments import (
    SECONDS,
    amount_of,
    level_of,
    name_of,
    names_of,
    rounds_of,
    seconds_of,
    setup_of,
)
from ringtape.benchmarks.comparison import Comparison, Plan
from ringtape.benchmarks.contenders import Case, Plain
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import JOBS
from ringtape.benchmarks.rounds import requests_for
from ringtape.benchmarks.targets import TARGETS
from ringtape.coordinator.errors import Interrupted
from ringtape.jobs import fio_json
from ringtape.proto.errors import RingtapeError, RingUnavailable

ROUNDS = 5
PROFILE_SECONDS = 2.0
SIZE = "256M"
QUICK_ROUNDS, QUICK_REQUESTS, QUICK_SIZE = 2, 2000, "16M"

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


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    targets: Annotated[
        str,
        typer.Option("--targets", help=f"On what, with commas: {', '.join(TARGETS)}.", show_default="all"),
    ] = "",
    jobs: Annotated[
        str, typer.Option("--jobs", help=f"Which, with commas: {', '.join(JOBS)}.", show_default="all")
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
    size: Size = SIZE,
    folder: Folder = None,
    data: Data = "digest",
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write raw numbers and machine facts to this file.", show_default=False),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help=f"See that it works: {QUICK_ROUNDS} rounds of {QUICK_REQUESTS} requests."
        ),
    ] = False,
) -> None:
    """Measure ringtape beside fio and beside itself.

    One worker reads 4 KiB blocks at random, O_DIRECT, through io_uring: plain beside fio with the same job (the
    better of its defaults and of registered files, registered buffers and batches of 16), record and replay beside
    plain; in the asyncio face with 64 tasks and in the blocking face at depth 1. In each round each is measured
    once, in rotating order; a ratio is that of two measurements of one round.

    The time is that of the programs, `Result.elapsed_s` and fio's own run time of the job; not that of starting
    processes, fingerprinting disks and sealing tapes.

    The targets are made, filled with random data and removed again, after Ctrl-C too. Nothing that is there already
    is used. The loop device and zram need root.

    "profile" shows where the time of a request goes; "suite" runs jobs of many kinds.
    """
    if context.invoked_subcommand is not None:
        return
    with _one_line_errors():
        if quick:
            rounds, size = QUICK_ROUNDS, QUICK_SIZE
            requests = QUICK_REQUESTS if requests is None and seconds is None else requests
        plan = Plan(
            targets=names_of("--targets", targets, TARGETS),
            jobs=names_of("--jobs", jobs, JOBS),
            rounds=rounds_of(rounds),
            amount=amount_of(seconds, requests),
            setup=setup_of(size, folder),
            data=level_of(data),
            insist=bool(targets),
        )
        comparison = Comparison(plan, fio.find())
        try:
            with _written(json_file, comparison), _status_line() as status:
                comparison.run(status)
        finally:
            # What was measured before a Ctrl-C, too.
            if comparison.measured and markdown:
                print(report.markdown(comparison))
            elif comparison.measured:
                report.show(Console(highlight=False), comparison)


@app.command()
def profile(
    mode: Annotated[str, typer.Option("--mode", help=f"One of: {', '.join(profiling.MODES)}.")] = "record",
    job: Annotated[str, typer.Option("--job", help=f"One of: {', '.join(JOBS)}.")] = "asyncio",
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
    data: Data = "digest",
    top: Annotated[int, typer.Option("--top", min=1, help="How many functions to show.")] = 15,
) -> None:
    """Show where the time of a request goes: nanoseconds by part and by function, in worker and coordinator.

    A timer samples both processes by wall-clock time, waits included, some 2000 times a second. A call into C counts
    for the Python function that makes it.
    """
    with _one_line_errors():
        if seconds is None and requests is None:
            seconds = PROFILE_SECONDS
        amount, setup, level = amount_of(seconds, requests), setup_of(size, folder), level_of(data)
        chosen_mode = profiling.MODES[name_of("--mode", mode, profiling.MODES)]
        chosen = JOBS[name_of("--job", job, JOBS)]
        made = TARGETS[name_of("--target", target, TARGETS)](setup)
        with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as tapes, made as ready:
            case = Case(ready, chosen, Path(tapes), level)
            found = profiling.profile(case, chosen_mode, requests_for(Plain(), case, amount))
        console = report.wide(Console(highlight=False))
        for table in profiling.tables(found, top=top):
            console.print(table)
        rate = found.measurement.rate
        print(f"{mode}, {chosen.title}, {ready.title}: {rate:,.0f} requests a second under the sampler")
        print(machine.in_words(machine.facts()))


@app.command()
def suite(
    name: Annotated[
        str,
        typer.Argument(help=f"One of: {', '.join((*suites.SUITES, suites.COMPARE_FIO))}.", metavar="NAME"),
    ],
    target: Annotated[str, typer.Option("--target", help=f"One of: {', '.join(TARGETS)}.")] = "tmpfs",
    seconds: Annotated[float, typer.Option("--seconds", help="How long each job takes.")] = SECONDS,
    rounds: Annotated[
        int, typer.Option("--rounds", help=f"Of {suites.COMPARE_FIO}: how often each runs, in turns.")
    ] = ROUNDS,
    mode: Annotated[str, typer.Option("--mode", help="One of: plain, record.")] = "plain",
    size: Size = SIZE,
    folder: Folder = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the report to this file, as fio lays it out.", show_default=False),
    ] = None,
) -> None:
    """Run a suite of jobs and report it; or, compare-fio, the same jobs by fio and by ringtape."""
    with _one_line_errors():
        compared = name_of("suite", name, (*suites.SUITES, suites.COMPARE_FIO)) == suites.COMPARE_FIO
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
def _written(path: Path | None, comparison: Comparison) -> Iterator[None]:
    """Write the comparison to a file at the end, also if it ended early; a file that cannot be is found out first."""
    with _opened(path) as file:
        try:
            yield
        finally:
            if file is not None:
                file.write(comparison.as_json())


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
