"""What is put around a run of jobs: its jobs in fio's words, and when they will end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ringtape import Disk
from ringtape.jobs.options import job_of
from ringtape.jobs.plan import Plan
from ringtape.jobs.reporting import Measuring, expected, options_of
from ringtape.jobs.running import run_jobs
from ringtape.jobs.side import side_file


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rw": "read"}, {"rw": "read", "bs": "4096", "iodepth": "1", "numjobs": "1", "direct": "1"}),
        ({"rw": "read", "disks": ["c"]}, {"direct": "0"}),
        ({"rw": "read", "disks": ["a", "c"]}, {"direct": "0"}),
        ({"rw": "write", "fua": True, "verify": True}, {"sync": "dsync", "verify": "xxhash"}),
        ({"rw": "write", "fdatasync": 8}, {"fdatasync": "8"}),
        ({"rw": "randread", "random_map": False, "stonewall": True}, {"norandommap": "1", "stonewall": "1"}),
        ({"rw": "randrw", "rwmixread": 70, "bs": "4k,64k"}, {"rwmixread": "70", "bs": "4096,65536"}),
        ({"rw": "randrw", "bs": "4k-64k"}, {"bsrange": "4096-65536"}),
        ({"rw": "randread", "bs": "4k/60:8k/40"}, {"bssplit": "4096/60:8192/40"}),
        ({"rw": "write", "fsync": 8, "runtime": "500ms"}, {"fsync": "8", "runtime": "0.5"}),
        ({"rw": "randread", "random_distribution": "zipf:1.2"}, {"random_distribution": "zipf:1.2"}),
        (
            {"rw": "read", "offset": "1M", "size": "2M", "io_size": "8M"},
            {"offset": "1048576", "size": "2097152"},
        ),
    ],
)
def test_a_job_in_fios_words(given: dict[str, Any], said: dict[str, str], tmp_path: Path) -> None:
    disks = [Disk("a", tmp_path / "a:b"), Disk("c", tmp_path / "c", buffered=True)]
    for disk in disks:
        Path(disk.path).write_bytes(bytes(4096))
    job = job_of("one", {"disks": ["a"], **given})
    options = options_of(job, {disk.name: disk for disk in disks})
    paths = {"a": f"{tmp_path}/a\\:b", "c": f"{tmp_path}/c"}
    assert options["filename"] == ":".join(paths[name] for name in job.disks)
    assert said.items() <= options.items()
    assert all(isinstance(value, str) for value in options.values())


def test_when_jobs_will_end(tmp_path: Path) -> None:
    """Once through all where nothing else is said; workers are those that the plan seats."""
    disks = [Disk(name, tmp_path / name, size="1M") for name in "ab"]
    both = {"disks": ["a", "b"]}
    jobs = [
        job_of("through", {"rw": "read", "workers": 2, **both}),
        job_of("timed", {"rw": "read", "runtime": 5, **both}),
        job_of("after", {"rw": "read", "number_ios": 7, "stonewall": True, **both}),
    ]
    through, timed, after = expected(Plan(tuple(jobs)), disks)
    assert (through.workers, timed.workers, after.workers) == ([0, 1], [2], [0])
    assert (through.bytes, through.requests, through.runtime_s) == (2 << 20, None, None)
    assert (timed.bytes, timed.requests, timed.runtime_s) == (None, None, 5)
    assert (after.bytes, after.requests, after.runtime_s) == (None, 7, None)


def test_the_outcome_of_several_jobs(tmp_path: Path) -> None:
    """Each has its own numbers, also where a worker does one job after another."""
    disks = [Disk("a", tmp_path / "a", size="1M", fresh=True)]
    jobs = [
        job_of("writes", {"rw": "write", "number_ios": 100, "workers": 2}),
        job_of("reads", {"rw": "randread", "number_ios": 300, "stonewall": True}),
    ]
    with side_file() as file:
        measuring = Measuring(file, disks)
        ran = run_jobs(jobs, disks, seed=1, side_file=file)
        outcome = measuring.outcome(ran)
    counts = {
        job.name: {kind.name: one.requests for kind, one in job.by_kind().items()} for job in outcome.jobs
    }
    assert counts == {"writes": {"WRITE": 200}, "reads": {"READ": 300}}
    for job in outcome.jobs:
        assert job.usage is not None
        for numbers in job.by_kind().values():
            assert numbers.submission.count == numbers.completion.count == numbers.requests
            assert numbers.submission.sum + numbers.completion.sum == numbers.latency.sum
    assert outcome.requests == 500
