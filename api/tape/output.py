"""The file that a tool writes.

Responsible for that it is there whole or not at all, whatever ends the process, and that nothing is lost for it: what
it takes the place of is something that the same tool made. It never writes to a file that somebody may be reading.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from ringtape.nameless import Nameless
from ringtape.settings import StrPath, UsageError


@contextlib.contextmanager
def new_file(output_path: StrPath, *, begins_with: bytes, what: str) -> Iterator[BinaryIO]:
    """A file to write, which is put in its place when the context ends well.

    A file that is there is replaced if it begins like what is written; `what` names that. A device or a pipe is
    written to as it is. Raises UsageError: there is another file, a folder, or no permission or space.
    """
    path = os.fspath(output_path)
    try:
        if _is_written_through(path, begins_with, what):
            with open(path, "wb") as file:
                yield file
            return
        # A link stays a link: what it leads to is replaced.
        target = os.path.realpath(path)
        with Nameless(os.path.dirname(target)) as made:
            with open(made.fd, "wb", closefd=False) as file:
                os.fchmod(made.fd, 0o666 & ~_umask())
                yield file
            made.name(target, replace=True)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise UsageError(
            f"cannot write {path}: {os.strerror(error.errno) if error.errno else error}"
        ) from None


def _is_written_through(path: str, begins_with: bytes, what: str) -> bool:
    """Whether it is a device or a pipe. UsageError if something is there that has to stay."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise UsageError(f"cannot write {path}: it is a folder")
    if not stat.S_ISREG(mode):
        return True
    with open(path, "rb") as file:
        start = file.read(len(begins_with))
    if start and start != begins_with:
        raise UsageError(
            f"{path} is there and is not {what}: it is left as it is; remove it or choose another name"
        )
    return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
