"""Goal: newer ringtape replays what older ringtape recorded.

Method: a tape of each format version, kept in tests/data, is replayed with the program that it is of. Those of versions
1 and 2 are of one recording of `kept.main`: version 2 as it was written then, version 1 the same rows in plain blocks.
Those of version 3 are two recordings of `kept_world.main`, which has what came with it: undo, messages, faults, and one
of them data. Do not make them anew: they stand for the tapes that people keep. A new version adds one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import TapeReader, frames, iter_rows
from tests.programs import kept, kept_world

DATA = Path(__file__).resolve().parents[1] / "data"
TAPES = sorted(DATA.glob("v*-replay.tape"))
DIGEST = "3fe8fcfa10f219faff3df31e39f09b63"
UNDO, FULL = DATA / "v3-undo.tape", DATA / "v3-full.tape"
WORLD_DIGESTS = {UNDO: "c3e969ed4f8f1aac9b28de73e5cb0b66", FULL: "89c532864cf4a316950aaa760e8995c2"}


@pytest.mark.parametrize("tape", TAPES, ids=lambda tape: tape.stem)
def test_a_kept_tape_replays(tape: Path, tmp_path: Path) -> None:
    disk = Disk("a", tmp_path / "a.img", size="128K", fresh=True)
    replayed = ringtape.replay(tape, kept.main, disks=[disk])
    assert (replayed.digest, replayed.ended) == (DIGEST, "finished")
    (failure,) = replayed.failures
    assert (failure.worker, failure.exception) == (1, "LookupError")
    assert failure.message.startswith("as it should, at 17")


@pytest.mark.parametrize("tape", TAPES, ids=lambda tape: tape.stem)
def test_a_kept_tape_finds_another_program(tape: Path, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    disk = Disk("a", tmp_path / "a.img", size="128K", fresh=True)
    with pytest.raises(ringtape.Divergence):
        ringtape.replay(tape, kept.other, disks=[disk])


def test_every_older_version_is_kept_and_says_the_same() -> None:
    rows = []
    versions = []
    for tape in TAPES:
        with TapeReader.open(tape) as reader:
            versions.append(reader.version)
            rows.append(list(iter_rows(reader)))
    for tape in WORLD_DIGESTS:
        with TapeReader.open(tape) as reader:
            versions.append(reader.version)
    assert versions == [1, 2, 3, 3]
    assert versions[-1] == frames.FORMAT_VERSION, "keep a tape of the new version"
    assert rows[0] == rows[1]


def as_it_was(replayed: ringtape.Result, tape: Path) -> None:
    assert (replayed.digest, replayed.ended) == (WORLD_DIGESTS[tape], "finished")
    returned = replayed.returns[0]
    assert returned["short"] == kept_world.BLOCK, "of twice that: the file was cut"
    assert returned["heard"] == [b"1 has written 1", b"1 has written 0"]
    (failure,) = replayed.failures
    assert (failure.worker, failure.exception) == (1, "LookupError")
    assert failure.message == "as it should, after b'4096 bytes'"


def world_disks(folder: Path) -> list[Disk]:
    for name, held in kept_world.BEFORE.items():
        (folder / f"{name}.img").write_bytes(held)
    return [Disk(name, folder / f"{name}.img") for name in kept_world.BEFORE]


@pytest.mark.parametrize("tape", WORLD_DIGESTS, ids=lambda tape: tape.stem)
def test_a_tape_with_undo_messages_and_faults_replays_and_rewinds(tape: Path, tmp_path: Path) -> None:
    disks = world_disks(tmp_path)
    for _ in range(2):
        as_it_was(ringtape.replay(tape, kept_world.main, disks=disks), tape)
        changed = (tmp_path / "a.img").read_bytes()
        assert changed[: kept_world.BLOCK] != kept_world.BEFORE["a"][: kept_world.BLOCK]
        ringtape.rewind(tape, disks=disks[:1])
        assert (tmp_path / "a.img").read_bytes() == kept_world.BEFORE["a"]
        (tmp_path / "b.img").write_bytes(kept_world.BEFORE["b"])


def test_a_tape_with_its_data_replays_with_nothing_else() -> None:
    as_it_was(ringtape.replay(FULL, kept_world.main, offline=True), FULL)
    with pytest.raises(ringtape.Divergence):
        ringtape.replay(FULL, kept.other, offline=True)
