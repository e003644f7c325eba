"""Files without a name until they are whole: whatever ends the process leaves nothing of them behind."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Self


class Nameless:
    """A file that goes when this is closed, or the process ends, unless it was given a name."""

    def __init__(self, folder: str) -> None:
        """Raises OSError."""
        # What is left of it where the file system has no files without names: a name for as long as it needs one.
        self._temporary = ""
        try:
            self.fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            self.fd, self._temporary = tempfile.mkstemp(prefix=".ringtape-", suffix=".partial", dir=folder)

    @property
    def path(self) -> str:
        """Where this process, and others while it is there, can open it."""
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def forget_name(self) -> None:
        """It will not be given a name."""
        if self._temporary:
            os.unlink(self._temporary)
            self._temporary = ""

    def name(self, path: str, *, replace: bool) -> None:
        """Give it this name. Raises OSError; FileExistsError if the name is taken, unless it is to `replace` that."""
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if not replace:
                self._link(os.path.basename(path), folder)
            else:
                temporary = f".{os.path.basename(path)}.{os.getpid()}"
                self._link(temporary, folder)
                os.replace(temporary, path, src_dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def _link(self, name: str, folder: int) -> None:
        # With the folder's descriptor, for without one Python takes the call that links to the link in /proc.
        source = self._temporary or f"/proc/self/fd/{self.fd}"
        os.link(source, name, dst_dir_fd=folder, follow_symlinks=True)

    def close(self) -> None:
        """May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            with contextlib.suppress(OSError):
                self.forget_name()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
