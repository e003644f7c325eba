"""The report of jobs that have ended, for people: rates and latencies of each job, and what the run cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table

from ringtape.engine.requests import Kind
from ringtape.jobs.histogram import Histogram
from ringtape.jobs.outcome import JobOutcome, Numbers, Outcome
from ringtape.jobs.words import amount, duration, rate

#: The percentiles of the table, in percent.
PERCENTILES = (50, 90, 99, 99.9, 99.99)
# A table on a file or a pipe is this wide; rich would take 80.
WIDTH_MIN = 120
# A job's options in the words of its headline; what else it was given, the job file says.
_SHOWN = ("rw", "bs", "bsrange", "bssplit", "rwmixread", "iodepth", "rate_iops", "random_distribution")


def show(console: Console, outcome: Outcome) -> None:
    """Print the report."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, WIDTH_MIN), highlight=False)
    for job in outcome.jobs:
        say(console, headline(job))
        console.print(_rates(job.by_kind().items(), job.elapsed_s, "kind"))
        console.print(_latencies(job.by_kind()))
        by_disk = job.by_disk()
        if len(by_disk) > 1:
            console.print(_rates(by_disk.items(), job.elapsed_s, "disk"))
        for line in job_notes(job):
            say(console, line)
        say(console, "")
    for line in costs(outcome):
        say(console, line)


def say(console: Console, line: str) -> None:
    """A line as it is."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def headline(job: JobOutcome) -> str:
    """What the job was."""
    options = " ".join(f"{name}={job.options[name]}" for name in _SHOWN if name in job.options)
    workers = _count(len(job.records), "worker")
    return (
        f"{job.name}: {options}{', ' if options else ''}{workers}, {_disks(job.disks)}, {job.elapsed_s:.3f} s"
    )


def _disks(names: list[str]) -> str:
    return f"disk{'s' * (len(names) > 1)} {', '.join(names)}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _table(*columns: str, left: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", no_wrap=True)
    return table


def _rates(rows: Iterable[tuple[Kind | str, Numbers]], elapsed_s: float, what: str) -> Table:
    table = _table(what, "IOPS", "bandwidth", "requests", "bytes", "latency p99", "failed", "short", left=1)
    for name, one in rows:
        table.add_row(
            kind_word(name) if isinstance(name, Kind) else name,
            rate(one.requests / elapsed_s) if elapsed_s else "–",
            f"{amount(one.bytes / elapsed_s)}/s" if elapsed_s and one.bytes else "–",
            f"{one.requests:,}",
            amount(one.bytes) if one.bytes else "–",
            duration(one.latency.percentile(0.99)) if one.requests else "–",
            f"{one.errors:,}",
            f"{one.short:,}",
        )
    return table


def _latencies(kinds: dict[Kind, Numbers]) -> Table:
    shares = (f"p{share:g}" for share in PERCENTILES)
    table = _table("kind", "latency", "min", "mean", "stddev", *shares, "max", left=2)
    for kind, one in kinds.items():
        parts = {"total": one.latency, "submission": one.submission, "completion": one.completion}
        for name, histogram in parts.items():
            if histogram.count:
                table.add_row(kind_word(kind) if name == "total" else "", name, *_times(histogram))
    return table


def _times(times: Histogram) -> Iterator[str]:
    yield from map(duration, (times.min, times.mean, times.stddev))
    yield from (duration(times.percentile(share / 100)) for share in PERCENTILES)
    yield duration(times.max)


def kind_word(kind: Kind) -> str:
    """A kind as users know it."""
    return kind.name.lower()


def job_notes(job: JobOutcome) -> Iterator[str]:
    """What stands under a job's tables."""
    usage = job.usage
    if usage is None:
        yield "  submission, completion and CPU time: not measured in this run"
    elif job.elapsed_s:
        each_s = job.elapsed_s * len(job.records)
        user, system = (100 * part / each_s for part in (usage.user_s, usage.system_s))
        which = "each worker" if len(job.records) > 1 else "the worker"
        yield (
            f"  CPU of {which}: {user:.1f} % user, {system:.1f} % system; context switches: {usage.switches:,}; "
            f"page faults: {usage.major_faults:,} major, {usage.minor_faults:,} minor"
        )


def costs(outcome: Outcome) -> Iterator[str]:
    """What the whole run came to, and what its coordinator cost."""
    if outcome.interrupted:
        yield (
            f"{outcome.mode}: interrupted after {outcome.elapsed_s:.3f} s, and measured until shortly before: "
            f"{outcome.requests:,} requests"
        )
    else:
        yield (
            f"{outcome.mode}: {outcome.requests:,} requests and {outcome.checkpoints:,} checkpoints in "
            f"{outcome.elapsed_s:.3f} s, seed {outcome.seed}"
        )
    used = outcome.coordinator
    cpu_ns = 1e9 * (used.user_s + used.system_s)
    each = f", {duration(cpu_ns / outcome.requests)} a request" if outcome.requests else ""
    yield f"CPU of the coordinator: {used.user_s:.3f} s user, {used.system_s:.3f} s system{each}"
    if outcome.tape:
        per = f", {outcome.tape_bytes / outcome.requests:.1f} bytes a request" if outcome.requests else ""
        yield f"tape: {outcome.tape}, {outcome.tape_bytes:,} bytes{per}"
