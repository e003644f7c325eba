"""The page of reports shows what they hold, in a real browser; and what is on it is what was measured."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringtape.engine.requests import Kind
from ringtape.jobs import fio_json, plot
from ringtape.settings import UsageError
from tests.browser import Browser, browser
from tests.jobs.making import make_job, make_outcome, make_record
from tests.jobs.test_compare import fio_report

READS = [[100_000] * 40, [], [300_000] * 20]
WRITES = [[200_000] * 10] * 3


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as one:
        yield one


def our_report(name: str = "mixed") -> Any:
    latencies = {(0, Kind.READ): READS, (1, Kind.WRITE): WRITES, (1, Kind.FSYNC): [[5_000_000]]}
    return fio_json.report_of(make_outcome([make_job(name, make_record(latencies, interval_ms=100))]))


def written(path: Path, *reports: tuple[str, Any]) -> Path:
    with plot.new_page(str(path)) as file:
        plot.write_page(file, reports)
    return path


def test_the_facts_are_what_was_measured() -> None:
    facts = plot.facts_of([("", our_report())])
    read, write, sync = facts["lines"]
    assert [line["name"] for line in (read, write, sync)] == ["mixed: read", "mixed: write", "mixed: sync"]
    assert read["ms"] == [100, 200, 300]
    assert read["rate"] == [400, 0, 200]
    assert read["byte_rate"] == [400 * 4096, 0, 200 * 4096]
    assert read["mean_ns"] == [100_000, None, 300_000]
    assert [one and round(one / 1e4) for one in read["p99_ns"]] == [10, None, 30]
    assert (write["requests"], sync["requests"], read["part"], sync["part"]) == (
        30,
        1,
        "completion",
        "latency",
    )
    assert dict(read["percentiles"])[50] == pytest.approx(75_000, rel=0.01)


def test_the_last_interval_is_as_long_as_the_job_lasted_in_it() -> None:
    record, ended = make_record({(0, Kind.READ): READS}, interval_ms=100)
    record.elapsed_ns = 250_000_000
    report = fio_json.report_of(make_outcome([make_job("short", (record, ended))]))
    (line,) = plot.facts_of([("", report)])["lines"]
    assert line["rate"] == [400, 0, 400]


def test_a_page_is_drawn_and_asks_for_nothing(chromium: Browser, tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", ("", our_report()))
    tab = chromium.open(page, width=1180, height=1400)
    tab.until("document.body.dataset.settled === 'yes'")
    assert tab.requested == [page.as_uri()]
    assert tab.complaints == []
    assert tab.value("document.title") == "mixed · ringtape bench"
    assert tab.value("document.querySelectorAll('canvas').length") == 4
    rows = tab.value("[...document.querySelectorAll('#percentiles tr')].map((row) => row.textContent)")
    assert len(rows) == 4
    assert rows[1].startswith("mixed: read60200")  # requests, IOPS
    shown = "ringtapePlot.charts.map((u) => u.series.filter((one) => one.label === 'mixed: read')[0].show)"
    assert tab.value(shown) == [True] * 4
    tab.value("document.querySelector('#kinds input').click()")
    assert tab.value(shown) == [False] * 4


def test_reports_of_fio_have_no_lines_over_time(chromium: Browser, tmp_path: Path) -> None:
    page = written(tmp_path / "report.html", ("fio.json", fio_report(1000)), ("ours.json", our_report("one")))
    tab = chromium.open(page, width=1180, height=1400)
    tab.until("document.body.dataset.settled === 'yes'")
    assert tab.complaints == []
    note = tab.value("document.getElementById('rate-note').textContent")
    assert note == "1 of the lines have no numbers over time in their report."
    only = written(tmp_path / "only.html", ("fio.json", fio_report(1000)))
    tab = chromium.open(only, width=1180, height=1400)
    tab.until("document.body.dataset.settled === 'yes'")
    assert tab.complaints == []
    assert tab.value("document.querySelectorAll('canvas').length") == 1
    assert tab.value("[...document.querySelectorAll('.over-time')].every((one) => one.hidden)")


def test_names_cannot_become_markup() -> None:
    name = "</script><script>alert(1)</script>"
    file = io.BytesIO()
    plot.write_page(file, [("", our_report(name))])  # type: ignore[arg-type]
    page = file.getvalue().decode()
    assert name not in page
    found = re.search(r'<script id="facts" type="application/json">(.*?)</script>', page)
    assert found is not None
    assert json.loads(found[1])["title"] == name


def test_another_file_is_not_lost_for_a_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    written(path, ("", our_report()))
    written(path, ("", our_report()))
    path.write_text("a letter")
    with pytest.raises(UsageError, match="is there and is not a page"):
        written(path, ("", our_report()))
    assert path.read_text() == "a letter"
