"""The bytes of format 1, as docs/tape-format.md has them: tapes made before stay readable."""

import struct
from pathlib import Path

import xxhash
import zstandard

from ringtape.coordinator.tape import TapeEnd, TapeReader, iter_rows
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
    rows_of,
    write,
)

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
    assert data[:16] == b"RINGTAPE\1\0\0\0\0\0\0\0"
    position, found = 16, []
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
        found.append((type_, payload))
        position += 24 + stored_bytes
    assert [type_ for type_, _ in found] == [1, 2, 3]
    assert tape_pb2.Header.FromString(found[0][1]) == HEADER
    block = tape_pb2.Block.FromString(found[1][1])
    assert (block.first_id, block.first_token) == (1, 1)
    assert block.run_table == bytes([1, 2, 3, 4])
    assert struct.unpack("<4H", block.run_worker) == (0, 0, 0, 0)
    assert struct.unpack("<4I", block.run_count) == (2, 2, 1, 1)
    assert struct.unpack("<4Q", block.run_ns) == (5, 6, 7, 8)
    assert struct.unpack("<2I", block.tokens.order) == (1, 0)
    assert tape_pb2.Seal.FromString(found[2][1]) == tape_pb2.Seal(end=1, requests=2, completions=2, tokens=1)
