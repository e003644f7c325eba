"""A comparison for people: a table for each job and kind, the first report's figures and the others' beside them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringtape.jobs.compare import Difference, Figure, Measurements, Row
from ringtape.jobs.report import WIDTH_MIN, say
from ringtape.jobs.words import amount, duration, rate


def show(
    console: Console,
    first: Measurements,
    others: Sequence[Measurements],
    rows: Sequence[Row],
    notes: Sequence[str],
) -> None:
    """Print the tables and the notes."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(console.width, WIDTH_MIN), highlight=False)
    for letter, one in zip(_letters(1 + len(others)), (first, *others), strict=True):
        runs = f", {len(one.runs)} runs" if len(one.runs) > 1 else ""
        say(console, f"{letter}  {one.label} ({one.runs[0]['fio version']}{_ours(one)}{runs})")
    for (job, direction), group in groupby(rows, key=lambda row: (row.job, row.direction)):
        say(console, "")
        say(console, f"{job}: {direction}")
        console.print(_table(len(others), list(group)))
    for line in notes:
        say(console, line)


def _ours(one: Measurements) -> str:
    ours = one.runs[0].get("ringtape")
    return f" layout, by ringtape {ours.get('version', '')}" if isinstance(ours, dict) else ""


def _letters(count: int) -> list[str]:
    """A, B, C, ..., and after Z numbers."""
    return [chr(ord("A") + place) if place < 26 else str(place + 1) for place in range(count)]


def _table(others: int, rows: Sequence[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    letters = _letters(1 + others)
    table.add_column(letters[0], justify="right", no_wrap=True)
    for letter in letters[1:]:
        for name in (letter, f"{letter} against A", "interval"):
            table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells: list[str | Text] = [row.figure.name, worded(row.figure, row.value)]
        for other in row.others:
            cells += ["–", "–", "–"] if other is None else _cells(row.figure, other)
        table.add_row(*cells)
    return table


def _cells(figure: Figure, other: Difference) -> list[str | Text]:
    if other.ratio is None:
        return [worded(figure, other.value), "–", "–"]
    change = Text(percent(other.ratio))
    span = "–"
    if other.range is not None:
        span = f"{percent(other.range.low)} … {percent(other.range.high)}"
        if not other.range.low <= 1 <= other.range.high:
            better = (other.ratio > 1) == figure.more_is_better
            change.stylize("green" if better else "red")
    return [worded(figure, other.value), change, span]


def worded(figure: Figure, value: float) -> str:
    """A value of the figure with its unit."""
    if figure.unit == "ns":
        return duration(value)
    return rate(value) if figure.unit == "rate" else f"{amount(value)}/s"


def percent(ratio: float) -> str:
    """By how much something is more or less than something else."""
    return f"{100 * (ratio - 1):+.1f} %".replace("-", "−")
