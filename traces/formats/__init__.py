"""The formats that traces come in, one module each, and which of them a trace shows by its beginning."""

from __future__ import annotations

from ringtape.proto.errors import TraceError
from ringtape.traces.formats import blktrace
from ringtape.traces.formats.alibaba import Alibaba
from ringtape.traces.formats.base import Head, TextFormat
from ringtape.traces.formats.blkparse import Blkparse
from ringtape.traces.formats.blkreplay import Blkreplay
from ringtape.traces.formats.fio_iolog import FioIolog
from ringtape.traces.formats.mqsim import Mqsim
from ringtape.traces.formats.msr import Msr
from ringtape.traces.formats.spc import Spc
from ringtape.traces.formats.tencent import Tencent

_TEXT: tuple[type[TextFormat], ...] = (FioIolog, Blkparse, Blkreplay, Msr, Alibaba, Tencent, Spc, Mqsim)
TEXT_FORMATS = {one.name: one for one in _TEXT}
NAMES = ("fio-iolog", blktrace.NAME, *(one.name for one in _TEXT if one is not FioIolog))

# What traces come in that this package does not unpack.
_WRAPPINGS = (
    (257, b"ustar", "a tar archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\xfd7zXZ\x00", "packed with xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
)
_NO_TEXT = bytes(byte for byte in range(1, 32) if byte not in b"\t\n\r\f")
_GARBAGE_SHARE = 0.02


def tells_completions(name: str) -> bool:
    """Whether traces of that format say when requests completed, or how long they took."""
    return name == blktrace.NAME or TEXT_FORMATS[name].tells_completions


def detected(head: Head) -> list[str]:
    """The formats that a trace which begins so may be of."""
    if blktrace.matches(head):
        return [blktrace.NAME]
    return [one.name for one in _TEXT if one.matches(head)]


def the_detected(head: Head, name: str) -> str:
    """The one format that it is of; raises TraceError with `name` if there is none, or more than one."""
    found = detected(head)
    if len(found) == 1:
        return found[0]
    if found:
        raise TraceError(f"{name} may be a trace of {' or '.join(found)}: say which with --format")
    if is_binary(head):
        raise TraceError(f"{name} is binary and no trace of blktrace: ringtape knows no other binary format")
    raise TraceError(
        f"{name} is no trace that ringtape knows by its beginning: if it is one, say which with --format "
        f"({', '.join(NAMES)})"
    )


def refuse_wrapped(head: Head, name: str) -> None:
    """Raise TraceError for what has to be unpacked first: the text inside may look like a trace."""
    for at, magic, what in _WRAPPINGS:
        if head.data.startswith(magic, at):
            raise TraceError(f"{name} is {what}: unpack it, and give a trace of it (standard input is -)")


def is_binary(head: Head) -> bool:
    """Whether it is no text: it has bytes in it that no text has."""
    size = len(head.data)
    strange = size - len(head.data.translate(None, _NO_TEXT))
    return strange > _GARBAGE_SHARE * size or head.data.count(0) > size // 2
