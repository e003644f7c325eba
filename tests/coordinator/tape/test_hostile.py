"""Goal: a tape that lies costs little memory, gives no other requests, and runs no code, whatever it claims.

Method: tapes of a kilobyte or a few that claim what they do not hold, read in every way by a process whose memory is
limited; whole tapes with frames swapped, doubled and missing; a tape full of pickles that would leave a mark.
"""

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape import cli
from ringtape.coordinator.tape import TapeDamagedAt, TapeReader, TapeWriter, frames, index, tables, verify
from ringtape.coordinator.tape.queues import take_by_place
from ringtape.proto import messages_pb2, tape_pb2
from tests.api.command_line import ringtape
from tests.coordinator.tape.making import give, make_header, make_run
from tests.coordinator.tape.test_damage import (
    SEEDS,
    Tape,
    column,
    constant,
    lie,
    make_block,
    make_frame,
    packed_reads,
    read,
    tape_of,
)
from tests.programs import hostile

HUGE = 1 << 60
MEMORY_BYTES_MAX = 256 << 20  # of address space, beside what an idle reader has
ORDER = make_header(digests=False)


def packed(change: Callable[[tape_pb2.PackedBlock], None]) -> bytes:
    block = packed_reads(0)
    change(block)
    return tape_of(make_frame(4, block.SerializeToString()), header=ORDER)


def plain(change: Callable[[tape_pb2.Block], None]) -> bytes:
    block = make_block()
    change(block)
    return tape_of(make_frame(2, block.SerializeToString()))


def huge_token(block: tape_pb2.PackedBlock) -> None:
    block.run_table, block.run_count = constant(3), b""
    block.ClearField("requests")
    block.tokens.released = constant(2 * (2**32 - 1))
    block.tokens.order = struct.pack("<I", 0xFFFFFFFF)


def notes_of(bytes_: int) -> Callable[[tape_pb2.PackedBlock], None]:
    def change(block: tape_pb2.PackedBlock) -> None:
        block.notes_bytes, block.notes = bytes_, struct.pack("<I", 3) + b"x"

    return change


def zstd_part(claimed: int) -> bytes:
    """A stored column whose part claims to decompress to that much."""
    stored = b"\x28\xb5\x2f\xfd\xe0" + claimed.to_bytes(8, "little") + b"\x03\x00\x00"
    return b"\2\1\0" + struct.pack("<I", len(stored) << 1 | 1) + stored


def sealed(**counts: int) -> bytes:
    seal = tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED, **counts)
    return tape_of(make_frame(3, seal.SerializeToString()))


def indexed(**claims: Any) -> bytes:
    """A whole block behind an index that lies about it."""
    block = make_frame(4, packed_reads(0).SerializeToString())
    start = tape_of(header=ORDER)
    snapshot = tape_pb2.Snapshot(offset=len(start), block=2)
    for name, value in claims.items():
        setattr(snapshot, name, value)
    lies = tape_pb2.Index(snapshots=[snapshot]).SerializeToString()
    return start + block + make_frame(5, lies)


def repeated(type_: int, payload: bytes) -> bytes:
    """A frame that is long only when it is decompressed."""
    stored = zstandard.ZstdCompressor().compress(payload)
    start = tape_of() if type_ != 1 else frames.encode_file_header()
    return start + make_frame(type_, stored, codec=1, raw=len(payload))


def field(number: int, body: bytes) -> bytes:
    length, varint = len(body), b""
    while length > 127:
        varint, length = varint + bytes((length & 127 | 128,)), length >> 7
    return bytes((number << 3 | 2,)) + varint + bytes((length,)) + body


HOSTILE: dict[str, bytes] = {
    "first id": packed(lie("first_id", HUGE)),
    "requests before": packed(lie("requests_before", constant(HUGE))),
    "rows of a run": packed(lie("run_count", constant(HUGE))),
    "runs": packed(lie("runs", 2**32 - 1)),
    "rows of a plain run": plain(lie("run_count", b"\xff" * 24)),
    "first id of a plain block": plain(lie("first_id", HUGE)),
    "fsync covers": plain(lie("requests.fsync_covers", column([HUGE], 8))),
    "a token's releases": packed(huge_token),
    "notes": packed(notes_of(2**32 - 1)),
    "notes of 64 MiB": packed(notes_of(64 << 20)),
    "a column's part": packed(lie("requests.offset", zstd_part(HUGE))),
    "a column's length": packed(lie("requests.offset", b"\2\1\0\xff\xff\xff\xff")),
    "a frame of 4 GiB": tape_of()
    + struct.pack("<IBBHIIQ", frames.FRAME_MAGIC, 4, 1, 0, 2**32 - 1, 2**32 - 1, 0),
    "a sealed number": sealed(requests=HUGE),
    "sealed numbers": sealed(requests=HUGE, completions=HUGE, tokens=HUGE),
    "workers": frames.encode_file_header()
    + make_frame(1, tape_pb2.Header(workers=2**32 - 1, data=1).SerializeToString()),
    "an indexed number": indexed(requests=HUGE, completions=HUGE, tokens=HUGE),
    "an indexed place": indexed(offset=HUGE, block=HUGE),
    "an indexed worker": indexed(worker=b"\0\0", worker_requests=column([HUGE], 8)),
    # Megabytes of fields that replace one another: each is an object while it is parsed.
    "long: fields of a oneof": repeated(2, field(10, b"\x1a\x00\x22\x00" * (2 << 20))),
    "long: empty fields": repeated(4, field(15, b"\x0a\x00" * (4 << 20))),
    "long: a list of numbers": repeated(1, field(13, field(11, bytes(60 << 20)))),
}


def test_hostile_tapes_are_errors_in_bounded_memory(tmp_path: Path) -> None:
    for name, data in HOSTILE.items():
        assert len(data) < (8 << 10 if name.startswith("long") else 1 << 10), name
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, hostile.__file__, str(MEMORY_BYTES_MAX), *map(str, sorted(tmp_path.iterdir()))]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    assert set(said) == set(HOSTILE)
    # An index is only a help: what lies in one is not believed, and `verify` says so.
    assert [name for name, error in said.items() if not error] == []


class Frames:
    """A sealed tape as its parts, and what a reader has to give of any other order of them."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.start = tape.data[: tape.ends[0]]
        starts = [offset for offset, _ in tape.frames]
        self.parts = [tape.data[a:b] for a, b in zip(starts[1:], tape.ends[1:], strict=True)]

    def check(self, order: list[int], path: Path) -> None:
        """The rows are those before the first frame that is another, and the error names its place."""
        path.write_bytes(self.start + b"".join(self.parts[number] for number in order))
        whole = 0
        while whole < min(len(order), len(self.parts)) and order[whole] == whole:
            whole += 1
        rows, _, error = read(path)
        if whole == len(order) < len(self.parts):
            assert error is None, "what is missing is the end: a recording that was cut"
        else:
            assert isinstance(error, TapeDamagedAt), order
            assert error.block == min(whole, len(self.tape.blocks)) + 1
            (damage, *_) = verify(path).damages
            assert damage.offset == error.offset < damage.end
            # An index that comes too early shows at the seal.
            assert error.offset >= self.tape.ends[min(whole, len(self.parts) - 1)], order
        expected = self.tape.rows[: self.tape.rows_at_end[whole]]
        assert rows == expected, order


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return Frames(Tape(tmp_path_factory.mktemp("tape") / "whole"))


def test_swapped_frames_are_found(parts: Frames, tmp_path: Path) -> None:
    for first, second in permutations(range(len(parts.parts)), 2):
        order = list(range(len(parts.parts)))
        order[first], order[second] = order[second], order[first]
        parts.check(order, tmp_path / "t")


def test_missing_and_doubled_frames_are_found(parts: Frames, tmp_path: Path) -> None:
    everything = list(range(len(parts.parts)))
    for start in everything:
        for end in range(start + 1, len(everything) + 1):
            parts.check(everything[:start] + everything[end:], tmp_path / "t")
        for at in range(len(everything) + 1):
            parts.check([*everything[:at], start, *everything[at:]], tmp_path / "t")


def test_what_a_damage_takes_away_is_told_by_the_seal_alone(parts: Frames, tmp_path: Path) -> None:
    """In the last block, of which no block after it tells; the index comes before the seal."""
    tape = parts.tape
    offset = tape.frames[tape.blocks[-1]][0]
    data = bytearray(tape.data)
    data[offset + 30] ^= 1
    (tmp_path / "t").write_bytes(data)
    (damage,) = verify(tmp_path / "t").damages
    with TapeReader.open(tape.path) as reader:
        last = list(reader.blocks())[-1]
    assert (damage.offset, damage.end, damage.requests_lost) == (
        offset,
        offset + last.frame_bytes,
        last.request_count,
    )


@pytest.mark.parametrize("limit", ["NESTED_FIELDS_LIMIT", "SMALL_PAYLOAD_BYTES"])
def test_a_long_payload_within_the_limits_is_read(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "SMALL_PAYLOAD_BYTES", 0)
    calls = make_run(3, steps=60)
    with TapeWriter(tmp_path / "t", make_header()) as tape:
        give(tape, calls)
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    assert verify(tmp_path / "t").sound
    monkeypatch.setattr(tables, limit, 3 if limit == "NESTED_FIELDS_LIMIT" else 1 << 20)
    if limit == "NESTED_FIELDS_LIMIT":
        with pytest.raises(TapeDamagedAt, match="more than 3 fields"):
            verify(tmp_path / "t")
    else:
        assert verify(tmp_path / "t").sound


@settings(deadline=None, max_examples=200)
@given(seed=SEEDS, data=st.data())
def test_any_order_of_release_is_followed(seed: int, data: st.DataObject) -> None:
    """As lists do it, of which things are taken out one by one."""
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    starts = np.cumsum([0, *sizes[:-1]])
    queues = [list(range(start, start + size)) for start, size in zip(starts.tolist(), sizes, strict=True)]
    places, released, start, expected = [], [], [], []
    for queue in data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=6)):
        count = data.draw(st.integers(0, len(queues[queue])))
        of_token = [data.draw(st.integers(0, len(queues[queue]) - 1 - taken)) for taken in range(count)]
        expected += [queues[queue].pop(place) for place in of_token]
        places += of_token
        released.append(count)
        start.append(int(starts[queue]))
    worker = np.repeat(np.arange(len(sizes)), sizes)
    rows = [np.array(values, dtype=np.int64) for values in (places, released, start)]
    assert take_by_place(*rows, worker).tolist() == expected


def test_any_place_of_a_very_long_queue_is_taken() -> None:
    """By steps of a logarithm: with lists this took hours at the longest queue that a tape may claim."""
    rows = 1 << 16
    places = np.full(rows, rows // 2, dtype=np.int64)
    places[rows // 2 :] = 0
    zero = np.zeros(1, dtype=np.int64)
    taken = take_by_place(places, zero + rows, zero, np.zeros(rows, dtype=np.int64))
    assert taken.tolist() == [*range(rows // 2, rows), *range(rows // 2)]


class Mark:
    """Leaves one where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_no_tool_opens_a_pickle(tmp_path: Path) -> None:
    """Every command of `ringtape tape`, with the tape for each of its arguments."""
    mark = tmp_path / "mark"
    evil = pickle.dumps(Mark(mark))
    header = make_header(workers=1)
    header.arguments = evil
    path = tmp_path / "evil.tape"
    with TapeWriter(path, header) as tape:
        tape.note(0, messages_pb2.Note(captured=messages_pb2.Captured(name="m:f", pickled=evil)), 1)
        tape.note(0, messages_pb2.Note(outcome=messages_pb2.Outcome(digest=evil, summary="x")), 2)
        tape.seal(tape_pb2.Seal(end=tape_pb2.Seal.END_FINISHED))
    group: Any = typer.main.get_command(cli.app)
    commands = group.commands["tape"].commands
    assert {"info", "dump"} <= set(commands)
    ran = 0
    for name, command in commands.items():
        arguments = [str(path) for parameter in command.params if parameter.param_type_name == "argument"]
        options = [parameter.opts for parameter in command.params]
        output = ["--output", str(tmp_path / f"{name}.out")] if ["--output", "-o"] in options else []
        json = ["--json"] if ["--json"] in options else []
        for extra in ([], json):
            done = ringtape("tape", name, *arguments, *output, *extra, cwd=tmp_path)
            ran += done.returncode == 0
            assert not mark.exists(), done.args
    assert ran >= 2
    pickle.loads(evil)
    assert mark.exists(), "the pickle would have left a mark"


def test_an_index_is_needed_where_the_seal_counts_it(parts: Frames, tmp_path: Path) -> None:
    """Made without the count, as before, its absence is none of the reader's business."""
    tape = parts.tape
    with TapeReader.open(tape.path) as reader:
        seal = reader.find_seal()
        found = reader.find_index()
    assert seal is not None and found is not None
    assert seal.snapshots == len(found.snapshots) > 0
    seal.snapshots = 0
    blocks = b"".join(parts.parts[: len(tape.blocks)])
    (tmp_path / "t").write_bytes(parts.start + blocks + make_frame(3, seal.SerializeToString()))
    assert verify(tmp_path / "t").sound
    assert index.STRIDE_BLOCKS == 8
