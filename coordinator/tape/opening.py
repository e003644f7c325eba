"""The file that a tape is written to.

Responsible for opening it: that nothing but a file, a tape or a character device is taken, and that it is locked, so
that no second run writes it. It never changes what is in it.
"""

import contextlib
import errno
import fcntl
import io
import os
import stat

from ringtape.coordinator.tape import frames
from ringtape.proto.errors import TapeError


def open_to_write(path: str) -> io.FileIO:
    """The file, locked and ours to start anew. TapeError says why not."""
    try:
        # Before it is opened: opening a pipe waits for its other end, opening a device may have effects.
        with contextlib.suppress(FileNotFoundError):
            _check_kind(path, os.stat(path).st_mode)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        parent = os.path.dirname(path) or "."
        if isinstance(error, FileNotFoundError) and not os.path.isdir(parent):
            raise TapeError(f"cannot write the tape {path}: there is no folder {parent}") from None
        raise TapeError(f"cannot write the tape {path}: {os.strerror(error.errno or errno.EIO)}") from None
    file = io.FileIO(fd, "r+")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(fd)
        _check_kind(path, status.st_mode)
        holds_something = stat.S_ISREG(status.st_mode) and status.st_size
        if holds_something and os.pread(fd, len(frames.MAGIC), 0) != frames.MAGIC:
            raise TapeError(f"cannot write the tape {path}: it exists and is not a tape")
    except BlockingIOError:
        file.close()
        raise TapeError(f"cannot write the tape {path}: another run is writing or reading it") from None
    except OSError as error:
        file.close()
        raise TapeError(f"cannot write the tape {path}: {os.strerror(error.errno or errno.EIO)}") from None
    except TapeError:
        file.close()
        raise
    return file


def _check_kind(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise TapeError(f"cannot write the tape {path}: it is a folder")
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
        raise TapeError(f"cannot write the tape {path}: it is a device, a pipe or a socket, not a file")
