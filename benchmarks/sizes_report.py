"""Cost over size: on a terminal, and as Markdown for the documentation."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as Shown

from ringtape.benchmarks import machine
from ringtape.benchmarks.report import wide
from ringtape.benchmarks.sizes import AXES, NAMES, TITLES, Sizes

# No cost may grow along these.
FLAT_AXES = ("workers", "disks", "length")


def show(console: Console, sizes: Sizes) -> None:
    """Print a table an axis, and under them what one has to know to read them."""
    console = wide(console)
    for axis in AXES:
        lines = _lines(sizes, axis)
        if not lines:
            continue
        shown = Shown(title=f"{axis}: {TITLES[axis]}", title_justify="left", box=box.SIMPLE_HEAD)
        for column in (axis, *(f"{name}, ns" for name in NAMES)):
            shown.add_column(column, justify="right")
        for line in lines:
            shown.add_row(*line)
        console.print(shown)
    for note in notes(sizes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def markdown(sizes: Sizes) -> str:
    """The same for a page."""
    parts = []
    for axis in AXES:
        lines = _lines(sizes, axis)
        if lines:
            parts += [f"| {TITLES[axis]} | {' | '.join(f'{name}, ns' for name in NAMES)} |"]
            parts += ["|---:|" + "---:|" * len(NAMES), *(f"| {' | '.join(line)} |" for line in lines), ""]
    return "\n".join([*parts, *(line for note in notes(sizes) for line in (note, ""))]).rstrip()


def notes(sizes: Sizes) -> list[str]:
    """What stands under the tables."""
    survey = sizes.survey
    lines = [
        machine.in_words(sizes.facts, sizes.fio.version),
        f"Nanoseconds a request by the clock, medians of {survey.rounds} rounds at most (min…max), on {survey.target}; "
        "tapes of level order, with leases.",
    ]
    for axis in FLAT_AXES:
        grown = [(name, sizes.growth(axis, name)) for name in NAMES]
        said = [f"{name} {times:.2f}" for name, times in grown if times is not None]
        if said:
            lines.append(
                f"Cost at the most {axis}, as a multiple of the least on that axis: {', '.join(said)}."
            )
    if not sizes.complete:
        lines.append("Not complete: it ended early.")
    return lines + [f"Left out: {what}" for what in sizes.left_out]


def _lines(sizes: Sizes, axis: str) -> list[tuple[str, ...]]:
    found = {name: sizes.line(axis, name) for name in NAMES}
    values = [value for value in AXES[axis] if any(value in line for line in found.values())]
    return [
        (
            f"{value:,}",
            *(
                f"{spread.median:,.0f} ({spread.low:,.0f}…{spread.high:,.0f})" if spread else ""
                for spread in (found[name].get(value) for name in NAMES)
            ),
        )
        for value in values
    ]
