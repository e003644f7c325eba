"""Goal: `verify` finds data that is not what was written, and nothing else. Method: real files, spoilt on purpose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xxhash import xxh3_64_intdigest

import ringtape
from ringtape import Disk
from ringtape.jobs.job import Region
from ringtape.jobs.options import job_of
from ringtape.jobs.running import Ran, run_jobs
from ringtape.jobs.stream import UNTIMED
from ringtape.jobs.verify import Verifier

DISK_BYTES = 1 << 20
UNIT = 4096


def run(
    folder: Path, own: dict[str, Any], *, fresh: bool = False, mode: Any = "plain", **options: Any
) -> Ran:
    disks = [Disk("a", folder / "a.img", size=DISK_BYTES, fresh=fresh)]
    job = job_of("j", {"verify": True, **own})
    ran = run_jobs([job], disks, mode=mode, tape=folder / "run.tape", seed=3, **options)
    ran.result.raise_for_failures()
    return ran


def units_of(folder: Path) -> np.ndarray:
    return np.fromfile(folder / "a.img", "<u8").reshape(-1, UNIT // 8)


def spoil(folder: Path, offset: int, data: bytes) -> None:
    with open(folder / "a.img", "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_each_unit_says_where_it_is_and_which_write_it_is_of(tmp_path: Path) -> None:
    ran = run(tmp_path, {"rw": "randwrite", "iodepth": 8, "workers": 2})
    assert ran.problems == []
    units = units_of(tmp_path)
    assert units[:, 1].tolist() == list(range(0, DISK_BYTES, UNIT))
    for worker in (0, 1):
        half = units[worker * 128 : (worker + 1) * 128]
        assert sorted(half[:, 2].tolist()) == [worker * 2**48 + number for number in range(1, 129)]
        assert len(set(half[:, 3].tolist())) == 1
    assert [xxh3_64_intdigest(unit[1:].tobytes()) for unit in units] == units[:, 0].tolist()
    assert [one.verified for one in ran.worked(0)] == [128, 128]


@pytest.mark.parametrize(
    "own",
    [
        {"rw": "rw", "bs": "4k-32k", "io_size": "3m"},
        {"rw": "randrw", "bs": "4k/50:16k/50,8k", "io_size": "3m"},
        {"rw": "randrw", "bs": "512", "number_ios": 3000, "random_distribution": "zipf:1.2", "fsync": 10},
        {"rw": "randrw", "number_ios": 3000, "rate_iops": 20000, "workers": 3},
        {"rw": "randwrite", "number_ios": 1000, "random_map": False},
    ],
)
def test_what_is_whole_is_found_whole_and_replays(own: dict[str, Any], tmp_path: Path) -> None:
    ran = run(tmp_path, {**own, "iodepth": 16}, fresh=True, mode="record")
    assert ran.problems == []
    assert all(one.verified > 100 for one in ran.worked(0))
    assert ringtape.replay(tmp_path / "run.tape").digest == ran.result.digest


def test_a_later_read_finds_what_was_spoilt(tmp_path: Path) -> None:
    assert run(tmp_path, {"rw": "write"}).problems == []
    assert run(tmp_path, {"rw": "randread", "iodepth": 32}).problems == []
    old = units_of(tmp_path)
    spoil(tmp_path, 5 * UNIT + 100, b"\xff")
    spoil(tmp_path, 7 * UNIT, bytes(UNIT))
    spoil(tmp_path, 9 * UNIT, old[11].tobytes())
    ran = run(tmp_path, {"rw": "read", "iodepth": DISK_BYTES // UNIT}, mode="record")
    assert ringtape.replay(tmp_path / "run.tape").digest == ran.result.digest
    expected = "expected a block that a job with verify has written, found "
    (worked,) = ran.worked(0)
    assert worked.bad == 3
    damaged = xxh3_64_intdigest(units_of(tmp_path)[5][1:].tobytes())
    assert ran.problems == [
        f"job j, worker 0: disk a, 4096 bytes at {place * UNIT}: {expected}{found}"
        for place, found in [
            (5, f"data of xxh3 {damaged:016x} under the checksum {int(old[5, 0]):016x}"),
            (7, "zeros"),
            (9, f"write 12 of worker 0 at {11 * UNIT}"),
        ]
    ]


def test_of_many_the_first_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(bytes(DISK_BYTES))
    ran = run(tmp_path, {"rw": "read", "iodepth": DISK_BYTES // UNIT})
    assert ran.worked(0)[0].bad == DISK_BYTES // UNIT
    assert len(ran.problems) == 17
    assert ran.problems[-1] == "job j, worker 0: and 240 more"


def test_a_write_that_was_lost_is_found_by_its_number() -> None:
    """The data of the write before is whole; only the number says that it is not the last."""
    verifier = Verifier(
        job_of("j", {"rw": "rw", "verify": True}), [0], ["a"], [Region(0, 1 << 16)], worker=1, run=9
    )
    rows = np.zeros(2, UNTIMED)
    rows["kind"], rows["offset"], rows["length"] = 2, 8192, UNIT
    data, _ = verifier.prepare(rows)
    first, second = data[:UNIT], data[UNIT:]
    rows["kind"] = 1
    _, units = verifier.prepare(rows)
    verifier.check(units, second + second)
    assert verifier.bad == 0
    verifier.check(units, second + first)
    assert verifier.told == [
        "disk a, 4096 bytes at 8192: expected write 2 of worker 1, found write 1 of worker 1"
    ]


def test_within_an_array_a_read_is_held_against_the_write_before_it() -> None:
    job = job_of("j", {"rw": "rw", "verify": True})
    verifier = Verifier(job, [0, 2], ["a", "b"], [Region(0, 1 << 16), Region(4096, 1 << 16)], worker=0, run=9)
    rows = np.zeros(7, UNTIMED)
    rows["length"], rows["kind"] = UNIT, [1, 2, 1, 2, 1, 2, 1]
    rows["offset"] = [0, 0, 0, 0, 0, 4096, 4096]
    rows["disk"] = [0, 0, 0, 0, 0, 2, 0]
    data, reads = verifier.prepare(rows)
    assert len(data) == 3 * UNIT
    # Nobody knows what was there before the first write of each.
    assert reads.stamp.tolist() == [0, 1, 2, 0]
    rows["kind"] = 1
    assert verifier.prepare(rows)[1].stamp.tolist() == [2, 2, 2, 2, 2, 3, 0]
    assert [(int(one["disk"][0]), one["offset"].tolist()) for one in verifier.rest(10)] == [
        (0, [0]),
        (2, [4096]),
    ]


def test_a_failed_request_is_named_and_ends_the_job(tmp_path: Path) -> None:
    """The file is cut short under the run: a read beyond its end gives nothing."""
    path = tmp_path / "a.img"
    path.write_bytes(bytes(DISK_BYTES))
    job = job_of("j", {"rw": "read", "rate_iops": 200, "runtime": "20s"})

    class Cut:
        def __init__(self) -> None:
            self.done = False

        def __call__(self, _: Any) -> None:
            if not self.done:
                os.truncate(path, UNIT)
                self.done = True

    ran = run_jobs(
        [job],
        [Disk("a", path)],
        mode="record",
        tape=tmp_path / "run.tape",
        console=ringtape.Console(on_progress=Cut()),
    )
    ran.result.raise_for_failures()
    (problem,) = ran.problems
    assert problem.startswith("job j, worker 0: read of 4096 bytes at ")
    assert problem.endswith("on disk 'a': only 0 bytes")
