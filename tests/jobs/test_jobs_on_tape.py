"""Goal: each option of a job does what it says, and a recording of it replays. Method: what is on the tape of a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk
from ringtape.jobs.job import Job
from ringtape.jobs.options import job_of
from ringtape.jobs.running import Ran, run_jobs
from ringtape.tape.tape import TapeRequest

DISK_BYTES = 4 << 20
BLOCKS = DISK_BYTES // 4096


def disks(folder: Path, *names: str) -> list[Disk]:
    return [Disk(name, folder / f"{name}.img", size=DISK_BYTES, fresh=True) for name in names or ("a",)]


def recorded(folder: Path, *jobs: Job, names: tuple[str, ...] = ("a",), **options: Any) -> list[TapeRequest]:
    """The requests of a recording of the jobs, by their ids, after its replay was found the same."""
    ran = run_jobs(jobs, disks(folder, *names), mode="record", tape=folder / "run.tape", seed=5, **options)
    check(ran)
    replayed = ringtape.replay(folder / "run.tape")
    assert replayed.digest == ran.result.digest
    assert list(map(repr, replayed.returns)) == list(map(repr, ran.result.returns))
    with ringtape.open_tape(folder / "run.tape") as tape:
        return sorted(tape.requests(), key=lambda one: one.id)


def check(ran: Ran) -> None:
    ran.result.raise_for_failures()
    assert ran.problems == []


def test_a_read_goes_once_through_the_disk(tmp_path: Path) -> None:
    made = recorded(tmp_path, job_of("j", {"rw": "read", "iodepth": 8}))
    assert [(one.kind, one.offset, one.length) for one in made] == [
        ("read", number * 4096, 4096) for number in range(BLOCKS)
    ]


@pytest.mark.parametrize(
    ("rw", "kind"),
    [("randread", "read"), ("randwrite", "write"), ("randtrim", "discard"), ("trim", "discard")],
)
def test_each_pattern_covers_its_stretch_once(rw: str, kind: str, tmp_path: Path) -> None:
    own = {"rw": rw, "iodepth": 16, "offset": "1m", "size": "2m"}
    made = recorded(tmp_path, job_of("j", own))
    offsets = [one.offset for one in made]
    assert {one.kind for one in made} == {kind}
    assert sorted(offsets) == list(range(1 << 20, 3 << 20, 4096))
    assert (sorted(offsets) == offsets) == (rw == "trim")


def test_a_mix_has_its_share(tmp_path: Path) -> None:
    own = {"rw": "randrw", "rwmixread": 80, "number_ios": 4000, "iodepth": 32, "random_map": False}
    made = recorded(tmp_path, job_of("j", own))
    kinds = Counter(one.kind for one in made)
    assert kinds.total() == 4000
    assert abs(kinds["read"] - 3200) < 5 * (4000 * 0.8 * 0.2) ** 0.5
    # Without a map some places come again before all have been.
    assert len({one.offset for one in made[:BLOCKS]}) < BLOCKS * 0.75


def test_sizes_of_reads_and_writes_apart(tmp_path: Path) -> None:
    own = {"rw": "randrw", "bs": "4k/50:8k/50,16k-64k", "number_ios": 500}
    made = recorded(tmp_path, job_of("j", own))
    reads = {one.length for one in made if one.kind == "read"}
    writes = {one.length for one in made if one.kind == "write"}
    assert reads == {4096, 8192}
    assert writes == {16384, 32768, 49152, 65536}
    assert all(one.offset % 4096 == 0 and one.offset + one.length <= DISK_BYTES for one in made)


def test_depth_is_reached_and_not_passed(tmp_path: Path) -> None:
    for depth in (1, 24):
        made = recorded(tmp_path, job_of("j", {"rw": "randread", "iodepth": depth, "number_ios": 600}))
        deepest = 0
        for number, one in enumerate(made):
            # What the program had not been given when it made this one.
            under_way = sum((other.released_at or 0) > one.checkpoint for other in made[: number + 1])
            deepest = max(deepest, under_way)
        assert deepest == depth


@pytest.mark.parametrize(("option", "flags"), [("fsync", ()), ("fdatasync", ("data-only",))])
def test_an_fsync_after_every_so_many_writes_of_a_disk(
    option: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    own = {"rw": "randrw", option: 3, "number_ios": 301, "iodepth": 4}
    made = recorded(tmp_path, job_of("j", own), names=("a", "b"))
    for disk in ("a", "b"):
        since = fsyncs = 0
        for one in (one for one in made if one.disk == disk):
            if one.kind == "fsync":
                assert (since, one.flags) == (3, flags)
                since, fsyncs = 0, fsyncs + 1
            since += one.kind == "write"
            assert since <= 3
        assert fsyncs > 20
    assert sum(one.kind != "fsync" for one in made) == 301


def test_writes_with_fua(tmp_path: Path) -> None:
    made = recorded(tmp_path, job_of("j", {"rw": "rw", "fua": True, "io_size": "64k"}))
    assert sum(one.length for one in made) == 64 << 10
    assert {(one.kind, one.flags) for one in made} == {("read", ()), ("write", ("fua",))}


def test_disks_in_turn_and_workers_each_with_all_of_it(tmp_path: Path) -> None:
    made = recorded(tmp_path, job_of("j", {"rw": "write", "bs": "64k", "workers": 2}), names=("a", "b", "c"))
    for worker in (0, 1):
        own = [one for one in made if one.worker == worker]
        assert [one.disk for one in own] == ["a", "b", "c"] * (DISK_BYTES >> 16)
        assert [one.offset for one in own if one.disk == "b"] == list(range(0, DISK_BYTES, 65536))


def test_a_rate_is_kept_on_the_recorded_clock(tmp_path: Path) -> None:
    made = recorded(
        tmp_path, job_of("j", {"rw": "randread", "rate_iops": 1000, "runtime": "250ms", "iodepth": 64})
    )
    assert len(made) == 250
    for number, one in enumerate(made):
        assert one.submitted_ns >= number * 1_000_000


@pytest.mark.parametrize(
    "more", [{}, {"verify": True, "rw": "randwrite"}, {"number_ios": 2}, {"io_size": "8k"}]
)
def test_with_a_rate_a_job_takes_its_runtime_unless_something_else_ends_it(
    more: dict[str, Any], tmp_path: Path
) -> None:
    ends_before = "number_ios" in more or "io_size" in more
    runtime_s = 60 if ends_before else 0.25
    job = job_of("j", {"rw": "randread", "rate_iops": 10, "runtime": runtime_s, **more})
    ran = run_jobs([job], disks(tmp_path), mode="record", tape=tmp_path / "run.tape")
    check(ran)
    (worked,) = ran.worked(0)
    (tally,) = worked.measured.tallies.values()
    assert tally.requests == (2 if ends_before else 3)
    assert (worked.measured.elapsed_ns >= runtime_s * 1e9) is not ends_before
    assert ringtape.replay(tmp_path / "run.tape").digest == ran.result.digest


def test_a_runtime_ends_it_and_goes_over_the_disk_again(tmp_path: Path) -> None:
    job = job_of("j", {"rw": "read", "bs": "256k", "runtime": "300ms"})
    ran = run_jobs([job], disks(tmp_path))
    check(ran)
    assert ran.result.requests > DISK_BYTES >> 18
    (worked,) = ran.worked(0)
    assert worked.measured.elapsed_ns >= 300_000_000


@pytest.mark.parametrize("shape", ["zipf:1.2", "pareto:0.1", "normal:5"])
def test_wanted_places_come_more_often(shape: str, tmp_path: Path) -> None:
    own = {"rw": "randread", "random_distribution": shape, "number_ios": 4000, "workers": 2, "iodepth": 32}
    made = recorded(tmp_path, job_of("j", own))
    often = [Counter(one.offset for one in made if one.worker == worker) for worker in (0, 1)]
    most = [{offset for offset, _ in counts.most_common(BLOCKS // 10)} for counts in often]
    for counts, offsets in zip(often, most, strict=True):
        assert sum(counts[offset] for offset in offsets) > 0.5 * 4000
    # They are the same ones for both.
    assert len(most[0] & most[1]) > BLOCKS // 30


def test_jobs_run_together_and_after_a_stonewall(tmp_path: Path) -> None:
    made = recorded(
        tmp_path,
        job_of("first", {"rw": "write", "disks": ["a"], "bs": "64k"}),
        job_of("second", {"rw": "write", "disks": ["b"], "bs": "64k", "workers": 2}),
        job_of("third", {"rw": "read", "disks": ["a"], "bs": "64k", "stonewall": True}),
        names=("a", "b"),
    )
    assert {(one.worker, one.disk, one.kind) for one in made} == {
        (0, "a", "write"),
        (1, "b", "write"),
        (2, "b", "write"),
        (0, "a", "read"),
    }
    last_write = max(one.id for one in made if one.kind == "write")
    assert min(one.id for one in made if one.kind == "read") > last_write
    with ringtape.open_tape(tmp_path / "run.tape") as tape:
        assert [disk.workers for disk in tape.header.disks] == [(0,), (1, 2)]


def test_the_seed_decides_what_is_drawn(tmp_path: Path) -> None:
    """However long the arrays were in which it was asked for."""
    one = job_of("j", {"rw": "randrw", "bs": "4k-16k", "number_ios": 2000, "iodepth": 3})
    first, again = ([(r.kind, r.offset, r.length) for r in recorded(tmp_path, one)] for _ in range(2))
    assert first == again


def test_a_lease_changes_nothing_that_is_asked_for(tmp_path: Path) -> None:
    one = job_of("j", {"rw": "randread", "number_ios": 500, "iodepth": 8})
    strict, leased = (
        [(r.kind, r.offset) for r in recorded(tmp_path, one, strict=strict)] for strict in (True, False)
    )
    assert strict == leased


def test_what_is_measured_is_what_is_on_the_tape(tmp_path: Path) -> None:
    jobs = [job_of("j", {"rw": "randrw", "bs": "4k-16k", "number_ios": 300, "iodepth": 4, "fsync": 7})]
    ran = run_jobs(jobs, disks(tmp_path, "b", "a"), mode="record", tape=tmp_path / "run.tape")
    check(ran)
    (worked,) = ran.worked(0)
    with ringtape.open_tape(tmp_path / "run.tape") as tape:
        expected: Counter[tuple[str, str]] = Counter()
        for one in tape.requests():
            expected[one.disk, one.kind] += 1
    kinds = {1: "read", 2: "write", 5: "fsync"}
    record = worked.measured
    assert {
        (record.disks[disk], kinds[kind]): tally.requests for (disk, kind), tally in record.tallies.items()
    } == expected
