"""Goal: however a replay ended, the next one works, and nothing that came onto a disk in between is lost.

Method: replays that diverge because the program looks at a file that is not on the tape, and disks that are changed, or
not, between two replays.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import ringtape
from ringtape import Disk, DiskError, Divergence
from ringtape.engine import contents, marks
from tests.programs.changing import changes_its_mind

BLOCK = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    try:
        os.setxattr(tmp_path, "user.ringtape", b"")
    except OSError as error:
        assert error.errno == errno.ENOTSUP
        pytest.skip("the file system keeps no extended attributes")
    return tmp_path


def record(folder: Path, *, fresh: bool = False, tape: str = "tape") -> ringtape.Result:
    disk = Disk("a", folder / "a.img", size="64K", fresh=fresh)
    return ringtape.record(changes_its_mind, disks=[disk], arguments=str(folder), tape=folder / tape)


def replay(folder: Path, *disks: Disk, force: bool = False, tape: str = "tape") -> str | None:
    return ringtape.replay(folder / tape, disks=disks, force=force).digest


def diverge(folder: Path, *disks: Disk) -> None:
    (folder / "changed").touch()
    with pytest.raises(Divergence):
        replay(folder, *disks)
    (folder / "changed").unlink()


def check_refused(folder: Path, *disks: Disk, image: str, tape: str = "tape") -> None:
    """The replay is refused and the disk is as it was."""
    before = (folder / image).read_bytes()
    with pytest.raises(DiskError, match=rf"^disk 'a' \({folder}/{image}\) (is not empty|does not hold)"):
        replay(folder, *disks, tape=tape)
    assert (folder / image).read_bytes() == before


def test_a_file_that_the_recording_made_replays_after_a_divergence(folder: Path) -> None:
    digest = record(folder).digest
    for _ in range(2):
        diverge(folder)
        assert (folder / "a.img").read_bytes()[BLOCK : 2 * BLOCK] == bytes(BLOCK), "nothing diverged"
        assert replay(folder) == digest
    assert (folder / "a.img").read_bytes()[:BLOCK] == b"3" * BLOCK
    diverge(folder)
    with (folder / "a.img").open("r+b") as image:
        image.write(b"later")
    check_refused(folder, image="a.img")


def test_a_fresh_disk_in_another_place_replays_again(folder: Path) -> None:
    digest = record(folder, fresh=True).digest
    record(folder, fresh=True, tape="other")
    new = Disk("a", folder / "new.img")
    for _ in range(3):
        assert replay(folder, new) == digest
    check_refused(folder, new, image="new.img", tape="other")  # what it holds is not of that recording
    diverge(folder, new)
    assert replay(folder, new) == digest
    with (folder / "new.img").open("r+b") as image:
        image.seek(8 * BLOCK)
        image.write(b"later")
    check_refused(folder, new, image="new.img")
    assert replay(folder, Disk("a", folder / "new.img", fresh=True)) == digest
    assert replay(folder, new) == digest


def test_a_replay_of_a_replay_s_tape_is_of_the_same_recording(folder: Path) -> None:
    digest = record(folder, fresh=True).digest
    new = Disk("a", folder / "new.img")
    assert ringtape.replay(folder / "tape", disks=[new], output=folder / "again").digest == digest
    assert replay(folder, tape="again") == digest
    assert replay(folder, new) == digest


@pytest.mark.parametrize("fresh", [False, True])
def test_what_a_forced_replay_wrote_over_is_not_given_up(folder: Path, fresh: bool) -> None:
    """The program wrote into something that was there: the rest of it is still the user's."""
    record(folder, fresh=fresh)
    (folder / "own.img").write_bytes(b"own" * (64 << 10))
    os.truncate(folder / "own.img", 64 << 10)
    own = Disk("a", folder / "own.img")
    if fresh:
        check_refused(folder, own, image="own.img")
    else:
        replay(folder, own, force=True)
        check_refused(folder, own, image="own.img")
    assert (folder / "own.img").read_bytes().endswith(b"own" * 100 + b"o")


def test_a_disk_that_was_not_zeros_is_not_marked(folder: Path) -> None:
    (folder / "a.img").write_bytes(b"k" * (64 << 10))
    record(folder)
    (folder / "a.img").write_bytes(b"k" * (64 << 10))
    diverge(folder)
    check_refused(folder, image="a.img")


@pytest.mark.parametrize(
    "change",
    [lambda path: path.write_bytes(b"x" * BLOCK), lambda path: os.removexattr(path, "user.ringtape")],
)
def test_a_mark_counts_with_the_contents_alone(folder: Path, change: Callable[[Path], object]) -> None:
    path = folder / "file"
    path.write_bytes(b"left" * 1024)
    assert not marks.holds(str(path), BLOCK, "recording")
    marks.leave(str(path), BLOCK, "recording")
    assert marks.holds(str(path), BLOCK, "recording")
    assert not marks.holds(str(path), BLOCK, "record")
    change(path)
    assert not marks.holds(str(path), BLOCK, "recording")
    marks.leave(str(folder / "none"), BLOCK, "recording")


def test_a_mark_on_a_large_file_counts_until_it_is_written_to(folder: Path) -> None:
    """Its fingerprint covers a sample."""
    path, size = folder / "large", contents.WHOLE_BYTES_MAX * 2
    contents.make_file(str(path), size)
    marks.leave(str(path), size, "recording")
    assert marks.holds(str(path), size, "recording")
    with path.open("r+b") as file:
        file.seek(contents.CHUNK_BYTES + 10)  # between two stretches of the sample
        file.write(b"later")
    os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 1))  # whatever the clock's grain
    assert not marks.holds(str(path), size, "recording")
