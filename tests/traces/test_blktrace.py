"""Goal: blktrace's files give the requests that blkparse finds in them, in its order.

Method: events made byte by byte, of every sort that a capture has; blkparse reads the same files where it is installed.
"""

from __future__ import annotations

import gzip
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape import traces
from ringtape.traces.formats import blktrace
from tests.searching import slow
from tests.traces.encoders import (
    ACTIONS,
    BLOCK_KINDS,
    DISCARD,
    FSYNC,
    PAIRS,
    READ,
    T_FLUSH,
    T_META,
    T_NOTIFY,
    T_PC,
    T_QUEUE,
    T_READ,
    T_SYNC,
    T_WRITE,
    WRITE,
    Holds,
    Row,
    event,
    read,
    request_event,
    rows_for,
    write,
)

HOLDS = Holds(lambda rows: b"", 1, 512, 512, PAIRS, BLOCK_KINDS)
START_NS = 7 * 10**12
MAGIC = bytes.fromhex("07746165")


def noise(chosen: random.Random, time: int, **more: object) -> bytes:
    """An event that is no request: messages, plugs, remaps, completions, requests that pass through."""
    common = {"cpu": 0, **more}
    action, about, length, pdu = chosen.choice(
        [
            (ACTIONS["P"], T_QUEUE, 0, b""),
            (ACTIONS["U"], T_QUEUE, 0, bytes(7) + b"\x01"),
            (ACTIONS["A"], T_QUEUE | T_WRITE, 4096, bytes(16)),
            (ACTIONS["C"], T_READ, 4096, b""),
            (ACTIONS["G"], T_QUEUE | T_READ | T_META, 4096, b""),
            (ACTIONS["Q"], T_QUEUE | T_READ | T_PC, 36, b"\x12\0\0\0\x24\0"),
            (ACTIONS["Q"], T_QUEUE | T_PC | T_READ | T_SYNC, 0, b""),
            (0, T_NOTIFY, 0, b"a process\0"),
            (2, T_NOTIFY, 0, b"a message with " + MAGIC + b" in it" + bytes(chosen.randrange(5))),
        ]
    )
    return event(action | about, time, length=length, sector=64, pdu=pdu, **common)  # type: ignore[arg-type]


def write_files(folder: Path, rows: list[Row], *, cpus: int = 3, seed: int = 1, order: str = "<") -> Path:
    """A capture with files of several processors; returns the name that they have in common."""
    chosen = random.Random(seed)
    files = [bytearray() for _ in range(cpus)]
    for number, row in enumerate(rows):
        cpu = chosen.randrange(cpus)
        for _ in range(chosen.randrange(3)):
            files[cpu] += noise(chosen, START_NS + row.time_ns, order=order)
        files[cpu] += request_event(
            row,
            START_NS + row.time_ns,
            sequence=number + 1,
            cpu=cpu,
            order=order,
            pdu=b"x" * (number % 4 == 3),
        )
        files[cpu] += request_event(row, START_NS + row.time_ns + 5000, "D", cpu=cpu, order=order)
    for cpu, data in enumerate(files):
        write(folder / f"cap.blktrace.{cpu}", bytes(data))
    return folder / "cap"


def in_time(rows: list[Row]) -> list[Row]:
    """Each at a time of its own, and in order."""
    spaced = [row._replace(time_ns=row.time_ns % 10**15 * 100 + number) for number, row in enumerate(rows)]
    spaced.sort(key=lambda row: row.time_ns)
    return [row._replace(time_ns=row.time_ns - spaced[0].time_ns) for row in spaced]


@slow(20)
@given(
    rows=rows_for(HOLDS).map(in_time),
    seed=st.integers(0, 1000),
    size=st.sampled_from([1 << 20, 100, 49]),
    order=st.sampled_from("<>"),
    kept=st.sampled_from([0, 5, 1 << 14]),
)
def test_files_are_merged_by_time(
    rows: list[Row], seed: int, size: int, order: str, kept: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = write_files(tmp_path_factory.mktemp("capture"), rows, seed=seed, order=order)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blktrace, "_READ_BYTES", size)
        patch.setattr(blktrace, "_HELD_MIN", kept)
        for name in (base, f"{base}.blktrace.1"):
            assert read(name) == rows
        assert read(base, "blktrace", action="D") == rows


def test_what_a_pipe_mixes_up_is_put_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`blktrace -o -` writes what one processor has, and then what another had at the same time."""
    monkeypatch.setattr(blktrace, "_HELD_MIN", 10)
    monkeypatch.setattr(blktrace, "_READ_BYTES", 480)
    rows = [Row(number * 1000, READ, "8,0", number * 4096, 4096) for number in range(1000)]
    mixed = [rows[(number // 50 * 50) + 49 - number % 50] for number in range(1000)]
    path = write(tmp_path / "stream", b"".join(request_event(row, START_NS + row.time_ns) for row in mixed))
    assert read(path) == rows


def test_a_capture_without_one_of_its_processors_events_is_read(tmp_path: Path) -> None:
    rows = [Row(0, READ, "8,0", 0, 512), Row(5, WRITE, "8,0", 512, 512)]
    base = write_files(tmp_path, rows, cpus=1)
    write(tmp_path / "cap.blktrace.1", b"")
    write(tmp_path / "cap.blktrace.2.gz", gzip.compress(b""))
    write(tmp_path / "capital.blktrace.0", b"of another")
    assert read(base) == rows
    with traces.open(base) as trace:
        assert trace.files == [str(tmp_path / f"cap.blktrace.{end}") for end in ("0", "2.gz")]


def test_a_flush_with_data_is_the_write(tmp_path: Path) -> None:
    both = event(ACTIONS["Q"] | T_QUEUE | T_WRITE | T_FLUSH, 5, sector=8, length=4096)
    assert read(write(tmp_path / "one", both)) == [Row(0, WRITE, "8,0", 4096, 4096)]


ROWS = [Row(number * 10, READ, "8,0", number * 512, 512) for number in range(20)]


def broken(where: str) -> bytes:
    whole = [request_event(row, START_NS + row.time_ns) for row in ROWS]
    if where == "zeros between":
        return b"".join(whole[:10]) + bytes(1000) + b"".join(whole[10:])
    if where == "cut":
        return b"".join(whole)[:-20]
    if where == "a wrong sector":
        wrong = event(ACTIONS["Q"] | T_QUEUE | T_READ, START_NS, sector=1 << 60, length=512)
        return b"".join(whole[:10]) + wrong + b"".join(whole[10:])
    return b"".join(whole) + bytes(300)


@pytest.mark.parametrize(
    ("where", "said", "left"),
    [
        ("zeros between", "byte 480: no event begins here: 00 00 00 00", ROWS),
        ("zeros at the end", "byte 960: no event begins here: 00 00 00 00", ROWS),
        ("cut", "byte 912: the last 28 bytes are no whole event: the trace is cut short", ROWS[:-1]),
        ("a wrong sector", "byte 480: its sector or its time is larger than there can be", ROWS),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 96])
def test_what_is_no_event_is_named_or_left_out_once(
    where: str, said: str, left: list[Row], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blktrace, "_READ_BYTES", size)
    path = write(tmp_path / "trace", broken(where))
    with pytest.raises(ringtape.TraceError, match=re.escape(f"{path}: {said}")):
        read(path)
    assert read(path, skip_bad=True) == left
    with traces.open(path, skip_bad=True) as trace:
        list(trace)
        assert trace.skipped == 1
        assert trace.first_skipped is not None
        assert said.partition(": ")[2] in trace.first_skipped


def test_another_version_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", bytes([8]) + request_event(ROWS[0], 5)[1:])
    with pytest.raises(ringtape.TraceError, match="version 8 of blktrace; version 7 is known"):
        read(path)


@pytest.mark.skipif(shutil.which("blkparse") is None, reason="blkparse is not installed")
@pytest.mark.parametrize("action", ["Q", "D"])
def test_blkparse_finds_the_same(action: str, tmp_path: Path) -> None:
    """In the files themselves, in what blkparse prints of them, and in what it merges into one file."""
    chosen = random.Random(7)
    some = ((chosen.randrange(10**10), chosen.randrange(10**6), chosen.randrange(1, 64)) for _ in range(300))
    rows = in_time(
        [
            Row(time, kind, "8,0", sector * 512, sectors * 512, flags)
            for (time, sector, sectors), (kind, flags) in zip(
                some, chosen.choices(BLOCK_KINDS, k=300), strict=True
            )
        ]
    )
    rows = [row._replace(offset=0, length=0) if row.kind == FSYNC else row for row in rows]
    base = write_files(tmp_path, rows)
    printed = subprocess.run(
        ["blkparse", "-i", base.name, "-d", "merged"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    mine = read(base, action=action)
    assert mine == rows
    assert read(write(tmp_path / "printed", printed), action=action) == mine
    assert read(tmp_path / "merged", action=action) == mine
    # And its own counts, in the summary over all processors.
    total = printed.split("Total (")[-1] if "Total (" in printed else printed
    names = {"Q": ("Reads Queued", "Writes Queued"), "D": ("Read Dispatches", "Write Dispatches")}[action]
    for name, kinds in zip(names, ((READ,), (WRITE, DISCARD, FSYNC)), strict=True):
        counted = int(re.findall(rf"{name}:\s+(\d+)", total)[0])
        assert counted == sum(row.kind in kinds for row in mine), name
