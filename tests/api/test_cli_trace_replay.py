"""Goal: `ringtape trace replay` does on disks what a trace says, exactly again from its tape, or refuses it in a line.

Method: the installed script on traces made here and on real files; what was done is read from the tape.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ringtape as api
from ringtape.coordinator.tape import TapeReader
from tests.api.command_line import (
    SCRIPT,
    TIMEOUT_S,
    check_one_line,
    finished,
    plain_environment,
    ringtape,
    snapshot,
)
from tests.api.test_volume import under_way_of
from tests.traces.encoders import DISCARD, FSYNC, READ, TEXTS, WRITE, Row, msr, request_event, write

BLOCK = 4096
DISK_BYTES = 1 << 20
KINDS = {READ: "read", WRITE: "write", DISCARD: "discard", FSYNC: "fsync"}


def rows_of(format: str, count: int = 60) -> list[Row]:
    """Requests of every kind and device that the format has, in blocks, some of which overlap."""
    holds = TEXTS[format]
    rows = []
    for number in range(count):
        kind, flags = holds.kinds[number % len(holds.kinds)]
        offset, length = number * 7 % 40 * BLOCK, (1 + number % 3) * BLOCK
        if kind == FSYNC:
            offset = length = 0
        device = holds.devices[number % min(len(holds.devices), 3)]
        rows.append(Row(number * holds.tick_ns, kind, device, offset, length, flags))
    return rows


def replayed(folder: Path, *words: str) -> dict[str, Any]:
    done = ringtape("trace", "replay", *words, "--json", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def requests_on(tape: Path) -> list[tuple[str, str, int, int]]:
    with api.open_tape(tape) as opened:
        in_order = sorted(opened.requests(), key=lambda one: one.id)
        return [(one.kind, one.disk, one.offset, one.length) for one in in_order]


def spc(folder: Path, requests: Sequence[tuple[str, str, int, int]], name: str = "trace.spc") -> str:
    """A trace of (kind, device, offset, length), a millisecond apart."""
    lines = (
        f"{device},{offset // 512},{length},{kind},{number / 1000:.6f}\n"
        for number, (kind, device, offset, length) in enumerate(requests)
    )
    write(folder / name, "".join(lines))
    return name


@pytest.mark.parametrize("format", [*TEXTS, "blktrace"])
def test_every_format_is_done_in_its_order_and_again_from_the_tape(format: str, tmp_path: Path) -> None:
    if format == "blktrace":
        # In the files of three processors.
        rows = [row._replace(time_ns=number * 1000) for number, row in enumerate(rows_of("blkparse"))]
        for cpu in range(3):
            mine = [(row, request_event(row, 5 + row.time_ns, cpu=cpu)) for row in rows[cpu::3]]
            write(tmp_path / f"trace.blktrace.{cpu}", b"".join(data for _, data in mine))
    else:
        rows = rows_of(format)
        write(tmp_path / "trace", TEXTS[format].encode(rows))
    disks = ("--disk", "a=a.img,size=1M,fresh", "--disk", "b=b.img,size=1M,fresh")
    maps = ("--map", f"{rows[0].device}=a", "--map", "*=b")
    if len({row.device for row in rows}) == 1:
        disks, maps = disks[:2], ()
    report = replayed(
        tmp_path, "trace", "--format", format, *disks, *maps, "--speed", "max", "--mode", "record"
    )
    expected = [
        (KINDS[row.kind], "a" if row.device == rows[0].device else "b", row.offset, row.length)
        for row in rows
    ]
    assert requests_on(tmp_path / "run.tape") == expected
    assert report["requests"] == report["trace_requests"] == len(rows)
    for kind, one in report["kinds"].items():
        mine = [row for row in rows if KINDS[row.kind] == kind]
        assert (one["requests"], one["bytes"]) == (len(mine), sum(row.length for row in mine))
        assert (one["failed"], one["short"]) == (0, 0)
    again = ringtape("replay", "run.tape", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout)
    assert result["digest"] == report["digest"]
    assert result["returns"][0]["kinds"] == report["kinds"]


def test_the_schedule_is_kept_and_the_lag_is_the_same_from_the_tape(tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", number * BLOCK, BLOCK) for number in range(100)])
    words = (trace, "-d", "a=a.img,size=1M,fresh", "--speed", "2x", "--mode", "record", "-o", "two.tape")
    report = replayed(tmp_path, *words)
    assert report["elapsed_s"] >= 99 / 1000 / 2
    lag = report["lag_ns"]
    assert 0 <= lag["min"] <= lag["p50"] <= lag["p99"] <= lag["p99_9"] <= lag["max"]
    assert lag["min"] <= lag["mean"] <= lag["max"]
    assert 0 <= lag["late"] <= 100
    with api.open_tape(tmp_path / "two.tape") as opened:
        times = [one.submitted_ns for one in sorted(opened.requests(), key=lambda one: one.id)]
    # On the tape as well nothing came before its time: these are half a millisecond apart.
    assert all(time >= times[0] + number * 500_000 - lag["max"] for number, time in enumerate(times))
    result = json.loads(ringtape("replay", "two.tape", "--json", cwd=tmp_path).stdout)
    assert (result["digest"], result["returns"][0]["lag_ns"]) == (report["digest"], lag)


@pytest.mark.parametrize("speed", ["max", "original"])
@pytest.mark.parametrize("format", ["msr", "blktrace"])
def test_as_many_are_under_way_as_in_the_trace(format: str, speed: str, tmp_path: Path) -> None:
    """20 at a time, then one after the other, and again, with writes that take a millisecond."""
    device = "h_0" if format == "msr" else "8,0"
    step_ns = [10_000 if number // 20 % 2 else 0 for number in range(200)]
    ends_ns, time_ns, rows = 0, 0, []
    for number, pause in enumerate(step_ns):
        time_ns = ends_ns + pause if pause or number % 20 == 0 else time_ns
        ends_ns = max(ends_ns, time_ns + 1_000_000)
        rows.append(Row(time_ns, WRITE, device, number * BLOCK, BLOCK))
    if format == "msr":
        write(tmp_path / "trace", msr(rows, [1_000_000] * 200))
    else:
        events = [(row.time_ns, row, "Q") for row in rows]
        events += [(row.time_ns + 1_000_000, row, "C") for row in rows]
        events.sort(key=lambda one: (one[0], one[2]))
        data = b"".join(request_event(row, 5 + time, action) for time, row, action in events)
        write(tmp_path / "trace", data)
    words = ("trace", "-d", "a=a.img,size=1M,fresh", "--speed", speed, "--depth", "trace")
    report = replayed(tmp_path, *words, "--mode", "record", "--strict")
    assert (report["format"], report["depth"], report["requests"]) == (format, "trace", 200)
    with api.open_tape(tmp_path / "run.tape") as opened:
        requests = sorted(opened.requests(), key=lambda one: one.id)
    found = under_way_of(requests)
    traced = [number % 20 + 1 if number // 20 % 2 == 0 else 1 for number in range(200)]
    assert all(mine <= most for mine, most in zip(found, traced, strict=True))
    if speed == "max":
        assert found == traced
    again = json.loads(ringtape("replay", "run.tape", "--json", cwd=tmp_path).stdout)
    assert again["digest"] == report["digest"]


@pytest.mark.parametrize("strict", [True, False])
def test_a_recording_may_be_strict(strict: bool, tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", 0, BLOCK)])
    words = (trace, "-d", "a=a.img,size=1M,fresh", "--mode", "record", *["--strict"] * strict)
    report = replayed(tmp_path, *words)
    with TapeReader.open(tmp_path / "run.tape") as reader:
        assert reader.header.leased is not strict
    again = json.loads(ringtape("replay", "run.tape", "--json", cwd=tmp_path).stdout)
    assert again["digest"] == report["digest"]


FITS = {
    "--wrap": [(0, BLOCK), (14 * BLOCK, BLOCK), (4 * BLOCK, 2 * BLOCK), (14 * BLOCK, 2 * BLOCK)],
    "--scale": [(0, BLOCK), (7 * BLOCK, BLOCK), (10 * BLOCK, 2 * BLOCK), (14 * BLOCK, 2 * BLOCK)],
    "--clip": [(0, BLOCK), (14 * BLOCK, BLOCK)],
}


@pytest.mark.parametrize("option", FITS)
def test_a_trace_larger_than_the_disk(option: str, tmp_path: Path) -> None:
    """The device's highest end is block 32, its room is 16 blocks: half of the disk."""
    requests = [("W", "0", 0, 1), ("R", "0", 14, 1), ("W", "0", 20, 2), ("R", "0", 30, 2)]
    in_bytes = [(kind, device, offset * BLOCK, length * BLOCK) for kind, device, offset, length in requests]
    trace = spc(tmp_path, [*in_bytes, ("W", "1", 0, BLOCK)])
    disk = ("-d", f"a=a.img,size={32 * BLOCK}", "--map", "0=a", "--map", "1=a+64K")
    before = snapshot(tmp_path)
    refused = ringtape("trace", "replay", trace, *disk, cwd=tmp_path)
    check_one_line(
        refused, 2, f"{trace}: request 3: write of device '0', offset 81920 length 8192,", "--scale"
    )
    assert snapshot(tmp_path) == before
    report = replayed(tmp_path, trace, *disk, option, "--speed", "max", "--mode", "record")
    ranges = [(offset, length) for _, _, offset, length in requests_on(tmp_path / "run.tape")]
    assert ranges == [*FITS[option], (16 * BLOCK, BLOCK)]
    assert (report["left_out"], report["shortened"]) == ((2, 0) if option == "--clip" else (0, 0))


def test_clip_shortens_what_crosses_the_end(tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", 0, BLOCK), ("W", "0", 15 * BLOCK, 4 * BLOCK)])
    words = (trace, "-d", f"a=a.img,size={16 * BLOCK}", "--clip", "--speed", "max", "--mode", "record")
    report = replayed(tmp_path, *words)
    assert requests_on(tmp_path / "run.tape")[1] == ("write", "a", 15 * BLOCK, BLOCK)
    assert (report["left_out"], report["shortened"]) == (0, 1)


@pytest.mark.parametrize(
    ("request_at", "option", "what"),
    [((0, 0), "--align", "empty 1"), ((DISK_BYTES, BLOCK), "--clip", "left out 1")],
)
def test_a_trace_of_which_nothing_is_left_is_reported_as_such(
    request_at: tuple[int, int], option: str, what: str, tmp_path: Path
) -> None:
    name = spc(tmp_path, [("W", "0", *request_at)])
    done = ringtape("trace", "replay", name, "-d", f"a=a.img,size={DISK_BYTES}", option, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    words = " ".join(done.stdout.split())
    assert "requests 0" in words
    assert what in words
    assert "lag none" in words


def test_align_takes_the_blocks_that_a_request_touches(tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", 512, 512), ("R", "0", BLOCK - 512, 1024), ("R", "0", BLOCK, 0)])
    path = tmp_path / "a.img"
    path.write_bytes(bytes(DISK_BYTES))
    block = block_size_of(tmp_path)
    words = (trace, "-d", "a=a.img", "--align", "--speed", "max", "--mode", "record")
    report = replayed(tmp_path, *words)
    expected = [
        (kind, "a", begin // block * block, -(-end // block) * block - begin // block * block)
        for kind, begin, end in (("write", 512, 1024), ("read", BLOCK - 512, BLOCK + 512))
    ]
    assert requests_on(tmp_path / "run.tape") == expected
    assert report["empty"] == 1


def block_size_of(folder: Path) -> int:
    from ringtape.engine.disks import probe

    return probe(str(folder / "a.img"), "a").block_size


def test_devices_go_to_disks_of_their_names(tmp_path: Path) -> None:
    rows = [Row(0, WRITE, "a", 0, BLOCK), Row(1000, READ, "/dev/sdb", 0, BLOCK)]
    write(tmp_path / "trace", TEXTS["fio-iolog"].encode(rows))
    disks = ("-d", "a=a.img,size=1M", "-d", "b=b.img,size=1M")
    report = replayed(tmp_path, "trace", *disks, "--map", "/dev/sdb=b+8K", "--mode", "record")
    assert [(one["name"], one["disk"], one["offset"]) for one in report["devices"]] == [
        ("a", "a", 0),
        ("/dev/sdb", "b", 8192),
    ]
    assert requests_on(tmp_path / "run.tape") == [("write", "a", 0, BLOCK), ("read", "b", 8192, BLOCK)]


def test_standard_input_is_kept_for_the_second_look(tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", 0, BLOCK)] * 3)
    words = [SCRIPT, "trace", "replay", "-", "-d", "a=a.img,size=1M", "--json"]
    with (tmp_path / trace).open("rb") as file:
        done = subprocess.run(
            words,
            cwd=tmp_path,
            stdin=file,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
            env={**plain_environment(), "TMPDIR": str(tmp_path)},
        )
    report = json.loads(done.stdout)
    assert (report["trace"], report["requests"]) == ("-", 3)
    assert sorted(os.listdir(tmp_path)) == ["a.img", trace]


def test_for_people(tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", 0, BLOCK), ("R", "0", 0, BLOCK)])
    done = ringtape("trace", "replay", trace, "-d", "a=a.img,size=1M", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split("  ")[1] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert names == ["requests", "read", "write", "elapsed", "lag", "late"]
    assert done.stdout.startswith(f"{trace}: replayed at speed original\n")
    assert done.stdout.splitlines()[-1] == "device 0: disk a from 0"


def test_a_trace_that_has_changed_is_no_replay_of_the_tape(tmp_path: Path) -> None:
    trace = spc(tmp_path, [("W", "0", 0, BLOCK)] * 2)
    replayed(tmp_path, trace, "-d", "a=a.img,size=1M,fresh", "--mode", "record")
    spc(tmp_path, [("W", "0", 0, BLOCK)] * 3)
    done = ringtape("replay", "run.tape", cwd=tmp_path)
    assert done.returncode == 3
    assert "has changed: it is not the trace that this replay is of" in done.stderr


A = ("-d", "a=a.img")
REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no disk": (("one.spc",), ("no disk is named for device '0'",)),
    "not mapped": (("two.spc", *A), ("no disk is named for devices '0', '1'", "--map '*=a'")),
    "one not mapped": (("two.spc", *A, "--map", "0=a"), ("no disk is named for device '1'",)),
    "unknown device": (("one.spc", *A, "--map", "7=a"), ("has no device '7'; it has '0'",)),
    "unknown disk": (("one.spc", *A, "--map", "0=b"), ("onto disk 'b', which is not among the disks: 'a'",)),
    "mapped twice": (("one.spc", *A, "--map", "0=a", "--map", "0=a"), ("mapped twice",)),
    "idle disk": (
        ("one.spc", *A, "-d", "b=b.img", "--map", "0=a"),
        ("no device of the trace goes to disk 'b'",),
    ),
    "no map": (("one.spc", *A, "--map", "a"), ("--map a: expected DEVICE=DISK",)),
    "no offset": (("one.spc", *A, "--map", "0=a+much"), ("'a+much'", "is not a size")),
    "odd offset": (("one.spc", *A, "--map", "0=a+100"), ("offset 100 of disk 'a'", "block size")),
    "far offset": (("one.spc", *A, "--map", "0=a+1M"), ("below its size 1048576",)),
    "past the end": (("far.spc", *A), ("far.spc: request 2: ", "--wrap")),
    "longer than the disk": (("long.spc", *A, "--wrap"), ("request 1: ", "is longer than the 1048576 bytes")),
    "not aligned": (("odd.spc", *A), ("odd.spc: request 2: ", "--align")),
    "not aligned and wrapped": (("odd.spc", *A, "--wrap"), ("request 2: ", "--align")),
    "two fits": (("one.spc", *A, "--wrap", "--clip"), ("--wrap and --clip do not go together",)),
    "no speed": (("one.spc", *A, "--speed", "fast"), ("speed 'fast' must be original, max",)),
    "speed without x": (("one.spc", *A, "--speed", "2"), ("speed '2' must be",)),
    "speed of nothing": (("one.spc", *A, "--speed", "0x"), ("speed '0x' must be",)),
    "no depth": (("one.spc", *A, "--depth", "0"), ("depth 0 must be",)),
    "no such depth": (("one.spc", *A, "--depth", "all"), ("depth 'all' must be 'trace' or",)),
    "depth of a trace of spc": (
        ("one.spc", *A, "--depth", "trace"),
        (
            "one.spc",
            "of spc does not say when",
        ),
    ),
    "depth of a load without durations": (("load", *A, "--depth", "trace"), ("load does not say when",)),
    "strict and plain": (("one.spc", *A, "--strict"), ("--strict goes with a recording",)),
    "output of a plain run": (("one.spc", *A, "-o", "x.tape"), ("--output x.tape", "--mode record")),
    "missing": (("none.spc", *A), ("cannot read none.spc: there is no such file",)),
    "empty": (("empty", *A), ("empty is empty",)),
    "garbage": (("garbage", *A), ("garbage is binary and no trace",)),
    "another format": (("one.spc", *A, "--format", "msr"), ("line 1", "it looks like spc")),
    "bad line": (("bad.spc", *A), ("bad.spc: line 2: ",)),
    "no such disk": (("one.spc", "-d", "a=none.img"), ("disk 'a'", "none.img")),
    "recorded from a pipe": (("-", *A, "--mode", "record"), ("standard input can be read only once",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_replayed_is_one_line_and_touches_nothing(case: str, tmp_path: Path) -> None:
    for name in ("a.img", "b.img"):
        write(tmp_path / name, os.urandom(DISK_BYTES))
    spc(tmp_path, [("W", "0", 0, BLOCK)], "one.spc")
    spc(tmp_path, [("W", "0", 0, BLOCK), ("W", "1", 0, BLOCK)], "two.spc")
    spc(tmp_path, [("W", "0", 0, BLOCK), ("W", "0", DISK_BYTES, BLOCK)], "far.spc")
    spc(tmp_path, [("W", "0", 0, 2 * DISK_BYTES)], "long.spc")
    spc(tmp_path, [("W", "0", 0, BLOCK), ("W", "0", 0, 100)], "odd.spc")
    write(tmp_path / "bad.spc", "0,0,4096,W,0.0\n0,zero,4096,W,0.1\n")
    write(tmp_path / "load", TEXTS["blkreplay"].encode([Row(0, READ, "disk", 0, BLOCK)]))
    write(tmp_path / "empty", "")
    write(tmp_path / "garbage", bytes(range(256)) * 20)
    before = snapshot(tmp_path)
    words, parts = REFUSED[case]
    check_one_line(ringtape("trace", "replay", *words, cwd=tmp_path), 2, *parts)
    assert snapshot(tmp_path) == before


def test_errors_name_standard_input_and_not_its_copy(tmp_path: Path) -> None:
    for text, parts in {
        "": ["standard input is empty"],
        "0,0,4096,W,0.0\n0,zero,4096,W,0.1\n": ["standard input: line 2: 'zero'"],
        "0,0,100,W,0.0\n": ["standard input: request 1: "],
        "\0\1\2\3" * 99: ["standard input is binary"],
    }.items():
        write(tmp_path / "a.img", bytes(DISK_BYTES))
        done = finished([SCRIPT, "trace", "replay", "-", *A], tmp_path, text)
        check_one_line(done, 2, *parts)


def test_bad_lines_can_be_left_out(tmp_path: Path) -> None:
    write(tmp_path / "bad.spc", "0,0,4096,W,0.0\n0,zero,4096,W,0.1\n0,8,4096,R,0.1\n")
    words = ("trace", "replay", "bad.spc", "-d", "a=a.img,size=1M", "--skip-bad", "--json")
    done = ringtape(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "ringtape: note: 1 bad line left out\n")
    assert (json.loads(done.stdout)["requests"], json.loads(done.stdout)["skipped"]) == (2, 1)
