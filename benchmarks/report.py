"""The table: on a terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table as Shown

from ringtape.benchmarks import machine
from ringtape.benchmarks.findings import Figure
from ringtape.benchmarks.table import Table

ROUNDS_MIN = 5
# A table on a file or a pipe is this wide; rich would take 80.
WIDTH_MIN = 120

COLUMNS = ("on", "what", "beside", "to reach", "reached (min…max)", "")


def show(console: Console, table: Table) -> None:
    """Print a table a row, and under them what one has to know to read them."""
    console = wide(console)
    for title, lines in _groups(table):
        shown = Shown(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
        for column in COLUMNS:
            shown.add_column(column, justify="right" if "reach" in column else "left")
        for line in lines:
            shown.add_row(*line)
        console.print(shown)
    for note in notes(table):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def wide(console: Console) -> Console:
    """The console, no narrower than the tables where it is not a terminal."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=max(console.width, WIDTH_MIN), highlight=False)


def markdown(table: Table) -> str:
    """The same for a page."""
    lines = []
    for title, group in _groups(table):
        lines += [f"**{title}**", "", _row(COLUMNS), "|---|---|---|---:|---:|---|"]
        lines += [_row(cells) for cells in group]
        lines.append("")
    return "\n".join([*lines, *(line for note in notes(table) for line in (note, ""))]).rstrip()


def notes(table: Table) -> list[str]:
    """What stands under the tables."""
    plan = table.plan
    each = (
        f"{plan.amount.requests:,} requests" if plan.amount.requests else f"about {plan.amount.seconds:g} s"
    )
    lines = [
        machine.in_words(table.facts, table.fio.version),
        f"Medians of {plan.rounds} alternating rounds, a measurement takes {each}; ratios are of pairs of one round; "
        "tapes of level order, with leases but for `strict`; of several ways of fio the best.",
    ]
    missed = [figure for _, found in table.measured for one in found for figure in one.figures()]
    reached = sum(figure.reached for figure in missed)
    lines.append(f"{reached} of {len(missed)} figures are reached.")
    if not table.complete:
        lines.append("Not complete: it ended early.")
    if plan.rounds < ROUNDS_MIN:
        lines.append(f"Fewer than {ROUNDS_MIN} rounds: for a look, not for a statement.")
    return lines + [f"Not measured: {name}: {why}" for name, why in table.skipped.items()]


def _groups(table: Table) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    for row, findings in table.measured:
        yield (
            f"{row.title} ({row.name})",
            [_cells(one.on, figure) for one in findings for figure in one.figures()],
        )


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(on: str, figure: Figure) -> tuple[str, ...]:
    spread, unit = figure.spread, figure.unit
    found = value(spread.median, unit)
    if len(spread.values) > 1:
        found += f" ({number_of(spread.low, unit)}…{number_of(spread.high, unit)})"
    sign = "≤" if figure.at_most else "≥"
    return (
        on,
        figure.of,
        figure.beside,
        f"{sign} {value(figure.reach, unit)}",
        found,
        "reached" if figure.reached else "missed",
    )


def value(number: float, unit: str) -> str:
    """A number with its unit; a ratio has none."""
    return number_of(number, unit) + {"/s": " M/s", "MiB": " MiB"}.get(unit, "")


def number_of(number: float, unit: str) -> str:
    """It without its unit; rates are in millions."""
    if unit == "/s":
        return f"{number / 1e6:.2f}"
    if unit == "MiB":
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 0.1 else f"{number:.3f}"
