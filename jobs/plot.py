"""Reports as one HTML page that needs nothing else: rates and latencies over time, percentiles, and a table.

It shows what a report holds, of fio's or ours: fio's JSON has nothing over time. It never draws: `plot_page/` does, in
the browser, with uPlot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.resources import files
from typing import Any, BinaryIO

from ringtape.jobs.compare import DIRECTIONS
from ringtape.page import Page
from ringtape.tape.output import new_file

_BEGINS_WITH = b"<!doctype html>\n<!-- ringtape bench plot -->\n"
_SHARED = ("words.js", "parts.js", "charts.js")


def new_page(path: str) -> AbstractContextManager[BinaryIO]:
    """The file of a page that will be written; see `ringtape.tape.output.new_file`. Raises UsageError."""
    return new_file(path, begins_with=_BEGINS_WITH, what="a page of ringtape bench")


def write_page(file: BinaryIO, reports: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Write the page of these reports; a label, where there is one, stands before each of its lines."""
    ours, shared = files("ringtape.jobs") / "plot_page", files("ringtape.tape") / "plot_page"
    page = Page(ours / "bench.html", [*(shared / name for name in _SHARED), ours / "bench.js"])
    page.add_json("facts", facts_of(reports))
    page.write(file.write, _BEGINS_WITH)


def facts_of(reports: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What the page shows."""
    lines = [line for label, report in reports for line in _lines(label, report)]
    names = list(dict.fromkeys(job["jobname"] for _, report in reports for job in report["jobs"]))
    return {
        "title": ", ".join(os.path.basename(label) or label for label, _ in reports if label)
        or ", ".join(names),
        "what": " · ".join(_what(report) for _, report in reports[:1]) if len(reports) == 1 else "",
        "lines": lines,
    }


def _what(report: Mapping[str, Any]) -> str:
    ours = report.get("ringtape")
    if not isinstance(ours, dict):
        return f"{report['fio version']} · {report.get('time', '')}"
    words = [f"ringtape {ours['version']}", f"{ours['mode']} run", f"{ours['requests']:,} requests"]
    return " · ".join(
        [*words, f"{ours['elapsed_s']:.3f} s", f"seed {ours['seed']}", str(report.get("time", ""))]
    )


def _lines(label: str, report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A line for each job and kind in which there were requests."""
    for job in report["jobs"]:
        for direction in DIRECTIONS:
            section = job.get(direction)
            if not isinstance(section, dict) or not section.get("total_ios"):
                continue
            ours = job.get("ringtape")
            table = None
            if isinstance(ours, dict):
                table = ours["over_time"].get("fsync" if direction == "sync" else direction)
            part, percentiles = _percentiles(section)
            yield {
                "name": " ".join(word for word in (label, f"{job['jobname']}: {direction}") if word),
                "requests": section["total_ios"],
                "iops": section.get("iops"),
                "bytes_s": section.get("bw_bytes"),
                "mean": section.get("lat_ns", {}).get("mean"),
                "part": part,
                "percentiles": percentiles,
                **(_over_time(table, ours["interval_ms"], _runtime_ms(job)) if table else {}),
            }


def _runtime_ms(job: Mapping[str, Any]) -> float:
    return max(float(job[name]["runtime"]) for name in ("read", "write", "trim"))


def _percentiles(section: Mapping[str, Any]) -> tuple[str, list[tuple[float, float]]]:
    """Those of completion, which is what fio has, or else of the whole latency: percent and ns."""
    for name, word in (("clat_ns", "completion"), ("lat_ns", "latency")):
        found = section.get(name, {}).get("percentile")
        if found:
            return word, sorted((float(percent), float(ns)) for percent, ns in found.items())
    return "", []


def _over_time(table: Mapping[str, list[int]], interval_ms: int, runtime_ms: float) -> dict[str, list[Any]]:
    """Columns for each interval from the job's first to its last: none has no requests and no latency.

    The last is as long as the job lasted in it.
    """
    rows = dict(
        zip(
            table["interval"],
            zip(
                table["requests"],
                table["bytes"],
                table["latency_sum_ns"],
                table["latency_p99_ns"],
                strict=True,
            ),
            strict=True,
        )
    )
    columns: dict[str, list[Any]] = {name: [] for name in ("ms", "rate", "byte_rate", "mean_ns", "p99_ns")}
    last = max(rows, default=-1)
    for number in range(last + 1):
        requests, moved, sum_ns, p99_ns = rows.get(number, (0, 0, 0, None))
        length_ms: float = interval_ms
        if number == last and 0 < runtime_ms - number * interval_ms < interval_ms:
            length_ms = runtime_ms - number * interval_ms
        columns["ms"].append((number + 1) * interval_ms)
        columns["rate"].append(1000 * requests / length_ms)
        columns["byte_rate"].append(1000 * moved / length_ms)
        columns["mean_ns"].append(sum_ns / requests if requests else None)
        columns["p99_ns"].append(p99_ns)
    return columns
