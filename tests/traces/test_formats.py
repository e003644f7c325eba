"""Goal: what a trace of any format says is what comes out, in its order, in batches of any size.

Method: rows that the format can hold are encoded by code of the tests' own and read back.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape import traces
from ringtape.traces import trace as reading
from tests.searching import slow
from tests.traces.encoders import (
    BLKPARSE_TAIL,
    DATA_ONLY,
    DISCARD,
    DISKSIM,
    FIO_2,
    FSYNC,
    FUA,
    READ,
    TEXTS,
    WRITE,
    Holds,
    Row,
    blkparse,
    read,
    rows_for,
    write,
)

EXAMPLES = 15


def check_round_trip(holds: Holds, format: str, rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "trace", holds.encode(rows))
        assert read(path) == rows
        assert read(path, format) == rows
        with traces.open(path) as trace:
            list(trace)
            assert trace.format == format
            assert trace.devices == list(dict.fromkeys(row.device for row in rows))


@pytest.mark.parametrize("format", TEXTS)
@slow(EXAMPLES)
@given(data=st.data())
def test_what_was_encoded_is_read(format: str, data: st.DataObject) -> None:
    check_round_trip(TEXTS[format], format, data.draw(rows_for(TEXTS[format])))


@slow(EXAMPLES)
@given(rows=rows_for(DISKSIM))
def test_times_with_a_point_are_milliseconds_of_disksim(rows: list[Row]) -> None:
    check_round_trip(DISKSIM, "mqsim", rows)


@slow(EXAMPLES)
@given(rows=rows_for(FIO_2))
def test_waits_of_fio_2_add_up(rows: list[Row]) -> None:
    rows = sorted((row._replace(time_ns=row.time_ns % 10**16) for row in rows), key=lambda row: row.time_ns)
    check_round_trip(FIO_2, "fio-iolog", rows)


@pytest.mark.parametrize("format", [*TEXTS, "fio-2", "disksim"])
def test_batches_of_a_few_lines_say_the_same(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes from line to line (waits, devices, the first time, a summary) goes from batch to batch."""
    holds = {**TEXTS, "fio-2": FIO_2, "disksim": DISKSIM}[format]
    rows = [
        Row(
            number * 5 * 10**9,
            *(holds.kinds[number % len(holds.kinds)][:1]),
            holds.devices[number % 7 % len(holds.devices)],
            number % 11 * 51200,
            (number + 1) * 512,
            holds.kinds[number % len(holds.kinds)][1],
        )
        for number in range(100)
    ]
    rows = [row._replace(offset=0, length=0) if row.kind == FSYNC else row for row in rows]
    path = write(tmp_path / "trace", holds.encode(rows))
    for size in (1 << 20, 2000, 177, 61):
        monkeypatch.setattr(reading, "_CHUNK_BYTES", size)
        assert read(path) == rows, size


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("change", ["CRLF", "no newline at the end", "blank lines"])
def test_lines_may_end_as_they_like(format: str, change: str, tmp_path: Path) -> None:
    holds = TEXTS[format]
    rows = [Row(0, READ, holds.devices[0], 512, 1024), Row(10**9, WRITE, holds.devices[-1], 0, 512)]
    text = holds.encode(rows)
    assert isinstance(text, str)
    changed = {
        "CRLF": text.replace("\n", "\r\n"),
        "no newline at the end": text.rstrip("\n"),
        "blank lines": text.replace("\n", "\n\n  \n") if format not in ("blkreplay",) else text + "\n\n",
    }[change]
    assert read(write(tmp_path / "trace", changed)) == rows


@pytest.mark.parametrize("format", ["msr", "alibaba", "tencent", "spc"])
def test_a_headline_and_spaces_around_commas_are_passed_over(format: str, tmp_path: Path) -> None:
    holds = TEXTS[format]
    rows = [Row(i * 10**9, READ, holds.devices[0], 512 * i, 1024) for i in range(4)]
    text = holds.encode(rows)
    assert isinstance(text, str)
    path = write(tmp_path / "trace", "Some,Names,Of,Columns\n" + text.replace(",", " ,\t"))
    assert read(path) == rows


def test_many_devices_are_told_apart(tmp_path: Path) -> None:
    """More than are looked at one after the other, with names of all lengths."""
    names = [f"{'host' * (i % 9)}h{i}_{i}" for i in range(500)]
    rows = [Row(i * 100, READ, names[i * 7 % 500], i, 1) for i in range(3000)]
    assert read(write(tmp_path / "trace", TEXTS["msr"].encode(rows))) == rows


def test_the_time_unit_of_an_ascii_trace_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", "10 0 8 1 1\n25 0 8 1 0\n")
    assert [row.time_ns for row in read(path)] == [0, 15]
    assert [row.time_ns for row in read(path, time_unit="ms")] == [0, 15 * 10**6]
    path = write(tmp_path / "trace", "10.5 0 8 1 1\n12.75 0 8 1 0\n")
    assert [row.time_ns for row in read(path)] == [0, 2_250_000]
    assert [row.time_ns for row in read(path, time_unit="ns")] == [0, 2]


def test_a_wait_of_fio_3_means_nothing_and_its_own_times_count(tmp_path: Path) -> None:
    log = (
        "fio version 3 iolog\n5 f add\n5 f open\n7 f read 0 512\n8 f wait 100 0\n9 f sync\n9 f datasync 0 0\n"
    )
    assert read(write(tmp_path / "trace", log)) == [
        Row(0, READ, "f", 0, 512),
        Row(2000, FSYNC, "f", 0, 0),
        Row(2000, FSYNC, "f", 0, 0, DATA_ONLY),
    ]


# What blkparse prints: merging, splitting, a flush in both of its forms, requests without sectors.
BLKPARSE = """\
  8,0    3       11     0.009507758   697  A   W 223490 + 8 <- (8,1) 223427
  8,0    3       12     0.009507858   697  Q   W 223490 + 8 [kjournald]
  8,0    3       13     0.009510758   697  M   W 223498 + 8 [kjournald]
  8,0    3       14     0.009520758   697  D   W 223490 + 16 (     100) [kjournald]
  8,0    1        2     0.010000000     0  Q FWFS 16 + 8 [jbd2/sda1-8]
  8,0    1        3     0.010000100     0  Q  FN [jbd2/sda1-8]
  8,0    1        4     0.010000200     0  D  FN (     100) [jbd2/sda1-8]
  8,16   0        1     1.000000001     0  Q  DS 2048 + 4096 [fstrim]
  8,0    0        9     1.500000000  1234  D   R 36 (12 00 00 00 24 00 ..) [udev]
  8,0    0       10     1.500000001  1234  X   W 100 / 200 [a]
"""


def test_one_action_of_blkparse_is_the_request(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", BLKPARSE + BLKPARSE_TAIL)
    assert read(path) == [
        Row(0, WRITE, "8,0", 223490 * 512, 4096),
        Row(492_142, WRITE, "8,0", 8192, 4096, FUA),
        Row(492_242, FSYNC, "8,0", 0, 0),
        Row(990_492_143, DISCARD, "8,16", 1 << 20, 2 << 20),
    ]
    assert read(path, action="D") == [
        Row(0, WRITE, "8,0", 223490 * 512, 8192),
        Row(479_442, FSYNC, "8,0", 0, 0),
    ]


def test_traces_of_blkparse_one_after_the_other_are_read_through(tmp_path: Path) -> None:
    one = [Row(0, READ, "8,0", 0, 512)]
    path = write(tmp_path / "trace", blkparse(one) + blkparse(one))
    assert read(path) == one * 2


def test_times_may_have_a_point_or_none(tmp_path: Path) -> None:
    path = write(
        tmp_path / "trace",
        "0,0,512,R,1\n0,0,512,R,2.5\n0,0,512,R,3.\n0,0,512,R,4,x.y\n0,0,512,R,5.000000001\n",
    )
    assert [row.time_ns for row in read(path)] == [0, 1_500_000_000, 2 * 10**9, 3 * 10**9, 4 * 10**9 + 1]
