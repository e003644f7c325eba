"""Where ringtape and what it needs are found in a worker, whatever lies beside the program."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

#: Set as the worker starts; empty elsewhere.
entries: list[str] = []


@contextlib.contextmanager
def looked_at() -> Iterator[None]:
    """What is imported meanwhile is Python's, ringtape's or installed: no file beside the program comes first."""
    before = sys.path[:]
    sys.path[:] = entries or before
    try:
        yield
    finally:
        sys.path[:] = before
