"""A damaged tape gives what is whole before the damage, says where it is, and never anything worse than that."""

import contextlib
import os
import random
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.digest import digest_of_tape
from ringtape.coordinator.tape import (
    Row,
    TapeDamagedAt,
    TapeEnd,
    TapeReader,
    frames,
    index,
    iter_rows,
    iter_table,
    ledger,
    tables,
    verify,
)
from ringtape.coordinator.tape.frames import FrameType
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeError
from tests.coordinator.tape.making import make_header, make_run, rows_of, u64, write

HEADER = make_header(workers=2)
CALLS = make_run(5, workers=2, steps=24, rows_max=3)
SEEDS = st.integers(0, 2**32)


class Tape:
    """A sealed tape of a few blocks: its file, its frames, and its rows up to the end of each frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(index, "STRIDE_BLOCKS", 2)
            write(path, HEADER, CALLS, flush_every=6)
        self.data = path.read_bytes()
        self.rows = rows_of(HEADER, CALLS)
        self.frames = list(frames_of(self.data))
        self.ends = [offset + frame.frame_bytes for offset, frame in self.frames]
        self.blocks = [
            index for index, (_, frame) in enumerate(self.frames) if frame.type == FrameType.PACKED
        ]
        counts = [len(rows_of(HEADER, CALLS[:calls])) for calls in range(0, len(CALLS) + 6, 6)]
        after = [frame.type for _, frame in self.frames[len(self.blocks) + 1 :]]
        assert after == [FrameType.INDEX, FrameType.SEAL]
        self.rows_at_end = [0, *counts[1 : len(self.blocks) + 1], len(self.rows), len(self.rows)]

    def payload(self, index: int) -> bytes:
        return frames.unpack(self.frames[index][1])

    def rows_before(self, offset: int) -> list[Row]:
        """Of the blocks that end at or before the offset."""
        whole = [rows for end, rows in zip(self.ends, self.rows_at_end, strict=True) if end <= offset]
        return self.rows[: whole[-1] if whole else 0]

    def with_payload(self, index: int, payload: bytes) -> bytes:
        """The file with another payload in one frame, and a checksum that fits it."""
        offset, frame = self.frames[index]
        changed = frames.FrameEncoder().encode(FrameType(frame.type), payload)
        return self.data[:offset] + changed + self.data[self.ends[index] :]


def frames_of(data: bytes) -> Iterator[tuple[int, frames.Frame]]:
    offset = frames.FILE_HEADER.size
    while frame := frames.read_frame(lambda length, at: data[at : at + length], offset, len(data)):
        yield offset, frame
        offset += frame.frame_bytes


def make_frame(
    type_: int, stored: bytes, *, codec: int = 0, raw: int | None = None, reserved: int = 0
) -> bytes:
    """A frame with whatever claims, and a checksum that is right, as docs/tape-format.md has it."""
    raw = len(stored) if raw is None else raw
    checked = struct.pack("<IBBHII", frames.FRAME_MAGIC, type_, codec, reserved, len(stored), raw)
    return checked + struct.pack("<Q", xxhash.xxh3_64_intdigest(checked + stored)) + stored


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    return Tape(tmp_path_factory.mktemp("tape") / "whole")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t"


def read(path: Path) -> tuple[list[Row], TapeEnd | None, TapeError | None]:
    """All that can be had of the file: its rows, how it ends, and the error at the end."""
    rows: list[Row] = []
    try:
        with TapeReader.open(path) as reader:
            try:
                rows.extend(iter_rows(reader))
            except TapeDamagedAt as error:
                return rows, reader.end, error
            return rows, reader.end, None
    except TapeError as error:
        return rows, None, error


def damage(path: Path, data: bytes) -> TapeDamagedAt:
    path.write_bytes(data)
    _, _, error = read(path)
    assert isinstance(error, TapeDamagedAt), error
    return error


def test_every_cut_leaves_the_blocks_before_it(tape: Tape, path: Path) -> None:
    path.write_bytes(tape.data)
    for size in range(len(tape.data), -1, -1):
        os.truncate(path, size)
        rows, end, error = read(path)
        assert rows == tape.rows_before(size), f"cut at {size}"
        if size == len(tape.data):
            assert (end, error) == (TapeEnd.SEALED, None)
        elif size in tape.ends:
            assert (end, error) == (TapeEnd.UNSEALED, None), f"cut at {size}"
        elif size == 0:
            assert (
                str(error) == f"{path} is empty: its recording was killed before it began, or it is no tape"
            )
        else:
            assert isinstance(error, TapeDamagedAt), f"cut at {size}"
            starts = [offset for offset, _ in tape.frames]
            expected = max((start for start in starts if start < size), default=0)
            if size - expected > frames.FRAME_HEADER_BYTES:
                assert "the file ends inside a frame," in str(error), f"cut at {size}"
            assert error.offset == (expected if size >= frames.FILE_HEADER.size else 0) or size == starts[0]
            assert end is (TapeEnd.DAMAGED if size > tape.ends[0] else None)


def test_a_flipped_bit_in_any_byte_is_found(tape: Tape, path: Path) -> None:
    path.write_bytes(tape.data)
    with path.open("r+b", buffering=0) as file:
        for position in range(len(tape.data)):
            bit = 8 * position + position % 7
            os.pwrite(file.fileno(), bytes([tape.data[position] ^ (1 << bit % 8)]), position)
            rows, end, error = read(path)
            os.pwrite(file.fileno(), tape.data[position : position + 1], position)
            assert isinstance(error, TapeError), f"bit {bit}"
            assert rows == tape.rows_before(position), f"bit {bit}"
            if position >= tape.ends[0]:
                assert isinstance(error, TapeDamagedAt), f"bit {bit}"
                assert tape.rows_before(error.offset) == rows, f"bit {bit}"
                assert end is TapeEnd.DAMAGED, f"bit {bit}"
    assert read(path)[1] is TapeEnd.SEALED


def test_the_error_names_the_place_and_what_is_whole(tape: Tape, path: Path) -> None:
    offset = tape.frames[tape.blocks[2]][0]
    error = damage(
        path, tape.data[: offset + 30] + bytes([tape.data[offset + 30] ^ 1]) + tape.data[offset + 31 :]
    )
    whole = max(row.id for row in tape.rows_before(offset) if hasattr(row, "sequence"))
    assert (error.offset, error.block, error.requests_whole) == (offset, 3, whole)
    assert str(error) == (
        f"{path} is damaged at byte {offset} (block 3): its checksum is wrong;"
        f" its first {whole} requests are whole"
    )


def seek_everywhere(reader: TapeReader) -> None:
    for id_ in (1, 5, 20):
        with contextlib.suppress(TapeError):
            list(iter_rows(reader, reader.seek(request_id=id_)))
    with contextlib.suppress(TapeError):
        list(iter_table(reader))
    with contextlib.suppress(TapeError):
        list(reader.blocks(reader.seek(worker=1, checkpoint=2)))


def assert_tape_errors_only(path: Path) -> None:
    """Reads all there is, in every way there is. Anything but a TapeError goes through."""
    for use in (
        lambda reader: [getattr(run, "columns", run) for block in reader.blocks() for run in block.runs()],
        lambda reader: list(iter_rows(reader)),
        digest_of_tape,
        seek_everywhere,
    ):
        with contextlib.suppress(TapeError), TapeReader.open(path) as reader:
            use(reader)
    with contextlib.suppress(TapeError):
        verify(path)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_payloads_with_changed_bytes_raise_nothing_else(tape: Tape, seed: int) -> None:
    """The checksum fits: only the checks of what is inside are left."""
    rng = random.Random(seed)
    number = rng.randrange(len(tape.frames))
    payload = bytearray(tape.payload(number))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(payload))
        match rng.randrange(3):
            case 0:
                payload[at] = rng.getrandbits(8)
            case 1:
                payload[at : at + rng.randint(0, 9)] = rng.randbytes(rng.randint(0, 9))
            case 2:
                del payload[at:]
        if not payload:
            break
    changed = tape.path.with_name("changed")
    changed.write_bytes(tape.with_payload(number, bytes(payload)))
    assert_tape_errors_only(changed)


@settings(deadline=None, max_examples=60)
@given(seed=SEEDS)
def test_blocks_with_changed_columns_raise_nothing_else(tape: Tape, seed: int) -> None:
    """Well-formed messages whose columns lie: closer to the rules than changed bytes come."""
    rng = random.Random(seed)
    number = rng.choice(tape.blocks)
    block = tape_pb2.PackedBlock.FromString(tape.payload(number))
    for _ in range(rng.randint(1, 3)):
        message = rng.choice((block, block, block.requests, block.completions, block.tokens))
        field = rng.choice([field for field in message.DESCRIPTOR.fields if field.type == field.TYPE_BYTES])
        column = bytearray(getattr(message, field.name))
        if column and rng.random() < 0.8:
            column[rng.randrange(len(column))] = rng.choice((0, 1, 2, 3, 4, 5, 6, 127, 128, 255))
        else:
            column += rng.randbytes(rng.choice((1, 2, 4, 8)))
        setattr(message, field.name, bytes(column))
    changed = tape.path.with_name("changed")
    changed.write_bytes(tape.with_payload(number, block.SerializeToString()))
    assert_tape_errors_only(changed)


def column(values: Iterable[int], size: int) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)


def make_block() -> tape_pb2.Block:
    """One whole block of two workers: 3 requests, 2 completions, 2 tokens, 1 note."""
    return tape_pb2.Block(
        first_id=1,
        first_token=1,
        run_table=bytes([1, 1, 2, 3, 3, 4]),
        run_worker=column([0, 1, 0, 0, 1, 1], 2),
        run_count=column([2, 1, 2, 1, 1, 1], 4),
        run_ns=u64(range(6)),
        requests=messages_pb2.Requests(
            kind=bytes([2, 5, 1]),
            flags=bytes([1, 2, 0]),
            disk=column([0, 1, 1], 2),
            offset=u64([512, 0, 0]),
            length=u64([512, 0, 512]),
            digest=u64([9, 0, 0]),
            fsync_covers=u64([1]),
        ),
        completions=messages_pb2.Completions(sequence=u64([1, 0]), result=u64([0, 512]), digest=u64([0, 0])),
        tokens=tape_pb2.Tokens(
            clock_ns=u64([5, 6]),
            deadline_ns=u64([0, 0]),
            mode=b"\0\1",
            released=column([2, 0], 4),
            order=column([1, 0], 4),
        ),
        notes=[messages_pb2.Note(log="x")],
    )


def lie(path: str, value: object) -> Callable[[tape_pb2.Block], None]:
    """Sets one field of a block, given as its path."""

    def change(block: tape_pb2.Block) -> None:
        *parents, name = path.split(".")
        message = block
        for parent in parents:
            message = getattr(message, parent)
        setattr(message, name, value)

    return change


def add_note(note: messages_pb2.Note) -> Callable[[tape_pb2.Block], None]:
    def change(block: tape_pb2.Block) -> None:
        del block.notes[:]
        block.notes.append(note)

    return change


def release_again(block: tape_pb2.Block) -> None:
    block.run_worker = column([0, 1, 0, 0, 0, 1], 2)
    block.tokens.released = column([2, 1], 4)
    block.tokens.order = b""


LIES = {
    "released again": (release_again, "releases 1 completions of worker 0, of which 0 wait"),
    "id": (lie("first_id", 2), "requests begin at id 2, not 1"),
    "token": (lie("first_token", 0), "tokens begin at number 0, not 1"),
    "no runs": (lie("run_table", b""), "has 0 runs"),
    "table 0": (lie("run_table", bytes([1, 1, 2, 3, 3, 0])), "run of a table"),
    "table 5": (lie("run_table", bytes([1, 1, 2, 3, 3, 5])), "run of a table"),
    "worker": (
        lie("run_worker", column([0, 2, 0, 0, 1, 1], 2)),
        "run of worker 2, and the run has 2 workers",
    ),
    "workers cut": (lie("run_worker", bytes(11)), "run_worker has 11 bytes"),
    "count 0": (lie("run_count", column([3, 0, 2, 1, 1, 1], 4)), "run without rows"),
    "count": (lie("run_count", column([2, 2, 2, 1, 1, 1], 4)), "kind has 3 bytes for 4 rows"),
    "count huge": (lie("run_count", b"\xff" * 24), "its runs claim 25769803770 rows"),
    "counts cut": (lie("run_count", bytes(20)), "run_count has 20 bytes"),
    "times cut": (lie("run_ns", b""), "run_ns has 0 bytes"),
    "kind 0": (lie("requests.kind", bytes([0, 5, 1])), "request of a kind"),
    "kind 6": (lie("requests.kind", bytes([6, 5, 1])), "request of a kind"),
    "kinds cut": (lie("requests.kind", bytes([2, 5])), "kind has 2 bytes"),
    "flags": (lie("requests.flags", bytes([4, 0, 0])), "request with a flag"),
    "flags cut": (lie("requests.flags", b""), "flags has 0 bytes"),
    "disk": (lie("requests.disk", column([0, 2, 1], 2)), "request on disk 2, and the run has 2 disks"),
    "disks cut": (lie("requests.disk", bytes(5)), "disk has 5 bytes"),
    "offsets cut": (lie("requests.offset", bytes(16)), "offset has 16 bytes"),
    "lengths long": (lie("requests.length", bytes(32)), "length has 32 bytes"),
    "request digests absent": (lie("requests.digest", b""), "digest has 0 bytes"),
    "fsync offset": (lie("requests.offset", u64([512, 512, 0])), "fsync with an offset"),
    "fsync length": (lie("requests.length", u64([512, 512, 0])), "fsync with an offset or a length"),
    "covers absent": (lie("requests.fsync_covers", b""), "fsync_covers has 0 bytes for 1 rows"),
    "covers too many": (lie("requests.fsync_covers", u64([2])), "fsync that covers more"),
    "results cut": (lie("completions.result", bytes(8)), "result has 8 bytes"),
    "sequences cut": (lie("completions.sequence", bytes(15)), "sequence has 15 bytes"),
    "result digests absent": (lie("completions.digest", b""), "digest has 0 bytes"),
    "completed twice": (lie("completions.sequence", u64([1, 1])), "completes a request of worker 0"),
    "completed never made": (lie("completions.sequence", u64([1, 2])), "completes a request of worker 0"),
    "other's completed": (
        lie("run_worker", column([0, 1, 1, 0, 1, 1], 2)),
        "completes a request of worker 1",
    ),
    "mode": (lie("tokens.mode", b"\0\2"), "checkpoint of a mode"),
    "clocks cut": (lie("tokens.clock_ns", bytes(8)), "clock_ns has 8 bytes"),
    "deadlines cut": (lie("tokens.deadline_ns", bytes(8)), "deadline_ns has 8 bytes"),
    "releases cut": (lie("tokens.released", bytes(4)), "released has 4 bytes"),
    "released": (
        lie("tokens.released", column([1, 1], 4)),
        "releases 1 completions of worker 1, of which 0 wait",
    ),
    "order cut": (lie("tokens.order", bytes(4)), "order has 4 bytes for 2 rows"),
    "order beyond": (lie("tokens.order", column([1, 1], 4)), "beyond the end of its queue"),
    "order huge": (lie("tokens.order", column([2**32 - 1, 0], 4)), "beyond the end of its queue"),
    "notes": (lambda block: block.notes.add(log="y"), "has 2 notes, and its runs claim 1"),
    "note of nothing": (add_note(messages_pb2.Note()), "note that this ringtape does not know"),
    "note with a place": (add_note(messages_pb2.Note(log="x", after_requests=1)), "note that this"),
}


def tape_of(*parts: bytes, header: tape_pb2.Header = HEADER) -> bytes:
    return b"".join((frames.encode_file_header(), make_frame(1, header.SerializeToString()), *parts))


def test_the_block_that_the_lies_change_is_whole(path: Path) -> None:
    path.write_bytes(tape_of(make_frame(2, make_block().SerializeToString())))
    rows, end, error = read(path)
    assert (len(rows), end, error) == (8, TapeEnd.UNSEALED, None)


@pytest.mark.parametrize("name", LIES)
def test_a_block_that_lies_is_refused(path: Path, name: str) -> None:
    change, message = LIES[name]
    block = make_block()
    change(block)
    error = damage(path, tape_of(make_frame(2, block.SerializeToString())))
    assert message in str(error)
    assert (error.block, error.requests_whole) == (1, 0)


def test_a_digest_column_below_its_level_is_refused(path: Path) -> None:
    header = make_header(workers=2, digests=False)
    error = damage(path, tape_of(make_frame(2, make_block().SerializeToString()), header=header))
    assert "digest has 24 bytes for 0 rows" in str(error)


HEADERS = {
    "no workers": (lambda header: setattr(header, "workers", 0), "names 0 workers"),
    "many workers": (lambda header: setattr(header, "workers", 2**32 - 1), "names 4294967295 workers"),
    "no level": (lambda header: setattr(header, "data", 0), "data level 0"),
    "new level": (lambda header: setattr(header, "data", 9), "data level 9"),
    "disk twice": (lambda header: setattr(header.disks[1], "name", "disk0"), "names a disk twice"),
    "disk unnamed": (lambda header: setattr(header.disks[1], "name", ""), "names a disk twice or not at all"),
    "no blocks": (lambda header: setattr(header.disks[0], "block_size", 0), "blocks of 0 bytes"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_is_refused(path: Path, name: str) -> None:
    change, message = HEADERS[name]
    header = make_header()
    change(header)
    error = damage(path, tape_of(header=header))
    assert message in str(error)
    assert (error.offset, error.block) == (16, 0)


SEALS = {
    "requests": (tape_pb2.Seal(end=1, requests=4, completions=2, tokens=2), "its seal counts 4 requests"),
    "completions": (tape_pb2.Seal(end=1, requests=3, completions=1, tokens=2), "blocks hold 3, 2, 2"),
    "tokens": (tape_pb2.Seal(end=1, requests=3, completions=2), "0 tokens"),
    "no end": (tape_pb2.Seal(requests=3, completions=2, tokens=2), "ended in way 0"),
    "new end": (tape_pb2.Seal(end=99, requests=3, completions=2, tokens=2), "ended in way 99"),  # type: ignore[arg-type]
    "disk": (
        tape_pb2.Seal(end=1, requests=3, completions=2, tokens=2, made=[tape_pb2.FinalContents(disk=2)]),
        "contents of a disk",
    ),
}


@pytest.mark.parametrize("name", SEALS)
def test_a_seal_that_lies_is_refused(path: Path, name: str) -> None:
    seal, message = SEALS[name]
    block = make_frame(2, make_block().SerializeToString())
    error = damage(path, tape_of(block, make_frame(3, seal.SerializeToString())))
    assert message in str(error)
    assert (error.block, error.requests_whole) == (2, 3)
    with TapeReader.open(path) as reader:
        with pytest.raises(TapeDamagedAt):
            list(reader.blocks())
        assert (reader.seal, reader.end) == (None, TapeEnd.DAMAGED)


def seal_frame() -> bytes:
    return make_frame(3, tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED).SerializeToString())


def test_unknown_frames_are_skipped(path: Path) -> None:
    """Of any codec and with anything reserved: they are for a later version to read."""
    unknown = make_frame(9, b"later", codec=77, raw=6, reserved=3)
    block = make_frame(2, make_block().SerializeToString())
    path.write_bytes(tape_of(unknown, block, unknown, make_frame(3, SEALED), unknown[:0]))
    rows, end, error = read(path)
    assert (len(rows), end, error) == (8, TapeEnd.SEALED, None)


SEALED = tape_pb2.Seal(
    end=tape_pb2.Seal.END_FINISHED, requests=3, completions=2, tokens=2
).SerializeToString()

ZEROS = zstandard.ZstdCompressor().compress(bytes(1000))
PAYLOADS = {
    "raw too long": (make_frame(2, b"", raw=frames.RAW_BYTES_MAX + 1), "lengths are impossible"),
    "stored too long": (make_frame(2, bytes(9), raw=8), "lengths are impossible"),
    "stored for raw": (make_frame(2, bytes(8), raw=9), "claims 9 bytes and stores 8"),
    "codec": (make_frame(2, bytes(8), codec=2), "codec 2"),
    "reserved": (make_frame(2, bytes(8), reserved=1), "reserved field is 1"),
    "not zstd": (make_frame(2, bytes(30), codec=1), "does not decompress"),
    "zstd cut": (make_frame(2, ZEROS[:-1], codec=1, raw=1000), "does not decompress"),
    "zstd and more": (make_frame(2, ZEROS + b"x", codec=1, raw=1000), "does not decompress"),
    "zstd of another length": (make_frame(2, ZEROS, codec=1, raw=1001), "compressed data another length"),
    "zstd of no length": (
        make_frame(
            2, zstandard.ZstdCompressor(write_content_size=False).compress(bytes(99)), codec=1, raw=99
        ),
        "compressed data another length",
    ),
    "not protobuf": (make_frame(2, b"\x0f"), "no message that can be parsed"),
    "varint without end": (make_frame(2, b"\xff" * 20), "the number has no end"),
    "field cut": (make_frame(2, b"\x1a\x05abc"), "ends inside a field"),
    "not UTF-8": (make_frame(2, b"\x52\x03\x12\x01\xff"), "no block that can be parsed"),
    "second header": (make_frame(1, HEADER.SerializeToString()), "second header"),
    "after the seal": (seal_frame() + b"\0", "more after its seal"),
    "frame after the seal": (seal_frame() + make_frame(9, b""), "more after its seal"),
    "zeros": (bytes(4096), "no frame begins there"),
    "few zeros": (bytes(7), "inside a frame's header, 7 bytes into it"),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_frame_that_lies_is_refused(path: Path, name: str) -> None:
    frame, message = PAYLOADS[name]
    start = tape_of()
    error = damage(path, start + frame)
    assert message in str(error)
    assert error.offset == len(start)


def test_a_claim_of_gigabytes_allocates_nothing(path: Path) -> None:
    """A compressed frame that claims 1 TiB in its own header, whatever ours claims: zstandard would believe it."""
    claimed = b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\x03\x00\x00"
    assert zstandard.get_frame_parameters(claimed).content_size == 1 << 40
    error = damage(path, tape_of(make_frame(2, claimed, codec=1, raw=100)))
    assert "compressed data another length" in str(error)


@pytest.mark.parametrize(("type_", "tag"), [(1, 0x6A), (2, 0x52), (3, 0x42)])
def test_a_few_bytes_cannot_ask_for_millions_of_objects(path: Path, type_: int, tag: int) -> None:
    """Empty disks, notes and contents, two bytes each; compressed, almost none."""
    count = tables.FIELDS_LIMIT + 1
    stored = zstandard.ZstdCompressor().compress(bytes((tag, 0)) * count)
    assert len(stored) < 100
    frame = make_frame(type_, stored, codec=1, raw=2 * count)
    error = damage(path, (frames.encode_file_header() if type_ == 1 else tape_of()) + frame)
    assert f"more than {tables.FIELDS_LIMIT} fields" in str(error)


def test_a_first_frame_other_than_a_header_is_refused(path: Path) -> None:
    error = damage(path, frames.encode_file_header() + seal_frame())
    assert "first frame is of type 3, not a header" in str(error)


def constant(value: int) -> bytes:
    """A stored column."""
    return b"\1" + value.to_bytes((value.bit_length() + 7) // 8, "little")


def packed_reads(before: int, *, rows: int = 1 << 16) -> tape_pb2.PackedBlock:
    """That many reads in some 60 bytes, none of which completes."""
    return tape_pb2.PackedBlock(
        first_id=before + 1,
        first_token=1,
        runs=1,
        run_table=constant(1),
        run_count=constant(rows - 1),
        requests_before=constant(before) if before else b"",
        requests=tape_pb2.PackedRequests(kind=constant(1), length=constant(512)),
    )


def test_few_bytes_cannot_ask_for_any_number_of_requests_in_flight(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block of 60 bytes may hold 65,536 requests; what is open at once has a limit, whatever the file says."""
    header = make_header(digests=False)
    blocks = [make_frame(4, packed_reads(index << 16).SerializeToString()) for index in range(5)]
    data = tape_of(*blocks, header=header)
    assert len(data) < 1000
    monkeypatch.setattr(ledger, "OPEN_LIMIT", 1 << 18)
    path.write_bytes(data)
    with TapeReader.open(path) as reader, pytest.raises(TapeDamagedAt) as caught:
        for _ in reader.blocks():
            pass
    assert f"more than {1 << 18} requests in flight" in str(caught.value)
    assert caught.value.block == 5


PACKED_LIES = {
    "runs": (lie("runs", 2**32 - 1), "has 4294967295 runs"),
    "no runs": (lie("runs", 0), "has 0 runs"),
    "counts": (lie("run_count", constant(2**64 - 1)), "claim more than 65536 rows"),
    "before": (lie("requests_before", constant(2**60)), "had done something else before it"),
    "worker": (lie("run_worker", constant(70_000)), "number that is too large: 70000"),
    "kind": (lie("requests.kind", constant(256)), "number that is too large: 256"),
    "encoding": (lie("requests.length", b"\x09\1\0"), "stored in a way (9)"),
    "form": (lie("requests.length", b"\2\x09\0"), "a form that this ringtape does not know"),
    "constant": (lie("requests.length", b"\1" + bytes(9)), "a constant of 9 bytes"),
    "part cut": (lie("requests.length", b"\2\1\0\xff\xff\xff\xff"), "ends inside a part"),
    "length cut": (lie("requests.length", b"\2\1\0\xff"), "ends inside a length"),
    "part short": (lie("requests.length", b"\2\1\0\2\0\0\0x"), "has 1 bytes where 65536 are due"),
    "not 0 rows": (lie("completions.sequence", constant(1)), "has 2 bytes for 0 rows"),
    "offsets": (lie("requests.offset_from", 7), "counted in a way (7)"),
    "digest": (lie("requests.digest", constant(1)), "digest has 2 bytes for 0 rows"),
    "notes": (lie("notes", b"x" * 9), "a part"),
}


@pytest.mark.parametrize("name", PACKED_LIES)
def test_a_packed_block_that_lies_is_refused(path: Path, name: str) -> None:
    change, message = PACKED_LIES[name]
    block = packed_reads(0)
    change(block)
    error = damage(path, tape_of(make_frame(4, block.SerializeToString()), header=make_header(digests=False)))
    assert message in str(error)
    assert (error.block, error.requests_whole) == (1, 0)
