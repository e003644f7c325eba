"""Goal: a snapshot is what the disk held; replays begin with it, leave the original alone, and leave nothing behind.

Method: record on files and a loop device; compare all bytes, and the names in the folder, before and after.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ringtape
from ringtape import Disk, initial
from ringtape.coordinator.tape import TapeReader
from ringtape.engine import copying
from tests.api.command_line import check_one_line
from tests.api.command_line import ringtape as command
from tests.api.test_rewind import MIB, ROOT, filled
from tests.engine.loop_devices import loop_device, mounted, needs_loop_devices, run, sparse
from tests.programs import changing


class Place:
    """A disk, a folder for its snapshots, and a tape."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.kept, self.tape = folder / "a.img", folder / "kept", folder / "run.tape"
        self.kept.mkdir()
        self.content = filled(self.disk, 1)

    def record(self) -> ringtape.Result:
        disks = [Disk("a", self.disk, snapshot=self.kept)]
        return ringtape.record(
            f"{changing.__file__}:changes",
            disks=disks,
            arguments=2,
            seed=3,
            tape=self.tape,
        )

    def names(self) -> list[str]:
        return sorted(os.listdir(self.kept))

    @property
    def snapshot(self) -> Path:
        with TapeReader.open(self.tape) as reader:
            return Path(reader.header.disks[0].snapshot)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_replays_begin_with_the_snapshot_and_leave_everything_else_alone(place: Place) -> None:
    recorded = place.record()
    after = place.disk.read_bytes()
    assert place.names() == [place.snapshot.name]
    assert place.snapshot.read_bytes() == place.content != after
    again = place.tape.with_name("again.tape")
    assert ringtape.replay(place.tape, output=again).digest == recorded.digest
    assert place.disk.read_bytes() == after
    place.disk.unlink()
    assert ringtape.replay(again).digest == recorded.digest, "a replay's tape has the snapshot too"
    assert not place.disk.exists()
    assert place.names() == [place.snapshot.name]
    assert place.snapshot.read_bytes() == place.content


def test_a_snapshot_is_copied_onto_a_disk_that_is_given_up(place: Place) -> None:
    recorded = place.record()
    after = place.disk.read_bytes()
    line = check_one_line(command("replay", str(place.tape), "-d", f"a={place.disk}", cwd=ROOT), 2)
    assert "does not hold what it held when the recording began" in line
    assert place.disk.read_bytes() == after
    other = place.disk.with_name("other.img")
    for path in (place.disk, other):  # one that is there, and one that is not
        assert ringtape.replay(place.tape, disks=[Disk("a", path, fresh=True)]).digest == recorded.digest
        assert path.read_bytes() == after
    other.write_bytes(place.content)
    assert ringtape.replay(place.tape, disks=[Disk("a", other)]).digest == recorded.digest


def test_a_snapshot_that_is_not_as_it_was_is_named(place: Place) -> None:
    place.record()
    snapshot = place.snapshot
    whole = snapshot.read_bytes()
    snapshot.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    check_one_line(command("replay", str(place.tape), cwd=ROOT), 2, str(snapshot), "has changed; restore it")
    with pytest.raises(ringtape.DiskError, match="has changed"):
        ringtape.replay(place.tape, disks=[Disk("a", place.disk, fresh=True)])
    snapshot.write_bytes(whole[:4096])
    with pytest.raises(ringtape.DiskError, match="has 4096 bytes, not 1048576"):
        ringtape.replay(place.tape)
    snapshot.unlink()
    check_one_line(command("replay", str(place.tape), cwd=ROOT), 2, str(snapshot), "is not there")
    assert place.names() == []


def test_a_recording_that_does_not_begin_leaves_no_snapshot(place: Place) -> None:
    disks = [Disk("a", place.disk, snapshot=place.kept)]
    with pytest.raises(ringtape.ProgramError):
        ringtape.record(f"{changing.__file__}:nothing", disks=disks, tape=place.tape)
    with pytest.raises(
        ringtape.DiskError, match=r"snapshot folder .*/no does not exist; make the folder first"
    ):
        ringtape.record(
            changing.changes, disks=[Disk("a", place.disk, snapshot=place.kept / "no")], tape=place.tape
        )
    with pytest.raises(ringtape.TapeError):
        ringtape.record(changing.changes, disks=disks, tape=place.kept / "no" / "tape")
    with pytest.raises(ringtape.DiskError, match="fresh gives up what the disk holds, and snapshot keeps it"):
        ringtape.record(
            changing.changes, disks=[Disk("a", place.disk, snapshot=place.kept, fresh=True)], tape=place.tape
        )
    with pytest.raises(ringtape.DiskError, match="snapshot is for a recording"):
        ringtape.run(changing.changes, disks=disks)
    assert place.names() == []
    assert place.disk.read_bytes() == place.content


def test_a_snapshot_replaces_that_of_the_tape_which_it_replaces_and_no_other(place: Place) -> None:
    place.record()
    first = place.snapshot
    second_content = place.disk.read_bytes()
    place.record()
    assert place.snapshot == first
    assert place.names() == [first.name]
    assert first.read_bytes() == second_content
    place.tape.unlink()  # who knows whose it is
    place.record()
    assert place.snapshot != first
    assert place.names() == sorted([first.name, place.snapshot.name])
    assert first.read_bytes() == second_content
    other = place.tape.parent / "folder" / place.tape.name
    other.parent.mkdir()
    assert initial.Names(str(other)).choose("a", str(place.kept))[0] not in (str(first), str(place.snapshot))


@pytest.mark.parametrize("moment", ["taken", "copied"])
def test_a_kill_leaves_nothing_behind(moment: str, place: Place) -> None:
    """Of the recording before it begins, and of a replay on its copy."""
    if moment == "copied":
        place.record()
    names = place.names()
    code = f"""
import os, signal, ringtape
from ringtape import Disk
from ringtape.coordinator.supervisor import Supervisor
from tests.programs import changing
Supervisor.run = lambda self: os.kill(os.getpid(), signal.SIGKILL)
if {moment == "copied"}:
    ringtape.replay({str(place.tape)!r})
else:
    disks = [Disk("a", {str(place.disk)!r}, snapshot={str(place.kept)!r})]
    ringtape.record(changing.changes, disks=disks, tape={str(place.tape)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert place.names() == names


@needs_loop_devices
def test_a_block_device_is_kept_and_stands_aside(tmp_path: Path) -> None:
    file, tape = tmp_path / "backing", tmp_path / "tape"
    content = filled(file, 2)
    with loop_device(file) as device:
        recorded = ringtape.record(
            changing.changes, disks=[Disk("a", device, snapshot=tmp_path)], arguments=2, tape=tape
        )
        after = file.read_bytes()
        assert after != content
        assert ringtape.replay(tape).digest == recorded.digest
        assert file.read_bytes() == after
        again = ringtape.replay(tape, disks=[Disk("a", device, fresh=True)])
        assert (again.digest, file.read_bytes()) == (recorded.digest, after)
    assert ringtape.replay(tape).digest == recorded.digest, "without the device"


def test_holes_and_zeros_are_holes_in_a_copy(tmp_path: Path) -> None:
    source = sparse(tmp_path / "source", 64 * MIB)
    with source.open("r+b") as file:
        file.write(bytes(4 * MIB))
        file.seek(40 * MIB + 4096)
        file.write(b"data")
    done: list[tuple[int, int]] = []
    with initial.Nameless(str(tmp_path)) as target:
        copying.copy_to_new(
            str(source), 64 * MIB, target.fd, name="a", on_bytes=lambda *both: done.append(both)
        )
        assert os.fstat(target.fd).st_blocks * 512 <= 1 << 16
        assert Path(target.path).read_bytes() == source.read_bytes()
    assert done in ([(41 * MIB, 64 * MIB)], []), "nothing where the file system shares"


@needs_loop_devices
@pytest.mark.skipif(shutil.which("mkfs.btrfs") is None, reason="needs mkfs.btrfs")
def test_what_a_file_system_can_share_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = sparse(tmp_path / "image", 128 * MIB)
    run("mkfs.btrfs", "--quiet", str(image))
    monkeypatch.setattr(copying, "_write_data", None)
    with loop_device(image) as device, mounted(device, tmp_path / "mounted") as folder:
        content = random.Random(1).randbytes(MIB + 512)
        (folder / "a").write_bytes(content)
        with initial.Nameless(str(folder)) as target:
            copying.copy_to_new(str(folder / "a"), MIB, target.fd, name="a")
            assert Path(target.path).read_bytes() == content[:MIB]


def test_a_file_system_without_nameless_files_will_do(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY)
    recorded = place.record()
    assert place.names() == [place.snapshot.name]
    assert ringtape.replay(place.tape).digest == recorded.digest
    with pytest.raises(ringtape.ProgramError):
        ringtape.record(
            f"{changing.__file__}:nothing",
            disks=[Disk("a", place.disk, snapshot=place.kept)],
            tape=place.tape,
        )
    assert place.names() == [place.snapshot.name]
