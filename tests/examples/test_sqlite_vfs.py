"""Goal: SQLite on two disks does what SQLite does, replays, and leaves a database that any SQLite reads.

Method: the files are taken from the disks byte by byte and opened with Python's own SQLite; what lies under them is
compared with a plain bytearray; and the tape tells whether the journal came first.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape import BlockingDisk, BlockingWorker, Disk, examples
from ringtape.coordinator.tape import RequestRow, TapeReader, iter_rows
from ringtape.examples.sqlite_vfs import (
    BLOCK_BYTES,
    FILE_BYTES_MIN,
    JOURNAL,
    TRANSACTIONS,
    DiskFile,
    OpenFile,
)
from ringtape.proto import messages_pb2
from ringtape.settings import Data
from tests.api.command_line import check_one_line
from tests.api.command_line import ringtape as script

PROGRAM = str(Path(examples.__file__).with_name("sqlite_vfs.py"))
SIZE = 2 << 20


def record(folder: Path, *, seed: int, workers: int = 1, data: Data = "digest") -> ringtape.Result:
    disks = [
        Disk(name, folder / f"{name}.img", size=SIZE * workers, fresh=True) for name in ("db", "journal")
    ]
    tape = folder / "run.tape"
    result = ringtape.record(PROGRAM, disks=disks, seed=seed, workers=workers, tape=tape, data=data)
    result.raise_for_failures()
    return result


def file_on(image: Path, part: int = 0) -> tuple[bool, bytes]:
    """Whether the file exists on that part of the disk, and what is in it."""
    with image.open("rb") as disk:
        disk.seek(part * SIZE)
        magic, exists, length = DiskFile.HEAD.unpack_from(disk.read(BLOCK_BYTES))
        assert magic == DiskFile.MAGIC
        return exists, disk.read(length)


def test_it_replays_and_another_sqlite_reads_what_is_on_the_disk(tmp_path: Path) -> None:
    """With the disks, and then without: they are deleted, and the data comes from the tape."""
    recorded = record(tmp_path, seed=1, workers=2, data="full")
    check_database(tmp_path, recorded.returns)
    for offline in (False, True):
        replayed = ringtape.replay(tmp_path / "run.tape", offline=offline)
        assert (replayed.ended, replayed.digest) == ("finished", recorded.digest)
        assert replayed.returns == recorded.returns
        if not offline:
            check_database(tmp_path, recorded.returns)
            for name in ("db", "journal"):
                (tmp_path / f"{name}.img").unlink()
    assert not list(tmp_path.glob("*.img"))


def check_database(tmp_path: Path, outcomes: list[dict[str, Any]]) -> None:
    for worker, outcome in enumerate(outcomes):
        exists, data = file_on(tmp_path / "db.img", worker)
        assert exists
        assert file_on(tmp_path / "journal.img", worker) == (False, b"")
        (tmp_path / "copy.db").write_bytes(data)
        connection = sqlite3.connect(tmp_path / "copy.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        contents = hashlib.sha256()
        rows = connection.execute("SELECT id, client, at, body FROM entries ORDER BY id").fetchall()
        for row in rows:
            contents.update(repr(row).encode())
        connection.close()
        assert (outcome["integrity"], outcome["rows"]) == ("ok", len(rows))
        assert outcome["contents"] == contents.hexdigest()
        assert outcome["pages"] * 4096 == len(data)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("recorded")
    [outcome] = record(folder, seed=1).returns
    return folder, outcome


def test_the_load_is_all_that_it_says(recorded: tuple[Path, dict[str, Any]]) -> None:
    """Every kind of transaction, the connections in each other's way, and a journal to roll back."""
    outcome = recorded[1]
    for done in outcome["done"]:
        assert sum(done.values()) == TRANSACTIONS + 1
        assert done["vacuum"] == 1
    assert {"insert", "update", "delete", "scan"} <= {*outcome["done"][0], *outcome["done"][1]}
    assert min(outcome["busy"]) > 0
    assert outcome["journal_bytes"] > 0
    assert outcome["rows"] > 50


def test_time_and_randomness_are_the_tape_s(tmp_path: Path, recorded: tuple[Path, dict[str, Any]]) -> None:
    """Two recordings with one seed do the same, and at their own times."""
    [other] = record(tmp_path, seed=1).returns
    assert other != recorded[1], "no time is in the database"
    assert {**other, "contents": ""} == {**recorded[1], "contents": ""}


def test_the_database_is_written_when_the_journal_is_on_the_disk(
    recorded: tuple[Path, dict[str, Any]],
) -> None:
    unsynced = syncs = 0
    with TapeReader.open(recorded[0] / "run.tape") as reader:
        rows = [row for row in iter_rows(reader) if isinstance(row, RequestRow)]
    for row in rows:
        match row.disk, row.kind:
            case "journal", messages_pb2.KIND_WRITE if row.offset:
                unsynced += 1
            case "journal", messages_pb2.KIND_FSYNC:
                unsynced, syncs = 0, syncs + 1
            case "db", messages_pb2.KIND_WRITE if row.offset:
                assert not unsynced, f"request {row.id} changes what the journal does not have yet"
    assert syncs > TRANSACTIONS


def test_without_apsw(tmp_path: Path) -> None:
    (tmp_path / "apsw.py").write_text("raise ModuleNotFoundError(name='apsw')\n")
    command = ("record", PROGRAM, "--disk", "db=db.img,size=2M", "--disk", "journal=j.img,size=2M")
    before = sorted(os.listdir(tmp_path))
    done = script(*command, cwd=tmp_path, PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")
    check_one_line(done, 2, "this example needs apsw: python -m pip install apsw")
    assert sorted(os.listdir(tmp_path)) == before


# ---- the files under it


class MemoryDisk:
    """A disk that holds what it was given, and nothing before that but rubbish."""

    def __init__(self) -> None:
        self.name = "made-up"
        self.size = FILE_BYTES_MIN + BLOCK_BYTES
        self.data = bytearray(b"\xa5" * self.size)

    def read(self, offset: int, length: int) -> bytes:
        assert offset % BLOCK_BYTES == length % BLOCK_BYTES == 0
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes, *, fua: bool = False) -> int:
        assert offset % BLOCK_BYTES == len(data) % BLOCK_BYTES == 0
        assert len(data) > 0
        self.data[offset : offset + len(data)] = data
        return len(data)

    def fsync(self, *, data_only: bool) -> None: ...


def made_up_file(disk: MemoryDisk) -> DiskFile:
    io = SimpleNamespace(worker_count=1, index=0)
    return DiskFile(cast(BlockingDisk, disk), cast(BlockingWorker, io))


PLACES = st.integers(0, 6 * BLOCK_BYTES) | st.integers(0, 6).map(lambda block: block * BLOCK_BYTES)
ACTS = st.lists(
    st.tuples(st.sampled_from(["read", "write"]), PLACES, PLACES)
    | st.tuples(st.just("truncate"), PLACES, st.just(0))
    | st.tuples(st.sampled_from(["sync", "mount", "delete"]), st.just(0), st.just(0)),
    max_size=20,
)


@given(ACTS)
def test_a_file_on_a_disk_is_a_file(acts: list[tuple[str, int, int]]) -> None:
    disk = MemoryDisk()
    file = made_up_file(disk)
    file.create()
    model = bytearray()
    for number, (act, offset, length) in enumerate(acts):
        if act == "write":
            data = bytes([number + 1]) * length
            file.write(offset, data)
            model.extend(bytes(max(offset - len(model), 0)))
            model[offset : offset + length] = data
        elif act == "read":
            assert file.read(offset, length) == model[offset : offset + length]
        elif act == "truncate":
            file.truncate(offset)
            model = model[:offset] + bytes(max(offset - len(model), 0))
        elif act == "delete":
            file.delete(durable=True)
            model = bytearray()
            assert not made_up_file(disk).exists
            file.create()
        else:
            file.sync(data_only=False)
            if act == "mount":
                file = made_up_file(disk)
                assert file.exists
        assert file.length == len(model)
    assert file.read(0, file.capacity) == model


def test_what_was_not_synced_is_gone_when_the_power_fails() -> None:
    disk = MemoryDisk()
    file = made_up_file(disk)
    file.create()
    file.write(0, b"synced")
    file.sync(data_only=True)
    file.write(0, b"forgotten")
    file.unplug()
    file.sync(data_only=False)
    again = made_up_file(disk)
    assert again.read(0, 100) == b"synced"
    with pytest.raises(apsw.FullError):
        again.write(again.capacity, b"x")


def test_locks_are_sqlite_s() -> None:
    """A table of what one may have when the other has something."""
    none, shared, reserved, pending, exclusive = (
        apsw.SQLITE_LOCK_NONE,
        apsw.SQLITE_LOCK_SHARED,
        apsw.SQLITE_LOCK_RESERVED,
        apsw.SQLITE_LOCK_PENDING,
        apsw.SQLITE_LOCK_EXCLUSIVE,
    )
    allowed = {
        shared: {none, shared, reserved},
        reserved: {none, shared},
        exclusive: {none},
    }
    for wanted, others in allowed.items():
        for held in (none, shared, reserved, pending, exclusive):
            file = made_up_file(MemoryDisk())
            one, other = OpenFile(file), OpenFile(file)
            if held:
                file.locks[other] = held
            if wanted != shared:
                file.locks[one] = shared
            if held in others:
                one.xLock(wanted)
                assert file.locks[one] == wanted
            else:
                with pytest.raises(apsw.BusyError):
                    one.xLock(wanted)
            assert one.xCheckReservedLock() == (max(file.locks.values(), default=0) >= reserved)
    assert JOURNAL.endswith("-journal"), "SQLite makes that name itself"
