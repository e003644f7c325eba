"""Goal: docs/tape-format.md is enough to read a tape.

Method: a reader that knows nothing else reads what ours reads.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringtape
from ringtape.coordinator.tape import CompletionRow, NoteRow, RequestRow, TapeReader, TokenRow, iter_rows
from ringtape.coordinator.tape.bits import ColumnPacker, Encoding
from ringtape.coordinator.tape.undo import UndoScan
from ringtape.proto import tape_pb2
from tests.coordinator.tape import independent
from tests.coordinator.tape.making import Requests, make_header, make_run, without_digests, write
from tests.programs import full, kept, sharing

DATA = Path(__file__).parents[2] / "data"


def ours(path: Path) -> tuple[list[tuple[Any, ...]], TapeReader]:
    """The rows as our reader has them, in the form of the other."""
    rows: list[tuple[Any, ...]] = []
    with TapeReader.open(path) as reader:
        disks = [disk.name for disk in reader.header.disks]
        for row in iter_rows(reader):
            match row:
                case RequestRow():
                    what = (row.id, row.worker, row.sequence, row.checkpoint, row.kind, row.flags)
                    where = (disks.index(row.disk), row.offset, row.length)
                    rows.append(("request", *what, *where, row.digest, row.covers, row.at_ns))
                case CompletionRow():
                    rows.append(
                        ("completion", row.id, row.worker, row.sequence, row.result, row.digest, row.at_ns)
                    )
                case TokenRow():
                    when = (row.mode, row.clock_ns, row.deadline_ns)
                    what = (row.number, row.worker, row.checkpoint)
                    rows.append(("token", *what, *when, row.ids, row.delivered, row.at_ns))
                case NoteRow():
                    note = independent.parsed(row.note.SerializeToString())
                    rows.append(("note", row.worker, row.checkpoint, note, row.at_ns))
    return rows, reader


def check(path: Path) -> independent.Tape:
    rows, reader = ours(path)
    tape = independent.Tape(path)
    assert tape.rows == rows
    with TapeReader.open(path) as again:
        undos = [(undo.disk, undo.offset, undo.data) for _, undo in again.undo_ranges(UndoScan())]
    assert tape.undos == undos
    assert (tape.seal is None) == (reader.seal is None)
    if reader.seal is not None:
        assert tape.seal is not None
        for number in (1, 3, 4, 5, 10, 11):
            name = tape_pb2.Seal.DESCRIPTOR.fields_by_number[number].name
            assert independent.one(tape.seal, number, 0) == getattr(reader.seal, name)
    return tape


def test_it_imports_nothing_of_ringtape() -> None:
    assert "import ringtape" not in (source := Path(independent.__file__).read_text())
    assert "from ringtape" not in source and "from tests" not in source


def is_moved(row: tuple[Any, ...]) -> bool:
    """It is a write, or a completion that returned data: those have a digest."""
    return (row[0] == "request" and row[5] == independent.WRITE) or (row[0] == "completion" and row[5] != 0)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.tape")), ids=lambda path: path.stem)
def test_kept_tapes(path: Path) -> None:
    tape = check(path)
    assert tape.rows and tape.seal is not None
    if path.stem in ("v3-undo", "v3-full"):
        assert tape.undos
    if path.stem == "v3-full":
        # Its reads and writes that moved something.
        assert {row[:2] for row in tape.rows if row[0] != "note" and is_moved(row)} == set(tape.data)
    digest = independent.one(tape.seal, 6, b"").decode()
    assert digest in ("", tape.digest())  # those that no run made have none


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.booleans(), st.integers(0, 20))
def test_made_tapes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, digests: bool, flush_every: int
) -> None:
    path = tmp_path_factory.mktemp("made") / "t"
    calls = make_run(seed, steps=60, rows_max=30)
    write(
        path,
        make_header(digests=digests),
        calls if digests else without_digests(calls),
        flush_every=flush_every,
    )
    tape = check(path)
    assert tape.requests == sum(len(call.rows) for call in calls if isinstance(call, Requests))


@pytest.mark.parametrize("way", [Encoding.PLAIN, Encoding.PLANES, Encoding.CLASSES])
def test_made_tapes_in_every_encoding(way: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the writer would choose it or not."""
    pack = ColumnPacker._as
    monkeypatch.setattr(
        ColumnPacker, "_as", lambda self, _, values, width, shift: pack(self, way, values, width, shift)
    )
    write(tmp_path / "t", make_header(), make_run(7, steps=300, rows_max=40))
    check(tmp_path / "t")


@pytest.mark.parametrize(
    ("program", "data"),
    [
        (kept.main, "digest"),
        (kept.main, "order"),
        (sharing.talk, "digest"),
        (kept.main, "full"),
        (full.large, "full"),
    ],
)
def test_recordings_with_the_digest_of_their_run(program: Any, data: Any, tmp_path: Path) -> None:
    disks = [ringtape.Disk("a", tmp_path / "a.img", size="8M")]
    recorded = ringtape.record(
        program, disks=disks, workers=2, arguments="some", tape=tmp_path / "t", data=data
    )
    tape = check(tmp_path / "t")
    assert tape.digest() == recorded.digest
    assert bool(tape.data) == (data == "full")
