"""Where the nanoseconds of a request go, in one table for several modes: what the parts of each process come to.

Pure: made of profiles that were taken.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from ringtape.benchmarks.profiling import BINDING, IDLE, SUBMIT, TOKEN, WAIT, ProcessProfile, Profile

# Group, and the parts of a worker and of the coordinator that it takes together.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "kernel": (SUBMIT, WAIT),
    "binding": (BINDING,),
    "engine": ("engine",),
    "message": ("message",),
    "coordinator": ("coordinator", "digest"),
    "tape": ("tape",),
    "event loop": ("event loop",),
    "program": ("program",),
    "waiting for the other process": (TOKEN, IDLE),
    "other": ("other",),
}
ALL = "all"
USER, SYSTEM = "processor time of its own", "and of the kernel for it"

Columns = dict[str, dict[str, float]]


def split(profiles: Mapping[str, Profile]) -> Columns:
    """Nanoseconds a request by group, for each mode and process: "record, coordinator", say."""
    return {
        f"{mode}, {process.name}": _column(process, found.measurement.requests)
        for mode, found in profiles.items()
        for process in found.processes
    }


def _column(process: ProcessProfile, requests: int) -> dict[str, float]:
    parts = {place.name: place.ns for place in process.parts}
    column = {
        group: sum(parts.get(part, 0) for part in members) / requests for group, members in GROUPS.items()
    }
    known = {part for members in GROUPS.values() for part in members}
    assert set(parts) <= known, f"parts in no group: {set(parts) - known}"
    return {
        **column,
        ALL: process.total_ns / requests,
        USER: process.user_s / requests * 1e9,
        SYSTEM: process.system_s / requests * 1e9,
    }


def markdown(columns: Columns) -> str:
    """As a table for a page; what no process has is left out."""
    lines = [f"| ns a request | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in _rows(columns))])


def table(columns: Columns) -> Table:
    """The same on a terminal."""
    shown = Table(box=box.SIMPLE_HEAD, title="ns a request", title_justify="left", title_style="bold")
    shown.add_column("")
    for name in columns:
        shown.add_column(name, justify="right")
    for name, cells in _rows(columns):
        if name == ALL:
            shown.add_section()
        shown.add_row(name, *cells)
    return shown


def _rows(columns: Columns) -> list[tuple[str, list[str]]]:
    return [
        (name, [f"{column[name]:.0f}" if column[name] else "" for column in columns.values()])
        for name in (*GROUPS, ALL, USER, SYSTEM)
        if any(column[name] for column in columns.values())
    ]
