"""`tape verify`, `tape repair`, `tape info` and the words of the command line, to their exit codes."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path
from typing import Any

import pytest

from ringtape import cli
from ringtape.coordinator.tape import TapeReader, iter_rows
from ringtape.tape import progress
from ringtape.tape.perfetto import write_perfetto
from ringtape.tape.plot import write_plot
from tests.api.tape.tapes import crowded_run, record_of, wholes, without_seal
from tests.coordinator.tape.making import make_header, rows_of, write

HEADER = make_header()
CALLS = crowded_run(41, steps=120)
WHOLES = wholes(rows_of(HEADER, CALLS))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run.tape", HEADER, CALLS, flush_every=8)
    data = bytearray((tmp_path / "run.tape").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.tape").write_bytes(data)
    return tmp_path


def ringtape(*words: str) -> int:
    """The command line in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ringtape", *words])
        for stream in ("stdout", "stderr"):  # pytest's own cannot be configured anew
            patch.setattr(getattr(sys, stream), "reconfigure", lambda **_: None, raising=False)
        return cli.main()


def test_verify_and_repair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ringtape("tape", "verify", "run.tape") == 0
    assert "run.tape: whole, with its seal, format" in capsys.readouterr().out
    assert ringtape("tape", "verify", "bad.tape", "--json") == 4
    report = json.loads(capsys.readouterr().out)
    (damage,) = report["damages"]
    assert (report["sound"], damage["offset"]) == (False, report["whole_bytes"])
    assert report["requests_lost"] == len(WHOLES) - report["whole_requests"] > 0
    assert ringtape("tape", "verify", "bad.tape") == 4
    shown = capsys.readouterr().out
    assert f"bytes {damage['offset']:,} to {damage['end']:,} (block {damage['block']})" in shown
    assert f"lost   {report['requests_lost']:,} requests" in shown

    assert ringtape("tape", "repair", "bad.tape", "-o", "good.tape") == 0
    assert "good.tape has what is whole" in capsys.readouterr().out
    assert ringtape("tape", "verify", "good.tape") == 0
    assert "whole, without a seal: the recording was cut" in capsys.readouterr().out
    with TapeReader.open("good.tape") as reader:
        assert sum(1 for _ in iter_rows(reader)) > 0
        assert reader.totals.requests == report["whole_requests"]
    assert ringtape("tape", "repair", "bad.tape", "-o", "good.tape") == 2
    assert "good.tape: it exists already" in capsys.readouterr().err
    assert ringtape("tape", "repair", "run.tape", "-o", "copy.tape", "--json") == 0
    assert json.loads(capsys.readouterr().out)["repaired"] == "copy.tape"
    assert (folder / "copy.tape").read_bytes() == (folder / "run.tape").read_bytes()


def test_info_counts_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ringtape("tape", "info", "run.tape", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    records = {id_: record_of(whole) for id_, whole in WHOLES.items()}
    moved = 0
    for disk in info["disks"]:
        for kind, counts in disk["kinds"].items():
            some = [one for one in records.values() if (one["disk"], one["kind"]) == (disk["name"], kind)]
            moves = sum(max(one["result"] or 0, 0) for one in some) if kind in ("read", "write") else 0
            assert counts == {
                "requests": len(some),
                "bytes": sum(one["length"] for one in some),
                "moved_bytes": moves,
            }
            moved += moves
    assert sum(counts["requests"] for counts in info["kinds"].values()) == info["requests"] == len(records)
    assert info["moved_bytes"] == moved
    times = [call.at_ns for call in CALLS]
    assert (info["first_id"], info["last_id"]) == (1, len(records))
    assert (info["first_ns"], info["last_ns"]) == (min(times), max(times))
    assert info["bytes_per_request"] == (folder / "run.tape").stat().st_size / len(records)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("dump", "run.tape", "--from", "0"), 2, "the first request id 0 must be 1 or more"),
        (("dump", "run.tape", "--from", "9999"), 2, "run.tape has no request 9999"),
        (("dump", "run.tape", "--kind", "erase"), 2, "'erase' is not one of"),
        (("dump", "run.tape", "--disk", "x", "--requests"), 2, "the tape has no disk 'x'"),
        (("export", "run.tape"), 2, "Missing option '--format'"),
        (("export", "run.tape", "-f", "parquet"), 2, "parquet goes to a file"),
        (
            ("export", "run.tape", "-f", "csv", "-o", "run.tape"),
            2,
            "cannot write run.tape: it exists already",
        ),
        (("cut", "run.tape", "-o", "c.tape"), 2, "a cut needs where to begin or where to end"),
        (("diff", "run.tape", "none.tape"), 2, "cannot read the tape none.tape"),
        (("stats", "bad.tape"), 4, "bad.tape is damaged at byte"),
        (("info", "bad.tape"), 4, "bad.tape is damaged at byte"),
        (("diff", "run.tape", "bad.tape"), 4, "bad.tape is damaged at byte"),
        (("export", "bad.tape", "-f", "jsonl"), 4, "bad.tape is damaged at byte"),
        (("export", "bad.tape", "-f", "perfetto", "-o", "p"), 4, "bad.tape is damaged at byte"),
        (
            ("export", "run.tape", "-f", "perfetto"),
            2,
            "a Perfetto trace goes to a file: name it with --output",
        ),
        (
            ("export", "run.tape", "-f", "perfetto", "-o", "p", "--to", "5"),
            2,
            "is of the whole tape: cut the tape",
        ),
        (("export", "run.tape", "-f", "perfetto", "-o", "bad.tape"), 2, "bad.tape: it exists already"),
        (("plot", "bad.tape"), 4, "bad.tape is damaged at byte"),
        (
            ("plot", "run.tape", "-o", "bad.tape"),
            2,
            "bad.tape is there and is not a page of ringtape tape plot",
        ),
        (("cut", "bad.tape", "--to", "200", "-o", "c.tape"), 4, "bad.tape is damaged at byte"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, words: tuple[str, ...], code: int, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ringtape("tape", *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ringtape: error: ")
    assert part in line


def test_all_tools_work_on_a_tape_without_a_seal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = without_seal(folder / "run.tape").name
    for words in (
        ("info", name),
        ("dump", name),
        ("dump", name, "--requests"),
        ("stats", name),
        ("verify", name),
        ("diff", name, "run.tape"),
        ("cut", name, "--to", "5", "-o", "c.tape"),
        ("export", name, "-f", "csv"),
        ("export", name, "-f", "fio-iolog"),
        ("export", name, "-f", "blkparse"),
        ("export", name, "-f", "perfetto", "-o", "run.pftrace"),
        ("plot", name),
        ("repair", name, "-o", "r.tape"),
    ):
        assert ringtape("tape", *words) == 0, words
        captured = capsys.readouterr()
        if words[0] in ("dump", "stats", "export"):
            assert f"{name} is unsealed: the recording was cut after request id {len(WHOLES)}" in captured.err


def test_a_trace_for_perfetto_and_a_page_from_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bytes that the functions write, whose tests read them."""
    write_perfetto("run.tape", "function.pftrace")
    assert ringtape("tape", "export", "run.tape", "-f", "perfetto", "-o", "command.pftrace") == 0
    assert capsys.readouterr() == ("", "")
    assert (folder / "command.pftrace").read_bytes() == (folder / "function.pftrace").read_bytes()
    shown = write_plot("run.tape", "function.html", first_id=5, last_id=50)
    assert ringtape("tape", "plot", "run.tape", "-o", "run.html", "--from", "5", "--to", "50") == 0
    page = (folder / "run.html").read_bytes()
    assert capsys.readouterr() == (f"run.html: {shown:,} requests, {len(page):,} bytes\n", "")
    assert page == (folder / "function.html").read_bytes()


def test_a_cut_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ringtape("tape", "cut", "run.tape", "--from", "11", "--to", "30", "-o", "c.tape") == 0
    assert "20 requests, ids 11 to 30 of run.tape, which are 1 to 20 there" in capsys.readouterr().out
    assert ringtape("tape", "info", "c.tape", "--json") == 0
    info: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (info["cut_of"], info["cut_first_id"]) == (str(folder / "run.tape"), 11)
    assert ringtape("tape", "info", "c.tape") == 0
    assert "whose request id 11 is 1 here, and cannot be replayed" in capsys.readouterr().out
    assert ringtape("tape", "dump", "c.tape") == 0
    assert "cannot be replayed and ends after request id 20" in capsys.readouterr().err
    assert ringtape("replay", "c.tape") == 2


def test_a_bar_on_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It appears once the work takes longer than a moment, goes with it, and takes only standard error."""
    read, written = pty.openpty()
    monkeypatch.setattr(progress, "SHOWN_AFTER_S", 0)
    monkeypatch.setattr(progress, "DRAWN_EVERY_S", 0)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(written, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.ProgressBar("counting") as bar:
            for done in range(5):
                bar(done * 1000, 4000)
    shown = ""
    with pytest.raises(OSError):  # how Linux says that the other end is closed
        while True:
            shown += os.read(read, 1 << 16).decode(errors="replace")
    os.close(read)
    assert "counting" in shown
    assert "100%" in shown
    assert shown.rstrip().endswith("\x1b[2K") or "\x1b[2K" in shown[shown.rindex("100%") :]
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stderr", nowhere)
        with progress.ProgressBar("counting") as bar:
            bar(1, 2)
        assert bar._progress is None
