"""Differences that are known are found, and so is that there is none; what cannot be said is not."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.engine.requests import Kind
from ringtape.jobs import bootstrap, compare, fio_json
from ringtape.jobs.compare import Measurements, Row
from ringtape.jobs.errors import JobError
from tests.jobs.making import make_job, make_outcome, make_record


def our_report(requests: int, latency_ns: int, *, seed: int, intervals: int = 60, name: str = "one") -> Any:
    """Some `requests` in each interval, which vary by a tenth."""
    rng = random.Random(seed)
    latencies = [
        [
            rng.randint(latency_ns * 9 // 10, latency_ns * 11 // 10)
            for _ in range(rng.randint(requests * 9 // 10, requests * 11 // 10))
        ]
        for _ in range(intervals)
    ]
    job = make_job(name, make_record({(0, Kind.READ): latencies}))
    return json.loads(fio_json.dumps(make_outcome([job])))


def fio_report(iops: float, *, name: str = "one", clones: int = 1) -> Any:
    """As fio has it, in part."""
    section = {
        "total_ios": int(iops * 10),
        "iops": iops,
        "bw_bytes": int(iops * 4096),
        "lat_ns": {"N": int(iops * 10), "mean": 1e9 / iops},
        "clat_ns": {"N": int(iops * 10), "mean": 1e9 / iops, "percentile": {"50.000000": int(1e9 / iops)}},
    }
    return {"fio version": "fio-3.33", "jobs": [{"jobname": name, "read": section} for _ in range(clones)]}


def rows_of(first: Any, *others: Any) -> dict[str, Row]:
    compared = [
        Measurements(str(place), one if isinstance(one, list) else [one])
        for place, one in enumerate((first, *others))
    ]
    return {row.figure.name: row for row in compare.compare(compared[0], compared[1:])}


def test_a_known_difference_of_two_runs_is_within_its_interval() -> None:
    rows = rows_of(our_report(100, 50_000, seed=1), our_report(80, 62_500, seed=2))
    for name, ratio in (("IOPS", 0.8), ("bandwidth", 0.8), ("latency mean", 1.25)):
        (other,) = rows[name].others
        assert other is not None
        assert other.ratio == pytest.approx(ratio, rel=0.03)
        assert other.range is not None
        assert other.range.low < ratio < other.range.high
        assert other.range.high - other.range.low < 0.1
        assert not other.range.low <= 1 <= other.range.high
    (p99,) = rows["completion p99"].others
    assert p99 is not None
    assert p99.range is None, "a percentile has no interval without repeated runs"


def test_no_difference_is_none() -> None:
    rows = rows_of(our_report(100, 50_000, seed=1), our_report(100, 50_000, seed=2))
    for name in ("IOPS", "bandwidth", "latency mean"):
        (other,) = rows[name].others
        assert other is not None
        assert other.range is not None
        assert other.range.low <= 1 <= other.range.high


@pytest.mark.parametrize("runs", [2, 3, 8])
def test_repeated_runs_of_fio(runs: int) -> None:
    """Three or more have an interval, of percentiles too."""
    before = [fio_report(1000 + place) for place in range(runs)]
    after = [fio_report(1100 + place) for place in range(runs)]
    for row in rows_of(before, after).values():
        (other,) = row.others
        assert other is not None
        assert (other.range is not None) == (runs >= bootstrap.RUNS_MIN)
        if other.range is not None:
            assert other.ratio is not None
            assert other.range.low <= other.ratio <= other.range.high


def test_one_run_of_fio_has_no_interval_and_that_is_said() -> None:
    first, second = (Measurements(name, [fio_report(1000)]) for name in "ab")
    rows = compare.compare(first, [second])
    assert all(other is not None and other.range is None for row in rows for other in row.others)
    assert any("no percentile has any" in line for line in compare.notes(first, [second], rows))


def test_clones_add_up_and_have_no_percentile() -> None:
    rows = rows_of(fio_report(1000, clones=3), fio_report(1000, clones=2))
    assert rows["IOPS"].value == 3000
    assert [other and other.value for other in rows["IOPS"].others] == [2000]
    assert not any("p50" in name for name in rows)


def test_jobs_go_by_name_and_else_by_place() -> None:
    first, renamed = fio_report(1000, name="x"), fio_report(500, name="y")
    assert [other and other.ratio for other in rows_of(first, renamed)["IOPS"].others] == [0.5]
    compared = [Measurements(name, [one]) for name, one in (("a", first), ("b", renamed))]
    assert any("x with y" in line for line in compare.notes(compared[0], compared[1:], []))
    two = {**renamed, "jobs": [*renamed["jobs"], *fio_report(1, name="z")["jobs"]]}
    with pytest.raises(JobError, match="in common"):
        rows_of(first, two)


def test_the_first_is_compared_with_each_and_what_lacks_a_figure_has_none() -> None:
    writes = fio_report(1000)
    writes["jobs"][0]["write"] = writes["jobs"][0].pop("read")
    row = rows_of(fio_report(1000), fio_report(2000), writes)["IOPS"]
    assert [other and other.ratio for other in row.others] == [2, None]


@given(values=st.lists(st.floats(1, 1e6), min_size=3, max_size=20), factor=st.floats(0.1, 10))
def test_an_interval_scales_with_what_it_is_of(values: list[float], factor: float) -> None:
    one = np.array(values)
    found, scaled = (
        bootstrap.ratio_of_means(one, one[::-1]),
        bootstrap.ratio_of_means(one, one[::-1] * factor),
    )
    assert found is not None
    assert scaled is not None
    assert scaled.low == pytest.approx(found.low * factor)
    assert found.low <= 1.0000001
    assert found.high >= 0.9999999


def test_blocks_keep_neighbours_together() -> None:
    """Numbers that drift slowly say less than as many that are independent: the interval is wider."""
    slow = 100 + 10 * np.sin(np.arange(400) / 10)
    shuffled = np.random.default_rng(3).permutation(slow)
    ones = np.ones(400)
    widths = []
    for values in (slow, shuffled):
        found = bootstrap.ratio_of_rates((values, ones), (values, ones))
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.5 * widths[1]
