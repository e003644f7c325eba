"""`tape diff` finds the first difference in each aspect, where it is, and nothing where digests agree."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape.console import Exit
from ringtape.proto import messages_pb2
from ringtape.proto.errors import TapeDamaged, TapeError
from ringtape.tape import streams
from ringtape.tape.diff import ASPECTS, print_diff
from tests.api.command_line import make_programs, record
from tests.api.tape.tapes import crowded_run, without_seal
from tests.coordinator.tape.making import (
    Call,
    Completions,
    Note,
    Requests,
    Token,
    make_header,
    write,
)

HEADER = make_header()
CALLS = crowded_run(31, steps=150)

Capture = pytest.CaptureFixture[str]


def compare(
    one: Path, other: Path, capsys: Capture, ignored: frozenset[str] = frozenset()
) -> tuple[Exit, dict[str, Any]]:
    code = print_diff(str(one), str(other), ignored=ignored, context=3, as_json=True)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def changed(
    kind: type, change: Callable[[Any], Any | None], *, last: bool = False
) -> tuple[list[Call], Call]:
    """The calls with one changed, from the middle on the first that can be; and that one as it was."""
    calls = list(CALLS)
    for index in range(len(calls) // 2, len(calls)):
        if isinstance(calls[index], kind) and (new := change(calls[index])) is not None:
            calls[index], old = new, calls[index]
            return calls, old
    raise AssertionError(f"there is no {kind.__name__} to change")


def first_row(call: Requests | Completions, **values: Any) -> Any:
    return replace(call, rows=(replace(call.rows[0], **values), *call.rows[1:]))


def note_of(call: Note, what: str, change: Callable[[messages_pb2.Note], None]) -> Note | None:
    if call.note.WhichOneof("what") != what:
        return None
    note = messages_pb2.Note()
    note.CopyFrom(call.note)
    change(note)
    return replace(call, note=note)


def set_log(note: messages_pb2.Note) -> None:
    note.log += "!"


def set_pickled(note: messages_pb2.Note) -> None:
    note.captured.pickled += b"!"


def set_sent(note: messages_pb2.Note) -> None:
    note.sent.digest = bytes(16)


def set_name(note: messages_pb2.Note) -> None:
    note.captured.name += "!"


def set_traceback(note: messages_pb2.Note) -> None:
    note.outcome.traceback += "!"
    note.outcome.summary += "!"


CHANGES: dict[str, tuple[type, Callable[[Any], Any], set[str]]] = {
    "an offset": (
        Requests,
        lambda call: first_row(call, offset=call.rows[0].offset ^ 512, kind=1),
        {"order"},
    ),
    "what is written": (Requests, lambda call: first_row(call, digest=call.rows[0].digest ^ 1), {"data"}),
    "a clock": (Token, lambda call: replace(call, clock_ns=call.clock_ns ^ 1), {"clock"}),
    "a log line": (Note, lambda call: note_of(call, "log", set_log), {"data"}),
    "a captured value": (Note, lambda call: note_of(call, "captured", set_pickled), {"data"}),
    "what was captured": (Note, lambda call: note_of(call, "captured", set_name), {"order"}),
    "what is for people": (Note, lambda call: note_of(call, "outcome", set_traceback), set()),
    "a message": (Note, lambda call: note_of(call, "sent", set_sent), {"data"}),
    "how many are delivered": (Token, lambda call: replace(call, delivered=call.delivered + 1), {"order"}),
    "a time": (Requests, lambda call: replace(call, at_ns=call.at_ns + 1), {"timing"}),
    "how many are released": (
        Token,
        lambda call: replace(call, released=call.released - 1, order=None) if call.released else None,
        {"order"},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_is_found_and_nothing_else(name: str, tmp_path: Path, capsys: Capture) -> None:
    kind, change, expected = CHANGES[name]
    calls, old = changed(kind, change)
    write(tmp_path / "a", HEADER, CALLS, flush_every=11)
    write(tmp_path / "b", HEADER, calls, flush_every=4)
    code, report = compare(tmp_path / "a", tmp_path / "b", capsys)
    found = {aspect for aspect in ASPECTS if report["differences"][aspect] is not None}
    if "order" in expected:
        # What comes after is not compared; what happened at the same place may differ too.
        assert "order" in found
    else:
        assert found == expected
    counted = bool(expected - {"timing"})
    assert (code, report["same"]) == ((Exit.PROGRAM_RAISED, False) if counted else (Exit.DONE, True))
    for aspect in expected:
        assert report["differences"][aspect]["a"]["worker"] == old.worker
    ignored, report = compare(tmp_path / "a", tmp_path / "b", capsys, frozenset(expected))
    assert (ignored, report["same"]) == (Exit.DONE, True)


def test_results_and_what_was_read_differ_where_they_are_released(tmp_path: Path, capsys: Capture) -> None:
    """Every completion of the second half has another result and other data: the first released one is it."""
    calls = [
        replace(
            call, rows=tuple(replace(row, result=row.result ^ 1, digest=row.digest ^ 1) for row in call.rows)
        )
        if isinstance(call, Completions) and index > 70
        else call
        for index, call in enumerate(CALLS)
    ]
    write(tmp_path / "a", HEADER, CALLS)
    write(tmp_path / "b", HEADER, calls, flush_every=3)
    code, report = compare(tmp_path / "a", tmp_path / "b", capsys)
    assert code == Exit.PROGRAM_RAISED
    result, data = report["differences"]["result"], report["differences"]["data"]
    assert report["differences"]["order"] is None
    assert result["a"]["id"] == result["b"]["id"] == data["a"]["id"]
    assert result["a"]["result"] == result["b"]["result"] ^ 1
    print_diff(str(tmp_path / "a"), str(tmp_path / "b"), ignored=frozenset(), context=2, as_json=False)
    shown = capsys.readouterr().out
    assert f"result  differs first in the completion of request {result['a']['id']}" in shown
    for side in "AB":
        marked = [line for line in shown.splitlines() if line.startswith(f"{side} > ")]
        assert len(marked) == 2
        assert all(f"completion {result['a']['id']}: " in line for line in marked)
    assert len([line for line in shown.splitlines() if line.startswith("A   ")]) == 2 * 4


def test_a_tape_that_ends_before(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "a", HEADER, CALLS)
    write(tmp_path / "b", HEADER, CALLS[:80], seal=False)
    for one, other, ends in (("a", "b", "B"), ("b", "a", "A")):
        print_diff(str(tmp_path / one), str(tmp_path / other), ignored=frozenset(), context=1, as_json=False)
        shown = capsys.readouterr().out
        assert f": {ends} ends before" in shown
        assert f"{ends} > the tape ends" in shown
        assert f"{ends} is unsealed: the recording was cut" in shown
    assert compare(tmp_path / "b", tmp_path / "b", capsys)[0] == Exit.DONE


def test_a_damage_is_said_unless_a_difference_comes_first(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "a", HEADER, CALLS, flush_every=5)
    damaged = without_seal(tmp_path / "a", cut_bytes=2)
    for pair in ((tmp_path / "a", damaged), (damaged, tmp_path / "a")):
        with pytest.raises(TapeDamaged):
            compare(*pair, capsys)
        report = json.loads(capsys.readouterr().out)
        assert report["same"]
        assert len(report["damaged"]) == 1
    calls, _ = changed(Token, lambda call: replace(call, clock_ns=call.clock_ns ^ 1))
    write(tmp_path / "b", HEADER, calls)
    assert compare(damaged, tmp_path / "b", capsys)[0] == Exit.PROGRAM_RAISED


def test_other_headers_are_said_and_other_workers_are_a_difference(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path / "a", HEADER, CALLS)
    header = make_header(workers=4)
    header.seed = 8
    header.disks[0].name = "other"
    write(tmp_path / "b", header, CALLS)
    code, report = compare(tmp_path / "a", tmp_path / "b", capsys)
    assert code == Exit.PROGRAM_RAISED
    assert report["header"] == {
        "seed": ["7", "8"],
        "workers": ["3", "4"],
        "disks": ["disk0, disk1", "other, disk1"],
    }
    assert {report["differences"]["order"][side]["disk"] for side in "ab"} == {"disk0", "other"}


def test_tapes_whose_workers_are_too_far_apart(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tape has worker 0 first and then worker 1, the other the other way round."""
    monkeypatch.setattr(streams, "AHEAD_MAX", 20)
    note = messages_pb2.Note(log="x")
    calls = [Note(worker, note, 0) for worker in (0, 1) for _ in range(30)]
    write(tmp_path / "a", HEADER, calls, flush_every=5)
    write(tmp_path / "b", HEADER, calls[::-1], flush_every=5)
    with pytest.raises(TapeError, match="further apart than 20 rows"):
        compare(tmp_path / "a", tmp_path / "b", capsys)


def test_a_recording_and_its_replay_are_the_same(tmp_path: Path, capsys: Capture) -> None:
    make_programs(tmp_path)
    (tmp_path / "a.img").write_bytes(bytes(1 << 20))
    record(tmp_path, "prog.py", "x", disks=["a=a.img,fresh"], workers=2)
    console = ringtape.Console(stdout=subprocess.DEVNULL)
    ringtape.replay(tmp_path / "run.tape", output=tmp_path / "again.tape", console=console)
    code, report = compare(tmp_path / "run.tape", tmp_path / "again.tape", capsys)
    assert (code, report["header"]) == (Exit.DONE, {})
    assert {aspect for aspect, one in report["differences"].items() if one is not None} <= {"timing"}
    record(tmp_path, "prog.py", "y", disks=["a=a.img,fresh"], workers=2, tape="other.tape")
    code, report = compare(tmp_path / "run.tape", tmp_path / "other.tape", capsys)
    assert code == Exit.PROGRAM_RAISED
    assert report["differences"]["data"]["what"] == "note"  # the log line shows the argument
