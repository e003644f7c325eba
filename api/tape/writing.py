"""Files that the tools write: new ones only, whole or gone.

A file that exists is never touched. What fails on the way leaves nothing behind, but for a damaged tape: what was
whole is what the user wants of that.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, BinaryIO, TextIO

from ringtape.proto.errors import RingtapeError, TapeDamaged


class OutputError(RingtapeError):
    """A file that a tool was to write and cannot."""


@contextlib.contextmanager
def new_file(path: str) -> Iterator[BinaryIO]:
    """A file that was not there, for bytes. Raises OutputError: it exists, or cannot be written."""
    with _made(path, "xb") as file:
        yield file  # type: ignore[misc]  # "xb" opens one for bytes


@contextlib.contextmanager
def text_output(path: str | None) -> Iterator[TextIO]:
    """A file that was not there, for text; standard output where no path is given. Raises OutputError."""
    if path is None:
        yield sys.stdout
        return
    with _made(path, "x") as file:
        yield file  # type: ignore[misc]  # "x" opens one for text


@contextlib.contextmanager
def _made(path: str, mode: str) -> Iterator[IO[bytes] | IO[str]]:
    text = "b" not in mode
    try:
        # Opened apart from its use: what fails here is another error than what fails there.
        file = open(path, mode, encoding="utf-8" if text else None, newline="" if text else None)  # noqa: SIM115
    except FileExistsError:
        raise OutputError(f"cannot write {path}: it exists already") from None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    try:
        with file:
            yield file
    except TapeDamaged:
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror}") from None
        raise
