"""Comparison of reports: the same figures of the same jobs side by side, with how sure their differences are.

It compares what the reports hold, fio's or ours, and never what they do not: a figure that one of them lacks is not
compared, and where there is nothing to resample there is no confidence interval.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ringtape.jobs import bootstrap, fio_json
from ringtape.jobs.bootstrap import Column, Range
from ringtape.jobs.errors import JobError

DIRECTIONS = ("read", "write", "trim", "write_zeroes", "sync")
_REPORTS_MAX = 1000


@dataclass(frozen=True)
class Measurements:
    """One of the things compared: a report, or all those of a folder, which are repeated runs of the same.

    Attributes:
        label: what it is called in the table.
        runs: the reports, at least one.
    """

    label: str
    runs: Sequence[Mapping[str, Any]]


class Figure(NamedTuple):
    """What is compared: its name, its unit, and whether more of it is better."""

    name: str
    unit: str  # "rate", "bytes" or "ns"
    more_is_better: bool


class Difference(NamedTuple):
    """One figure of one of the others, beside the first's.

    Attributes:
        value: the figure; the mean of the runs.
        ratio: to the first's; None where that is 0.
        range: of the ratio; None where there is nothing to resample.
    """

    value: float
    ratio: float | None
    range: Range | None


@dataclass(frozen=True)
class Row:
    """A figure of a job's requests of one kind.

    Attributes:
        value: that of the first.
        others: those of the others, in their order; None where it has no such figure.
    """

    job: str
    direction: str
    figure: Figure
    value: float
    others: tuple[Difference | None, ...]


_RATE = Figure("IOPS", "rate", True)
_BANDWIDTH = Figure("bandwidth", "bytes", True)
_MEAN = Figure("latency mean", "ns", False)
_SHARES = ("50.000000", "99.000000", "99.900000", "99.990000")


def load(path: str) -> Measurements:
    """A report, or a folder of them. Raises JobError."""
    if not os.path.isdir(path):
        return Measurements(path, [fio_json.read(path)])
    names = sorted(name for name in os.listdir(path) if name.endswith(".json"))
    if not 1 <= len(names) <= _REPORTS_MAX:
        raise JobError(f"folder {path} has {len(names)} reports (*.json); it may have 1 to {_REPORTS_MAX}")
    return Measurements(path, [fio_json.read(os.path.join(path, name)) for name in names])


def compare(first: Measurements, others: Sequence[Measurements]) -> list[Row]:
    """All that can be compared with the first. Raises JobError where nothing can."""
    rows = []
    names = _names(first)
    pairs = [_paired(names, _names(other)) for other in others]
    for name in names:
        for direction in DIRECTIONS:
            mine = _found(first, name, direction)
            theirs = [
                _found(other, pair.get(name), direction) for other, pair in zip(others, pairs, strict=True)
            ]
            if mine is not None and any(theirs):
                rows += list(_rows(name, direction, mine, theirs))
    if not rows:
        called = ", ".join(other.label for other in others)
        raise JobError(f"{first.label} and {called} have no job with requests of the same kind in common")
    return rows


def _names(measurements: Measurements) -> list[str]:
    return list(dict.fromkeys(job["jobname"] for job in measurements.runs[0]["jobs"]))


def _paired(mine: list[str], theirs: list[str]) -> dict[str, str]:
    """Jobs of the same name; where there is no such, those in the same place if there are as many."""
    same = {name: name for name in mine if name in theirs}
    if same or len(mine) != len(theirs):
        return same
    return dict(zip(mine, theirs, strict=True))


@dataclass(frozen=True)
class _Requests:
    """A job's requests of one kind, of each run: the sections of its clones (a job of fio's may have several)."""

    runs: list[list[Mapping[str, Any]]]
    over_time: Mapping[str, list[int]] | None
    interval_s: float


def _found(measurements: Measurements, name: str | None, direction: str) -> _Requests | None:
    if name is None:
        return None
    runs, over_time, interval_s = [], None, 0.0
    for run in measurements.runs:
        jobs = [job for job in run["jobs"] if job["jobname"] == name]
        sections = [job[direction] for job in jobs if isinstance(job.get(direction), dict)]
        sections = [section for section in sections if _number(section.get("total_ios"))]
        if not sections:
            return None
        runs.append(sections)
        if len(measurements.runs) == len(jobs) == 1 and isinstance(jobs[0].get("ringtape"), dict):
            ours = jobs[0]["ringtape"]
            over_time = ours["over_time"].get("fsync" if direction == "sync" else direction)
            interval_s = ours["interval_ms"] / 1000
    return _Requests(runs, over_time, interval_s)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _rows(job: str, direction: str, mine: _Requests, theirs: Sequence[_Requests | None]) -> Iterator[Row]:
    figures: list[tuple[Figure, Callable[[_Requests], Column | None], str]] = []
    if direction != "sync":
        figures += [(_RATE, _sums("iops"), "requests"), (_BANDWIDTH, _sums("bw_bytes"), "bytes")]
    figures.append((_MEAN, _means, "latency_sum_ns"))
    part = "lat_ns"
    if direction != "sync" and all(
        one is None or _percentiles("clat_ns", _SHARES[0])(one) is not None for one in (mine, *theirs)
    ):
        part = "clat_ns"
    for share in _SHARES:
        figure = Figure(f"{'completion' if part == 'clat_ns' else 'latency'} p{float(share):g}", "ns", False)
        figures.append((figure, _percentiles(part, share), ""))
    for figure, values_of, column in figures:
        values = values_of(mine)
        if values is None:
            continue
        others = tuple(
            None if other is None else _difference(values, values_of(other), (mine, other), column)
            for other in theirs
        )
        if any(other is not None for other in others):
            yield Row(job, direction, figure, float(values.mean()), others)


def _sums(field: str) -> Callable[[_Requests], Column | None]:
    """A rate: that of clones is the sum."""

    def of(requests: _Requests) -> Column | None:
        values = np.array([sum(_number(one.get(field)) for one in run) for run in requests.runs])
        return values if values.any() else None

    return of


def _means(requests: _Requests) -> Column | None:
    """The mean latency: that of clones is weighted by their requests."""
    found = []
    for run in requests.runs:
        parts = [one["lat_ns"] for one in run if isinstance(one.get("lat_ns"), dict)]
        count = sum(_number(part.get("N")) for part in parts)
        if not count:
            return None
        found.append(sum(_number(part.get("mean")) * _number(part.get("N")) for part in parts) / count)
    return np.array(found)


def _percentiles(part: str, share: str) -> Callable[[_Requests], Column | None]:
    """A percentile of a job without clones: those of several cannot be put together."""

    def of(requests: _Requests) -> Column | None:
        found = []
        for run in requests.runs:
            section = run[0].get(part)
            percentiles = section.get("percentile") if isinstance(section, dict) else None
            if len(run) > 1 or not isinstance(percentiles, dict) or not _number(percentiles.get(share)):
                return None
            found.append(_number(percentiles[share]))
        return np.array(found)

    return of


def _difference(
    mine: Column, theirs: Column | None, requests: tuple[_Requests, _Requests], column: str
) -> Difference | None:
    if theirs is None:
        return None
    before, after = float(mine.mean()), float(theirs.mean())
    found = bootstrap.ratio_of_means(mine, theirs)
    if found is None and column and len(mine) == len(theirs) == 1:
        rates = [_over_time(one, column) for one in requests]
        if rates[0] is not None and rates[1] is not None:
            found = bootstrap.ratio_of_rates(rates[0], rates[1])
    return Difference(after, after / before if before else None, found)


def _over_time(requests: _Requests, column: str) -> tuple[Column, Column] | None:
    """What is divided by what, for each whole interval: latencies by requests, all else by time."""
    table = requests.over_time
    if not table or not table["interval"]:
        return None
    numbers = np.array(table["interval"])
    whole = numbers < numbers.max()  # in the last the job has ended
    if not whole.any():
        return None
    first = int(numbers.min())
    columns = {name: np.zeros(int(numbers.max()) - first) for name in (column, "requests")}
    for name, values in columns.items():
        values[numbers[whole] - first] = np.array(table[name])[whole]
    above = columns[column]
    below = columns["requests"] if column == "latency_sum_ns" else np.full(len(above), requests.interval_s)
    return above, below


def notes(first: Measurements, others: Sequence[Measurements], rows: Sequence[Row]) -> list[str]:
    """What one has to know to read the table."""
    percent = f"{bootstrap.CONFIDENCE:.0%}".replace("%", " %")
    lines = [
        f"Intervals of the difference: {percent}, percentile bootstrap, {bootstrap.RESAMPLES:,} resamples, seed "
        f"{bootstrap.SEED}; over runs where each has",
        f"{bootstrap.RUNS_MIN} or more, else over blocks of neighbouring intervals of time where each has "
        f"{bootstrap.INTERVALS_MIN} or more.",
    ]
    if any(other is not None and other.range is None for row in rows for other in row.others):
        lines += [
            "– stands where the reports hold neither: fio's have no numbers over time, and no percentile has any.",
            "Folders of repeated runs have intervals of everything.",
        ]
    for other in others:
        pairs = _paired(_names(first), _names(other))
        if pairs and all(one != another for one, another in pairs.items()):
            called = ", ".join(f"{one} with {another}" for one, another in pairs.items())
            lines.append(
                f"No job of {other.label} has a name of the first's, so they go by their place: {called}."
            )
    return lines


def as_json(
    first: Measurements, others: Sequence[Measurements], rows: Sequence[Row], notes: Sequence[str]
) -> dict[str, Any]:
    """The comparison as JSON has it."""
    return {
        "reports": [{"path": one.label, "runs": len(one.runs)} for one in (first, *others)],
        "confidence": bootstrap.CONFIDENCE,
        "resamples": bootstrap.RESAMPLES,
        "seed": bootstrap.SEED,
        "rows": [
            {
                "job": row.job,
                "kind": row.direction,
                "figure": row.figure.name,
                "value": row.value,
                "others": [None if other is None else other._asdict() for other in row.others],
            }
            for row in rows
        ],
        "notes": list(notes),
    }
