"""Goal: what the kernel answered in the recording is what replay answers, on healthy disks too, and nothing is repeated
that failed.

Method: record on disks that are truly full, broken, limited or cut short; replay on healthy ones, to the same digest.
Then read the healthy disk: it holds what the writes that went well wrote, and nothing of the others.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import TapeReader
from ringtape.engine.disks import probe
from tests.engine.loop_devices import loop_device, needs_loop_devices, run, sparse
from tests.programs import faulty

MIB = 1 << 20
BLOCK = 4096


@contextmanager
def memory(folder: Path, size: str) -> Iterator[Path]:
    """A small file system. The kernel lets go of a ring's files some time after its process: hence lazily."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=False)
    if done.returncode != 0:
        pytest.skip("cannot mount")
    try:
        yield folder
    finally:
        run("umount", "--lazy", str(folder))


def replayed(tape: Path, healthy: Path, *, again: bool = True) -> ringtape.Result:
    """A replay on a healthy disk of zeros, and one of a tape that the replay wrote."""
    output = tape.with_suffix(".again")
    result = ringtape.replay(tape, disks=[Disk("a", healthy, size=MIB)], output=output if again else None)
    if again:
        healthy_again = healthy.with_suffix(".again")
        assert ringtape.replay(output, disks=[Disk("a", healthy_again, size=MIB)]).digest == result.digest
        assert healthy_again.read_bytes() == healthy.read_bytes()
        assert faults_on(output) == faults_on(tape)
    return result


def faults_on(tape: Path) -> int:
    with TapeReader.open(tape) as reader:
        seal = reader.find_seal()
        assert seal is not None
        return seal.faults


def written(acts: Sequence[faulty.Act], results: Sequence[Any], block: int = BLOCK) -> bytes:
    """What a disk of zeros holds after those of the acts that went well, each as far as it went."""
    content = bytearray(MIB)
    for number, ((kind, _, first, count), result) in enumerate(zip(acts, results, strict=True)):
        if kind == "write" and isinstance(result, int):
            content[first * block : first * block + result] = faulty.data(number, count * block)[:result]
        elif kind in ("write_zeroes", "discard") and result is None:
            content[first * block : (first + count) * block] = bytes(count * block)
    return bytes(content)


FULL = [("write", 0, i, 8) for i in range(0, 240, 8)]
FULL += [
    ("read", 0, 0, 4),
    ("write", 0, 8, 2),
    ("fsync", 0, 0, 0),
    ("write", 0, 200, 50),
    ("read", 0, 196, 60),
]
# Where some of the blocks are there and some are not: a request that zeroed the first of them alone would show.
ZEROED = [("write_zeroes", 0, 60, 90), ("read", 0, 50, 110)]


@needs_loop_devices
@pytest.mark.parametrize("program", [faulty.in_turn, faulty.at_once])
def test_a_disk_that_was_full_is_full_on_a_healthy_one(program: Any, tmp_path: Path) -> None:
    block = 512  # a file on tmpfs
    acts = [(kind, disk, 8 * first, 8 * count) for kind, disk, first, count in FULL + ZEROED]
    with memory(tmp_path / "full", "400k") as folder:
        file = sparse(folder / "a.img", MIB)
        recorded = ringtape.record(program, disks=[Disk("a", file)], arguments=acts, tape=tmp_path / "tape")
        left = file.read_bytes()
    seen = recorded.returns[0]
    failed = [one for one in seen if isinstance(one, tuple)]
    assert failed
    assert {one[0] for one in failed} == {errno.ENOSPC}
    assert faults_on(tmp_path / "tape") >= len(failed)
    healthy = tmp_path / "healthy.img"
    again = replayed(tmp_path / "tape", healthy)
    assert (again.digest, again.returns) == (recorded.digest, recorded.returns)
    if program is faulty.in_turn:
        assert healthy.read_bytes() == written(acts, seen, block)
    assert healthy.read_bytes() == left


@needs_loop_devices
def test_a_device_that_fails_fails_on_a_healthy_one(tmp_path: Path) -> None:
    """A loop device over a sparse file whose file system is full: the kernel can only say that the device failed."""
    acts = [(kind, disk, 8 * first, 8 * count) for kind, disk, first, count in FULL]
    with (
        memory(tmp_path / "full", "400k") as folder,
        loop_device(sparse(folder / "a.img", MIB)) as device,
    ):
        recorded = ringtape.record(
            faulty.in_turn, disks=[Disk("a", device)], arguments=acts, tape=tmp_path / "tape"
        )
    failed = {one[0] for one in recorded.returns[0] if isinstance(one, tuple)}
    assert failed
    assert failed <= {errno.EIO, errno.ENOSPC}
    healthy = tmp_path / "healthy.img"
    assert replayed(tmp_path / "tape", healthy).digest == recorded.digest
    assert healthy.read_bytes() == written(acts, recorded.returns[0], 512)


@pytest.mark.parametrize(("limit", "where"), [(40 * BLOCK, "disk"), (40 * BLOCK + 100, "memory")])
def test_a_write_that_was_cut_short_is_as_short_again(limit: int, where: str, tmp_path: Path) -> None:
    """At a limit within a block too, which files in memory allow."""
    folder = tmp_path
    if where == "memory":
        folder = Path("/dev/shm") / tmp_path.name
        folder.mkdir()
    file = sparse(folder / "a.img", MIB)
    block = probe(str(file), "a").block_size
    scale = BLOCK // block
    acts = [
        ("write", 0, 30, 5),
        ("write", 0, 36, 10),
        ("write", 0, 50, 1),
        ("read", 0, 34, 20),
        ("write", 0, 38, 1),
    ]
    acts = [(kind, 0, scale * first, scale * count) for kind, _, first, count in acts]
    try:
        recorded = ringtape.record(
            faulty.limited, disks=[Disk("a", file)], arguments=[limit, *acts], tape=tmp_path / "tape"
        )
        left = file.read_bytes()
    finally:
        if where == "memory":
            file.unlink()
            folder.rmdir()
    seen = recorded.returns[0]
    assert seen[1] == limit - 36 * BLOCK
    assert seen[2] == (errno.EFBIG, 3)
    assert faults_on(tmp_path / "tape") == 2
    healthy = tmp_path / "healthy.img"
    assert replayed(tmp_path / "tape", healthy).digest == recorded.digest
    assert healthy.read_bytes() == left == written(acts, seen, block)


def test_a_read_that_was_cut_short_is_as_short_again(tmp_path: Path) -> None:
    """And the rest of memory that was read into directly, which the kernel may have used, is zeros."""
    file = sparse(tmp_path / "a.img", MIB)
    recorded = ringtape.record(
        faulty.shrinks,
        disks=[Disk("a", file)],
        arguments=[10 * BLOCK + 1000, str(file)],
        data="full",
        tape=tmp_path / "tape",
    )
    one, beyond, count, buffer = recorded.returns[0]
    assert (len(one), beyond, count) == (1000, b"", 1000)
    assert buffer == bytes(4 * BLOCK)
    again = replayed(tmp_path / "tape", tmp_path / "healthy.img")
    assert (again.digest, again.returns) == (recorded.digest, recorded.returns)
    assert ringtape.replay(tmp_path / "tape", offline=True).digest == recorded.digest, "without any disk too"


@needs_loop_devices
def test_a_healthy_recording_replayed_on_a_broken_disk_diverges(tmp_path: Path) -> None:
    """Answers come from the tape where it has a fault, and nowhere else."""
    file = sparse(tmp_path / "a.img", MIB)
    arguments = [0, ("write", 0, 50, 1)]
    ringtape.record(faulty.limited, disks=[Disk("a", file)], arguments=arguments, tape=tmp_path / "tape")
    file.write_bytes(bytes(MIB))
    folder = tmp_path / "full"
    with memory(folder, "16k"):
        broken = sparse(folder / "a.img", MIB)
        (folder / "rest").write_bytes(bytes(16384))
        with pytest.raises(ringtape.Divergence, match=r"result \d+ of a write; .* result -28"):
            ringtape.replay(tmp_path / "tape", disks=[Disk("a", broken)])
