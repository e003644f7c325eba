"""Goal: how many requests were under way with each is counted as looking at each would. Method: beside just that."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringtape import Disk
from ringtape.jobs.depths import CLASSES, Depths
from ringtape.jobs.options import job_of
from ringtape.jobs.reporting import Measuring
from ringtape.jobs.running import run_jobs
from ringtape.jobs.side import side_file

# How long after the one before each was made, and how long after that it was released.
TIMES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 200)), max_size=150)


@given(times=TIMES, cuts=st.lists(st.integers(0, 150), max_size=5))
def test_counts_are_those_of_looking_at_each(times: list[tuple[int, int]], cuts: list[int]) -> None:
    made = np.cumsum([after for after, _ in times], dtype=np.int64)
    released = made + np.array([took for _, took in times], np.int64)
    depths = Depths()
    edges = [0, *sorted(cuts), len(times)]
    for begin, end in pairwise(edges):
        depths.add(made[begin:end], released[begin:end])
    expected = [0] * len(CLASSES)
    for number in range(len(times)):
        under_way = 1 + sum(bool(released[other] > made[number]) for other in range(number))
        expected[sum(under_way >= low for low in CLASSES) - 1] += 1
    assert list(depths.counts) == expected


def test_a_job_has_no_more_under_way_than_its_depth(tmp_path: Path) -> None:
    disks = [Disk("a", tmp_path / "a", size="1M", fresh=True)]
    jobs = [job_of("j", {"rw": "randrw", "iodepth": 8, "workers": 2, "number_ios": 300, "fsync": 10})]
    with side_file() as file:
        measuring = Measuring(file, disks)
        (job,) = measuring.outcome(run_jobs(jobs, disks, side_file=file)).jobs
    fsyncs = sum(numbers.requests for kind, numbers in job.by_kind().items() if kind.name == "FSYNC")
    assert fsyncs > 0
    assert sum(job.depths) == 600 + fsyncs
    # The first eight of each worker were made at once.
    assert all(count >= least for count, least in zip(job.depths, (2, 4, 8, 2, 0, 0, 0), strict=True))
    assert job.depths[4:] == [0, 0, 0]
