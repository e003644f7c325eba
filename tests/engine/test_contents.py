"""Goal: a fingerprint tells contents apart by their bytes alone, and `zero` leaves nothing but zeros.

Method: the digest is compared with the bytes themselves, over files that Hypothesis writes with and without holes;
what must not be read is checked by counting reads, not by time.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.engine import contents
from ringtape.engine.contents import CHUNK_BYTES, fingerprint, is_zero, make_file, zero
from ringtape.engine.disks import probe
from ringtape.proto.errors import DiskError
from tests.engine.loop_devices import loop_device, mounted, needs_loop_devices, sparse
from tests.engine.test_disks import as_nobody

SIZE = 2 * CHUNK_BYTES + 4096
# Near the borders of chunks, blocks and the disk, where mistakes are, as often as anywhere else.
EDGES = [
    0,
    511,
    512,
    4095,
    4096,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    2 * CHUNK_BYTES - 1,
    2 * CHUNK_BYTES,
    SIZE - 1,
]
Patch = tuple[int, int]
PATCHES = st.lists(
    st.tuples(st.sampled_from(EDGES) | st.integers(0, SIZE - 1), st.sampled_from([0, 0, 1, 255])), max_size=6
)


def patched(patches: list[Patch]) -> bytes:
    content = bytearray(SIZE)
    for offset, value in patches:
        content[offset] = value
    return bytes(content)


def write_sparse(path: Path, patches: list[Patch]) -> Path:
    """Only what the patches name is written, zeros included; the rest is holes."""
    with sparse(path, SIZE).open("r+b", buffering=0) as file:
        for offset, value in patches:
            file.seek(offset)
            file.write(bytes([value]))
    return path


def poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b", buffering=0) as file:
        file.seek(offset)
        file.write(data)


def digest_of(path: Path | str) -> bytes:
    return fingerprint(str(path), SIZE).digest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contents")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets of all reads from here on."""
    seen: list[int] = []
    preadv: Callable[[int, list[memoryview], int], int] = os.preadv

    def counted(fd: int, buffers: list[memoryview], offset: int) -> int:
        seen.append(offset)
        return preadv(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    return seen


# ---- fingerprint


@given(PATCHES, PATCHES)
@settings(deadline=None, max_examples=60)
def test_digests_are_equal_exactly_when_the_bytes_are(
    folder: Path, one: list[Patch], other: list[Patch]
) -> None:
    equal = patched(one) == patched(other)
    assert (
        digest_of(write_sparse(folder / "a", one)) == digest_of(write_sparse(folder / "b", other))
    ) == equal


@given(PATCHES)
@settings(deadline=None, max_examples=30)
def test_holes_and_written_zeros_count_alike(folder: Path, patches: list[Patch]) -> None:
    (folder / "dense").write_bytes(patched(patches))
    assert digest_of(folder / "dense") == digest_of(write_sparse(folder / "sparse", patches))


@given(PATCHES, st.sampled_from(EDGES) | st.integers(0, SIZE - 1), st.integers(1, 255))
@settings(deadline=None, max_examples=60)
def test_one_changed_byte_changes_the_digest(
    folder: Path, patches: list[Patch], offset: int, flip: int
) -> None:
    path = write_sparse(folder / "a", patches)
    before = digest_of(path)
    poke(path, offset, bytes([patched(patches)[offset] ^ flip]))
    assert digest_of(path) != before


def test_the_digest_is_the_documented_one(tmp_path: Path) -> None:
    """It is on tapes: another version of ringtape has to come to the same."""
    data = os.urandom(CHUNK_BYTES)
    tail = b"x".ljust(4096, b"\0")
    path = tmp_path / "a"
    path.write_bytes(bytes(CHUNK_BYTES) + data + tail)
    expected = xxhash.xxh3_128_digest(
        struct.pack("<Q", SIZE)
        + struct.pack("<Q", CHUNK_BYTES)
        + data
        + struct.pack("<Q", 2 * CHUNK_BYTES)
        + tail
    )
    found = fingerprint(str(path), SIZE)
    assert (found.method, found.digest, found.bytes_read) == ("xxh3-128 whole", expected, SIZE)
    assert len(found.digest) == 16


def test_zeros_of_another_size_have_another_digest(tmp_path: Path) -> None:
    path = str(sparse(tmp_path / "a", SIZE))
    assert fingerprint(path, SIZE).digest != fingerprint(path, SIZE - 4096).digest


def test_bytes_beyond_the_size_do_not_count(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", SIZE + 100)
    before = digest_of(path)
    poke(path, SIZE, b"tail")
    assert digest_of(path) == before


def test_holes_are_not_read(tmp_path: Path, reads: list[int]) -> None:
    path = sparse(tmp_path / "a", 1 << 30)
    poke(path, 500 << 20, b"x")
    assert fingerprint(str(path), 1 << 30).method == "xxh3-128 whole"
    assert reads == [500 << 20]
    assert not is_zero(str(path), 1 << 30)
    assert is_zero(str(path), 500 << 20)
    assert reads == [500 << 20] * 2


def test_a_sample_is_spread_over_the_whole_disk(tmp_path: Path, reads: list[int]) -> None:
    size = (2 << 30) + 4096
    path = sparse(tmp_path / "a", size)
    with path.open("r+b", buffering=0) as file:
        for index in range(0, size, CHUNK_BYTES):
            file.seek(index)
            file.write(b"x")  # so that no chunk is a hole
    found = fingerprint(str(path), size)
    assert found.method == "xxh3-128 sampled"
    assert 64 << 20 <= found.bytes_read < 80 << 20
    picked = sorted(set(reads))
    assert picked[0] == 0 and picked[-1] == 2 << 30
    gaps = [after - before for before, after in itertools.pairwise(picked)]
    assert max(gaps) - min(gaps) <= CHUNK_BYTES
    for offset in (0, picked[30] + 1000, 2 << 30):
        poke(path, offset, b"y")
        changed = fingerprint(str(path), size)
        assert changed.digest != found.digest
        found = changed
    poke(path, picked[30] + CHUNK_BYTES, b"y")
    assert fingerprint(str(path), size) == found, "a chunk outside the sample was read"


def test_a_sample_of_a_small_disk_is_all_of_it(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", SIZE)
    whole, sampled = fingerprint(str(path), SIZE), fingerprint(str(path), SIZE, whole_bytes_max=4096)
    assert (sampled.method, sampled.bytes_read) == ("xxh3-128 sampled", SIZE)
    assert sampled.digest == whole.digest


def test_the_limit_of_whole_fingerprints_is_1_gib(tmp_path: Path) -> None:
    path = str(sparse(tmp_path / "a", (1 << 30) + 512))
    assert fingerprint(path, 1 << 30).method == "xxh3-128 whole"
    assert fingerprint(path, (1 << 30) + 512).method == "xxh3-128 sampled"


def test_what_others_write_through_o_direct_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(SIZE))
    geometry = probe(str(path), "a")
    if not geometry.direct:
        pytest.skip(f"no O_DIRECT on the file system of {tmp_path}")
    before = digest_of(path)  # the page cache has it all now
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 4096) as block:
            os.pwritev(fd, [block], CHUNK_BYTES)
    finally:
        os.close(fd)
    assert digest_of(path) != before


def test_a_disk_shorter_than_its_size_is_refused(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", SIZE)
    for look in (fingerprint, is_zero):
        with pytest.raises(DiskError, match=rf"^disk 'j' \(.*\): holds {SIZE} bytes where {SIZE + 1} are"):
            look(str(path), SIZE + 1, name="j")
        with pytest.raises(DiskError, match="does not exist"):
            look(f"{path}x", SIZE)


# ---- zeros


@pytest.mark.parametrize("offset", [0, CHUNK_BYTES - 1, SIZE - 1])
def test_one_byte_is_enough_to_be_not_zero(tmp_path: Path, offset: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(SIZE))
    assert is_zero(str(path), SIZE)
    poke(path, offset, b"\1")
    assert not is_zero(str(path), SIZE)


def test_a_made_file_is_one_hole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    make_file(str(path), 64 << 20)
    assert path.stat().st_size == 64 << 20
    assert path.stat().st_blocks == 0
    assert is_zero(str(path), 64 << 20)


def test_nothing_is_made_over_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for there in ("a", "link"):
        with pytest.raises(DiskError, match="exists already"):
            make_file(str(tmp_path / there), 4096)
    assert path.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_cannot_be_made_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        DiskError, match=rf"^disk 'j' \({tmp_path}/no/a\): its folder {tmp_path}/no does not exist"
    ):
        make_file(f"{tmp_path}/no/a", 4096, name="j")
    with pytest.raises(DiskError, match="is larger than the file system"):
        make_file(f"{tmp_path}/a", (1 << 63) - 1)
    tmp_path.chmod(0o555)
    with as_nobody(), pytest.raises(DiskError, match="no permission"):
        make_file(f"{tmp_path}/a", 4096)
    assert os.listdir(tmp_path) == []


@needs_loop_devices
def test_a_full_file_system_is_said(tmp_path: Path) -> None:
    with (
        mounted("tmpfs", tmp_path / "full", "-t", "tmpfs", "-o", "nr_inodes=1") as full,
        pytest.raises(DiskError, match="no space left"),
    ):
        make_file(str(full / "a"), 4096)


def test_a_zeroed_file_is_a_hole_with_the_same_inode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(SIZE))
    inode = path.stat().st_ino
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(is_zero(str(path), SIZE)))
    zero(str(path), SIZE, False)
    assert synced == [True], "it is to be synced once it is zeros"
    assert path.stat().st_ino == inode
    assert path.stat().st_size == SIZE
    assert path.stat().st_blocks == 0
    assert is_zero(str(path), SIZE)


@pytest.mark.parametrize("tail", [bytes(100), b"not the disk's", bytes(2 * CHUNK_BYTES) + b"far"])
def test_zeroing_leaves_what_is_beyond_the_disk(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(SIZE) + tail)
    zero(str(path), SIZE, False)
    assert path.read_bytes() == bytes(SIZE) + tail


def test_the_wrong_kind_of_disk_is_not_zeroed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 4096)
    with pytest.raises(DiskError, match="no longer the kind of disk"):
        zero(str(path), 4096, True)
    assert path.read_bytes() == b"x" * 4096


# ---- block devices


@needs_loop_devices
def test_a_block_device_and_a_file_with_the_same_bytes_have_the_same_digest(tmp_path: Path) -> None:
    path = sparse(tmp_path / "a", SIZE)
    poke(path, CHUNK_BYTES + 5, b"hello")
    with loop_device(path) as device:
        assert fingerprint(device, SIZE) == fingerprint(str(path), SIZE)
        assert not is_zero(device, SIZE)
        assert is_zero(device, CHUNK_BYTES)


@needs_loop_devices
def test_a_block_device_is_read_around_its_page_cache(tmp_path: Path) -> None:
    """What another layer wrote below it is there, though its page cache has what was there before."""
    path = tmp_path / "a"
    path.write_bytes(os.urandom(SIZE))
    with loop_device(path) as device, open(device, "rb") as cached:
        cached.read()
        poke(path, 10, b"changed below")
        cached.seek(10)
        assert cached.read(13) != b"changed below", "this test tests nothing: the page cache saw it"
        assert digest_of(device) == digest_of(path)


@needs_loop_devices
@pytest.mark.parametrize("kernel_can", [True, False])
def test_a_zeroed_block_device_reads_zeros(
    tmp_path: Path, kernel_can: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(SIZE))
    asked: list[int] = []
    ioctl: Callable[[int, int, bytes], bytes] = fcntl.ioctl

    def answer(fd: int, request: int, argument: bytes) -> bytes:
        asked.append(request)
        if not kernel_can:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return ioctl(fd, request, argument)

    with loop_device(path) as device:
        monkeypatch.setattr(fcntl, "ioctl", answer)
        zero(device, CHUNK_BYTES + 4096, True)
        assert asked == [contents._BLKZEROOUT]
        assert is_zero(device, CHUNK_BYTES + 4096)
        assert not is_zero(device, CHUNK_BYTES + 8192), "it went beyond the size"


@needs_loop_devices
def test_a_block_device_shorter_than_its_size_is_refused(tmp_path: Path) -> None:
    with (
        loop_device(sparse(tmp_path / "a", SIZE)) as device,
        pytest.raises(DiskError, match=f"ends at byte {SIZE}"),
    ):
        fingerprint(device, SIZE + 4096)
