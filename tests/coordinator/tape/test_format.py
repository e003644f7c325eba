"""The bytes of formats 1 to 3, as docs/tape-format.md has them: tapes made before stay readable."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.tape import TapeEnd, TapeReader, iter_rows
from ringtape.coordinator.tape.bits import ColumnPacker, Encoding, unpack
from ringtape.proto import messages_pb2, tape_pb2
from tests.coordinator.tape.making import (
    Call,
    Completion,
    Completions,
    Note,
    Request,
    Requests,
    Token,
    make_header,
    make_run,
    rows_of,
    write,
)

DATA = Path(__file__).parents[2] / "data"
KEPT_SEED = 21
HEADER = make_header(workers=1, disks=1)
CALLS: list[Call] = [
    Requests(0, (Request(2, 1, 0, 512, 1024, 99, 0), Request(5, 2, 0, 0, 0, 0, 1)), 5),
    Completions(0, (Completion(1, 0, 0), Completion(0, -5, 7)), 6),
    Token(0, 123, 0, 1, 2, (1, 0), 7),
    Note(0, messages_pb2.Note(log="l"), 8),
]
# Made by the first version of the writer. Do not make it anew: it stands for the tapes that people keep.
MADE_BEFORE = bytes.fromhex(
    """
    52494e47544150450100000000000000
    52546672010000002700000027000000e99e4792c1db0dc4
    5007580160026a190a056469736b3012062f6469736b301880808080802020800472046669666f
    525466720201000092000000fe000000c5d9aedb9676dfa3
    28b52ffd20fe4d04004206151fa027e9e0ffffffffff5dc058d7115c5e3e625121160ae911dfbf35d2a44c010922e3b0fe1a45a6
    d10a3b82425a96c51fba33203c4d415cf2ad53ff269545477b0ccadb031e390209fffebdb529639426f16801160064140f3204bb
    864e0c899a75c11d60508e80172a2b37a001987000043dc5e40610e1186803c8a4dcfb338f5df632f005
    52546672030000000800000008000000445ec644e92a39b1
    0801180220022801
    """
)


def test_a_tape_made_before_is_readable(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(MADE_BEFORE)
    with TapeReader.open(path) as reader:
        assert reader.header == HEADER
        assert list(iter_rows(reader)) == rows_of(HEADER, CALLS)
        assert reader.end is TapeEnd.SEALED


def test_the_frames_are_as_described(tmp_path: Path) -> None:
    """Reads what is written with nothing but the description, up to the bytes that zstd and protobuf choose."""
    write(tmp_path / "t", HEADER, CALLS)
    data = (tmp_path / "t").read_bytes()
    assert data[:12] == b"RINGTAPE\3\0\0\0"
    assert data[12:16] == struct.pack("<Q", xxhash.xxh3_64_intdigest(data[:12]))[:4]
    found = list(described_frames(data))
    assert [type_ for type_, _ in found] == [1, 4, 3]
    assert tape_pb2.Header.FromString(found[0][1]) == HEADER
    block = tape_pb2.PackedBlock.FromString(found[1][1])
    assert (block.first_id, block.first_token, block.runs, block.start_ns) == (1, 1, 4, 5)
    assert described_column(block.run_table, 4) == [1, 2, 3, 4]
    assert described_column(block.run_worker, 4) == [0, 0, 0, 0]
    assert described_column(block.run_count, 4) == [1, 1, 0, 0]
    assert [described_column(ns, 1) for ns in (block.requests_ns, block.completions_ns)] == [[0], [2]]
    assert [described_column(ns, 1) for ns in (block.tokens_ns, block.notes_ns)] == [[2], [2]]
    requests, completions, tokens = block.requests, block.completions, block.tokens
    assert described_column(requests.kind, 2) == [2, 5]
    assert described_column(requests.flags, 2) == [1, 2]
    assert described_column(requests.offset, 2) == [512, 0]
    assert requests.offset_from == 0
    assert described_column(requests.length, 2) == [1024, 0]
    assert described_column(requests.digest, 2) == [99, 0]
    assert described_column(requests.fsync_covers, 1) == [0]
    assert described_column(completions.sequence, 2) == [2, 1]
    assert described_column(completions.result, 2) == [0, 2 * (5 + 1024) - 1]
    assert described_column(tokens.clock_ns, 1) == [2 * (123 - 7)]
    assert described_column(tokens.released, 1) == [0]
    assert tokens.order == struct.pack("<III", 16, 1, 0)
    assert block.notes == struct.pack("<I", 2 * block.notes_bytes) + b"\x0a\x03\x12\x01l"
    assert tape_pb2.Seal.FromString(found[2][1]) == tape_pb2.Seal(
        end=1, requests=2, completions=2, tokens=1, faults=1
    )


def described_frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 16
    while position < len(data):
        magic, type_, codec, reserved, stored_bytes, raw_bytes, checksum = struct.unpack_from(
            "<4sBBHIIQ", data, position
        )
        stored = data[position + 24 : position + 24 + stored_bytes]
        assert (magic, reserved, len(stored)) == (b"RTfr", 0, stored_bytes)
        assert checksum == xxhash.xxh3_64_intdigest(data[position : position + 16] + stored)
        payload = stored if codec == 0 else zstandard.ZstdDecompressor().decompress(stored)
        assert codec in (0, 1)
        assert len(payload) == raw_bytes
        yield type_, payload
        position += 24 + stored_bytes


def described_column(data: bytes, rows: int) -> list[int]:
    """A stored column, read the plain way."""
    if not data:
        return [0] * rows
    if data[0] == 1:
        return [int.from_bytes(data[1:], "little")] * rows
    way, width, shift, rest = data[0], data[1], data[2], data[3:]
    if way == 2:
        plain, rest = described_part(rest)
        values = [int.from_bytes(plain[width * i : width * (i + 1)], "little") for i in range(rows)]
    elif way == 3:
        planes = []
        for _ in range(width):
            plane, rest = described_part(rest)
            planes.append(plane)
        values = [int.from_bytes(octets, "little") for octets in zip(*planes, strict=True)]
    else:
        assert way == 4
        sizes, rest = described_part(rest)
        bits, values = int.from_bytes(rest, "little"), []
        for size in sizes:
            below = max(size - 1, 0)
            values.append((1 << below) * (size > 0) | bits & ((1 << below) - 1))
            bits >>= below
        assert bits == 0
        rest = b""
    assert rest == b""
    return [value << shift for value in values]


def described_part(data: bytes) -> tuple[bytes, bytes]:
    """What the part holds, and what is after it."""
    (word,) = struct.unpack_from("<I", data)
    stored, rest = data[4 : 4 + (word >> 1)], data[4 + (word >> 1) :]
    return (zstandard.ZstdDecompressor().decompress(stored) if word & 1 else stored), rest


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32))
def test_columns_are_stored_as_described_in_every_way(seed: int) -> None:
    """Of all scales: what is packed reads back the same, by the code and by the description."""
    rng = random.Random(seed)
    bits_max = rng.choice((1, 7, 8, 9, 18, 33, 53, 54, 64))
    values = [
        rng.getrandbits(rng.randint(0, bits_max)) << rng.choice((0, 64 - bits_max))
        for _ in range(rng.randint(1, 99))
    ]
    column = np.array(values, dtype=np.uint64)
    packer = ColumnPacker()
    width = max((max(values).bit_length() + 7) // 8, 1)
    ways = (Encoding.PLAIN, Encoding.PLANES, Encoding.CLASSES)
    for data in (packer.pack("a", column), *(packer._as(way, column, width, 0) for way in ways)):
        assert unpack("a", data, len(values)).tolist() == values
        assert described_column(data, len(values)) == values


@pytest.mark.parametrize("version", [1, 2])
def test_tapes_kept_from_every_version_are_readable(version: int) -> None:
    """What the writer of that version made of `KEPT_SEED`. Do not make them anew: they stand for what people keep."""
    calls, header = make_run(KEPT_SEED, steps=60, version=version), make_header()
    with TapeReader.open(DATA / f"v{version}.tape") as reader:
        assert (reader.version, reader.header) == (version, header)
        assert list(iter_rows(reader)) == rows_of(header, calls)
        assert reader.end is TapeEnd.SEALED
        assert len(list(reader.blocks())) == 4
