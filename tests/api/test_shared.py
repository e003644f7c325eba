"""Goal: workers that race on one disk, and that talk to each other, see in a replay what they saw in the recording.

Method: programs whose results depend on who comes first, recorded and replayed many times by real workers on a real
file. That recordings differ shows that there is a race; that replays do not is the promise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import NoteRow, TapeReader, TokenRow, iter_rows
from tests.programs import sharing

Program = Callable[[Any], Any]
PAIRS = 6


def disk(folder: Path, **options: Any) -> Disk:
    return Disk("shared", folder / "shared.img", size="1M", fresh=True, **options)


def record_and_replay(program: Program, folder: Path, *, workers: int, **options: Any) -> ringtape.Result:
    tape = folder / "run.tape"
    recorded = ringtape.record(program, disks=[disk(folder)], workers=workers, tape=tape, **options)
    left = (folder / "shared.img").read_bytes()
    replayed = ringtape.replay(tape)
    assert (replayed.digest, replayed.returns, replayed.failures) == (
        recorded.digest,
        recorded.returns,
        recorded.failures,
    )
    assert (folder / "shared.img").read_bytes() == left
    return recorded


@pytest.mark.parametrize("program", [sharing.count, sharing.count_blocking])
def test_a_counter_that_loses_increments_loses_the_same_again(tmp_path: Path, program: Program) -> None:
    results = [record_and_replay(program, tmp_path, workers=3) for _ in range(PAIRS)]
    assert len({str(result.returns) for result in results}) > 1, "the workers did not race"


def test_a_lock_built_from_blocks_holds(tmp_path: Path) -> None:
    """It needs that requests on one block act one after another, in one order for all workers."""
    result = record_and_replay(sharing.locked, tmp_path, workers=3)
    assert result.returns == [9, 9, 9]


def test_pairs_of_blocks_are_never_torn(tmp_path: Path) -> None:
    for _ in range(PAIRS):
        result = record_and_replay(sharing.pairs, tmp_path, workers=3)
        assert [torn for torn, _ in result.returns] == [0, 0, 0]


@pytest.mark.parametrize("program", [sharing.talk, sharing.talk_blocking])
def test_messages_come_in_their_recorded_order(tmp_path: Path, program: Program) -> None:
    for _ in range(PAIRS):
        result = record_and_replay(program, tmp_path, workers=3)
        for heard in result.returns:
            assert sorted(heard[:3]) == [(0, b"hello from 0"), (1, b"hello from 1"), (2, b"hello from 2")]
        assert sum(len(heard) for heard in result.returns) == 12
    assert sum(len(heard) for heard in ringtape.run(program, workers=3).returns) == 12


def test_the_tape_says_who_sent_and_what_was_delivered(tmp_path: Path) -> None:
    record_and_replay(sharing.talk, tmp_path, workers=2)
    with TapeReader.open(tmp_path / "run.tape") as reader:
        rows = list(iter_rows(reader))
    notes = [row for row in rows if isinstance(row, NoteRow)]
    assert sum(row.what == "sent" for row in notes) == 8
    assert sum(row.what == "barrier" for row in notes) == 4
    assert all(not row.note.sent.payload for row in notes)
    assert sum(row.delivered for row in rows if isinstance(row, TokenRow)) == 8 + 4


def test_a_worker_reaches_the_disks_that_name_it_and_no_others(tmp_path: Path) -> None:
    disks = [
        Disk("a", tmp_path / "a.img", size="1M", fresh=True, workers=[0]),
        Disk("b", tmp_path / "b.img", size="1M", fresh=True, workers=[1, 0]),
    ]
    recorded = ringtape.record(sharing.other_disks, disks=disks, workers=3, tape=tmp_path / "run.tape")
    assert recorded.returns == [
        ["a", "b"],
        ["b", "worker 1 does not use disk 'a': name it in the disk's workers; its disks are: 'b'"],
        [
            "worker 2 does not use disk 'a': name it in the disk's workers; its disks are: none",
            "worker 2 does not use disk 'b': name it in the disk's workers; its disks are: none",
        ],
    ]
    assert ringtape.replay(tmp_path / "run.tape").digest == recorded.digest
    assert ringtape.run(sharing.other_disks, disks=disks, workers=3).returns == recorded.returns


@pytest.mark.parametrize(
    ("workers", "why"),
    [
        ([], "workers is empty"),
        ([2], "no worker 2; the run's workers are 0 to 1"),
        ([-1], "no worker -1"),
        ([0, 0], "names one of them twice"),
        (0, "workers is 0; give a list"),
        ("0", "workers is '0'; give a list"),
        (iter([0]), "give a list of indexes"),
    ],
)
def test_impossible_workers_of_a_disk_are_refused(tmp_path: Path, workers: Any, why: str) -> None:
    with pytest.raises(ringtape.DiskError, match=why):
        ringtape.record(
            sharing.count, disks=[disk(tmp_path, workers=workers)], workers=2, tape=tmp_path / "t"
        )
    assert not (tmp_path / "shared.img").exists()


@pytest.mark.parametrize("disks", [["a=a.img"], [3], "a=a.img", Disk("a", "a.img")])
def test_what_is_no_disk_is_refused(tmp_path: Path, disks: Any) -> None:
    for act in (
        lambda: ringtape.record(sharing.count, disks=disks, tape=tmp_path / "t"),
        lambda: ringtape.run(sharing.count, disks=disks),
        lambda: ringtape.check(sharing.count, disks=disks),
        lambda: ringtape.replay(tmp_path / "t", disks=disks),
        lambda: ringtape.rewind(tmp_path / "t", disks=disks),
    ):
        with pytest.raises(ringtape.DiskError, match=r"is not a ringtape\.Disk|give a list of them"):
            act()
    assert not list(tmp_path.iterdir())


def test_the_command_line_takes_the_workers_of_a_disk() -> None:
    assert Disk.parse("a=b,workers=0+2,fresh") == Disk("a", "b", fresh=True, workers=[0, 2])
    with pytest.raises(ringtape.DiskError, match="is not indexes of workers"):
        Disk.parse("a=b,workers=0-2")
    for twice in ("workers=0,workers=1", "size=1M,size=1M", "undo,undo"):
        with pytest.raises(ringtape.DiskError, match="is given twice"):
            Disk.parse(f"a=b,{twice}")


@pytest.mark.parametrize(
    ("program", "stalled", "last"),
    [(sharing.wait_for_ever, [1, 2, 3], None), (sharing.wait_for_ever_blocking, [1, 2], "told")],
)
def test_who_waits_for_what_cannot_come_is_told(
    tmp_path: Path, program: Program, stalled: list[int], last: str | None
) -> None:
    """The first of those that wait is told first. A blocking worker 2 handles it, which lets worker 3 end."""
    recorded = record_and_replay(program, tmp_path, workers=4)
    plain = ringtape.run(program, disks=[disk(tmp_path)], workers=4)
    for result in (recorded, plain):
        assert result.returns == ["ended", None, None, last]
        assert [failure.worker for failure in result.failures if failure.stalled] == stalled
        assert "nothing can ever wake it" in result.failures[0].message


def test_impossible_messages_are_refused_in_one_line(tmp_path: Path) -> None:
    recorded = record_and_replay(sharing.refused, tmp_path, workers=2)
    assert recorded.returns[0] == [
        "there is no worker 2 to send to: workers are 0 to 1",
        "there is no worker -1 to send to: workers are 0 to 1",
        "there is no worker '0' to send to: workers are 0 to 1",
        "a message is bytes, not str: encode or pickle it",
        "a message of 1048577 bytes is more than 1048576: send it in parts, or by way of a disk",
    ]


def test_a_race_on_purpose_is_not_admitted(tmp_path: Path) -> None:
    """With overlap="race" nothing waits for the coordinator; data may differ, so only the order is on the tape."""
    recorded = ringtape.record(
        sharing.pairs,
        disks=[disk(tmp_path)],
        workers=2,
        tape=tmp_path / "run.tape",
        overlap="race",
        data="order",
    )
    assert recorded.requests == 2 * 4 * sharing.ROUNDS
