"""A report in the layout of fio's `--output-format=json` (fio 3.33: stat.c, show_thread_status_json), and reading both.

What fio has and is not measured here stands as fio has it where there was nothing, or is left out. What fio does not
have is under the key `ringtape`, which readers of fio's reports pass over.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from ringtape import __version__
from ringtape.engine.requests import Kind
from ringtape.jobs.errors import JobError
from ringtape.jobs.histogram import Histogram
from ringtape.jobs.outcome import JobOutcome, Moment, Numbers, Outcome
from ringtape.jobs.side import Usage

#: The version of fio whose layout it is.
LAYOUT = "fio-3.33"
#: fio's words for kinds of requests; one that it does not have is under our own.
DIRECTIONS = {Kind.READ: "read", Kind.WRITE: "write", Kind.DISCARD: "trim"}
PERCENTILES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99, 99.5, 99.9, 99.95, 99.99)
_NO_ETA = 2147483647  # as fio has it at the end
_LATENCIES = {
    "latency_ns": (1, (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000)),
    "latency_us": (1e3, (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000)),
    "latency_ms": (1e6, (2, 4, 10, 20, 50, 100, 250, 500, 750, 1000, 2000)),
}
_OVER_TIME = ("interval", "requests", "bytes", "latency_sum_ns", "latency_p99_ns")
_INTERVALS_MAX = 1 << 24
_LEVELS = ("1", "2", "4", "8", "16", "32", ">=64")
_BATCHES = {
    "iodepth_submit": ("0", "4", "8", "16", "32", "64", ">=64"),
    "iodepth_complete": ("0", "4", "8", "16", "32", "64", ">=64"),
}


def dumps(outcome: Outcome) -> str:
    """The report as JSON text."""
    return json.dumps(report_of(outcome), indent=2)


# As fio has it where no latency is aimed at, which jobs here cannot.
_NO_LATENCY_TARGET = {"latency_target": 0, "latency_percentile": 100.0, "latency_window": 0}


def report_of(outcome: Outcome) -> dict[str, Any]:
    """The report as JSON has it."""
    seconds = outcome.started_at_ns / 1e9 + outcome.elapsed_s
    return {
        "fio version": LAYOUT,
        "timestamp": int(seconds),
        "timestamp_ms": int(seconds * 1000),
        "time": time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(seconds)),
        "jobs": [_job(job, group) for group, job in enumerate(outcome.jobs)],
        "disk_util": [],
        "ringtape": {
            "version": __version__,
            "mode": outcome.mode,
            "interrupted": outcome.interrupted,
            "seed": outcome.seed,
            "requests": outcome.requests,
            "checkpoints": outcome.checkpoints,
            "elapsed_s": outcome.elapsed_s,
            "coordinator": {
                "user_s": outcome.coordinator.user_s,
                "system_s": outcome.coordinator.system_s,
            },
            **({"tape": outcome.tape, "tape_bytes": outcome.tape_bytes} if outcome.tape else {}),
        },
    }


def _job(job: JobOutcome, group: int) -> dict[str, Any]:
    kinds = job.by_kind()
    errors = sum(numbers.errors for numbers in kinds.values())
    first = next((numbers.first_error for numbers in kinds.values() if numbers.first_error), 0)
    usage, elapsed_s = job.usage, job.elapsed_s
    directions = {
        name: _direction(kinds.get(kind, Numbers()), elapsed_s, job.interval_ms)
        for kind, name in DIRECTIONS.items()
    }
    if Kind.WRITE_ZEROES in kinds:
        directions["write_zeroes"] = _direction(kinds[Kind.WRITE_ZEROES], elapsed_s, job.interval_ms)
    sync = kinds.get(Kind.FSYNC, Numbers())
    return {
        "jobname": job.name,
        "groupid": group,
        "error": first,
        **({"total_err": errors, "first_error": first} if errors else {}),
        "eta": _NO_ETA,
        "elapsed": math.ceil(elapsed_s),
        "job options": {"name": job.name, **job.options},
        **directions,
        "sync": {"total_ios": sync.requests, "lat_ns": _times(sync.latency, percentiles=True)},
        "job_runtime": round(elapsed_s * 1000) * len(job.records),
        **_used(usage, elapsed_s * len(job.records)),
        "iodepth_level": _levels(job.depths),
        **{name: dict.fromkeys(levels, 0.0) for name, levels in _BATCHES.items()},
        **_distribution(kinds),
        "latency_depth": int(job.options.get("iodepth", 1)),
        **_NO_LATENCY_TARGET,
        "ringtape": {
            "workers": len(job.records),
            "disks": job.disks,
            "interval_ms": job.interval_ms,
            "over_time": {
                DIRECTIONS.get(kind, kind.name.lower()): _over_time(numbers.moments)
                for kind, numbers in kinds.items()
            },
        },
    }


def _direction(numbers: Numbers, elapsed_s: float, interval_ms: int) -> dict[str, Any]:
    requests, moved = numbers.requests, numbers.bytes
    runtime_ms = round(elapsed_s * 1000) if requests or numbers.errors else 0
    per_second = moved / elapsed_s if requests and elapsed_s else 0.0
    known = numbers.completion.count > 0
    iops, kib = _samples(numbers.moments, interval_ms)
    return {
        "io_bytes": moved,
        "io_kbytes": moved >> 10,
        "bw_bytes": int(per_second),
        "bw": int(per_second) >> 10,
        "iops": round(requests / elapsed_s, 6) if requests and elapsed_s else 0.0,
        "runtime": runtime_ms,
        "total_ios": requests,
        "short_ios": numbers.short,
        "drop_ios": 0,
        "slat_ns": _times(numbers.submission),
        "clat_ns": _times(numbers.completion, percentiles=known),
        "lat_ns": _times(numbers.latency, percentiles=requests > 0),
        "bw_min": int(min(kib, default=0)),
        "bw_max": int(max(kib, default=0)),
        "bw_agg": 100.0 if kib else 0.0,  # of all workers of the job together
        "bw_mean": _mean(kib),
        "bw_dev": _deviation(kib),
        "bw_samples": len(kib),
        "iops_min": int(min(iops, default=0)),
        "iops_max": int(max(iops, default=0)),
        "iops_mean": _mean(iops),
        "iops_stddev": _deviation(iops),
        "iops_samples": len(iops),
    }


def _samples(moments: Mapping[int, Moment], interval_ms: int) -> tuple[list[float], list[float]]:
    """Requests a second and KiB a second of each whole interval, from the first to the last but one."""
    if not moments:
        return [], []
    whole = range(min(moments), max(moments))
    rows = [moments.get(number, Moment()) for number in whole]
    return (
        [1000 * row.requests / interval_ms for row in rows],
        [1000 * row.bytes / interval_ms / 1024 for row in rows],
    )


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 6) if values else 0.0


def _deviation(values: list[float]) -> float:
    return round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else 0.0


def _times(times: Histogram, *, percentiles: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {
        "min": times.min,
        "max": times.max,
        "mean": round(times.mean, 6),
        "stddev": round(times.stddev, 6),
        "N": times.count,
    }
    if percentiles and times.count:
        found["percentile"] = {f"{one:.6f}": int(times.percentile(one / 100)) for one in PERCENTILES}
    return found


def _used(usage: Usage | None, elapsed_s: float) -> dict[str, Any]:
    """CPU in percent of the time of all workers; left out where it is not known."""
    if usage is None or not elapsed_s:
        return {}
    return {
        "usr_cpu": round(100 * usage.user_s / elapsed_s, 6),
        "sys_cpu": round(100 * usage.system_s / elapsed_s, 6),
        "ctx": usage.switches,
        "majf": usage.major_faults,
        "minf": usage.minor_faults,
    }


def _levels(depths: list[int]) -> dict[str, float]:
    """The share of requests, in percent, with so many under way and not as many as the next has."""
    requests = sum(depths) or 1
    return {level: round(100 * count / requests, 6) for level, count in zip(_LEVELS, depths, strict=True)}


def _distribution(kinds: Mapping[Kind, Numbers]) -> dict[str, dict[str, float]]:
    """The share of reads, writes and trims, in percent, that took less than so long and not less than the one before.

    Of completion, as in fio; of all of a request's latency where that is not known apart.
    """
    times = Histogram()
    for kind, numbers in kinds.items():
        if kind is not Kind.FSYNC:
            times.merge(numbers.completion if numbers.completion.count else numbers.latency)
    found: dict[str, dict[str, float]] = {}
    below = 0.0
    for name, (scale, ends) in _LATENCIES.items():
        row = found[name] = {}
        for end in ends:
            share = 0.0
            if times.count:
                share = float(times.share_up_to(np.array([end * scale - 1], np.int64))[0])
            row[str(end)] = round(100 * (share - below), 6) if share > below else 0.0
            below = max(below, share)
    found["latency_ms"][">=2000"] = round(100 * (1 - below), 6) if times.count else 0.0
    return found


def _over_time(moments: Mapping[int, Moment]) -> dict[str, list[int]]:
    """Columns, a row for each interval in which there was something."""
    rows = [
        (number, row.requests, row.bytes, row.latency_sum_ns, row.p99_ns)
        for number, row in sorted(moments.items())
    ]
    return {name: [row[place] for row in rows] for place, name in enumerate(_OVER_TIME)}


def read(path: str) -> dict[str, Any]:
    """A report of fio's or ours, which may stand amid what fio has printed. Raises JobError for anything else."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise JobError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise JobError(f"{path} is no report of fio or ringtape bench: it is no text") from None
    try:
        report, end = json.JSONDecoder(parse_constant=_no_number).raw_decode(text, max(text.find("{"), 0))
    except ValueError as error:
        raise JobError(f"{path} is no report of fio or ringtape bench: {error}") from None
    if "{" in text[end:]:
        # With fio's --status-interval: the first is of what there was by then.
        raise JobError(f"{path} has more behind its first report: keep the one that is meant")
    jobs = report.get("jobs") if isinstance(report, dict) else None
    if not isinstance(jobs, list) or "fio version" not in report or not jobs:
        raise JobError(f"{path} is no report of fio or ringtape bench: it has no jobs")
    for place, job in enumerate(jobs):
        if not isinstance(job, dict) or not isinstance(job.get("jobname"), str):
            raise JobError(f"{path}: job {place} of the report has no name")
        if not _is_over_time(job.get("ringtape", {})):
            raise JobError(f"{path}: the numbers over time of job {job['jobname']!r} are damaged")
    found: dict[str, Any] = report
    return found


def _no_number(word: str) -> NoReturn:
    """For what Python reads as numbers and JSON does not have: NaN and infinities."""
    raise ValueError(f"{word} is no number")


def _is_over_time(ours: Any) -> bool:
    """Is it what `_job` puts there, or nothing?"""
    if ours == {}:
        return True
    if not isinstance(ours, dict) or not isinstance(ours.get("over_time"), dict):
        return False
    interval_ms = ours.get("interval_ms")
    return (
        isinstance(interval_ms, int)
        and interval_ms > 0
        and all(_is_table(table) for table in ours["over_time"].values())
    )


def _is_table(table: Any) -> bool:
    if not isinstance(table, dict) or not set(_OVER_TIME) <= set(table):
        return False
    columns = [table[name] for name in _OVER_TIME]
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return False
    if not all(type(value) is int and 0 <= value < 1 << 62 for column in columns for value in column):
        return False
    numbers = columns[0]
    rising = all(one < other for one, other in pairwise(numbers))
    return rising and (not numbers or numbers[-1] - numbers[0] < _INTERVALS_MAX)
