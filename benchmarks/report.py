"""The table: on a terminal, and as Markdown for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table

from ringtape.benchmarks import machine
from ringtape.benchmarks.comparison import Comparison
from ringtape.benchmarks.rounds import Outcome, Spread

ROUNDS_MIN = 5
# A table on a file or a pipe is this wide; rich would take 80.
WIDTH_MIN = 100

_RATE_COLUMNS = ("fio", "plain", "record", "replay")
_RATIO_COLUMNS = ("plain ÷ fio", "record ÷ plain", "replay ÷ plain")


def show(console: Console, comparison: Comparison) -> None:
    """Print a table a job, and under them what one has to know to read them."""
    console = wide(console)
    for title, group in _by_job(comparison.measured):
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")
        table.add_column("on", no_wrap=True)
        for name in _RATE_COLUMNS:
            table.add_column(f"{name}/s", justify="right", no_wrap=True)
        for name in _RATIO_COLUMNS:
            table.add_column(f"{name}\n(min…max)", justify="right", no_wrap=True)
        for outcome in group:
            table.add_row(*_cells(outcome, "\n"))
        console.print(table)
    for line in notes(comparison):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def wide(console: Console) -> Console:
    """The console, no narrower than the tables where it is not a terminal."""
    if console.is_terminal:
        return console
    return Console(file=console.file, width=max(console.width, WIDTH_MIN), highlight=False)


def markdown(comparison: Comparison) -> str:
    """The same for a page."""
    columns = ("on", *(f"{name}/s" for name in _RATE_COLUMNS), *_RATIO_COLUMNS)
    lines = []
    for title, group in _by_job(comparison.measured):
        lines += [f"**{title}**", "", _row(columns), "|---|" + "---:|" * (len(columns) - 1)]
        lines += [_row(_cells(outcome, " ")) for outcome in group]
        lines.append("")
    return "\n".join([*lines, *notes(comparison)])


def notes(comparison: Comparison) -> list[str]:
    """What stands under the tables."""
    lines = [machine.in_words(comparison.facts, comparison.fio.version)]
    count = min((len(outcome.rounds) for outcome in comparison.measured), default=0)
    lines.append(
        f"Medians of {count} alternating rounds; ratios are of pairs of one round; tapes of level "
        f"{comparison.plan.data}; fio in the better of its two ways."
    )
    if not comparison.complete:
        lines.append("Not complete: it ended early.")
    if count < ROUNDS_MIN:
        lines.append(f"Fewer than {ROUNDS_MIN} rounds: for a look, not for a statement.")
    return lines + [f"Not measured on {name}: {why}" for name, why in comparison.skipped.items()]


def _by_job(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    ordered = sorted(outcomes, key=lambda one: one.case.job.name)
    return [(title, list(group)) for title, group in groupby(ordered, key=lambda one: one.case.job.title)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(outcome: Outcome, between: str) -> list[str]:
    """A row; `between` stands between a median and its spread."""
    rates = (outcome.best_peer(), *_RATE_COLUMNS[1:])
    return [
        outcome.case.target.title,
        *(_rate(outcome.rate(name).median) for name in rates),
        *(_ratio(spread, between) for spread in outcome.ratios().values()),
    ]


def _rate(per_second: float) -> str:
    return f"{per_second / 1e3:.0f}k" if per_second >= 99_500 else f"{per_second / 1e3:.1f}k"


def _ratio(spread: Spread, between: str) -> str:
    digits = 2 if spread.median >= 0.1 else 3
    return f"{spread.median:.{digits}f}{between}({spread.low:.{digits}f}…{spread.high:.{digits}f})"
