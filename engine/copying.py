"""A disk's contents from one place to another: shared where the file system can, else copied, holes kept and made.

Nothing here judges whether what is overwritten may be: who calls does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator

from ringtape.engine import contents
from ringtape.engine.contents import CHUNK_BYTES, chunks_with_data
from ringtape.engine.disks import explained, open_disk

OnBytes = Callable[[int, int], None]

_FICLONE = 0x40049409
# Stretches of zeros of this size become holes.
_HOLE_BYTES = 1 << 16
_ZEROS = bytearray(_HOLE_BYTES)


def copy_to_new(path: str, size: int, fd: int, *, name: str, on_bytes: OnBytes | None = None) -> None:
    """Make the empty file `fd` hold the first `size` bytes of the disk at `path`, on stable storage.

    `on_bytes` is called with how far it is and `size`. Raises DiskError if the disk cannot be read, OSError if the
    file cannot be written.
    """
    if not _cloned(path, fd):
        _write_data(path, size, fd, name=name, on_bytes=on_bytes)
    os.ftruncate(fd, size)
    os.fsync(fd)


def overwrite(
    source: str, path: str, size: int, block_device: bool, *, name: str, on_bytes: OnBytes | None = None
) -> None:
    """Make the first `size` bytes of the disk at `path` what `source` holds, on stable storage. Raises DiskError."""
    contents.zero(path, size, block_device, name=name)
    fd = open_disk(path, direct=False, name=name)
    try:
        _write_data(source, size, fd, name=name, on_bytes=on_bytes)
        os.fsync(fd)
    except OSError as error:
        raise explained(error, name, path) from error
    finally:
        os.close(fd)


def _cloned(path: str, fd: int) -> bool:
    """The file system lets both files share what they hold until one of them is written."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return False
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Other file systems and kernels refuse it in many ways; all of them mean that it has to be copied.
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, _FICLONE, source)
            return True
    finally:
        os.close(source)
    return False


def _write_data(source: str, size: int, fd: int, *, name: str, on_bytes: OnBytes | None) -> None:
    for offset, chunk in chunks_with_data(source, size, range(-(-size // CHUNK_BYTES)), name):
        for start, stop in _stretches_with_data(chunk):
            done = start
            while done < stop:
                done += os.pwritev(fd, [chunk[done:stop]], offset + done)
        if on_bytes is not None:
            on_bytes(offset + len(chunk), size)


def _stretches_with_data(chunk: memoryview) -> Iterator[tuple[int, int]]:
    start = stop = 0
    for at in range(0, len(chunk), _HOLE_BYTES):
        piece = chunk[at : at + _HOLE_BYTES]
        # A bytearray on the left compares with memcmp, a memoryview would item by item.
        if (_ZEROS if len(piece) == _HOLE_BYTES else bytearray(len(piece))) == piece:
            continue
        if at != stop:
            if stop > start:
                yield start, stop
            start = at
        stop = at + len(piece)
    if stop > start:
        yield start, stop
