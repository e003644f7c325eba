"""Goal: a trace in another form says the same, the tools that the form is for take it, and nothing is lost on the way.

Method: what is written is read back by ringtape, by the standard library, by fio itself; conversions that fail leave
what was there.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given

import ringtape
from ringtape import traces
from ringtape.traces import writing
from tests.searching import slow
from tests.traces.encoders import (
    BLOCK_KINDS,
    DATA_ONLY,
    DISCARD,
    FIO_KINDS,
    FSYNC,
    FUA,
    PAIRS,
    READ,
    TEXTS,
    WRITE,
    Holds,
    Row,
    read,
    request_event,
    rows_for,
    write,
)

# What both forms below can hold; no times that go back, and whole µs.
BOTH = Holds(lambda rows: b"", 1000, 512, 512, PAIRS, FIO_KINDS[:-1])


def convert(source: Path, output: Path, form: str, format: str = "auto") -> Path:
    with traces.open(source, format) as trace:
        writing.convert(trace, str(output), form)
    return output


def as_blktrace(folder: Path, rows: list[Row]) -> Path:
    events = b"".join(request_event(row, 10**12 + row.time_ns) for row in rows)
    return write(folder / "rows.blktrace.0", events)


def ordered(rows: list[Row]) -> list[Row]:
    """In order of time, and no two at one."""
    rows = [
        row._replace(time_ns=row.time_ns % 10**10 * 10**5 + 1000 * number) for number, row in enumerate(rows)
    ]
    rows.sort(key=lambda row: row.time_ns)
    return [row._replace(time_ns=row.time_ns - rows[0].time_ns) for row in rows]


@pytest.mark.parametrize("form", ["fio-iolog", "blkparse"])
@slow(15)
@given(rows=rows_for(BOTH).map(ordered))
def test_what_was_written_is_read(
    form: str, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("converted")
    source = as_blktrace(folder, rows)
    assert read(source) == rows
    once = convert(source, folder / "once", form)
    assert read(once) == rows
    assert read(convert(once, folder / "twice", "blkparse")) == rows


@slow(15)
@given(rows=rows_for(TEXTS["blkparse"]).map(ordered))
def test_tables_have_every_column(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("converted")
    source = as_blktrace(folder, rows)
    kinds = {READ: "read", WRITE: "write", DISCARD: "discard", FSYNC: "fsync"}
    flags = {0: [], FUA: ["fua"], DATA_ONLY: ["data-only"]}
    expected = [
        {
            "time_ns": row.time_ns,
            "kind": kinds[row.kind],
            "device": row.device,
            "offset": row.offset,
            "length": row.length,
            "flags": flags[row.flags],
        }
        for row in rows
    ]
    lines = convert(source, folder / "rows.jsonl", "jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == expected
    with convert(source, folder / "rows.csv", "csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    as_text = [
        {name: "|".join(value) if name == "flags" else str(value) for name, value in row.items()}
        for row in expected
    ]
    assert table == as_text


def test_names_that_a_form_could_misread_are_quoted_or_made_plain(tmp_path: Path) -> None:
    source = write(tmp_path / "trace", '128166372003061629,a "b",0,Read,0,512,0\n')
    assert convert(source, tmp_path / "c", "csv").read_text().splitlines()[1] == '0,read,"a ""b""_0",0,512,'
    assert json.loads(convert(source, tmp_path / "j", "jsonl").read_text())["device"] == 'a "b"_0'
    assert '0 a_"b"_0 read 0 512' in convert(source, tmp_path / "f", "fio-iolog").read_text()
    assert "  0,0  " in convert(source, tmp_path / "b", "blkparse").read_text()


@pytest.mark.parametrize(
    ("form", "line", "said"),
    [
        ("fio-iolog", "1,R,0,4294967296,1\n", "fio's lengths end at 4 GiB"),
        ("blkparse", "1,R,100,512,1\n", "blkparse counts sectors of 512 bytes"),
        ("blkparse", "1,R,512,0,1\n", "blkparse has no requests without data but flushes"),
    ],
)
def test_what_a_form_cannot_hold_is_refused_and_what_was_there_stays(
    form: str, line: str, said: str, tmp_path: Path
) -> None:
    source = write(tmp_path / "trace", "1,W,0,512,0\n" + line)
    output = write(tmp_path / "out", "what was there")
    with pytest.raises(
        ringtape.TraceError, match=rf"request 2 \(a read of .*\) cannot be written so: {said}"
    ):
        convert(source, output, form)
    assert output.read_text() == "what was there"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out", "trace"]


def test_two_devices_that_would_get_one_name_in_fio_are_refused(tmp_path: Path) -> None:
    source = write(
        tmp_path / "trace", "128166372003061629,a b,0,Read,0,512,0\n128166372003061629,a_b,0,Read,0,512,0\n"
    )
    with pytest.raises(ringtape.TraceError, match="would both be called 'a_b_0'"):
        convert(source, tmp_path / "out", "fio-iolog")


def test_a_trace_may_be_written_over_itself(tmp_path: Path) -> None:
    rows = [Row(number * 1000, READ, "7", number, 1) for number in range(10)]
    source = write(tmp_path / "trace", str(TEXTS["alibaba"].encode(rows)))
    link = tmp_path / "link"
    link.symlink_to(source)
    source.chmod(0o640)
    convert(source, link, "fio-iolog")
    assert link.is_symlink()
    assert source.stat().st_mode & 0o777 == 0o640
    assert read(source) == rows


@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def test_fio_replays_what_was_written(tmp_path: Path) -> None:
    """Its counts by kind are the trace's, and so is what it was asked to move."""
    kinds = [*FIO_KINDS[:2], (FSYNC, 0)]
    rows = [
        Row(number * 1000, *kinds[number % 3][:1], "disk.img", number % 50 * 4096, 4096 * (1 + number % 3))
        for number in range(300)
    ]
    rows = [row._replace(offset=0, length=0) if row.kind == FSYNC else row for row in rows]
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    source = write(tmp_path / "source", str(TEXTS["fio-iolog"].encode(rows)))
    log = convert(source, tmp_path / "out.log", "fio-iolog")
    command = [
        "fio",
        "--name=replayed",
        f"--read_iolog={log.name}",
        "--ioengine=psync",
        "--output-format=json",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "bad iolog" not in done.stderr + done.stdout
    (job,) = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    for name, kind in (("read", READ), ("write", WRITE)):
        mine = [row for row in rows if row.kind == kind]
        assert job[name]["total_ios"] == len(mine)
        assert job[name]["io_bytes"] == sum(row.length for row in mine)
    assert job["sync"]["total_ios"] == sum(row.kind == FSYNC for row in rows)


@pytest.mark.skipif(shutil.which("fio") is None, reason="fio is not installed")
def test_what_fio_writes_is_read(tmp_path: Path) -> None:
    """Its log of a job has as many requests as its report."""
    command = [
        "fio",
        "--name=job",
        "--filename=disk.img",
        "--size=1M",
        "--rw=randrw",
        "--bs=4k-16k",
        "--fsync=5",
    ]
    command += ["--write_iolog=job.log", "--ioengine=psync", "--output-format=json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (job,) = json.loads(done.stdout[done.stdout.index("{") :])["jobs"]
    rows = read(tmp_path / "job.log")
    for name, kind in (("read", READ), ("write", WRITE)):
        mine = [row for row in rows if row.kind == kind]
        assert len(mine) == job[name]["total_ios"]
        assert sum(row.length for row in mine) == job[name]["io_bytes"]
    assert sum(row.kind == FSYNC for row in rows) == job["sync"]["total_ios"]
    assert {row.device for row in rows} == {"disk.img"}
    assert re.fullmatch(r"fio version [23] iolog", (tmp_path / "job.log").read_text().splitlines()[0])


def test_block_kinds_are_all_written(tmp_path: Path) -> None:
    rows = [
        Row(number, kind, "8,0", 0 if kind == FSYNC else 4096, 0 if kind == FSYNC else 512, flags)
        for number, (kind, flags) in enumerate(BLOCK_KINDS)
    ]
    source = as_blktrace(tmp_path, rows)
    assert read(convert(source, tmp_path / "out", "blkparse")) == rows
    words = [
        line.split()[2]
        for line in convert(source, tmp_path / "log", "fio-iolog").read_text().splitlines()[3:-1]
    ]
    assert words == ["read", "write", "write", "trim", "sync"]
