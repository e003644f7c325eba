"""What a disk holds: its fingerprint, whether it is all zeros, and how it is made or set to zeros.

A fingerprint depends on the size and the bytes alone, never on where the holes are, what the file system is
or which process wrote. Nothing here judges whether a disk may be touched: `claims` does, before `zero` is
called.

A disk is cut into chunks of 1 MiB. The digest is the xxh3-128 of the disk's size and then, in order, of each
chunk that is not all zeros: its offset and its bytes (numbers as unsigned little-endian 64-bit). So a hole
that the file system names costs nothing to cover, and holes and stretches of written zeros count alike.
"xxh3-128 whole" covers all chunks; "xxh3-128 sampled" covers `SAMPLE_CHUNKS` of them, evenly spaced, the
first and the last included: chunk `i * (chunks - 1) // (SAMPLE_CHUNKS - 1)` for each i. A sample can miss a
change; it is there so that a large disk does not take minutes to start a run on.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import xxhash

from ringtape.engine.disks import disk_error, explained, open_disk

WHOLE = "xxh3-128 whole"
SAMPLED = "xxh3-128 sampled"
WHOLE_BYTES_MAX = 1 << 30
CHUNK_BYTES = 1 << 20
# One more than 64 MiB takes, since the last chunk may be short.
SAMPLE_CHUNKS = 65

# No device asks for more.
_READ_ALIGNMENT = 4096
_BLKZEROOUT = 0x127F
_ZEROS = bytearray(CHUNK_BYTES)

Chunks = Generator[tuple[int, memoryview], None, None]


@dataclass(frozen=True)
class Contents:
    """A fingerprint: `method` is `WHOLE` or `SAMPLED`, `digest` 16 bytes, `bytes_read` what it covers."""

    method: str
    digest: bytes
    bytes_read: int


class Patches(Protocol):
    """What a disk would hold otherwise, if it were written."""

    def touches(self, index: int) -> bool:
        """Is there anything in the chunk of this number?"""

    def apply(self, index: int, chunk: memoryview) -> None:
        """Make of the chunk, as it is on the disk, what it would be."""


def picked_chunks(size: int, whole_bytes_max: int = WHOLE_BYTES_MAX) -> Sequence[int]:
    """The numbers of the chunks that a fingerprint covers, in order."""
    chunks = -(-size // CHUNK_BYTES)
    if size <= whole_bytes_max:
        return range(chunks)
    return sorted({i * (chunks - 1) // (SAMPLE_CHUNKS - 1) for i in range(SAMPLE_CHUNKS)})


def fingerprint(
    path: str,
    size: int,
    *,
    whole_bytes_max: int = WHOLE_BYTES_MAX,
    name: str = "",
    patches: Patches | None = None,
) -> Contents:
    """The fingerprint of the first `size` bytes, sampled if they are more than `whole_bytes_max`.

    With `patches` it is what it would be if they were written to the disk. Raises DiskError if it cannot be read or
    holds less than `size` bytes.
    """
    assert size > 0, size
    picked = picked_chunks(size, whole_bytes_max)
    digest = xxhash.xxh3_128(struct.pack("<Q", size))
    for offset, chunk in chunks_with_data(path, size, picked, name, patches):
        digest.update(struct.pack("<Q", offset))
        digest.update(chunk)
    bytes_read = sum(min(CHUNK_BYTES, size - index * CHUNK_BYTES) for index in picked)
    return Contents(SAMPLED if size > whole_bytes_max else WHOLE, digest.digest(), bytes_read)


def is_zero(path: str, size: int, *, name: str = "") -> bool:
    """Whether the first `size` bytes are all zeros; looks at all of them, and stops at the first that is not.

    Raises DiskError if it cannot be read or holds less than `size` bytes.
    """
    assert size > 0, size
    with closing(chunks_with_data(path, size, range(-(-size // CHUNK_BYTES)), name)) as chunks:
        return next(chunks, None) is None


def read_range(path: str, offset: int, length: int, *, name: str = "") -> bytes:
    """What the disk holds there; need not be aligned. Raises DiskError if it cannot be read."""
    assert length > 0, length
    try:
        fd = open_for_reading(path)
    except (OSError, ValueError) as error:
        raise explained(error, name, path) from error
    # As O_DIRECT wants it.
    start = offset // _READ_ALIGNMENT * _READ_ALIGNMENT
    end = -(-(offset + length) // _READ_ALIGNMENT) * _READ_ALIGNMENT
    memory = memoryview(mmap.mmap(-1, end - start))
    try:
        done = 0
        while done < offset + length - start:
            count = os.preadv(fd, [memory[done:]], start + done)
            if count == 0:
                raise disk_error(name, path, f"ends at byte {start + done}, before {offset + length}")
            done += count
    except OSError as error:
        raise explained(error, name, path) from error
    finally:
        os.close(fd)
    return bytes(memory[offset - start :][:length])


def make_file(path: str, size: int, *, name: str = "") -> None:
    """Make a file of `size` bytes that is one hole.

    Raises DiskError if there is something at `path` already, or it cannot be made there.
    """
    assert size > 0, size
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        raise explained(error, name, path) from error
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        os.unlink(path)  # ours: O_EXCL made it a moment ago
        raise explained(error, name, path) from error
    finally:
        os.close(fd)


def zero(path: str, size: int, block_device: bool, *, name: str = "") -> None:
    """Make the first `size` bytes zeros, on stable storage when it returns.

    A file becomes one hole and keeps its inode; its bytes beyond `size`, which are no part of the disk, stay.
    Raises DiskError if it cannot be written.
    """
    assert size > 0, size
    fd = open_disk(path, direct=False, name=name)
    try:
        if stat.S_ISBLK(os.fstat(fd).st_mode) != block_device:
            raise disk_error(name, path, "is no longer the kind of disk that it was when the run began")
        if block_device:
            _zero_device(fd, size)
        else:
            _zero_file(fd, size)
        os.fsync(fd)
    except OSError as error:
        raise explained(error, name, path) from error
    finally:
        os.close(fd)


def _zero_device(fd: int, size: int) -> None:
    try:
        fcntl.ioctl(fd, _BLKZEROOUT, struct.pack("QQ", 0, size))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            raise
        _write_zeros(fd, size)


def _zero_file(fd: int, size: int) -> None:
    size_now = os.fstat(fd).st_size
    # A file that is not a whole number of blocks has a tail, under a block and as a rule zeros. Truncation
    # would lose it.
    tail = os.pread(fd, CHUNK_BYTES, size) if size_now > size else b""
    if size + len(tail) >= size_now and not any(tail):
        os.ftruncate(fd, 0)
        os.ftruncate(fd, max(size, size_now))
    else:
        _write_zeros(fd, size)


def _write_zeros(fd: int, size: int) -> None:
    written = 0
    while written < size:
        written += os.pwritev(fd, [memoryview(_ZEROS)[: size - written]], written)


def chunks_with_data(
    path: str, size: int, picked: Sequence[int], name: str, patches: Patches | None = None
) -> Chunks:
    """(offset, bytes) of each picked chunk that is not all zeros; the bytes are valid until the next."""
    try:
        fd = open_for_reading(path)
    except (OSError, ValueError) as error:
        raise explained(error, name, path) from error
    memory = memoryview(mmap.mmap(-1, CHUNK_BYTES))  # page-aligned, as O_DIRECT wants it
    try:
        status = os.fstat(fd)
        is_file = stat.S_ISREG(status.st_mode)
        if is_file and status.st_size < size:
            raise disk_error(name, path, f"holds {status.st_size} bytes where {size} are expected")
        data_at = -1  # where the next data is, as far as it has been asked
        for index in picked:
            offset = index * CHUNK_BYTES
            length = min(CHUNK_BYTES, size - offset)
            touched = patches is not None and patches.touches(index)
            if is_file and data_at < offset:
                data_at = _next_data(fd, offset, size)
            if data_at >= offset + length and not touched:
                continue
            chunk = memory[:length]
            read_all(fd, chunk, offset, name, path)
            if patches is not None and touched:
                patches.apply(index, chunk)
            # A bytearray on the left compares with memcmp, a memoryview would item by item.
            if (_ZEROS if length == CHUNK_BYTES else bytearray(length)) != chunk:
                yield offset, chunk
    except OSError as error:
        raise explained(error, name, path) from error
    finally:
        os.close(fd)


def open_for_reading(path: str) -> int:
    """A file through the page cache; a block device around it.

    A whole disk, its partitions, and a loop device and its backing file have page caches of their own that do
    not see what is written through the others. What is on the device is the truth.
    """
    direct = os.O_DIRECT if stat.S_ISBLK(os.stat(path).st_mode) else 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | direct)
    if not direct:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return fd


def _next_data(fd: int, offset: int, size: int) -> int:
    """Where the next data from `offset` on is; `size` if there is only a hole, `offset` if nobody can tell."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else offset


def read_all(fd: int, view: memoryview, offset: int, name: str, path: str) -> None:
    """Fill the view from there on; `DiskError` where the disk ends before it is full."""
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if count == 0:
            raise disk_error(
                name, path, f"ends at byte {offset + done}, before its size; it shrank while it was read"
            )
        done += count
