"""The charts, by matplotlib, which is loaded here and only when a chart is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ringtape.benchmarks.findings import Figure
from ringtape.benchmarks.report import value
from ringtape.benchmarks.sizes import AXES, NAMES, TITLES, Sizes
from ringtape.benchmarks.table import Table

REACHED, MISSED = "#2a7f62", "#c8553d"
ROW_INCHES = 0.28


def draw_table(table: Table, path: Path) -> None:
    """Each figure as a bar, on a logarithmic scale: 1 is just what is to be reached, more is better."""
    rows = [
        (_label(row.name, one.on, figure), figure)
        for row, findings in table.measured
        for one in findings
        for figure in one.figures()
    ]
    picture, ((axes,),) = _subplots(1, 1, figsize=(11, 1.2 + ROW_INCHES * len(rows)), layout="constrained")
    shares = [max(figure.share, 1e-3) for _, figure in rows]
    places = range(len(rows))
    colours = [REACHED if figure.reached else MISSED for _, figure in rows]
    axes.barh(places, [share - 1 for share in shares], left=1, color=colours, height=0.7)
    for place, (_, figure), share in zip(places, rows, shares, strict=True):
        text = f" {value(figure.spread.median, figure.unit)} of {value(figure.reach, figure.unit)} "
        axes.text(share, place, text, va="center", ha="left" if share >= 1 else "right", fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.3)
    axes.set_yticks(places, [name for name, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("found, as a share of what is to be reached")
    axes.set_title(f"ringtape's benchmarks, {table.facts['date'][:10]}, {table.facts['cpu']}", fontsize=9)
    picture.savefig(path, dpi=120)


def _label(row: str, on: str, figure: Figure) -> str:
    beside = f" beside {figure.beside}" if figure.beside else ""
    return f"{row}: {figure.of}{beside}" + (f" ({on})" if on else "")


def draw_sizes(sizes: Sizes, path: Path) -> None:
    """Nanoseconds a request along each axis that was measured, both scales logarithmic; bars from least to most."""
    axes_measured = [axis for axis in AXES if any(sizes.line(axis, name) for name in NAMES)]
    picture, places = _subplots(
        len(axes_measured), 1, figsize=(8, 3 * len(axes_measured)), layout="constrained"
    )
    for axis, (place,) in zip(axes_measured, places, strict=True):
        for number, name in enumerate(NAMES):
            line = sizes.line(axis, name)
            medians = [spread.median for spread in line.values()]
            below = [spread.median - spread.low for spread in line.values()]
            above = [spread.high - spread.median for spread in line.values()]
            if line:
                place.errorbar(
                    list(line),
                    medians,
                    yerr=[below, above],
                    label=name,
                    color=f"C{number}",
                    marker=".",
                    capsize=2,
                )
        place.set_xscale("log")
        place.set_yscale("log")
        place.set_xlabel(TITLES[axis])
        place.set_ylabel("ns a request")
        place.grid(visible=True, which="both", linewidth=0.3)
        place.legend()
    picture.suptitle(f"Cost over size, {sizes.facts['date'][:10]}, {sizes.facts['cpu']}", fontsize=9)
    picture.savefig(path, dpi=120)


def _subplots(rows: int, columns: int, **options: Any) -> tuple[Any, Any]:
    """A picture that no window shows, and its axes by row and column."""
    from matplotlib import figure

    picture = figure.Figure(**options)
    return picture, picture.subplots(rows, columns, squeeze=False)
