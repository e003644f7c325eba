"""`tape dump` and `open_tape` choose, seek and join as one would by hand from the rows of the whole tape."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringtape
from ringtape.coordinator.tape import (
    CompletionRow,
    NoteRow,
    RequestRow,
    Row,
    TapeReader,
    TokenRow,
    index,
)
from ringtape.proto import messages_pb2
from ringtape.tape import dump, words
from ringtape.tape.selection import Selection, select
from tests.api.tape.tapes import record_of, wholes, without_seal
from tests.coordinator.tape.making import make_header, make_run, rows_of, write

HEADER = make_header()
CALLS = make_run(21, steps=400)
ROWS = rows_of(HEADER, CALLS)
WHOLES = wholes(ROWS)
LAST = len(WHOLES)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tapes") / "run.tape"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "STRIDE_BLOCKS", 2)
        write(path, HEADER, CALLS, flush_every=6)
    return path


def chooser(**options: Any) -> Callable[[TapeReader], Selection]:
    return lambda reader: select(reader, **options)


def fields(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(words.row_fields(row)))
    return found


def rows_about(first: int | None, last: int | None, disk: str | None, worker: int | None) -> list[Row]:
    """The rows of the chosen requests; without a disk, what else the worker did between first and last too."""
    chosen = {
        id_
        for id_, whole in WHOLES.items()
        if (first is None or id_ >= first)
        and (last is None or id_ <= last)
        and (disk is None or whole.request.disk == disk)
        and (worker is None or whole.request.worker == worker)
    }
    begun, ended, result = first is None, False, []
    for row in ROWS:
        if isinstance(row, RequestRow):
            begun = begun or row.id == first
            ended = ended or (last is not None and row.id > last)
        other = disk is None and begun and not ended and (worker is None or row.worker == worker)
        if isinstance(row, RequestRow | CompletionRow):
            if row.id in chosen:
                result.append(row)
        elif isinstance(row, NoteRow):
            if other:
                result.append(row)
        else:
            ids = tuple(id_ for id_ in row.ids if id_ in chosen)
            if ids or (other and not row.ids):
                values = {name: getattr(row, name) for name in TokenRow.__slots__}
                result.append(TokenRow(**(values | {"ids": ids})))
    return result


@settings(deadline=None, max_examples=10)
@given(
    ends=st.lists(st.integers(1, LAST), min_size=2, max_size=2).map(sorted),
    with_ends=st.tuples(st.booleans(), st.booleans()),
    disk=st.sampled_from((None, "disk1")),
    worker=st.sampled_from((None, 2)),
)
def test_rows_of_chosen_requests(
    tape: Path, ends: list[int], with_ends: tuple[bool, bool], disk: str | None, worker: int | None
) -> None:
    first, last = (end if given else None for end, given in zip(ends, with_ends, strict=True))
    choose = chooser(
        first_id=first,
        last_id=last,
        disks=[] if disk is None else [disk],
        workers=[] if worker is None else [worker],
    )
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.stdout, "write", printed.append)
        dump.print_rows(str(tape), choose, as_json=True)
    found = [json.loads(line) for line in printed]
    assert found == [fields(row) for row in rows_about(first, last, disk, worker)]


def test_a_request_a_line(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dump.print_requests(str(tape), chooser(first_id=50, last_id=80), as_json=True)
    found = {one["id"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found == {id_: record_of(WHOLES[id_]) for id_ in range(50, 81)}
    dump.print_requests(str(tape), chooser(first_id=50, last_id=80), as_json=False)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["id", "submitted", "s"]
    assert sorted(int(line.split()[0]) for line in lines) == list(range(50, 81))
    for line in lines:
        whole = WHOLES[int(line.split()[0])]
        assert ("in flight" in line) == (whole.completion is None)
        assert line.endswith(f"  c{whole.token.checkpoint}" if whole.token else "  never")


def test_what_is_before_the_first_is_not_read(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tape with snapshots every other block; where it is known which blocks are read."""
    read: list[int] = []
    follow = TapeReader.follow

    def watched(self: TapeReader, start: Any = None) -> Any:
        for ledger, view in follow(self, start):
            read.append(view.number)
            yield ledger, view

    monkeypatch.setattr(TapeReader, "follow", watched)
    with ringtape.open_tape(tape) as opened:
        first = next(opened.requests(first_id=LAST - 5))
    assert first.id >= LAST - 5
    assert min(read) > 20


def test_a_note_of_a_kind_that_is_not_known_here() -> None:
    row = NoteRow(1, 2, "new", messages_pb2.Note(log="x"), 5)
    assert words.row_line(row).split() == ["0.000000", "w1", "c2", "new"]
    assert words.row_fields(row) == {"row": "new", "worker": 1, "checkpoint": 2, "at_ns": 5}


def test_text_that_a_terminal_would_obey_is_shown_and_not_obeyed() -> None:
    row = NoteRow(0, 0, "log", messages_pb2.Note(log="\x1b[2J red\nnext"), 0)
    assert words.row_line(row).endswith("log: \\x1b[2J red next")


# ---- in Python


def test_the_header_and_the_requests(tape: Path) -> None:
    with ringtape.open_tape(tape) as opened:
        assert opened.path == str(tape)
        assert (opened.header.workers, opened.header.seed, opened.header.data) == (3, 7, "digest")
        assert [disk.name for disk in opened.header.disks] == ["disk0", "disk1"]
        assert opened.ended is None
        found = {request.id: request for request in opened}
        assert opened.ended == "sealed"
    assert set(found) == set(WHOLES)
    for id_, request in found.items():
        expected = record_of(WHOLES[id_])
        assert isinstance(request, ringtape.TapeRequest)
        shown = {name: getattr(request, name) for name in expected}
        assert shown == expected | {"flags": tuple(expected["flags"])}
        done = request.completed_ns
        assert request.latency_ns == (None if done is None else done - request.submitted_ns)


@pytest.mark.parametrize(
    ("filters", "takes"),
    [
        ({"kind": "read"}, lambda one: one["kind"] == "read"),
        ({"kind": ["write", "discard"]}, lambda one: one["kind"] in ("write", "discard")),
        ({"disk": "disk1", "worker": 0}, lambda one: (one["disk"], one["worker"]) == ("disk1", 0)),
        ({"worker": (0, 1), "last_id": 33}, lambda one: one["worker"] < 2 and one["id"] <= 33),
        ({"first_id": LAST}, lambda one: one["id"] == LAST),
        ({"first_id": 1, "last_id": 1}, lambda one: one["id"] == 1),
    ],
)
def test_filters(tape: Path, filters: dict[str, Any], takes: Callable[[dict[str, Any]], bool]) -> None:
    with ringtape.open_tape(tape) as opened:
        found = [request.id for request in opened.requests(**filters)]
        columns = [rows["id"] for rows in opened.columns(**filters)]
    assert sorted(found) == [id_ for id_, whole in WHOLES.items() if takes(record_of(whole))]
    assert found == np.concatenate(columns).tolist()


def test_after_a_checkpoint(tape: Path) -> None:
    """What anybody asked for after that token, in the order of the tape."""
    place = next(i for i, row in enumerate(ROWS) if isinstance(row, TokenRow) and row.number > 40)
    token = ROWS[place]
    assert isinstance(token, TokenRow)
    expected = [row.id for row in ROWS[place:] if isinstance(row, RequestRow)]
    with ringtape.open_tape(tape) as opened:
        found = sorted(request.id for request in opened.requests(after=(token.worker, token.checkpoint)))
        assert found == expected
        with pytest.raises(ringtape.TapeError, match="has no checkpoint 999 of worker 1"):
            list(opened.requests(after=(1, 999)))
        with pytest.raises(ringtape.UsageError, match="give one of them"):
            list(opened.requests(after=(0, 1), first_id=3))


@pytest.mark.parametrize(
    ("filters", "error", "part"),
    [
        ({"disk": "x"}, ringtape.UsageError, "the tape has no disk 'x'; it has disk0, disk1"),
        ({"worker": 3}, ringtape.UsageError, "the tape has no worker 3; it has 0 to 2"),
        ({"kind": "erase"}, ringtape.UsageError, "there is no kind of request 'erase'"),
        ({"first_id": 0}, ringtape.UsageError, "the first request id 0 must be 1 or more"),
        ({"first_id": 5, "last_id": 4}, ringtape.UsageError, "the first request id 5 is beyond the last, 4"),
        ({"first_id": LAST + 1}, ringtape.TapeError, f"has no request {LAST + 1}"),
    ],
)
def test_what_a_tape_cannot_have(
    tape: Path, filters: dict[str, Any], error: type[Exception], part: str
) -> None:
    with ringtape.open_tape(tape) as opened, pytest.raises(error, match=part):
        list(opened.requests(**filters))


def test_a_damaged_tape_gives_what_is_whole_and_then_says_so(tape: Path) -> None:
    damaged = without_seal(tape, cut_bytes=1)
    found = []
    with ringtape.open_tape(damaged) as opened, pytest.raises(ringtape.TapeDamaged):
        for request in opened:
            found.append(request.id)
    assert opened.ended == "damaged"
    whole = max(found)
    assert sorted(found) == list(range(1, whole + 1))


def test_arrow_and_pandas_say_the_same(tape: Path) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("pandas")
    with ringtape.open_tape(tape) as opened:
        table = opened.to_arrow(disk="disk0")
        frame = opened.to_pandas(disk="disk0")
        empty = opened.to_arrow(kind="read", disk="disk0", last_id=1, worker=[0, 1, 2])
        assert len(opened.to_pandas(first_id=LAST, last_id=LAST)) == 1
    expected = [record_of(whole) for whole in WHOLES.values() if whole.request.disk == "disk0"]
    assert table.num_rows == len(frame) == len(expected)
    assert empty.schema == table.schema
    rows = {row["id"]: row for row in table.to_pylist()}
    frame = frame.set_index("id")
    for one in expected:
        row, in_frame = rows[one["id"]], frame.loc[one["id"]]
        for name in ("worker", "kind", "disk", "offset", "result", "completed_ns", "released_at", "covers"):
            assert row[name] == one[name]
            value = in_frame[name]
            assert (None if value is sys.modules["pandas"].NA else value) == one[name]
    assert str(frame["kind"].dtype) == "category"


@pytest.mark.parametrize(("package", "method"), [("pyarrow", "to_arrow"), ("pandas", "to_pandas")])
def test_what_is_not_installed_is_named(
    tape: Path, package: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with ringtape.open_tape(tape) as opened, pytest.raises(ringtape.UsageError) as caught:
        getattr(opened, method)()
    assert f"{method}() needs {package}, which is not installed: pip install 'ringtape[" in str(caught.value)
