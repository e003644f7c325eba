"""Goal: every disk is taken for what it is or refused in one clear line. Method: real files, devices and mounts."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.engine import disks
from ringtape.engine.buffers import Buffers
from ringtape.engine.disks import open_disk, parse_size, probe
from ringtape.engine.requests import Kind, Request
from ringtape.engine.ring import Ring
from ringtape.proto.errors import DiskError
from tests.engine.loop_devices import loop_device, mounted, needs_loop_devices, run, sparse

LOOP_CTL_ADD = 0x4C80
LOOP_CTL_REMOVE = 0x4C81


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, which permissions do not bind."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(was)


def refusal(path: str | Path) -> str:
    """What probe says against the disk `journal` at `path`, checked for form."""
    with pytest.raises(DiskError) as caught:
        probe(str(path), "journal")
    text = str(caught.value)
    assert text.startswith(f"disk 'journal' ({path}): ") and "\n" not in text
    return text


# ---- sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("512k", 512 << 10),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("1.5G", 3 << 29),
        ("1GiB", 1 << 30),
        (" 2 TiB ", 2 << 40),
        ("1p", 1 << 50),
        ("4096B", 4096),
        ("0.0005k", None),
        ("0.1k", 102),
    ],
)
def test_sizes_are_powers_of_1024(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(DiskError, match="nothing"):
            parse_size(text)
    else:
        assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "M",
        "-1",
        "-64M",
        "+1",
        "1e6",
        "0x10",
        "1.5",
        "1.",
        ".5G",
        "64 Q",
        "64MM",
        "6 4",
        "nan",
        "inf",
        "٣M",
        "1_0",
        "1\n2",
    ],
)
def test_what_is_not_a_size_is_refused_and_shown(text: str) -> None:
    with pytest.raises(DiskError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0", "0G", "0.0M", "9" * 20, "9000000P", "9" * 10_000])
def test_sizes_that_no_disk_has_are_refused(text: str) -> None:
    with pytest.raises(DiskError):
        parse_size(text)


@given(st.integers(1, 1 << 40), st.sampled_from(["", "b"]) | st.just(""))
def test_a_number_of_bytes_is_read_back_as_it_is(size: int, unit: str) -> None:
    assert parse_size(f"{size}{unit}") == size


# ---- regular files


def test_a_file_gives_its_size_in_whole_blocks_and_its_inode(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a", (1 << 20) + 4096 + 511)
    geometry = probe(str(file), "a")
    status = file.stat()
    assert geometry.size == (1 << 20) + 4096
    assert geometry.block_size in (512, 1024, 2048, 4096)
    assert not geometry.block_device
    assert (geometry.inode, geometry.device) == (status.st_ino, status.st_dev)


def test_a_symbolic_link_is_what_it_leads_to(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a", 1 << 20)
    (tmp_path / "link").symlink_to(file)
    assert probe(str(tmp_path / "link"), "a") == probe(str(file), "a")


def test_writes_of_one_block_work_as_probed(tmp_path: Path) -> None:
    """On whatever file system the tests run: the block size that probe found holds for O_DIRECT writes."""
    file = sparse(tmp_path / "a", 1 << 20)
    geometry = probe(str(file), "a")
    write_blocks(str(file), geometry.block_size, direct=geometry.direct)


def write_blocks(path: str, block_size: int, *, direct: bool) -> None:
    """Write the second block; raises OSError where that is too little for O_DIRECT."""
    fd = open_disk(path, direct=direct)
    try:
        with mmap.mmap(-1, 4096) as memory, memoryview(memory)[:block_size] as block:
            assert os.pwritev(fd, [block], block_size) == block_size
    finally:
        os.close(fd)


def test_tmpfs_takes_any_block_size() -> None:
    if os.stat("/dev/shm").st_dev == os.stat("/").st_dev:
        pytest.skip("/dev/shm is no file system of its own")
    path = Path(f"/dev/shm/ringtape-test-{os.getpid()}")
    try:
        geometry = probe(str(sparse(path, 4096)), "a")
        assert geometry.block_size == 512
        try:
            os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        except OSError:
            assert not geometry.direct  # before Linux 6.6
        else:
            assert geometry.direct
    finally:
        path.unlink()


@needs_loop_devices
def test_a_file_system_without_o_direct_is_used_without(tmp_path: Path) -> None:
    with mounted("ramfs", tmp_path / "ram", "-t", "ramfs") as folder:
        file = sparse(folder / "a", 5000)
        geometry = probe(str(file), "a")
        assert (geometry.direct, geometry.block_size, geometry.size) == (False, 512, 4608)
        write_blocks(str(file), 512, direct=False)


@needs_loop_devices
def test_blocks_of_4096_are_found_even_in_a_file_that_is_one_hole(tmp_path: Path) -> None:
    """Reads of a hole pass at any alignment; the write that comes first in a run would not."""
    with loop_device(sparse(tmp_path / "disk", 32 << 20), "--sector-size", "4096") as device:
        assert probe(device, "a").block_size == 4096
        run("mkfs.ext4", "-q", "-b", "4096", device)
        with mounted(device, tmp_path / "folder") as folder:
            hole = sparse(folder / "hole", 1 << 20)
            dense = folder / "dense"
            dense.write_bytes(os.urandom(1 << 16))
            for file in (hole, dense):
                geometry = probe(str(file), "a")
                assert geometry.direct and geometry.block_size == 4096
                write_blocks(str(file), 4096, direct=True)
                with pytest.raises(OSError, match="Invalid argument"):
                    write_blocks(str(file), 512, direct=True)


@needs_loop_devices
def test_reading_finds_the_same_block_size_where_the_kernel_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "_alignment_from_statx", lambda fd: None)
    with loop_device(sparse(tmp_path / "disk", 32 << 20), "--sector-size", "4096") as device:
        run("mkfs.ext4", "-q", "-b", "4096", device)
        with mounted(device, tmp_path / "folder") as folder:
            (folder / "dense").write_bytes(os.urandom(1 << 16))
            run("sync", "--file-system", str(folder))
            assert probe(str(folder / "dense"), "a").block_size == 4096
            assert probe(str(sparse(folder / "hole", 1 << 20)), "a").block_size == 4096
            monkeypatch.setattr(disks, "_logical_block_size", lambda device: 512)
            assert probe(str(folder / "dense"), "a").block_size == 4096


def test_a_file_that_takes_no_o_direct_requests_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encrypted file can be opened O_DIRECT, and the kernel tells that no alignment will do."""
    monkeypatch.setattr(disks, "_alignment_from_statx", lambda fd: (0, 0))
    geometry = probe(str(sparse(tmp_path / "a", 5000)), "a")
    assert (geometry.direct, geometry.block_size, geometry.size) == (False, 512, 4608)


def test_looking_at_a_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(os.urandom(10_000))
    content, status = file.read_bytes(), file.stat()
    probe(str(file), "a")
    assert file.read_bytes() == content
    assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)


# ---- refusals


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert refusal(tmp_path / "a").endswith("does not exist; give size= to make it")
    assert f"its folder {tmp_path}/no does not exist" in refusal(tmp_path / "no" / "a")
    assert f"a symbolic link to {tmp_path}/nowhere, which does not exist" in refusal(tmp_path / "dangling")
    assert "in a circle" in refusal(tmp_path / "circle")
    assert "one of the folders in its path is a file" in refusal(tmp_path / "file" / "a")
    assert "is not a path" in refusal(f"{tmp_path}/a\0b")
    assert "File name too long" in refusal(tmp_path / ("a" * 300))


def test_other_kinds_of_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        assert "is a socket, not a regular file or a block device" in refusal(tmp_path / "socket")
    assert "is a directory, not" in refusal(tmp_path)
    assert "is a fifo, not" in refusal(tmp_path / "fifo")
    assert "is a character device, not" in refusal("/dev/null")


def test_no_permission_is_said(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a", 4096)
    file.chmod(0)
    with as_nobody():
        assert "no permission" in refusal(file)
        with pytest.raises(DiskError, match="no permission"):
            open_disk(str(file), direct=False)


def test_files_without_a_whole_block_are_refused(tmp_path: Path) -> None:
    assert "is empty; give size=" in refusal(sparse(tmp_path / "empty", 0))
    assert "is 511 bytes, less than one block of" in refusal(sparse(tmp_path / "small", 511))


# ---- opening


def test_a_disk_is_opened_for_reading_and_writing_and_not_inherited(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a", 4096)
    for direct in {probe(str(file), "a").direct, False}:
        fd = open_disk(str(file), direct=direct)
        try:
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            assert flags & os.O_ACCMODE == os.O_RDWR
            assert bool(flags & os.O_DIRECT) == direct
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)


def test_a_disk_that_does_not_open_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"^disk 'journal' \(.*/a\): does not exist"):
        open_disk(f"{tmp_path}/a", direct=True, name="journal")
    with pytest.raises(DiskError, match=r"^disk .*/a: does not exist"):
        open_disk(f"{tmp_path}/a", direct=True)


def test_each_error_of_the_kernel_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    for number in errno.errorcode:
        text = str(disks.explained(OSError(number, os.strerror(number)), "a", str(tmp_path)))
        assert text.startswith(f"disk 'a' ({tmp_path}): ") and "\n" not in text


# ---- block devices


@needs_loop_devices
@pytest.mark.parametrize("block_size", [512, 4096])
def test_a_block_device_gives_its_own_geometry(tmp_path: Path, block_size: int) -> None:
    file = sparse(tmp_path / "disk", 1 << 20)
    with loop_device(file, "--sector-size", str(block_size)) as device:
        geometry = probe(device, "a")
        assert (geometry.size, geometry.block_size) == (1 << 20, block_size)
        assert geometry.direct and geometry.block_device
        assert (geometry.inode, geometry.device) == (0, os.stat(device).st_rdev)
        write_blocks(device, block_size, direct=True)


@needs_loop_devices
def test_a_read_only_block_device_is_refused(tmp_path: Path) -> None:
    """The kernel opens it for reading and writing and fails the writes."""
    with loop_device(sparse(tmp_path / "disk", 1 << 20), "--read-only") as device:
        assert "is a read-only device" in refusal(device)


@needs_loop_devices
def test_a_block_device_with_nothing_in_it_is_refused() -> None:
    number = 100_000 + os.getpid() % 100_000  # high, where nobody who asks for a free one comes
    with open("/dev/loop-control", "rb") as control:
        fcntl.ioctl(control, LOOP_CTL_ADD, number)
        try:
            assert stat.S_ISBLK(os.stat(f"/dev/loop{number}").st_mode)
            assert "is a device without a size" in refusal(f"/dev/loop{number}")
        finally:
            fcntl.ioctl(control, LOOP_CTL_REMOVE, number)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="/dev/shm is not there")
@pytest.mark.parametrize("direct", [True, False])
def test_reads_of_a_file_in_memory_complete_as_they_are_handed_over(direct: bool) -> None:
    """Nothing waits on tmpfs, so a read is done when `submit` returns: no thread of the kernel's has it."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.truncate(1 << 20)
        fd = open_disk(file.name, direct=direct)
        buffers = Buffers()
        ring = Ring([fd], buffers)
        slots = [buffers.take(4096) for _ in range(16)]
        try:
            for number, slot in enumerate(slots):
                request = Request(Kind.READ, 0, number * 4096, 4096)
                request.sequence = number
                ring.put_transfer(
                    request, slot.iovec(4096), registered=True, offset=request.offset, write=False
                )
            ring.submit()
            assert ring.completions()[0] == [(number, 4096) for number in range(16)]
        finally:
            ring.close()
            os.close(fd)
