"""`verify` names every damage, and `repair` keeps all that stands before the first and nothing else."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ringtape.coordinator.tape import (
    TapeDamagedAt,
    TapeEnd,
    TapeReader,
    TapeWriter,
    VerifyReport,
    frames,
    index,
    iter_rows,
    repair,
    verify,
)
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeError
from tests.coordinator.tape.making import Requests, all_completed, give, make_header, make_run, write

HEADER = make_header()
CALLS = make_run(9, steps=60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "t"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "STRIDE_BLOCKS", 3)
        write(path, HEADER, CALLS, flush_every=6)
    return path


def blocks_of(path: Path) -> list[tuple[int, int, int, int]]:
    """Of each block: offset, end, first id, requests."""
    with TapeReader.open(path) as reader:
        return [
            (view.offset, view.offset + view.frame_bytes, view.first_id, view.request_count)
            for view in reader.blocks()
        ]


def changed(path: Path, whole: Path, change: Callable[[bytearray], None]) -> VerifyReport:
    data = bytearray(whole.read_bytes())
    change(data)
    path.write_bytes(data)
    return verify(path)


def test_a_whole_tape_is_sound(whole: Path, tmp_path: Path) -> None:
    report = verify(whole)
    blocks = blocks_of(whole)
    assert (report.sound, report.end, report.damages) == (True, TapeEnd.SEALED, ())
    assert (report.blocks, report.indexed_blocks) == (len(blocks), (len(blocks) - 1) // 3)
    assert report.indexed_blocks > 1
    assert report.whole.requests == sum(len(call.rows) for call in CALLS if isinstance(call, Requests))
    assert (report.whole_bytes, report.file_bytes) == (whole.stat().st_size,) * 2
    assert (report.requests_lost, report.stranded_requests) == (0, 0)
    assert repair(whole, tmp_path / "copy") == report
    assert (tmp_path / "copy").read_bytes() == whole.read_bytes()


def test_a_damaged_block_is_named_and_what_follows_counted(whole: Path, tmp_path: Path) -> None:
    blocks = blocks_of(whole)
    total = sum(requests for *_, requests in blocks)
    start, end, first_id, lost = blocks[3]

    def flip(data: bytearray) -> None:
        data[end - 1] ^= 4

    report = changed(tmp_path / "bad", whole, flip)
    (damage,) = report.damages
    assert (damage.offset, damage.end, damage.block) == (start, end, 4)
    assert (damage.problem, damage.requests_lost) == ("its checksum is wrong", lost)
    assert report.end is TapeEnd.DAMAGED
    assert (report.whole.requests, report.whole_bytes, report.blocks) == (first_id - 1, start, 3)
    assert report.stranded_requests == total - lost - (first_id - 1)
    assert report.requests_lost == total - (first_id - 1)
    assert report.seal is not None


def test_a_hole_and_a_cut_are_two_damages(whole: Path, tmp_path: Path) -> None:
    blocks = blocks_of(whole)

    def damage(data: bytearray) -> None:
        del data[blocks[-1][1] - 3 :]
        del data[blocks[2][0] : blocks[3][1]]

    report = changed(tmp_path / "bad", whole, damage)
    hole, cut = report.damages
    # The block that stands where the hole was is whole by itself, and is not what comes next.
    assert (hole.offset, hole.block) == (blocks[2][0], 3)
    assert hole.requests_lost == sum(requests for *_, requests in blocks[2:5])
    assert "requests begin at" in hole.problem or "tokens begin at" in hole.problem
    assert (cut.end, cut.requests_lost) == (report.file_bytes, None)
    assert report.requests_lost is None, "no seal tells how many there were"


def test_swapped_blocks_are_found(whole: Path, tmp_path: Path) -> None:
    blocks = blocks_of(whole)

    def swap(data: bytearray) -> None:
        (a, middle, *_), (_, end, *_) = blocks[1], blocks[2]
        data[a:end] = data[middle:end] + data[a:middle]

    report = changed(tmp_path / "bad", whole, swap)
    assert (report.blocks, report.damages[0].offset) == (1, blocks[1][0])


def test_an_index_that_lies_is_found(whole: Path, tmp_path: Path) -> None:
    def lie(data: bytearray) -> None:
        with TapeReader.open(whole) as reader:
            found = reader.find_index()
        assert found is not None
        encoder = frames.FrameEncoder()
        old = encoder.encode(frames.FrameType.INDEX, found.SerializeToString())
        found.snapshots[1].in_flight_id = found.snapshots[1].in_flight_id[::-1] or b""
        found.snapshots[1].tokens += 1
        at = data.index(old)
        data[at : at + len(old)] = encoder.encode(frames.FrameType.INDEX, found.SerializeToString())

    report = changed(tmp_path / "bad", whole, lie)
    assert report.damages[0].problem == "the index says something else about what is before it"


@pytest.mark.parametrize("seed", range(60))
def test_a_repaired_tape_reads_as_far_as_the_damaged_one(whole: Path, tmp_path: Path, seed: int) -> None:
    """Whatever happens to the bytes: the repaired tape is sound, and holds what a reader of the damaged one gets."""
    rng = random.Random(seed)
    start = blocks_of(whole)[0][0]

    def damage(data: bytearray) -> None:
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(start, len(data))
            match rng.randrange(4):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    del data[at : at + rng.randint(1, 500)]
                case 3:
                    data[at:at] = rng.randbytes(rng.randint(1, 100))
            if len(data) <= start:
                return

    bad, good = tmp_path / "bad", tmp_path / "good"
    report = changed(bad, whole, damage)
    assert repair(bad, good) == report
    rows = []
    with TapeReader.open(bad) as reader:
        try:
            rows.extend(iter_rows(reader))
        except TapeDamagedAt as error:
            assert error.offset == report.damages[0].offset
    with TapeReader.open(good) as reader:
        assert list(iter_rows(reader)) == rows
    after = verify(good)
    assert after.sound
    assert (after.whole, after.blocks) == (report.whole, report.blocks)
    ends = [damage.end for damage in report.damages]
    assert all(damage.offset < damage.end <= report.file_bytes for damage in report.damages)
    assert ends == sorted(ends)


def test_repair_overwrites_nothing(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    for good, reason in (("precious", "it exists already"), ("no/t", "No such file or directory")):
        with pytest.raises(TapeError) as caught:
            repair(whole, tmp_path / good)
        assert str(caught.value) == f"cannot write the tape {tmp_path / good}: {reason}"
    assert (tmp_path / "precious").read_text() == "x"
    with pytest.raises(TapeError, match="it exists already"):
        repair(whole, whole)


@pytest.mark.parametrize(("sync", "synced"), [("none", 0), ("block", 2), ("checkpoint", 3)])
def test_a_tape_is_synced_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str, synced: int
) -> None:
    """Two blocks, by hand, and two tokens: what a token says is on the device when it has been given."""
    sizes: list[int] = []

    def fdatasync(fd: int) -> None:
        sizes.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    with TapeWriter(tmp_path / "t", HEADER, sync=sync) as tape:  # type: ignore[arg-type]
        give(tape, all_completed(5))
        tape.flush()
        for _ in range(2):
            tape.token(0, 0, 0, 0, 1, None, 0)
            if sync == "checkpoint":
                assert sizes[-1] == (tmp_path / "t").stat().st_size
                assert tape.next_flush_ns() is None
        tape.flush()
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    assert len(sizes) == synced
    assert verify(tmp_path / "t").sound
