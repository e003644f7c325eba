"""Goal: the volume face does what single requests do. Method: arrays of all kinds that overlap, on real files.

What the tape says of each request is carried out once more on a model, in the order of their ids: each read must have
read what the model holds. A replay must see the same, and so must the ways in which requests go one by one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_hexdigest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.engine.pattern import pattern, pattern_of
from tests.programs import volumes
from tests.programs.volumes import BLOCK, Load, Work
from tests.searching import slow

Program = Callable[[Any], Any]
DISK_BYTES = 1 << 20


def disks(folder: Path, **options: Any) -> list[Disk]:
    return [Disk(name, folder / f"{name}.img", size=DISK_BYTES, fresh=True, **options) for name in ("a", "b")]


def by_id(tape: ringtape.Tape) -> list[ringtape.TapeRequest]:
    """The requests in the order in which those that conflict were done.

    A tape gives them as they were released: a worker may see what another has written before that one does.
    """
    return sorted(tape.requests(), key=lambda request: request.id)


def check_against_model(tape: Path, own: dict[tuple[int, int], list[bytes]]) -> int:
    """Carry out what the tape says on bytes in memory; returns how many reads agreed."""
    model = {name: bytearray(DISK_BYTES) for name in ("a", "b")}
    agreed = 0
    with ringtape.open_tape(tape) as opened:
        for request in by_id(opened):
            content = model[request.disk]
            span = slice(request.offset, request.offset + request.length)
            if request.kind in ("write_zeroes", "discard"):
                content[span] = bytes(request.length)
            elif request.kind == "write":
                made = pattern(request.worker, request.sequence, request.offset, request.length)
                usual = volumes.ordinary_data(request.offset, request.length)
                candidates = [made, usual, *own.get((request.offset, request.length), [])]
                (data,) = {one for one in candidates if xxh3_64_hexdigest(one) == request.request_digest}
                content[span] = data
            elif request.kind == "read":
                assert request.result == request.length
                assert xxh3_64_hexdigest(content[span]) == request.digest, request
                agreed += 1
    return agreed


def own_data(works: list[Work], disk_count: int = 2) -> dict[tuple[int, int], list[bytes]]:
    """What writes from the caller's buffer may have written, by range."""
    found: dict[tuple[int, int], list[bytes]] = {}
    for load in (load for work in works for load in work.loads if load.own_data):
        for number in range(load.arrays):
            rows, place = volumes.array_of(load, number, disk_count), 0
            data = volumes.options_of(load, rows)[0].get("data")
            if data is None:
                continue
            for row in rows[rows["kind"] == 2]:
                length = int(row["length"])
                found.setdefault((int(row["offset"]), length), []).append(data[place : place + length])
                place += length
    return found


def record_and_replay(program: Program, folder: Path, works: list[Any], **options: Any) -> ringtape.Result:
    tape = folder / "run.tape"
    workers = len(works)
    given_disks = options.pop("disks", None) or disks(folder)
    recorded = ringtape.record(
        program, disks=given_disks, workers=workers, arguments=works, tape=tape, **options
    )
    recorded.raise_for_failures()
    left = [(folder / f"{name}.img").read_bytes() for name in ("a", "b")]
    replayed = ringtape.replay(tape)
    assert (replayed.digest, replayed.returns) == (recorded.digest, recorded.returns)
    assert [(folder / f"{name}.img").read_bytes() for name in ("a", "b")] == left
    return recorded


def rows_agree_with_tape(tape: Path, seen: list[Any]) -> None:
    """Ids, results and data of reads as the program saw them are those of the tape."""
    with ringtape.open_tape(tape) as opened:
        known = {request.id: request for request in opened.requests()}
    for number, sequence, result, latency_ns, digest in seen:
        request = known[number]
        assert (request.sequence, request.result) == (sequence, result)
        assert digest is None or digest == request.digest
        assert latency_ns >= 0


loads = st.builds(
    Load,
    seed=st.integers(0, 1 << 30),
    rows=st.integers(0, 300),
    arrays=st.integers(1, 3),
    depth=st.sampled_from([1, 3, 32, 64, 600]),
    blocks=st.sampled_from([8, 64, 250]),
    longest=st.sampled_from([1, 1, 4, 8]),
    kinds=st.sampled_from([(1,), (2,), (1, 2), (1, 1, 1, 2), (1, 2, 3, 4, 5)]),
    streams=st.booleans(),
    own_data=st.booleans(),
    keeps=st.booleans(),
    timed=st.booleans(),
)


@slow(6)
@given(
    program=st.sampled_from([volumes.run, volumes.run_blocking]),
    work=st.lists(loads, min_size=1, max_size=3),
    strict=st.booleans(),
)
def test_what_is_read_is_what_was_written_and_a_replay_sees_the_same(
    tmp_path_factory: pytest.TempPathFactory, program: Program, work: list[Load], strict: bool
) -> None:
    folder = tmp_path_factory.mktemp("volume")
    works = [Work(tuple(work), ordinary=20)]
    recorded = record_and_replay(program, folder, works, strict=strict)
    check_against_model(folder / "run.tape", own_data(works))
    parts = recorded.returns[0] if program is volumes.run else recorded.returns[0][0]
    for load, seen in zip(work, parts if program is volumes.run else [parts] * len(work), strict=False):
        if program is volumes.run and not load.streams:
            for rows in seen:
                rows_agree_with_tape(folder / "run.tape", rows)


@pytest.mark.parametrize(
    "load",
    [
        Load(1, 2000, kinds=(1, 2), longest=1, blocks=250, depth=16),
        # Many overlap, of several lengths, and few are due at a time.
        Load(2, 500, kinds=(1, 2, 2), longest=6, blocks=12, timed=True, depth=16),
        # More than the kernel may have at a time.
        Load(3, 6000, kinds=(1,), longest=1, blocks=250, depth=2000),
    ],
)
def test_reads_and_writes_go_by_columns(tmp_path: Path, load: Load) -> None:
    """Else the tests here would say nothing of them: the worker tells by its program."""
    result = ringtape.run(volumes_by_columns, disks=disks(tmp_path), arguments=load)
    result.raise_for_failures()
    # Some go alone where an older one takes long.
    assert result.returns[0] > load.rows * 2 // 3


def test_rows_of_any_length_at_any_place_wait_for_those_that_they_overlap(tmp_path: Path) -> None:
    large = [Disk(name, tmp_path / f"{name}.img", size=2 << 20, fresh=True) for name in ("a", "b")]
    found, expected = record_and_replay(volumes.anywhere, tmp_path, [Work(())], disks=large).returns[0]
    assert found == expected


def volumes_by_columns(io: ringtape.BlockingWorker) -> int:
    from ringtape.engine.columns import Columns

    counted = 0
    issue = Columns.issue

    def counting(self: Columns, chunk: Any, first: int, last: int, now_ns: int) -> None:
        nonlocal counted
        counted += last - first
        issue(self, chunk, first, last, now_ns)

    Columns.issue = counting  # type: ignore[method-assign]
    io.submit(volumes.array_of(io.arguments, 0, 2), depth=io.arguments.depth)
    return counted


def ignored(_: ringtape.WatchedRequest) -> None:
    pass


MIXED = Work(
    (
        Load(5, 400, depth=32, blocks=64),
        Load(6, 300, arrays=2, depth=16, streams=True, longest=1, kinds=(1, 2)),
        Load(7, 200, depth=8, own_data=True, kinds=(1, 2, 2)),
    ),
    ordinary=10,
)


@pytest.mark.parametrize("program", [volumes.run, volumes.run_blocking])
def test_requests_that_go_one_by_one_give_the_same(tmp_path: Path, program: Program) -> None:
    """Offline, watched and disturbed replays have no columns, and a recording that keeps undo has none either."""
    recorded = record_and_replay(program, tmp_path, [MIXED], data="full")
    tape = tmp_path / "run.tape"
    assert check_against_model(tape, own_data([MIXED])) > 100
    for options in ({"offline": True}, {"watch": ["a:0:64K"], "on_watched": ignored}, {"disturb": 3}):
        replayed = ringtape.replay(tape, **options)  # type: ignore[arg-type]
        assert (replayed.digest, replayed.returns) == (recorded.digest, recorded.returns), options
    folder = tmp_path / "undo"
    folder.mkdir()
    kept = [Disk(name, folder / f"{name}.img", size=DISK_BYTES, undo=True) for name in ("a", "b")]
    record_and_replay(program, folder, [MIXED], disks=kept)
    assert check_against_model(folder / "run.tape", own_data([MIXED])) > 100


def test_rows_behind_a_slow_one_go_alone(tmp_path: Path) -> None:
    work = Work((Load(11, 2000, depth=64, kinds=(1, 1, 2), longest=1, blocks=250),))
    record_and_replay(volumes.narrow, tmp_path, [work])
    assert check_against_model(tmp_path / "run.tape", own_data([work])) > 1000


def test_writes_of_one_length_take_their_data_from_the_buffer(tmp_path: Path) -> None:
    work = Work((Load(12, 900, depth=64, own_data=True, kinds=(2,), longest=1, blocks=250),))
    record_and_replay(volumes.run_blocking, tmp_path, [work])
    own = own_data([work])
    model = {name: bytearray(DISK_BYTES) for name in ("a", "b")}
    written = 0
    with ringtape.open_tape(tmp_path / "run.tape") as opened:
        for request in by_id(opened):
            (data,) = {
                one
                for one in own[request.offset, request.length]
                if xxh3_64_hexdigest(one) == request.request_digest
            }
            model[request.disk][request.offset : request.offset + request.length] = data
            written += 1
    assert written == 900
    assert all((tmp_path / f"{name}.img").read_bytes() == model[name] for name in model)


def test_shared_disks_and_several_workers(tmp_path: Path) -> None:
    works = [MIXED, Work((Load(8, 300, kinds=(1, 2), longest=1),), ordinary=5)]
    record_and_replay(volumes.run, tmp_path, works)
    assert check_against_model(tmp_path / "run.tape", own_data(works)) > 100


def test_a_worker_sees_what_another_wrote_before_that_one_does(tmp_path: Path) -> None:
    """A block for each checkpoint: the write is in a later one than the read of what it wrote."""
    done = tmp_path / "done"
    record_and_replay(volumes.overtaking, tmp_path, [done, done], tape_sync="checkpoint")
    with ringtape.open_tape(tmp_path / "run.tape") as opened:
        assert [(request.id, request.kind) for request in opened.requests()] == [(2, "read"), (1, "write")]
    assert check_against_model(tmp_path / "run.tape", {}) == 1


@pytest.mark.parametrize("program", [volumes.run, volumes.run_blocking])
def test_leased_workers_that_submit(tmp_path: Path, program: Program) -> None:
    """Each on a disk of its own; ids have to be asked for, for arrays and single rows."""
    works = [Work(MIXED.loads, ordinary=10), Work((Load(8, 300, kinds=(1, 2), longest=1),), ordinary=5)]
    given = [
        Disk(name, tmp_path / f"{name}.img", size=DISK_BYTES, fresh=True, workers=[number])
        for number, name in enumerate(("a", "b"))
    ]
    recorded = record_and_replay(program, tmp_path, works, disks=given, strict=False)
    with TapeReader.open(tmp_path / "run.tape") as reader:
        assert reader.header.leased
    check_against_model(tmp_path / "run.tape", own_data(works, 1))
    if program is volumes.run:
        for rows in recorded.returns[0][0]:
            rows_agree_with_tape(tmp_path / "run.tape", rows)


@pytest.mark.parametrize("data", ["order", "digest", "full"])
def test_racing_requests_and_every_level_of_data(tmp_path: Path, data: Any) -> None:
    work = Work((Load(9, 500, kinds=(1,), longest=2), Load(10, 200, kinds=(1, 2), blocks=200)))
    record_and_replay(volumes.run_blocking, tmp_path, [work], data=data)
    reads = Work((Load(9, 500, kinds=(1,), longest=2),))
    record_and_replay(volumes.run, tmp_path, [reads], data=data, overlap="race")


def test_a_program_that_asks_for_something_else_diverges(tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    switch.write_text("0")
    tape = tmp_path / "run.tape"
    ringtape.record(
        volumes.changed, disks=disks(tmp_path), arguments=str(switch), tape=tape
    ).raise_for_failures()
    switch.write_text(str(BLOCK))
    with pytest.raises(ringtape.Divergence) as caught:
        ringtape.replay(tape)
    assert (caught.value.worker, caught.value.request_id) == (0, 101)
    assert "submit" in str(caught.value.stack or "") or "changed" in str(caught.value)


def test_other_data_on_the_disk_is_a_divergence_at_that_request(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(np.random.default_rng(1).bytes(DISK_BYTES))
    switch = tmp_path / "switch"
    switch.write_text("0")
    tape = tmp_path / "run.tape"
    ringtape.record(volumes.changed, disks=[Disk("a", path)], arguments=str(switch), tape=tape)
    with path.open("r+b") as file:
        file.seek(30 * BLOCK)
        file.write(b"other")
    with pytest.raises(ringtape.Divergence) as caught:
        ringtape.replay(tape, force=True)
    assert caught.value.request_id == 31


def test_bad_rows_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    result = ringtape.run(volumes.refused, disks=disks(tmp_path))
    result.raise_for_failures()
    assert result.requests == 0
    texts, block = result.returns[0]
    assert texts == [
        "row 3: kind 9 is none of 1 read, 2 write, 3 write_zeroes, 4 discard, 5 fsync",
        "row 3: there is no disk 7 in io.disks; there are 0 'a', 1 'b'",
        f"row 3: offset 100 on disk 'a' is not a multiple of its block size {block}",
        f"row 3: offset -4096 with length 4096 is out of range on disk 'a' of {DISK_BYTES} bytes",
        f"row 3: offset {1 << 40} with length 4096 is out of range on disk 'a' of {DISK_BYTES} bytes",
        f"row 3: length 100 on disk 'a' is not a multiple of its block size {block}",
        f"row 3: length 0 on disk 'a' must be at least one block of {block} bytes",
        "row 3: flags 4 do not go with a write",
        "row 3: time_ns -1 is before the call",
        "row 3: depth 0 lets no request be made; it is 1 or more",
        "row 0: an fsync has offset 0 and length 0, not 0 and 4096",
        "requests are a one-dimensional NumPy array with fields kind, disk, offset, length, "
        "not 1-dimensional array of float64",
        "requests are a one-dimensional NumPy array with fields kind, disk, offset, length, not int",
        "the array of requests has no field 'length'; its fields are kind, disk, offset",
        "the array of requests has a field 'color' that nobody knows",
        "field 'kind' of the array of requests holds float64, not whole numbers",
        "depth 0 must be a whole number from 1 to 65536",
        "the buffer 'data' has 4 bytes, but the writes of the array come to 0",
        "the buffer 'into' is read-only",
        "'on_results' goes with many arrays, not with one",
        "'data' and 'into' go with one array, not with many",
    ]


def test_calls_that_end_early_leave_nothing_behind(tmp_path: Path) -> None:
    tape = tmp_path / "run.tape"
    recorded = ringtape.record(volumes.left, disks=disks(tmp_path), tape=tape)
    recorded.raise_for_failures()
    seen, rows, _ = recorded.returns[0]
    assert seen == ["CancelledError", "'enough'"]
    assert [row[2] for row in rows] == [BLOCK] * 500
    replayed = ringtape.replay(tape)
    assert (replayed.digest, replayed.returns) == (recorded.digest, recorded.returns)
    check_against_model(tape, {})


def test_a_failing_request_says_so_in_its_row(tmp_path: Path) -> None:
    """A file that shrinks under the run: reads past its end give nothing, and nothing is raised."""
    load = Load(3, 300, kinds=(1,), blocks=250, longest=1)
    result = ringtape.run(
        shrunken, disks=[Disk("a", tmp_path / "a.img", size=DISK_BYTES, fresh=True)], arguments=load
    )
    result.raise_for_failures()
    assert result.returns == [([0, BLOCK], True)]


def shrunken(io: ringtape.BlockingWorker) -> Any:
    import os

    rows = volumes.array_of(io.arguments, 0, 1)
    os.truncate(f"/proc/self/fd/{disk_descriptor('a.img')}", 100 * BLOCK)
    into = bytearray(b"x" * len(rows) * BLOCK)
    results = io.submit(rows, into=into)["result"]
    expected = np.where(rows["offset"] < 100 * BLOCK, BLOCK, 0)
    untouched = all(
        into[place * BLOCK : (place + 1) * BLOCK] == (b"x" if not result else b"\0") * BLOCK
        for place, result in enumerate(results.tolist())
    )
    return np.unique(results).tolist(), bool((results == expected).all()) and untouched


def disk_descriptor(name: str) -> str:
    (found,) = {
        entry.name
        for entry in Path("/proc/self/fd").iterdir()
        if entry.exists() and entry.readlink().name == name
    }
    return found


def test_a_stream_tells_what_is_made_and_reads_into_a_buffer_for_each_array(tmp_path: Path) -> None:
    recorded = record_and_replay(volumes.told, tmp_path, [Work(())])
    counts, found, expected = recorded.returns[0]
    assert found == expected
    assert counts == sorted(set(counts))
    assert (counts[-1], max(np.diff([0, *counts]))) == (300, 16)


def test_memory_that_held_a_write_of_the_pattern_needs_new_stamps_and_nothing_else(tmp_path: Path) -> None:
    found, expected = record_and_replay(volumes.stamped, tmp_path, [Work(())]).returns[0]
    assert found == expected


def test_rows_may_say_how_many_are_under_way_with_them(tmp_path: Path) -> None:
    record_and_replay(volumes.with_depths, tmp_path, [Work(())])
    with ringtape.open_tape(tmp_path / "run.tape") as opened:
        requests = by_id(opened)
    assert len(requests) == 2 * 2 * len(volumes.DEPTHS)
    found = under_way_of(requests)
    assert all(mine <= most for mine, most in zip(found, volumes.DEPTHS * 4, strict=True))
    # As many as may be: the sixth is the first that has to wait.
    assert volumes.DEPTHS[:6] == [1, 2, 5, 10, 17, 3]
    assert found[:5] == [1, 2, 3, 4, 5]


def under_way_of(requests: Sequence[ringtape.TapeRequest]) -> list[int]:
    """With each request of a worker how many were not released, itself included."""
    return [
        sum((one.released_at or 1 << 62) > request.checkpoint for one in requests[: number + 1])
        for number, request in enumerate(requests)
    ]


def test_the_pattern_says_who_wrote_it() -> None:
    data = pattern(3, 77, 5 * BLOCK, 2 * BLOCK)
    assert pattern_of(data, 5 * BLOCK) == (3, 77)
    assert pattern_of(data[BLOCK:], 6 * BLOCK) == (3, 77)
    assert pattern_of(data[:-8] + bytes(8), 5 * BLOCK) is None
    # 0xE220A8397B1DCDAF and 0x6E789E6AA1B965F4 are the first outputs of SplitMix64 from state 0 on.
    at_start = pattern(3, 77, 0, 1024)
    words = [int.from_bytes(at_start[place : place + 8], "little") for place in (0, 8, 512)]
    stamp = (77 + 3 * 2**48) * 0x9E3779B97F4A7C15
    assert words == [stamp % 2**64, 0x6E789E6AA1B965F4, (512 // 8 + stamp) % 2**64]
    assert data[4096 + 512 - 8 : 4096 + 512] == at_start[512 - 8 : 512]


def test_a_worker_that_does_not_submit_does_not_load_numpy(tmp_path: Path) -> None:
    assert ringtape.run(loaded, disks=disks(tmp_path)).returns == [(False, True)]


def loaded(io: ringtape.BlockingWorker) -> Any:
    before = "ringtape.engine.volume" in sys.modules
    io.submit([])
    return before, "ringtape.engine.volume" in sys.modules


def test_nothing_that_a_worker_loads_imports_numpy() -> None:
    code = "import sys, ringtape.engine.worker, ringtape.engine.opening; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
