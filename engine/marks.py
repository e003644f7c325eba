"""What a replay left on a file that it began as zeros, kept with the file: so that the next replay may do it again.

A replay that diverged leaves neither what the recording began with nor what it left. The mark says which recording the
replay was of and what the file held in the end. As long as it holds just that, nothing that came later is lost by
making it zeros once more. A mark alone allows nothing, and a file system that keeps none only means that the user is
asked.
"""

from __future__ import annotations

import os

from ringtape.engine import contents
from ringtape.proto.errors import DiskError

_NAME = "user.ringtape"


def leave(path: str, size: int, recording: str) -> None:
    """Mark the file with what it holds now, after a replay of that recording."""
    try:
        found = contents.fingerprint(path, size)
        os.setxattr(path, _NAME, _mark(path, found, recording).encode())
    except (DiskError, OSError):
        pass  # it has gone, or cannot be marked


def holds(path: str, size: int, recording: str) -> bool:
    """Does the file hold just what a replay of that recording left on it?"""
    try:
        mark = os.getxattr(path, _NAME).decode(errors="replace")
    except OSError:
        return False
    if not mark.startswith(f"{recording} "):
        return False
    return mark == _mark(path, contents.fingerprint(path, size), recording)


def _mark(path: str, found: contents.Contents, recording: str) -> str:
    # A sample may miss a change; the time of the last one does not.
    changed_ns = os.stat(path).st_mtime_ns if found.method == contents.SAMPLED else 0
    return f"{recording} {found.method}: {found.digest.hex()} {changed_ns}"
