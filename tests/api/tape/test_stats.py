"""Statistics in columns are those that one gets row by row; what is estimated says so and is near."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.tape import TapeReader, iter_joined, iter_rows
from ringtape.proto import messages_pb2
from ringtape.proto.errors import TapeDamaged
from ringtape.tape import conflicts, in_time, tallies, working_set
from ringtape.tape.stats import print_stats
from tests.api.tape.tapes import DATA_KINDS, Whole, crowded_run, wholes, without_seal
from tests.coordinator.tape.making import make_header, make_run, rows_of, write

HEADER = make_header()
SEEDS = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stats")


def meets(one: Whole, other: Whole) -> bool:
    """The other, made later, met the one in flight and conflicts with it."""
    a, b = one.request, other.request
    return (
        a.disk == b.disk
        and max(a.offset, b.offset) < min(a.offset + a.length, b.offset + b.length)
        and (one.completed is None or one.completed > other.made)
        and messages_pb2.KIND_FSYNC not in (a.kind, b.kind)
        and (a.kind, b.kind) != (messages_pb2.KIND_READ, messages_pb2.KIND_READ)
    )


@settings(deadline=None, max_examples=12)
@given(seed=SEEDS, flush_every=st.sampled_from((0, 1, 7)), cells=st.sampled_from((1, 30, 1 << 20)))
def test_conflicts_are_those_that_comparing_all_pairs_finds(
    folder: Path, seed: int, flush_every: int, cells: int
) -> None:
    calls = crowded_run(seed)
    write(folder / "c", HEADER, calls, flush_every=flush_every)
    found: set[int] = set()
    with TapeReader.open(folder / "c") as reader, pytest.MonkeyPatch.context() as patch:
        patch.setattr(conflicts, "_CELLS_MAX", cells)
        counter = conflicts.Conflicts()
        for joined in iter_joined(reader):
            found |= set(joined.made["id"][counter.take(joined)].tolist())
    all_ = wholes(rows_of(HEADER, calls))
    expected = {
        id_ for id_, other in all_.items() if any(meets(all_[before], other) for before in range(1, id_))
    }
    assert found == expected


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS, flush_every=st.sampled_from((0, 5)))
def test_sums_depths_and_working_sets(folder: Path, seed: int, flush_every: int) -> None:
    calls = crowded_run(seed)
    write(folder / "s", HEADER, calls, flush_every=flush_every)
    all_ = list(wholes(rows_of(HEADER, calls)).values())
    with pytest.MonkeyPatch.context() as patch, TapeReader.open(folder / "s") as reader:
        patch.setattr(in_time, "WINDOW_NS", 1 << 40)
        sums = tallies.Tallies(3, 2)
        for joined in iter_joined(reader):
            sums.take(joined)
        sums.finish()
    for (disk, worker), tally in sums.pairs.items():
        mine = [one for one in all_ if (one.request.disk, one.request.worker) == (f"disk{disk}", worker)]
        for kind, of_kind in tally.kinds.items():
            some = [one for one in mine if one.request.kind == kind]
            done = [one.completion for one in some if one.completion is not None]
            lengths = [one.request.length for one in some]
            assert (of_kind.requests, of_kind.bytes) == (len(some), sum(lengths))
            assert (of_kind.length_min, of_kind.length_max) == (min(lengths), max(lengths))
            assert (of_kind.completed, of_kind.failed) == (len(done), sum(one.result < 0 for one in done))
            moves = kind in (messages_pb2.KIND_READ, messages_pb2.KIND_WRITE)
            assert of_kind.moved_bytes == (sum(max(one.result, 0) for one in done) if moves else 0)
            assert of_kind.latency_ns.count == len(done)
            assert of_kind.sequential == sequential(some)
    for number, found in sums.disk_sets.items():
        assert found.bytes == len(touched(one for one in all_ if one.request.disk == f"disk{number}"))
        assert not found.estimated
    for (disk, worker), found in sums.working_sets.items():
        mine = [one for one in all_ if (one.request.disk, one.request.worker) == (f"disk{disk}", worker)]
        assert found.bytes == len(touched(mine))
    assert sums.depth.max == most_in_flight(all_)
    for worker, depth in sums.worker_depths.items():
        assert depth.max == most_in_flight([one for one in all_ if one.request.worker == worker])


def sequential(some: list[Whole]) -> int:
    """How many begin where the one before of the same worker, disk and kind ended."""
    if some[0].request.kind == messages_pb2.KIND_FSYNC:
        return 0
    return sum(a.request.offset + a.request.length == b.request.offset for a, b in pairwise(some))


def touched(some) -> set[int]:  # type: ignore[no-untyped-def]
    bytes_: set[int] = set()
    for one in some:
        if one.request.kind in DATA_KINDS:
            bytes_.update(range(one.request.offset, one.request.offset + one.request.length))
    return bytes_


def most_in_flight(some: list[Whole]) -> int:
    changes = defaultdict(int)
    for one in some:
        changes[one.request.at_ns] += 1
        if one.completion is not None:
            changes[one.completion.at_ns] -= 1
    now = most = 0
    for at_ns in sorted(changes):
        now += changes[at_ns]
        most = max(most, now)
    return most


def test_a_working_set_beyond_the_limit_is_an_estimate_that_is_near() -> None:
    """Strided by a power of two, and anywhere: both within a few percent, the same each time, in bounded memory."""
    rng = np.random.default_rng(5)
    anywhere = rng.choice(1 << 22, 60_000, replace=False).astype(np.uint64) * np.uint64(4096)
    strided = np.arange(60_000, dtype=np.uint64) * np.uint64(1 << 18)
    for offsets in (anywhere, strided):
        sets = [working_set.WorkingSet(4096), working_set.WorkingSet()]
        for part in np.array_split(np.concatenate((offsets, offsets[::2])), 50):
            for one in sets:
                one.add(part, np.full(len(part), 4096, dtype=np.uint64))
        estimate, exact = sets
        assert (exact.bytes, exact.estimated) == (60_000 * 4096, False)
        assert estimate.estimated
        assert abs(estimate.bytes / exact.bytes - 1) < 0.06
        assert len(estimate._starts) <= 4096


def test_long_and_impossible_stretches_cost_no_more_than_short_ones() -> None:
    found = working_set.WorkingSet(4)
    huge = np.array([0, 5, 2**64 - 1, 1 << 62], dtype=np.uint64)
    found.add(huge, huge[::-1].copy())
    assert found.bytes == (1 << 63) - 1
    # Discs of any size are thinned by arithmetic, not by counting: many gaps in an endless disk.
    found.add(np.arange(0, 1 << 40, 1 << 30, dtype=np.uint64), np.full(1024, 1, dtype=np.uint64))
    assert found.bytes > 0


def test_stats_of_a_random_tape_hold_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With numbers as extreme as a tape may hold them; by disk and by worker come to the same as all."""
    calls = make_run(3, steps=300)
    write(folder / "r", HEADER, calls, flush_every=20)
    print_stats(str(folder / "r"), as_json=True)
    stats = json.loads(capsys.readouterr().out)
    for parts in (stats["disks"], stats["workers"]):
        for name in ("requests", "failed_requests", "conflicts"):
            assert sum(part[name] for part in parts) == stats["all"][name]
    assert [disk["name"] for disk in stats["disks"]] == ["disk0", "disk1"]
    print_stats(str(folder / "r"), as_json=False)
    shown = capsys.readouterr().out
    for words in ("by disk", "by worker", "write_zeroes", "disk1", "p99.99", "percentiles are off by"):
        assert words in shown


def test_more_workers_than_are_told_apart(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "PAIRS_MAX", 2)
    calls = crowded_run(8)
    write(folder / "m", HEADER, calls)
    with TapeReader.open(folder / "m") as reader:
        sums = tallies.Tallies(3, 2)
        for joined in iter_joined(reader):
            sums.take(joined)
        requests = sum(kind.requests for tally in sums.pairs.values() for kind in tally.kinds.values())
        assert requests == reader.totals.requests
    assert tallies.OTHERS in sums.pairs
    assert len(sums.pairs) == 3


def test_a_damaged_and_a_cut_tape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = crowded_run(4)
    write(folder / "d", HEADER, calls, flush_every=10)
    print_stats(str(without_seal(folder / "d")), as_json=True)
    whole = capsys.readouterr()
    assert "d.cut is unsealed: the recording was cut after request id" in whole.err
    with pytest.raises(TapeDamaged):
        print_stats(str(without_seal(folder / "d", cut_bytes=3)), as_json=True)
    damaged = json.loads(capsys.readouterr().out)
    with TapeReader.open(folder / "d.cut") as reader, pytest.raises(TapeDamaged):
        for _ in iter_rows(reader):
            pass
    assert damaged["all"]["requests"] == reader.totals.requests <= json.loads(whole.out)["all"]["requests"]


def test_rows_come_in_the_order_of_time_within_the_window() -> None:
    rng = random.Random(6)
    times = [1000 * i + rng.randrange(20_000) for i in range(3000)]
    dtype = np.dtype([("at_ns", "<i8")])
    sorter = in_time.InTime(dtype, rows_max=64)
    out: list[int] = []
    for start in range(0, 3000, 100):
        rows = np.array([(t,) for t in times[start : start + 100]], dtype=dtype)
        out += sorter.take(rows)["at_ns"].tolist()
        assert len(sorter._waiting) <= 64
    out += sorter.rest()["at_ns"].tolist()
    assert out == sorted(times)
