"""A cut from the start is the tape of a recording that was cut there; any other says what it can."""

from __future__ import annotations

import resource
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringtape
from ringtape.coordinator.tape import (
    CompletionRow,
    NoteRow,
    RequestRow,
    Row,
    TapeEnd,
    TapeReader,
    TokenRow,
    iter_rows,
    verify,
)
from ringtape.settings import UsageError
from ringtape.tape.cut import cut
from ringtape.tape.writing import OutputError
from tests.api.command_line import make_programs, record
from tests.coordinator.tape.making import make_header, make_run, rows_of, write

DATA = Path(__file__).resolve().parents[2] / "data"
HEADER = make_header()
CALLS = make_run(17, steps=220)
ROWS = rows_of(HEADER, CALLS)
LAST = max(row.id for row in ROWS if isinstance(row, RequestRow))


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tapes") / "run.tape"
    write(path, HEADER, CALLS, flush_every=7)
    return path


def place_of(id_: int) -> int:
    return next(i for i, row in enumerate(ROWS) if isinstance(row, RequestRow) and row.id == id_)


def rows_in(path: Path) -> list[Row]:
    with TapeReader.open(path) as reader:
        rows = list(iter_rows(reader))
        assert reader.end is TapeEnd.UNSEALED
    assert verify(path).sound
    return rows


@settings(deadline=None, max_examples=8)
@given(last=st.integers(1, LAST - 1))
def test_a_cut_from_the_start_has_the_rows_before_the_next_request(tape: Path, last: int) -> None:
    target = tape.with_name("cut.tape")
    target.unlink(missing_ok=True)
    said = cut(str(tape), str(target), first_id=None, last_id=last)
    assert f"{last:,} requests, ids 1 to {last:,} of {tape}" in said
    assert rows_in(target) == ROWS[: place_of(last + 1)]
    with TapeReader.open(target) as reader:
        assert (reader.header.cut.of, reader.header.cut.first_id) == (str(tape), 1)
        reader.header.ClearField("cut")
        assert reader.header == HEADER


def told_anew(first: int, last: int | None) -> list[Row]:
    """The rows of a stretch as its own tape has them, worked out one by one."""
    start = place_of(first)
    stop = len(ROWS) if last is None or last == LAST else place_of(last + 1)
    before, result = ROWS[:start], []
    made = [sum(isinstance(r, RequestRow) and r.worker == w for r in before) for w in range(3)]
    tokens = [sum(isinstance(r, TokenRow) and r.worker == w for r in before) for w in range(3)]
    completions = [[r.id for r in ROWS if isinstance(r, CompletionRow) and r.worker == w] for w in range(3)]
    done = [sum(isinstance(r, CompletionRow) and r.worker == w for r in before) for w in range(3)]
    now = list(done)
    for row in ROWS[start:stop]:
        w = row.worker
        now[w] += isinstance(row, CompletionRow)
        values: dict[str, Any] = {}
        if not isinstance(row, CompletionRow):
            values["checkpoint"] = row.checkpoint - tokens[w]
        if isinstance(row, RequestRow | CompletionRow):
            if row.id < first:
                continue
            values |= {"id": row.id - first + 1, "sequence": row.sequence - made[w]}
        if isinstance(row, RequestRow) and row.covers is not None:
            # Made-up runs have fsyncs that cover what has not completed; a cut believes none of that.
            covered = completions[w][done[w] : min(row.covers, now[w])]
            values["covers"] = sum(id_ >= first for id_ in covered)
        if isinstance(row, TokenRow):
            values["number"] = row.number - sum(tokens)
            values["ids"] = tuple(id_ - first + 1 for id_ in row.ids if id_ >= first)
        result.append(replace(row, **values))
    return result


@settings(deadline=None, max_examples=12)
@given(ends=st.lists(st.integers(2, LAST), min_size=2, max_size=2).map(sorted), to_the_end=st.booleans())
def test_another_cut_counts_anew(tape: Path, ends: list[int], to_the_end: bool) -> None:
    first, last = ends[0], None if to_the_end else ends[1]
    target = tape.with_name("cut.tape")
    target.unlink(missing_ok=True)
    said = cut(str(tape), str(target), first_id=first, last_id=last)
    assert said.endswith("; it cannot be replayed")
    found, expected = rows_in(target), told_anew(first, last)
    # A note may be shared by two rows that are the same but for the object.
    assert [row for row in found if not isinstance(row, NoteRow)] == [
        row for row in expected if not isinstance(row, NoteRow)
    ]
    assert found == expected
    with TapeReader.open(target) as reader:
        assert reader.header.cut.first_id == first
    with pytest.raises(ringtape.TapeError, match=f"cut of {tape} that begins with its request id {first}"):
        ringtape.replay(target)


def test_a_cut_of_a_cut_is_of_the_first_tape(tape: Path, tmp_path: Path) -> None:
    cut(str(tape), str(tmp_path / "one"), first_id=20, last_id=60)
    cut(str(tmp_path / "one"), str(tmp_path / "two"), first_id=11, last_id=None)
    with ringtape.open_tape(tmp_path / "two") as opened:
        assert opened.header.cut_of == str(tape)
        assert len(list(opened)) == 31
    with TapeReader.open(tmp_path / "two") as reader:
        assert reader.header.cut.first_id == 30


def test_a_cut_from_the_start_replays_to_its_end(tmp_path: Path) -> None:
    make_programs(tmp_path)
    record(tmp_path, "prog.py", "x", disks=["a=a.img,size=1M,fresh"], workers=2)
    cut(str(tmp_path / "run.tape"), str(tmp_path / "start.tape"), first_id=None, last_id=13)
    console = ringtape.Console(stdout=subprocess.DEVNULL)
    result = ringtape.replay(tmp_path / "start.tape", console=console)
    assert (result.ended, result.requests) == ("the recording was cut after request id 13", 13)


@pytest.mark.parametrize(
    ("first", "last", "error", "part"),
    [
        (None, None, UsageError, "a cut needs where to begin or where to end"),
        (1, None, UsageError, "a cut needs where to begin or where to end"),
        (5, 4, UsageError, "no request ids from 5 to 4"),
        (None, LAST, ringtape.TapeError, f"nothing to cut off: the last request id of the tape is {LAST}"),
        (LAST + 1, None, ringtape.TapeError, f"has no request {LAST + 1}"),
        (3, LAST + 1, ringtape.TapeError, f"the last request id of the tape is {LAST}, not {LAST + 1}"),
    ],
)
def test_what_cannot_be_cut(
    tape: Path, tmp_path: Path, first: int | None, last: int | None, error: type[Exception], part: str
) -> None:
    with pytest.raises(error, match=part):
        cut(str(tape), str(tmp_path / "cut"), first_id=first, last_id=last)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [None, 3])
def test_a_file_that_is_there_is_left_alone(tape: Path, tmp_path: Path, first: int | None) -> None:
    before = tape.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        cut(str(tape), str(tape), first_id=first, last_id=9)
    assert tape.read_bytes() == before


@pytest.mark.parametrize("first", [None, 30])
def test_a_cut_that_goes_beyond_a_damage_keeps_what_is_before(
    tape: Path, tmp_path: Path, first: int | None
) -> None:
    data = bytearray(tape.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad").write_bytes(data)
    with TapeReader.open(tmp_path / "bad") as reader, pytest.raises(ringtape.TapeDamaged):
        whole = sum(1 for row in iter_rows(reader) if isinstance(row, RequestRow))
    whole = reader.totals.requests
    with pytest.raises(ringtape.TapeDamaged):
        cut(str(tmp_path / "bad"), str(tmp_path / "kept"), first_id=first, last_id=LAST - 1)
    kept = [row for row in rows_in(tmp_path / "kept") if isinstance(row, RequestRow)]
    assert len(kept) == whole - (first or 1) + 1


@pytest.mark.parametrize(("first", "last"), [(None, LAST - 1), (2, None)])
def test_no_room_for_a_cut_leaves_nothing(
    tape: Path, tmp_path: Path, first: int | None, last: int | None
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*/out: File too large$"):
            cut(str(tape), str(tmp_path / "out"), first_id=first, last_id=last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["v2-replay", "v3-undo", "v3-full"])
def test_kept_tapes_can_be_cut_anywhere(name: str, tmp_path: Path) -> None:
    """Messages, data and undo among it."""
    with TapeReader.open(kept := DATA / f"{name}.tape") as reader:
        rows = list(iter_rows(reader))
        last = reader.totals.requests
    for id_ in range(2, last):
        start, rest = tmp_path / f"start{id_}", tmp_path / f"rest{id_}"
        cut(str(kept), str(start), first_id=None, last_id=id_)
        cut(str(kept), str(rest), first_id=id_, last_id=None)
        assert verify(start).sound and verify(rest).sound
        with TapeReader.open(start) as reader:
            beginning = list(iter_rows(reader))
        assert beginning == rows[: len(beginning)]
        with TapeReader.open(rest) as reader:
            ids = [row.id for row in iter_rows(reader) if isinstance(row, RequestRow)]
        assert ids == list(range(1, last - id_ + 2))


@pytest.mark.parametrize("data", ["digest", "full"])
def test_a_cut_of_a_tape_with_data_and_undo(tmp_path: Path, data: str) -> None:
    """The data of the part comes along, and replays without disks; what would put disks back does not."""
    make_programs(tmp_path)
    (tmp_path / "a.img").write_bytes(bytes(1 << 20))
    console = ringtape.Console(stdout=subprocess.DEVNULL)
    disk = ringtape.Disk("a", tmp_path / "a.img", undo=True)
    tape = tmp_path / "run.tape"
    ringtape.record(str(tmp_path / "prog.py"), disks=[disk], workers=2, data=data, tape=tape, console=console)
    for name, first, last in (("start", None, 13), ("rest", 5, None)):
        cut(str(tape), str(tmp_path / name), first_id=first, last_id=last)
        report = verify(tmp_path / name)
        assert (report.sound, report.whole.requests) == (True, last or 18)
        with TapeReader.open(tmp_path / name) as reader:
            assert [disk.undo for disk in reader.header.disks] == [False]
    if data == "full":
        result = ringtape.replay(tmp_path / "start", offline=True, console=console)
        assert result.ended == "the recording was cut after request id 13"
