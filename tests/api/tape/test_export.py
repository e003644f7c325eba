"""What is exported is what is on the tape: CSV, JSON and Parquet by reading them back, fio's log by fio itself."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringtape.coordinator.tape import TapeReader
from ringtape.proto.errors import TapeDamaged
from ringtape.settings import UsageError
from ringtape.tape import export as exporting
from ringtape.tape.records import NAMES
from ringtape.tape.selection import Selection, select
from ringtape.tape.writing import OutputError
from tests.api.tape.tapes import crowded_run, record_of, wholes, without_seal
from tests.coordinator.tape.making import make_header, make_run, rows_of, write

HEADER = make_header()
CALLS = make_run(11, steps=200)
CROWDED = crowded_run(5, steps=150)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    write(tmp_path / "run.tape", HEADER, CALLS, flush_every=9)
    return tmp_path / "run.tape"


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    write(tmp_path / "crowded.tape", HEADER, CROWDED, flush_every=9)
    return tmp_path / "crowded.tape"


def everything(reader: TapeReader) -> Selection:
    return Selection()


def export(
    tape: Path,
    format_: str,
    output: Path | None = None,
    choose: Callable[[TapeReader], Selection] = everything,
    paths: tuple[str, ...] = (),
) -> None:
    exporting.export(str(tape), format_, None if output is None else str(output), choose, list(paths))


def expected() -> dict[int, dict[str, Any]]:
    return {id_: record_of(whole) for id_, whole in wholes(rows_of(HEADER, CALLS)).items()}


def test_json_lines_have_every_request_once(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tape, "jsonl")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["id"]: one for one in found} == expected()
    assert len(found) == len(expected())


def test_csv_says_the_same(tape: Path, tmp_path: Path) -> None:
    export(tape, "csv", tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == NAMES
    wanted = expected()
    for row in rows:
        whole = wanted[int(row["id"])] | {"flags": " ".join(wanted[int(row["id"])]["flags"])}
        assert row == {name: "" if whole[name] is None else str(whole[name]) for name in NAMES}


def test_parquet_says_the_same(tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("ringtape.tape.arrow._ROW_GROUP", 50)
    export(tape, "parquet", tmp_path / "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet")
    found = {row["id"]: row for row in table.to_pylist()}
    for id_, whole in expected().items():
        row = found[id_] | {"flags": found[id_]["flags"].split()}
        for name in ("request_digest", "digest"):
            row[name] = None if row[name] is None else f"{row[name]:016x}"
        row["covers"] = -1 if row["covers"] is None else row["covers"]
        assert row == whole | {"covers": -1 if whole["covers"] is None else whole["covers"]}
    assert parquet.ParquetFile(tmp_path / "out.parquet").num_row_groups > 1


def test_only_the_chosen_requests(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def choose(reader: TapeReader) -> Selection:
        return select(
            reader, first_id=40, last_id=90, disks=["disk1"], workers=[0, 2], kinds=["write", "fsync"]
        )

    export(tape, "jsonl", choose=choose)
    found = {one["id"] for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found == {
        id_
        for id_, one in expected().items()
        if 40 <= id_ <= 90
        and one["disk"] == "disk1"
        and one["worker"] in (0, 2)
        and one["kind"] in ("write", "fsync")
    }


# ---- for fio


def run_fio(log: Path) -> dict[str, Any]:
    """fio's own report of a replay of the log."""
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    done = subprocess.run(
        ["fio", "--name=replay", f"--read_iolog={log}", "--replay_no_stall=1", "--output-format=json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    assert report["error"] == 0
    return report


def test_fio_replays_the_log(crowded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many requests and bytes of each kind as are on the tape; fio leaves trims in such logs out, as it says."""
    paths = tuple(f"disk{disk}={tmp_path}/{disk}.img" for disk in (0, 1))
    for disk in (0, 1):
        (tmp_path / f"{disk}.img").write_bytes(bytes(1 << 16))
    export(crowded, "fio-iolog", tmp_path / "run.log", paths=paths)
    rows = [whole.request for whole in wholes(rows_of(HEADER, CROWDED)).values()]
    kinds = [record_of(whole)["kind"] for whole in wholes(rows_of(HEADER, CROWDED)).values()]
    said = capsys.readouterr().err
    assert f"{kinds.count('write_zeroes')} write_zeroes are writes in the log" in said
    report = run_fio(tmp_path / "run.log")
    lengths = dict(zip((row.id for row in rows), (row.length for row in rows), strict=True))
    for way, of in (("read", ("read",)), ("write", ("write", "write_zeroes"))):
        ids = [id_ for id_, kind in enumerate(kinds, 1) if kind in of]
        assert report[way]["total_ios"] == len(ids)
        assert report[way]["io_bytes"] == sum(lengths[id_] for id_ in ids)
    # It does not count those of data only.
    assert report["sync"]["total_ios"] == sum(row.kind == 5 and not row.flags & 2 for row in rows)


def test_the_log_is_in_the_order_of_the_tape_and_of_time(crowded: Path, tmp_path: Path) -> None:
    export(crowded, "fio-iolog", tmp_path / "run.log", paths=("disk1=/d/1",))
    head, *lines = (tmp_path / "run.log").read_text().splitlines()
    assert head == "fio version 3 iolog"
    assert lines[:4] == ["0 /disk0 add", "0 /d/1 add", "0 /disk0 open", "0 /d/1 open"]
    acts = [line.split() for line in lines[4:-2]]
    rows = [whole.request for whole in wholes(rows_of(HEADER, CROWDED)).values()]
    words = {1: "read", 2: "write", 3: "write", 4: "trim", 5: "sync"}
    first_ns = rows[0].at_ns
    for (us, path, action, offset, length), row in zip(acts, rows, strict=True):
        word = "datasync" if row.kind == 5 and row.flags & 2 else words[row.kind]
        assert (int(us), action, int(offset), int(length)) == (
            (row.at_ns - first_ns) // 1000,
            word,
            row.offset,
            row.length,
        )
        assert path == {"disk0": "/disk0", "disk1": "/d/1"}[row.disk]
    assert [line.split()[1:] for line in lines[-2:]] == [["/disk0", "close"], ["/d/1", "close"]]


@pytest.mark.parametrize(
    ("paths", "part"),
    [
        (("disk0",), "must be DISK=PATH"),
        (("disk7=x",), "the tape has no disk 'disk7'; it has disk0, disk1"),
        (("disk0=a b",), "give disk 'disk0' another name with --path disk0=PATH"),
        ((f"disk0=/{'x' * 255}",), "255 bytes without spaces"),
    ],
)
def test_names_that_fio_cannot_have(tape: Path, tmp_path: Path, paths: tuple[str, ...], part: str) -> None:
    with pytest.raises(UsageError, match=re.escape(part)):
        export(tape, "fio-iolog", tmp_path / "run.log", paths=paths)
    assert not (tmp_path / "run.log").exists()


# ---- as blkparse prints it

LINE = re.compile(
    r" *(?P<device>\d+,\d+) +(?P<cpu>\d+) +(?P<number>\d+) +(?P<s>\d+)\.(?P<ns>\d{9}) +(?P<pid>\d+) +"
    r"(?P<action>[QDC]) +(?P<rwbs>\w+) (?:(?P<sector>\d+) \+ (?P<count>\d+) )?\[(?P<last>[\w-]+)\]"
)


def test_a_trace_has_every_request_and_completion_in_the_order_of_time(
    crowded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(crowded, "blkparse")
    captured = capsys.readouterr()
    assert "disk disk0 is 8,0, disk disk1 is 8,16" in captured.err
    found = [LINE.fullmatch(line) for line in captured.out.splitlines()]
    assert all(found)
    lines = [one.groupdict() for one in found if one is not None]
    times = [int(line["s"]) * 10**9 + int(line["ns"]) for line in lines]
    assert times == sorted(times)
    letters = {1: "R", 2: "W", 3: "W", 4: "D", 5: "FWS"}

    def said(row: Any, at_ns: int, last: str) -> tuple[Any, ...]:
        where = (None, None) if row.kind == 5 else (str(row.offset // 512), str(row.length // 512))
        rwbs = letters[row.kind] + ("F" if row.flags & 1 else "")
        return (f"8,{16 * int(row.disk[-1])}", str(row.worker), at_ns, rwbs, *where, last)

    all_ = list(wholes(rows_of(HEADER, CROWDED)).values())
    shown = {
        action: sorted(
            (line["device"], line["cpu"], at_ns, line["rwbs"], line["sector"], line["count"], line["last"])
            for line, at_ns in zip(lines, times, strict=True)
            if line["action"] == action
        )
        for action in "QDC"
    }
    made = sorted(said(one.request, one.request.at_ns, f"worker{one.request.worker}") for one in all_)
    assert shown["Q"] == shown["D"] == made
    assert shown["C"] == sorted(
        said(one.request, one.completion.at_ns, str(min(one.completion.result, 0)))
        for one in all_
        if one.completion is not None
    )


# ---- files and damages


@pytest.mark.parametrize("format_", ["csv", "parquet", "fio-iolog", "blkparse"])
def test_a_file_that_is_there_is_left_alone(tape: Path, tmp_path: Path, format_: str) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(OutputError, match="kept: it exists already"):
        export(tape, format_, tmp_path / "kept")
    with pytest.raises(OutputError, match="No such file"):
        export(tape, format_, tmp_path / "none" / "out")
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_full_disk_leaves_nothing_behind(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    writer = csv.writer(Full())
    monkeypatch.setattr("ringtape.tape.export_text.csv.writer", lambda *_, **__: writer)
    with pytest.raises(OutputError, match="No space left on device"):
        export(tape, "csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet", "fio-iolog", "blkparse"])
def test_what_is_before_a_damage_is_exported(crowded: Path, tmp_path: Path, format_: str) -> None:
    """As much as from a tape that was cut there, and then the damage."""
    cut = without_seal(crowded)
    export(cut, format_, tmp_path / "whole")
    data = crowded.read_bytes()
    crowded.write_bytes(data[: data.rindex(b"RTfr")] + b"RTfr")
    with pytest.raises(TapeDamaged):
        export(crowded, format_, tmp_path / "damaged")
    assert (tmp_path / "damaged").read_bytes() == (tmp_path / "whole").read_bytes()


def test_parquet_without_pyarrow_says_what_to_install(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'ringtape[arrow]'")):
        export(tape, "parquet", tmp_path / "out.parquet")
    with pytest.raises(UsageError, match="parquet goes to a file: name it with --output"):
        export(tape, "parquet")
    with pytest.raises(UsageError, match="the format csv has no paths"):
        export(tape, "csv", paths=("disk0=x",))
