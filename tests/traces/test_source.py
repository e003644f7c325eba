"""Goal: a trace is read however it is packed, and what is wrong with its packing is one clear line.

Method: the same text packed in every way; every cut of a packed file.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import ringtape
from ringtape import traces
from ringtape.traces import trace as reading
from tests.traces.encoders import READ, TEXTS, Row, read, write

ROWS = [Row(i * 1000, READ, "419", i * i * 4096, 4096) for i in range(200)]
TEXT = str(TEXTS["alibaba"].encode(ROWS)).encode()

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bz2": bz2.compress,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("members", [1, 2, 50])
def test_a_packed_trace_is_read_through_all_its_members(packing: str, members: int, tmp_path: Path) -> None:
    size = -(-len(TEXT) // members)
    packed = b"".join(PACKINGS[packing](TEXT[at : at + size]) for at in range(0, len(TEXT), size))
    path = write(tmp_path / "no-name-that-tells", packed)
    assert read(path) == ROWS
    with traces.open(path) as trace:
        assert trace.packing == packing


@pytest.mark.parametrize("format", ["alibaba", "msr", "fio-iolog"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(format: str, tmp_path: Path) -> None:
    holds = TEXTS[format]
    rows = [Row(number * 1000, READ, holds.devices[0], number * 512, 512) for number in range(3)]
    text = b"\xef\xbb\xbf" + str(holds.encode(rows)).encode()
    for packed in (text, gzip.compress(text)):
        path = write(tmp_path / "trace", packed)
        assert read(path) == rows
        assert read(path, format) == rows
    with pytest.raises(ringtape.TraceError, match=r"trace is empty$"):
        read(write(tmp_path / "trace", text[:3]))


def test_skippable_frames_and_sizes_left_out_are_no_matter_to_zstd(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True)
    skippable = bytes.fromhex("5a2a4d18") + (7).to_bytes(4, "little") + b"nothing"
    half = len(TEXT) // 2
    packed = skippable + packer.compress(TEXT[:half]) + skippable + packer.compress(TEXT[half:]) + skippable
    assert read(write(tmp_path / "trace", packed)) == ROWS


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_trace_that_was_cut_is_an_error_wherever(packing: str, tmp_path: Path) -> None:
    packed = PACKINGS[packing](TEXT)
    for size in [*range(5, len(packed), len(packed) // 25), len(packed) - 1]:
        path = write(tmp_path / "trace", packed[:size])
        with pytest.raises(ringtape.TraceError, match=re.escape(f"{path}: its {packing} data is cut short")):
            read(path)


@pytest.mark.parametrize("packing", PACKINGS)
def test_damaged_packing_is_an_error(packing: str, tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True)
    packed = bytearray(packer.compress(TEXT) if packing == "zstd" else PACKINGS[packing](TEXT))
    packed[len(packed) // 2] ^= 0x55
    path = write(tmp_path / "trace", bytes(packed))
    with pytest.raises(ringtape.TraceError, match=re.escape(f"{path}: ")) as caught:
        read(path)
    assert "damaged" in str(caught.value) or "line" in str(caught.value)


@pytest.mark.parametrize("packing", PACKINGS)
def test_nothing_in_a_wrapping_is_an_empty_trace(packing: str, tmp_path: Path) -> None:
    path = write(tmp_path / "trace", PACKINGS[packing](b""))
    with pytest.raises(ringtape.TraceError, match=f"is empty but for its {packing} wrapping"):
        read(path)


def test_an_archive_is_called_one(tmp_path: Path) -> None:
    trace = write(tmp_path / "trace", TEXT)
    with tarfile.open(tmp_path / "trace.tgz", "w:gz") as archive:
        archive.add(trace, "trace")
    write(tmp_path / "trace.xz", lzma.compress(TEXT))
    for name, said in (
        ("trace.tgz", "trace.tgz is a tar archive: unpack it"),
        ("trace.xz", "packed with xz"),
    ):
        with pytest.raises(ringtape.TraceError, match=said):
            read(tmp_path / name)


def test_rows_before_a_cut_are_given_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_CHUNK_BYTES", 1000)
    path = write(tmp_path / "trace", gzip.compress(TEXT)[:-4])
    given = 0
    with traces.open(path) as trace, pytest.raises(ringtape.TraceError, match="cut short"):
        for batch in trace:
            given += len(batch)
    assert given > 150


def test_a_pipe_that_gives_little_at_a_time_is_read_through(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def feed() -> None:
        with open(pipe, "wb", buffering=0) as file:
            for at in range(0, len(packed), 3):
                file.write(packed[at : at + 3])

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        assert read(pipe) == ROWS
    finally:
        thread.join()
