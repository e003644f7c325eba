"""Goal: newer ringtape replays what older ringtape recorded.

Method: a tape of each format version, kept in tests/data, is replayed with the program that it is of. The tapes are of
one recording of `kept.main`: version 2 as it was written then, version 1 the same rows in plain blocks. Do not make
them anew: they stand for the tapes that people keep. A new version adds one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import TapeReader, frames, iter_rows
from tests.programs import kept

DATA = Path(__file__).resolve().parents[1] / "data"
TAPES = sorted(DATA.glob("v*-replay.tape"))
DIGEST = "3fe8fcfa10f219faff3df31e39f09b63"


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
    assert set(range(1, frames.FORMAT_VERSION + 1)) <= {*versions, frames.FORMAT_VERSION}
    assert versions[:2] == [1, 2]
    assert rows[0] == rows[1]
