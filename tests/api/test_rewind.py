"""Goal: whatever happened to a recording with undo, a rewind puts every byte back, and nothing else is ever written.

Method: record on files and loop devices, with kills at points that are chosen by seed; compare all bytes with a copy.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import TapeEnd, TapeReader, frames, repair, verify
from ringtape.coordinator.tape.frames import FrameType
from ringtape.coordinator.tape.undo import UndoScan
from ringtape.proto import tape_pb2
from tests.api.command_line import check_one_line
from tests.api.command_line import ringtape as command
from tests.engine.loop_devices import loop_device, needs_loop_devices
from tests.programs import changing
from tests.searching import slow

MIB = 1 << 20
ROOT = Path(__file__).resolve().parents[2]


def filled(path: Path, seed: int, size: int = MIB) -> bytes:
    """A disk with something in it, holes too."""
    rng = random.Random(seed)
    content = b"".join(
        rng.randbytes(1 << 16) if rng.random() < 0.7 else bytes(1 << 16) for _ in range(size >> 16)
    )
    path.write_bytes(content)
    return content


def recorded(folder: Path, laps: int = 3, **more: object) -> tuple[Path, Path, bytes]:
    """A tape, its disk, and what that held."""
    disk = folder / "a.img"
    content = filled(disk, 1)
    tape = folder / "tape"
    ringtape.record(
        changing.changes, disks=[Disk("a", disk, undo=True)], arguments=laps, seed=2, tape=tape, **more
    )
    assert disk.read_bytes() != content
    return tape, disk, content


@slow(2)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_rewind_undoes_a_recording_and_its_replays(
    tmp_path_factory: pytest.TempPathFactory, seed: int, workers: int
) -> None:
    folder = tmp_path_factory.mktemp("undo")
    paths = [folder / "a.img", folder / "b.img"]
    contents = [filled(path, seed + i) for i, path in enumerate(paths)]
    disks = [Disk(path.stem, path, undo=True) for path in paths]
    tape, again = folder / "tape", folder / "again"
    done = ringtape.record(changing.changes, disks=disks, workers=workers, seed=seed, arguments=6, tape=tape)
    after = [path.read_bytes() for path in paths]
    assert after != contents
    with pytest.raises(ringtape.DiskError, match="put it back with `ringtape rewind`"):
        ringtape.replay(tape)
    assert [path.read_bytes() for path in paths] == after
    assert all(disk.exact for disk in ringtape.rewind(tape))
    assert [path.read_bytes() for path in paths] == contents
    assert ringtape.replay(tape, output=again).digest == done.digest
    assert [path.read_bytes() for path in paths] == after
    assert all(disk.exact for disk in ringtape.rewind(again)), "a replay's tape can do it as well"
    assert [path.read_bytes() for path in paths] == contents
    assert [disk.ranges for disk in ringtape.rewind(tape)] == [disk.ranges for disk in ringtape.rewind(again)]
    assert verify(again).sound
    assert verify(tape).sound


def killed(*words: str) -> int:
    """How the process ended, when nothing of it runs any more."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.programs.undoing", *words],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.parametrize(("word", "seed"), [("before", 11), ("torn", 12), ("after", 13), ("worker", 14)])
def test_rewind_after_a_kill(word: str, seed: int, tmp_path: Path) -> None:
    """Of the coordinator or of a worker in the recording, then of the rewind itself."""
    tape, disk = tmp_path / "tape", tmp_path / "a.img"
    content = filled(disk, seed)
    rng = random.Random(f"{seed} {word}")
    point = f"{word}:{rng.randint(2, 60)}"
    status = killed("record", str(tape), str(disk), str(seed), point)
    assert (status == 0) == (word == "worker"), point
    with TapeReader.open(tape) as reader:
        ranges = sum(1 for _ in reader.undo_ranges(UndoScan()))
    assert ranges or word == "before"
    if ranges > 1:
        assert disk.read_bytes() != content, point
        assert killed("rewind", str(tape), f"write:{rng.randint(1, ranges)}") == -signal.SIGKILL
    assert all(one.exact for one in ringtape.rewind(tape)), point
    assert disk.read_bytes() == content, point


@pytest.mark.parametrize("overlap", ["order", "race"])
def test_workers_that_change_the_same_blocks_are_undone(overlap: Any, tmp_path: Path) -> None:
    tape, disk = tmp_path / "tape", tmp_path / "a.img"
    content = filled(disk, 3)
    recorded = ringtape.record(
        changing.races,
        disks=[Disk("a", disk, undo=True)],
        workers=2,
        arguments=20,
        seed=4,
        overlap=overlap,
        data="digest" if overlap == "order" else "order",
        tape=tape,
    )
    (rewound,) = ringtape.rewind(tape)
    assert disk.read_bytes() == content
    assert rewound.bytes == 11 * changing.BLOCK, "each block once"
    if overlap == "order":
        assert ringtape.replay(tape).digest == recorded.digest
        ringtape.rewind(tape)
        assert disk.read_bytes() == content


def test_a_replay_that_diverges_changes_nothing_that_cannot_be_put_back(tmp_path: Path) -> None:
    program = tmp_path / "prog.py"
    text = (
        "def main(io):\n    io.disks[0].write({0}, b'x' * 8192)\n    io.disks[0].write(65536, bytes(4096))\n"
    )
    disk, tape = tmp_path / "a.img", tmp_path / "tape"
    content = filled(disk, 5)
    program.write_text(text.format(0))
    ringtape.record(str(program), disks=[Disk("a", disk, undo=True)], tape=tape)
    ringtape.rewind(tape)
    for other in (4096, 40960):  # in part, and not at all, what the tape has
        program.write_text(text.format(other))
        with pytest.raises(ringtape.Divergence):
            ringtape.replay(tape)
        assert disk.read_bytes()[other + 4096 :] == content[other + 4096 :]
        ringtape.rewind(tape)
        assert disk.read_bytes() == content


@needs_loop_devices
def test_a_block_device_is_put_back_by_the_command(tmp_path: Path) -> None:
    file = tmp_path / "backing"
    content = filled(file, 6)
    with loop_device(file) as device:
        words = (
            "record",
            f"{ROOT}/tests/programs/changing.py:busy",
            "--disk",
            f"a={device},undo",
            "-o",
            str(tmp_path / "t"),
        )
        done = command(*words, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert f"next: ringtape rewind {tmp_path}/t, then ringtape replay {tmp_path}/t" in done.stdout
        assert file.read_bytes() != content
        line = check_one_line(command("replay", str(tmp_path / "t"), cwd=ROOT), 2, "`ringtape rewind`")
        assert device in line
        done = command("rewind", str(tmp_path / "t"), "--json", cwd=ROOT)
        assert done.returncode == 0, done.stderr
        (disk,) = json.loads(done.stdout)["disks"]
        assert (disk["path"], disk["exact"]) == (device, True)
        assert file.read_bytes() == content
    info = json.loads(command("tape", "info", "--json", str(tmp_path / "t"), cwd=ROOT).stdout)
    assert (info["disks"][0]["undo"], info["disks"][0]["snapshot"]) == (True, None)


def test_a_disk_that_would_not_be_as_it_was_is_refused_and_untouched(tmp_path: Path) -> None:
    tape, disk, content = recorded(tmp_path)
    other = tmp_path / "other.img"
    changed = filled(other, 7)
    with pytest.raises(ringtape.DiskError, match=r"other.img\) would not hold then .* --force"):
        ringtape.rewind(tape, disks=[Disk("a", other)])
    assert other.read_bytes() == changed
    (forced,) = ringtape.rewind(tape, disks=[Disk("a", other)], force=True)
    assert not forced.exact
    copy = tmp_path / "copy.img"
    copy.write_bytes(disk.read_bytes())
    assert ringtape.rewind(tape, disks=[Disk("a", copy)])[0].exact
    assert copy.read_bytes() == content


def undo_frames(tape: Path) -> list[int]:
    with TapeReader.open(tape) as reader:
        return [offset for offset, _ in reader.undo_ranges(UndoScan())]


def test_what_is_whole_on_a_damaged_tape_is_put_back(tmp_path: Path) -> None:
    tape, disk, content = recorded(tmp_path)
    changed = disk.read_bytes()
    offsets = undo_frames(tape)
    data = bytearray(tape.read_bytes())
    with TapeReader.open(tape) as reader:
        frame, lost = next(
            (offset, undo)
            for offset, undo in reader.undo_ranges(UndoScan())
            if offset > offsets[0]
            and undo.data != changed[undo.offset :][: len(undo.data)]  # not zeros made zeros
        )
    place = frame + frames.FRAME_HEADER_BYTES + 20
    data[place] ^= 1
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.write_bytes(data)
    assert verify(bad).end is TapeEnd.DAMAGED
    repair(bad, good)
    assert verify(good).sound
    assert len(undo_frames(good)) == len(offsets) - 1
    with pytest.raises(ringtape.TapeDamaged) as caught:
        ringtape.rewind(bad)
    assert str(caught.value) == (
        f"{bad} is damaged at byte {frame}; everything whole was put back: at least 1 of {len(offsets)} ranges "
        "are missing, and the disks do not hold what they held"
    )
    expected = bytearray(content)
    stretch = slice(lost.offset, lost.offset + len(lost.data))
    expected[stretch] = changed[stretch]
    assert disk.read_bytes() == expected
    check_one_line(command("rewind", str(bad), cwd=tmp_path), 4, "is damaged at byte")
    (rewound,) = ringtape.rewind(tape)
    assert rewound.exact


def test_a_tape_that_a_disk_held_is_not_taken_for_the_tape(tmp_path: Path) -> None:
    """A disk with a tape on it, in a frame that is damaged: what looks like undo frames in there is not this tape's."""
    folder = tmp_path / "inner"
    folder.mkdir()
    inner, *_ = recorded(folder)
    disk, tape = tmp_path / "a.img", tmp_path / "tape"
    content = inner.read_bytes()[:MIB].ljust(MIB, b"\0")
    disk.write_bytes(content)
    ringtape.record(changing.overwrites, disks=[Disk("a", disk, undo=True)], tape=tape)
    (offset,) = undo_frames(tape)
    with tape.open("r+b") as file:
        file.seek(offset + frames.FRAME_HEADER_BYTES)
        file.write(b"\xff")
    assert any(
        frame.type == FrameType.UNDO
        for _, frame in frames.frames_after(
            lambda length, at: tape.read_bytes()[at : at + length], 0, 1 << 30
        )
    ), "there is something to be taken for it"
    with pytest.raises(ringtape.TapeDamaged):
        ringtape.rewind(tape)
    assert disk.read_bytes() == b"\xee" * MIB, "nothing is put back"


def test_rewind_says_what_it_cannot_do(tmp_path: Path) -> None:
    disk = tmp_path / "a.img"
    filled(disk, 8)
    plain = tmp_path / "plain"
    ringtape.record(changing.changes, disks=[Disk("a", disk)], arguments=1, tape=plain)
    check_one_line(
        command("rewind", "plain", cwd=tmp_path), 2, "plain keeps nothing to put back: none of its disks"
    )
    with pytest.raises(ringtape.DiskError, match="fresh gives up what the disk holds, and undo keeps it"):
        ringtape.record(changing.changes, disks=[Disk("a", disk, fresh=True, undo=True)], tape=plain)
    with pytest.raises(ringtape.DiskError, match="undo is for a recording; leave it out here"):
        ringtape.run(changing.changes, disks=[Disk("a", disk, undo=True)])
    tape, *_ = recorded(tmp_path, laps=1)
    with pytest.raises(ringtape.DiskError, match="the tape has no disk 'b'"):
        ringtape.rewind(tape, disks=[Disk("b", disk)])
    with pytest.raises(ringtape.DiskError, match="a rewind takes its path, and force"):
        ringtape.rewind(tape, disks=[Disk("a", disk, fresh=True)])
    with pytest.raises(ringtape.DiskError, match="undo is for a recording"):
        ringtape.replay(tape, disks=[Disk("a", disk, undo=True)])
    (tmp_path / "short.img").write_bytes(bytes(8192))
    with pytest.raises(ringtape.DiskError, match="has 8192 bytes; the recording's had 1048576"):
        ringtape.rewind(tape, disks=[Disk("a", tmp_path / "short.img")])
    header = tape_pb2.Header()
    with TapeReader.open(tape) as reader:
        header.CopyFrom(reader.header)
    assert header.disks[0].undo
