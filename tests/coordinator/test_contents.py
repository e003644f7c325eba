"""Goal: data goes onto the tape once and comes back by its number, in bounded memory, whoever writes the tape.

Method: the worker's side and the coordinator's side of it without processes, through a real tape; tables so small that
they forget all the time; and frames made by hand that lie.
"""

from __future__ import annotations

import random
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from ringtape.coordinator import contents as keeping
from ringtape.coordinator.contents import ContentsKeeper
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape import (
    NullTape,
    TapeDamagedAt,
    TapeReader,
    TapeWriter,
    contents,
    index,
    repair,
    verify,
)
from ringtape.coordinator.tape.frames import FrameType, Problem
from ringtape.engine import sent
from ringtape.engine.sent import SentContents
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from tests.coordinator.tape.making import make_header, u64
from tests.coordinator.tape.test_damage import frames_of, make_frame

PIECE = 64  # bytes, in these tests
WRITE = messages_pb2.KIND_WRITE


def full_header(workers: int = 2) -> tape_pb2.Header:
    header = make_header(workers=workers, disks=1)
    header.data = messages_pb2.DATA_LEVEL_FULL
    return header


def writes(numbers: list[int], data: list[bytes]) -> messages_pb2.Requests:
    count = len(data)
    return messages_pb2.Requests(
        kind=bytes([WRITE]) * count,
        flags=bytes(count),
        disk=bytes(2 * count),
        offset=bytes(8 * count),
        length=u64(map(len, data)),
        digest=u64(map(xxh3_64_intdigest, data)),
        contents=u64(numbers),
    )


class Sending:
    """Both sides for some workers, with small tables and pieces."""

    def __init__(self, path: Path, workers: int) -> None:
        self.tape = TapeWriter(path, full_header(workers))
        self.keeper = ContentsKeeper(self.tape)
        self.sides = [SentContents(self.take_of(worker), self.data_of(worker)) for worker in range(workers)]
        self.all: list[bytes] = []

    def data_of(self, worker: int) -> Callable[[Any], None]:
        return lambda parts: self.keeper.data(worker, bytearray(b"".join(parts)))

    def take_of(self, worker: int) -> Callable[[wire_pb2.Batch], None]:
        return lambda batch: self.keeper.take(worker, batch)

    def send(self, worker: int, data: list[bytes]) -> None:
        side = self.sides[worker]
        numbers = [side.number_of(memoryview(one)) for one in data]
        batch = wire_pb2.Batch(requests=writes(numbers, data))
        side.take(batch)
        self.keeper.take(worker, batch)
        self.tape.requests(worker, batch.requests, len(data), 0)
        self.all += data


@contextmanager
def small_limits() -> Iterator[None]:
    """Everything with a limit has a small one."""
    patches = [
        mock.patch.object(sent, "PIECE_BYTES", PIECE),
        mock.patch.object(sent, "SENT_MAX", 3),
        mock.patch.object(sent, "GATHERED_BYTES_MAX", 2 * PIECE),
        mock.patch.object(sent, "AT_ONCE_BYTES", PIECE - 5),
        mock.patch.object(keeping, "PIECE_BYTES", PIECE),
        mock.patch.object(keeping, "KNOWN_MAX", 2),
        mock.patch.object(contents, "PIECE_BYTES", PIECE),
        mock.patch.object(contents, "FRAME_BYTES", 3 * PIECE),
        mock.patch.object(contents, "CACHE_BYTES_MAX", 4 * PIECE),
        mock.patch.object(index, "STRIDE_BLOCKS", 2),
    ]
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield


def some_data(rng: random.Random) -> bytes:
    """Few values and lengths: pieces, and lists of up to eight of them (which is what a piece holds here)."""
    length = rng.choice((1, 7, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 8 * PIECE))
    value = rng.randrange(4)
    return bytes([value]) * length if value else rng.randbytes(length)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_sent_comes_back_by_its_number(seed: int) -> None:
    with small_limits(), tempfile.TemporaryDirectory() as folder:
        check_sending(random.Random(seed), Path(folder) / "t")


def check_sending(rng: random.Random, path: Path) -> None:
    workers = rng.randint(1, 3)
    sending = Sending(path, workers)
    for _ in range(rng.randint(1, 30)):
        sending.send(rng.randrange(workers), [some_data(rng) for _ in range(rng.randint(1, 4))])
        if rng.random() < 0.3:
            sending.tape.flush()
    sending.tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    with TapeReader.open(path) as reader:
        numbers = [
            number
            for block in reader.blocks()
            for number in memoryview(block.tables.request_contents).cast("Q")
        ]
        assert reader.seal is not None and reader.seal.contents == reader.contents.count
        assert len(numbers) == len(sending.all)
        order = list(range(len(numbers)))
        rng.shuffle(order)
        for i in order:
            one = sending.all[i]
            assert b"".join(reader.contents.pieces(numbers[i], len(one))) == one
            reader.contents.check(numbers[i], len(one), xxh3_64_intdigest(one))
        assert reader.contents._decoded_bytes <= 4 * PIECE
    with TapeReader.open(path) as reader:
        # From anywhere, with an index or without: what is before is looked for when it is asked for.
        id_ = rng.randint(1, len(numbers))
        block = next(reader.blocks(reader.seek(request_id=id_)))
        assert block.first_id <= id_ < block.first_id + block.request_count
        assert len([*reader.blocks(reader.seek(request_id=id_))]) > 0 and reader.seal is not None
        one = sending.all[id_ - 1]
        assert b"".join(reader.contents.pieces(numbers[id_ - 1], len(one))) == one
        with pytest.raises(Problem, match="no contents"):
            reader.contents.check(reader.contents.count + 10**6, 1, 0)
    assert verify(path).sound


def test_what_is_known_is_not_kept_again(tmp_path: Path) -> None:
    sending = Sending(tmp_path / "t", 2)
    same, other = bytes(5000), b"\1" * 5000
    sending.send(0, [same, same, other])
    sending.send(1, [other, same])
    sending.send(0, [same])
    sending.tape.close()
    with TapeReader.open(tmp_path / "t") as reader:
        (block,) = reader.blocks()
        assert memoryview(block.tables.request_contents).cast("Q").tolist() == [1, 1, 2, 2, 1, 1]
        assert (reader.contents.count, reader.contents.bytes) == (2, 10_000)
        for number, length in ((1, 4999), (2, 5001), (0, 5000), (3, 5000), (1, 2 << 20), (1, 1 << 60)):
            with pytest.raises(Problem, match="contents"):
                b"".join(reader.contents.pieces(number, length))


def new_contents(lists: bytes, *lengths: int) -> wire_pb2.NewContents:
    digests = bytes(16 * len(lists))
    return wire_pb2.NewContents(length=array("I", lengths).tobytes(), list=lists, digest=digests)


@pytest.mark.parametrize(
    ("data", "batch", "said"),
    [
        (b"", wire_pb2.Batch(requests=writes([1], [b"a"])), "has not sent"),
        (b"ab", wire_pb2.Batch(), "other lengths than their data"),
        (b"ab", wire_pb2.Batch(contents=new_contents(b"\0", 3)), "sent contents of 3 bytes, which cannot be"),
        (b"ab", wire_pb2.Batch(contents=new_contents(b"\0", 0, 2)), "columns of other lengths"),
        (
            b"ab",
            wire_pb2.Batch(contents=new_contents(b"\0\0", 0, 2)),
            "sent contents of 0 bytes, which cannot be",
        ),
        (u64([7]), wire_pb2.Batch(contents=new_contents(b"\1", 8)), "has not sent"),
    ],
)
def test_contents_that_cannot_be_break_the_protocol(data: bytes, batch: wire_pb2.Batch, said: str) -> None:
    keeper = ContentsKeeper(NullTape())
    if data:
        keeper.data(0, bytearray(data))
    with pytest.raises(ProtocolError, match=said):
        keeper.take(0, batch)


def test_numbers_that_were_forgotten_break_the_protocol(tmp_path: Path) -> None:
    with small_limits(), mock.patch.object(keeping, "_REMEMBERED", 4):
        sending = Sending(tmp_path / "t", 1)
        sending.send(0, [bytes([i]) for i in range(9)][5:])
        sending.send(0, [b"%d" % i for i in range(4)])
        with pytest.raises(ProtocolError, match="too long ago"):
            sending.keeper.take(0, wire_pb2.Batch(requests=writes([4], [b"x"])))
        with pytest.raises(ProtocolError, match="without saying"):
            sending.keeper.data(0, bytearray(b"x"))
            sending.keeper.data(0, bytearray(b"y"))
        sending.tape.close()


# ---- frames that lie


def frame_of(first: int, pieces: list[bytes], **claims: Any) -> bytes:
    fields = {
        "first": first,
        "length": array("I", map(len, pieces)).tobytes(),
        "data": b"".join(pieces),
    } | claims
    return make_frame(FrameType.CONTENTS, tape_pb2.Contents(**fields).SerializeToString())


def tape_with(path: Path, *data: bytes, refer: list[int] | None = None) -> list[bytes]:
    """The parts of a sealed tape: up to the contents, the contents, the block, the seal."""
    with TapeWriter(path, full_header()) as tape:
        numbers = [tape.content(one) for one in data]
        tape.requests(0, writes(refer or numbers, list(data)), len(data), 0)
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    whole = path.read_bytes()
    _, *starts = (offset for offset, _ in frames_of(whole))
    return [whole[start:end] for start, end in pairwise([0, *starts, len(whole)])]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (frame_of(2, [b"abc", b"de"]), "begin at number 2, not 1"),
        (frame_of(1, [b"abc", b""]), "other lengths than their data"),
        (frame_of(1, [b"abc", b"de"], data=b"abcdef"), "other lengths than their data"),
        (frame_of(1, [], data=b""), "column length of 0 bytes"),
        (frame_of(1, [b"abc", b"de"], length=b"\1\2\3"), "column length of"),
        (frame_of(1, [b"abc"]), "refers to contents that are not on the tape"),
        (frame_of(1, [bytes((1 << 20) + 1), b"de"]), "other lengths than their data"),
        (make_frame(FrameType.CONTENTS, b"", codec=1, raw=5 << 20), "claim 5242880 bytes"),
        (make_frame(FrameType.CONTENTS, b"\x12\1"), "ends inside a field"),
        (b"", "refers to contents that are not on the tape"),
    ],
)
def test_frames_that_lie_are_damage(tmp_path: Path, frame: bytes, said: str) -> None:
    path = tmp_path / "t"
    start, _, *rest = tape_with(path, b"abc", b"de")
    path.write_bytes(start + frame + b"".join(rest))
    with TapeReader.open(path) as reader, pytest.raises(TapeDamagedAt, match=said):
        list(reader.blocks())
    report = verify(path)
    assert not report.sound and report.whole.requests == 0
    repair(path, tmp_path / "good")
    assert verify(tmp_path / "good").sound


def test_verify_holds_every_reference_against_its_data(tmp_path: Path) -> None:
    """What a replay would find out when it uses the data: another length, another digest."""
    for data, said in (
        ((b"abc", b"de"), "are of 3 bytes, and are referred to as of 2"),
        ((b"ab", b"de"), "digest"),
    ):
        path = tmp_path / said[:3]
        tape_with(path, *data, refer=[2, 1])
        with TapeReader.open(path) as reader:
            assert len(list(reader.blocks())) == 1
        report = verify(path)
        assert not report.sound and said in report.damages[0].problem


def test_contents_between_a_damage_and_a_block_hide_no_count(tmp_path: Path) -> None:
    """The block after them still tells how many requests the damage takes away."""
    path = tmp_path / "t"
    with TapeWriter(path, full_header()) as tape:
        for one in (b"a", b"b", b"c"):
            tape.requests(0, writes([tape.content(one)], [one]), 1, 0)
            tape.flush()
    data = bytearray(path.read_bytes())
    blocks = [offset for offset, frame in frames_of(bytes(data)) if frame.type == FrameType.PACKED]
    data[blocks[1] + 30] ^= 1
    path.write_bytes(data)
    report = verify(path)
    assert [damage.requests_lost for damage in report.damages] == [1]
    assert (report.whole.requests, report.stranded_requests) == (1, 1)
