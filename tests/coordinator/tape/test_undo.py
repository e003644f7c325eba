"""Undo frames stand between blocks and disturb none of them; faults are counted as they are."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.faults import Faults
from ringtape.coordinator.tape import (
    TapeDamagedAt,
    TapeReader,
    TapeWriter,
    frames,
    index,
    iter_rows,
    repair,
    verify,
)
from ringtape.coordinator.tape.undo import UNDO_BYTES_MAX, UndoScan
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeError
from tests.coordinator.tape.making import faults_of, give, make_header, make_run, rows_of
from tests.coordinator.tape.test_format import described_frames

CALLS = make_run(9, steps=60)
Range = tuple[int, int, bytes]


def undo_header() -> tape_pb2.Header:
    header = make_header()
    header.disks[1].undo = True
    return header


def write_both(path: Path, ranges: list[Range], *, seal: bool = True) -> None:
    """A block every few calls, and an undo frame at any time in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "STRIDE_BLOCKS", 2)
        left = list(ranges)
        with TapeWriter(path, undo_header()) as tape:
            for number, call in enumerate(CALLS):
                give(tape, [call])
                if number % 5 == 0:
                    tape.flush()
                if left and number % 3 == 0:
                    tape.undo(*left.pop(0))
            assert not left
            if seal:
                tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))


def made_ranges(seed: int) -> list[Range]:
    rng = random.Random(seed)
    return [
        (1, 512 * rng.randrange(1000), rng.choice([bytes, rng.randbytes])(512 * rng.randint(1, 9)))
        for _ in range(15)
    ]


def test_blocks_are_read_past_undo_frames_and_these_past_blocks(tmp_path: Path) -> None:
    path, ranges = tmp_path / "t", made_ranges(1)
    write_both(path, ranges)
    report = verify(path)
    assert report.sound, report.damages
    assert report.indexed_blocks > 2
    with TapeReader.open(path) as reader:
        assert list(iter_rows(reader)) == rows_of(undo_header(), CALLS)
        scan = UndoScan()
        found = list(reader.undo_ranges(scan))
        assert [(undo.disk, undo.offset, undo.data) for _, undo in found] == ranges
        assert [undo.number for _, undo in found] == list(range(1, 16))
        assert (scan.count, scan.last, scan.lost, scan.damage) == (15, 15, 0, None)
        assert all(reader.undo_at(offset) == undo for offset, undo in found)
        seal = reader.find_seal()
        assert seal is not None
        assert seal.undos == 15
        last = reader.seek(request_id=seal.requests)
        assert [block.first_id for block in reader.blocks(last)]


def test_the_frame_is_as_described(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_both(path, [(1, 1024, b"x" * 512)])
    found = list(described_frames(path.read_bytes()))
    header = next(payload for type_, payload in found if type_ == 1)
    (payload,) = [payload for type_, payload in found if type_ == 7]
    name = struct.pack("<Q", xxhash.xxh3_64_intdigest(header))
    assert payload == b"\x08\x01\x10\x80\x08\x1a\x80\x04" + b"x" * 512 + b"\x20\x01\x29" + name


@pytest.mark.parametrize(
    "wrong",
    [
        (0, 0, bytes(512)),
        (2, 0, bytes(512)),
        (1, 0, b""),
        (1, 0, bytes(100)),
        (1, 100, bytes(512)),
        (1, 1 << 40, bytes(512)),
        (1, 0, bytes(UNDO_BYTES_MAX + 512)),
    ],
)
def test_a_range_that_the_tape_cannot_have_is_a_mistake_here_and_damage_there(
    wrong: Range, tmp_path: Path
) -> None:
    path = tmp_path / "t"
    with (
        TapeWriter(path, undo_header()) as tape,
        pytest.raises(AssertionError, match="does not hold together"),
    ):
        tape.undo(*wrong)
    undo = tape_pb2.Undo(disk=wrong[0], offset=wrong[1], data=wrong[2], number=1)
    frame = frames.FrameEncoder().encode(frames.FrameType.UNDO, undo.SerializeToString())
    path.write_bytes(path.read_bytes() + frame)
    assert not verify(path).sound
    with TapeReader.open(path) as reader:
        scan = UndoScan()
        assert not list(reader.undo_ranges(scan))
        assert scan.damage == path.stat().st_size - len(frame)


@settings(max_examples=40)
@given(st.data())
def test_what_is_whole_is_found_whatever_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes of one frame are changed, or the tape is cut: the others are found, and what is missing is known."""
    path, ranges = tmp_path_factory.mktemp("undo") / "t", made_ranges(2)
    write_both(path, ranges)
    content = bytearray(path.read_bytes())
    with TapeReader.open(path) as reader:
        start = reader.first_block
        offsets = [offset for offset, _ in reader.undo_ranges(UndoScan())]
    place = data.draw(st.integers(start, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] ^= data.draw(st.integers(1, 255))
        hit = [offset for offset in offsets if offset <= place]
        end_of_hit = None
        if hit:
            (_, length) = frames.skip_frame(
                lambda n, at: path.read_bytes()[at : at + n], hit[-1], 1 << 40
            ) or (0, 0)
            end_of_hit = hit[-1] + length
        lost = {hit[-1]} if end_of_hit is not None and place < end_of_hit else set()
    else:
        del content[place:]
        lost = {
            offset for offset, after in zip(offsets, [*offsets[1:], 1 << 40], strict=True) if after > place
        }
    path.write_bytes(content)
    with TapeReader.open(path) as reader:
        scan = UndoScan()
        found = [undo.number for _, undo in reader.undo_ranges(scan)]
    expected = [number for number, offset in enumerate(offsets, 1) if offset not in lost]
    assert set(expected) <= set(found)
    assert [undo for undo in found if undo not in expected] in ([], [len(found)]), (
        "the last before the cut may be whole"
    )
    if len(content) > place:
        assert found == expected
        assert scan.lost == len(lost) or offsets[-1] in lost or place > offsets[-1]
        assert scan.damage is not None


@pytest.mark.parametrize("way", ["swapped", "twice", "the tape twice"])
@pytest.mark.parametrize("nth", [0, 7, 13])
def test_repair_keeps_ranges_that_stand_out_of_order(way: str, nth: int, tmp_path: Path) -> None:
    bad, good, ranges = tmp_path / "bad", tmp_path / "good", made_ranges(3)
    write_both(bad, ranges)
    data = bad.read_bytes()
    with TapeReader.open(bad) as reader:
        one, other = [offset for offset, _ in reader.undo_ranges(UndoScan())][nth : nth + 2]
        ends = []
        for offset in (one, other):
            found = frames.skip_frame(reader.read, offset, len(data))
            assert found is not None
            ends.append(offset + found[1])
    first, second = data[one : ends[0]], data[other : ends[1]]
    expected = [*ranges]
    if way == "swapped":
        bad.write_bytes(data[:one] + second + data[ends[0] : other] + first + data[ends[1] :])
        expected[nth : nth + 2] = reversed(ranges[nth : nth + 2])
    elif way == "twice":
        bad.write_bytes(data[:other] + first + data[other:])
        expected.insert(nth + 1, ranges[nth])
    else:
        bad.write_bytes(data + data)
        expected += ranges
    assert not verify(bad).sound
    repair(bad, good)
    report = verify(good)
    assert report.sound, report.damages
    with TapeReader.open(good) as reader:
        found_ranges = [(undo.disk, undo.offset, undo.data) for _, undo in reader.undo_ranges(UndoScan())]
    assert found_ranges == expected


@settings(max_examples=40)
@given(st.integers(0, 1 << 32), st.booleans())
def test_faults_are_found_and_counted(
    tmp_path_factory: pytest.TempPathFactory, seed: int, seal: bool
) -> None:
    path = tmp_path_factory.mktemp("faults") / "t"
    header, calls = make_header(), make_run(seed, steps=50)
    with TapeWriter(path, header) as tape:
        give(tape, calls, flush_every=random.Random(seed).choice([0, 3, 10]))
        if seal:
            tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    expected = faults_of(rows_of(header, calls))
    found = set()
    with TapeReader.open(path) as reader:
        faults = Faults.of_tape(reader)
        for worker in range(header.workers):
            messages = [message.faults for message in faults.messages(worker)]
            assert bool(messages) == faults.has(worker)
            assert [message.last for message in messages] == [False] * (len(messages) - 1) + [True] * bool(
                messages
            )
            for message in messages:
                sequence = np.frombuffer(message.sequence, "<u8")
                assert (np.diff(sequence.astype(np.int64)) > 0).all()
                found |= {
                    (worker, *row)
                    for row in zip(
                        sequence.tolist(), np.frombuffer(message.result, "<i8").tolist(), strict=True
                    )
                }
        assert found == expected
        if seal:
            found_seal = reader.find_seal()
            assert found_seal is not None
            assert found_seal.faults == len(expected)
    assert verify(path).sound


def test_a_seal_that_counts_otherwise_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_both(path, made_ranges(3))
    data = path.read_bytes()
    with TapeReader.open(path) as reader:
        seal = reader.find_seal()
    assert seal is not None
    whole = len(data) - len(_sealed(seal))
    assert data[whole:] == _sealed(seal)
    for field in ("faults", "undos"):
        other = tape_pb2.Seal()
        other.CopyFrom(seal)
        setattr(other, field, getattr(seal, field) + 1)
        path.write_bytes(data[:whole] + _sealed(other))
        (damage,) = verify(path).damages
        assert field[:4] in damage.problem
        with TapeReader.open(path) as reader:
            assert len(list(reader.blocks())) > 5, "a replay can do without"


def _sealed(seal: tape_pb2.Seal) -> bytes:
    return frames.FrameEncoder().encode(frames.FrameType.SEAL, seal.SerializeToString())


def test_an_undo_frame_that_does_not_reach_the_file_is_an_error(tmp_path: Path) -> None:
    """On /dev/full, where every write fails."""
    header = undo_header()
    with TapeWriter("/dev/full", header) as tape, pytest.raises(TapeError, match="no space left"):
        tape.undo(1, 0, bytes(512))
    assert issubclass(TapeDamagedAt, TapeError)
