"""What a disk is: its size, its block size, whether it takes O_DIRECT, and how it is opened.

Every refusal of a disk is made here, in `contents` or in `claims`, as a `DiskError` of one line that names
the disk, its path and what to do. This module never writes to a disk and never creates one: looking at a disk
changes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import re
import stat
import struct
from dataclasses import dataclass

from ringtape.proto.errors import DiskError

BLOCK_SIZE_MIN = 512
# The largest alignment that we look for by reading where the kernel does not tell.
_BLOCK_SIZE_READ_MAX = 4096

_BLKROGET = 0x125E
_BLKSSZGET = 0x1268
_BLKGETSIZE64 = 0x80081272
_AT_EMPTY_PATH = 0x1000
_STATX_DIOALIGN = 0x2000
_STATX_BYTES = 256
_STATFS_BYTES = 256  # more than `struct statfs` has; its first word says which file system it is
_TMPFS_MAGIC = 0x01021994
_STATX_DIO_ALIGN_AT = 0x98  # u32 for memory, then u32 for offsets and lengths

_SIZE = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,20}))?\s*(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_SIZE_MAX = (1 << 63) - 1  # the kernel's largest file offset


@dataclass(frozen=True)
class Geometry:
    """A disk as it is now. `size` and `block_size` are bytes, `size` a whole number of blocks.

    Offsets and lengths of requests are multiples of `block_size`. `inode` and `device` tell two disks apart:
    a file's inode number and the device that its file system is on; for a block device 0 and its own device
    number.
    """

    size: int
    block_size: int
    direct: bool
    block_device: bool
    inode: int
    device: int


def disk_error(name: str, path: str, text: str) -> DiskError:
    """The error that says `text` about a disk; `name` may be empty where it is not known."""
    return DiskError(f"disk {name!r} ({path}): {text}" if name else f"disk {path}: {text}")


def parse_size(text: str) -> int:
    """Bytes from "64M", "1.5G", "4096", "1GiB" or "512k": powers of 1024, upper or lower case.

    A fraction is rounded down to whole bytes. Raises DiskError for anything else, zero included.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or (match[2] is not None and match[3] is None):
        raise DiskError(
            f'size {text[:60]!r} is not a size: give bytes ("4096") or a number and a unit ("1.5G")'
        )
    unit = 1024 ** ("kmgtp".index(match[3].lower()) + 1) if match[3] else 1
    fraction = match[2] or ""
    size: int = int(match[1] + fraction) * unit // 10 ** len(fraction)
    if not 0 < size <= _SIZE_MAX:
        raise DiskError(f"size {text[:60]!r} is {'nothing' if size == 0 else 'more than a file can hold'}")
    return size


def probe(path: str, name: str) -> Geometry:
    """Look at the regular file or block device at `path`, which must exist; `name` is for messages.

    Raises DiskError if it cannot be a disk: missing, another kind of file, not accessible, read-only, empty
    or less than one block.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise explained(error, name, path) from error
    if stat.S_ISBLK(mode):
        geometry = _probe_block_device(path, name)
    elif stat.S_ISREG(mode):
        geometry = _probe_file(path, name)
    else:
        raise disk_error(name, path, f"is {_kind(mode)}, not a regular file or a block device")
    assert geometry.size > 0 and geometry.size % geometry.block_size == 0, geometry
    return geometry


def open_disk(path: str, *, direct: bool, name: str = "") -> int:
    """A descriptor for reading and writing that child processes do not inherit, O_DIRECT if `direct`.

    Raises DiskError if the kernel refuses.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_DIRECT if direct else 0))
    except (OSError, ValueError) as error:
        raise explained(error, name, path) from error
    if _is_in_memory(fd):
        # tmpfs does not say that it never waits for a device, so the kernel would leave each of its requests to a
        # thread; of a file with this flag it tries them at once.
        os.set_blocking(fd, False)
    return fd


def _is_in_memory(fd: int) -> bool:
    """Is it a regular file on tmpfs?"""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return False
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if ctypes.CDLL(None, use_errno=True).fstatfs(fd, answer) != 0:
        return False
    return ctypes.c_ulong.from_buffer(answer).value == _TMPFS_MAGIC


def explained(error: OSError | ValueError, name: str, path: str) -> DiskError:
    """The DiskError for a failed system call on a disk's path."""
    if not isinstance(error, OSError) or error.errno is None:
        return disk_error(name, path, f"is not a path: {error}")  # a NUL byte in it
    if error.errno == errno.ENOENT:
        return disk_error(name, path, _what_is_missing(path))
    text = _EXPLANATIONS.get(error.errno, f"cannot be used: {error.strerror}")
    return disk_error(name, path, text)


_EXPLANATIONS = {
    errno.EACCES: "no permission to read and write it; change its owner or mode, or run as a user who may",
    errno.EPERM: "no permission to read and write it; change its owner or mode, or run as a user who may",
    errno.EROFS: "is read-only, or its file system is; give another",
    errno.EISDIR: "is a directory, not a regular file or a block device",
    errno.ENOTDIR: "one of the folders in its path is a file; correct the path",
    errno.ELOOP: "is a symbolic link that leads in a circle; correct the link",
    errno.EEXIST: "exists already; remove it, or leave out size= to use it as it is",
    errno.ENOSPC: "no space left on the file system; make room, or give a path on another",
    errno.EDQUOT: "your disk quota is used up; make room, or give a path on another file system",
    errno.EFBIG: "is larger than the file system or the limit of this process (ulimit -f) allows; give less",
    errno.EBUSY: "is in use by the system; stop what uses it, or give another",
    errno.ETXTBSY: "is a running program or active swap space; give another",
    errno.EIO: "the device failed to read or write (EIO); see the kernel log (dmesg)",
    errno.EMFILE: "this process has too many open files; raise the limit (ulimit -n)",
}


def _what_is_missing(path: str) -> str:
    folder = os.path.dirname(path) or "."
    if os.path.islink(path):
        return f"is a symbolic link to {os.readlink(path)}, which does not exist; correct the link"
    if not os.path.isdir(folder):
        return f"its folder {folder} does not exist; make the folder first"
    return "does not exist; give size= to make it"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a fifo", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a character device")


def _probe_block_device(path: str, name: str) -> Geometry:
    # Read-only: closing a device that was open for writing makes udev look at it again, and looking must
    # change nothing.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            (size,) = struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))
            (block_size,) = struct.unpack("i", fcntl.ioctl(fd, _BLKSSZGET, bytes(4)))
            (read_only,) = struct.unpack("i", fcntl.ioctl(fd, _BLKROGET, bytes(4)))
            device = os.fstat(fd).st_rdev
        finally:
            os.close(fd)
    except OSError as error:
        raise explained(error, name, path) from error
    if size == 0:
        raise disk_error(
            name, path, "is a device without a size: no medium is in it, or nothing is attached to it"
        )
    if size < block_size:
        raise disk_error(name, path, f"is {size} bytes, less than one block of {block_size}")
    if read_only:  # the kernel may open it for writing all the same, and then refuse each write
        raise disk_error(name, path, "is a read-only device; give one that can be written")
    return Geometry(size - size % block_size, block_size, True, True, 0, device)


def _probe_file(path: str, name: str) -> Geometry:
    direct = True
    try:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            direct = False
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            alignment = _direct_alignment(fd, status) if direct else None
        finally:
            os.close(fd)
    except OSError as error:
        raise explained(error, name, path) from error
    block_size = BLOCK_SIZE_MIN if alignment is None else alignment
    if status.st_size == 0:
        raise disk_error(name, path, "is empty; give size= to say how large it is to be")
    if status.st_size < block_size:
        raise disk_error(
            name, path, f"is {status.st_size} bytes, less than one block of {block_size}; give size="
        )
    size = status.st_size - status.st_size % block_size
    return Geometry(size, block_size, alignment is not None, False, status.st_ino, status.st_dev)


def _direct_alignment(fd: int, status: os.stat_result) -> int | None:
    """The alignment in bytes that O_DIRECT requests need; None if the file takes none (encrypted, say)."""
    told = _alignment_from_statx(fd)
    if told is None:
        return _alignment_by_reading(fd, status)
    for_memory, for_offsets = told
    # A request's memory starts at a multiple of the block size in a page-aligned region, so one number covers
    # both.
    return max(for_memory, for_offsets, BLOCK_SIZE_MIN) if for_offsets else None


def _alignment_from_statx(fd: int) -> tuple[int, int] | None:
    """(memory, offset) alignment as the kernel tells it, None if it does not: before Linux 6.1, or tmpfs.

    Asked for first because reading does not find it out in a file that is one hole, as every new disk is: a
    read of a hole passes at any alignment, and the first write then fails.
    """
    try:
        statx = ctypes.CDLL(None, use_errno=True).statx  # Python's os has no statx before 3.15
    except AttributeError:
        return None
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(fd, b"", _AT_EMPTY_PATH, _STATX_DIOALIGN, answer) != 0:
        return None
    (mask,) = struct.unpack_from("I", answer)
    if not mask & _STATX_DIOALIGN:
        return None
    for_memory, for_offsets = struct.unpack_from("II", answer, _STATX_DIO_ALIGN_AT)
    return for_memory, for_offsets


def _alignment_by_reading(fd: int, status: os.stat_result) -> int | None:
    """The smallest alignment at which an O_DIRECT read of the file's first data works; None if none does."""
    try:
        data_at = os.lseek(fd, 0, os.SEEK_DATA)
    except OSError:
        data_at = 0  # nothing but a hole
    block_size = _logical_block_size(status.st_dev)
    with mmap.mmap(-1, _BLOCK_SIZE_READ_MAX) as memory:
        while block_size <= _BLOCK_SIZE_READ_MAX:
            # A multiple of this block size and of no larger one, where the file is long enough for that.
            offset = data_at - data_at % _BLOCK_SIZE_READ_MAX + block_size
            if offset + block_size > status.st_size:
                offset = 0
            with memoryview(memory)[:block_size] as view:
                try:
                    os.preadv(fd, [view], offset)
                    return block_size
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
            block_size *= 2
    return None


def _logical_block_size(device: int) -> int:
    """Of the block device under a file system, in bytes; the smallest there is if it is not on one device."""
    entry = os.path.realpath(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for folder in (entry, os.path.dirname(entry)):  # a partition's queue is its whole disk's
        try:
            with open(f"{folder}/queue/logical_block_size") as file:
                return max(int(file.read()), BLOCK_SIZE_MIN)
        except (OSError, ValueError):
            continue
    return BLOCK_SIZE_MIN
