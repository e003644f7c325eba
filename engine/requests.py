"""What a program asks of a disk, and how it is refused or fails.

A request is made by the program, handed to the kernel when the order rules allow it, completed by the kernel and
released to the program by a token, in this order and never another.
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ringtape.engine.buffers import Slot
    from ringtape.proto.order import Ordered

# The kernel moves at most 2 GiB less a page in one request; a round limit below it is easier to remember.
REQUEST_BYTES_MAX = 1 << 30


class Kind(IntEnum):
    """The five requests; the numbers are those of the wire and the tape."""

    READ = 1
    WRITE = 2
    WRITE_ZEROES = 3
    DISCARD = 4
    FSYNC = 5


FLAG_FUA = 1
FLAG_DATA_ONLY = 2


class RequestError(OSError):
    """A request that the kernel failed: `errno`, and `request_id` on the tape (None in a plain run)."""

    def __init__(self, errno: int, text: str, request_id: int | None) -> None:
        super().__init__(errno, text)
        self.request_id = request_id

    def __str__(self) -> str:
        number = "" if self.request_id is None else f" (request id {self.request_id})"
        return f"{super().__str__()}{number}"


class InvalidRequest(OSError, ValueError):
    """A request that was refused before it was made: not aligned, out of range, of the wrong type.

    It is both an `OSError` with `errno` EINVAL, as the kernel would say, and a `ValueError`. `request_id` is None.
    """

    request_id: int | None = None


class Waiter(Protocol):
    """Who is told that a request has been released."""

    def released(self, request: Request) -> None:
        """Take the request's outcome; its buffer is free afterwards."""


class Request:
    """One request of this worker, from the program's call to its release."""

    __slots__ = (
        "aligned",
        "blockers",
        "completed",
        "contents",
        "dependents",
        "digest",
        "disk",
        "flags",
        "future",
        "kind",
        "length",
        "memory",
        "offset",
        "result",
        "sequence",
        "slot",
        "target",
        "task",
        "value",
        "waiter",
        "way",
    )

    def __init__(self, kind: Kind, disk: int, offset: int, length: int, flags: int = 0) -> None:
        self.kind = kind
        self.disk = disk  # index into the disks of the run
        self.offset = offset
        self.length = length
        self.flags = flags
        self.sequence = -1
        self.digest = 0
        self.contents = 0  # the number of what a write wrote, at data level full
        self.result = 0  # bytes moved, or minus errno
        self.completed = False
        self.slot: Slot | None = None
        self.aligned = False  # may the kernel read into `target` itself?
        self.memory: Any = None  # keeps the program's own buffer alive while the kernel reads into it
        self.target: memoryview | None = None  # where the program wants what was read, if not in new bytes
        self.value: int | bytes | None = (
            None  # what the program is given; None for requests that give nothing
        )
        self.future: Any = None  # the asyncio future that the program awaits
        self.task: Any = None  # the asyncio task that made it, for its stack
        self.waiter: Waiter | None = None
        self.way = -1  # which of the ways to zero or discard is in use, see queue.py
        self.blockers = 0
        self.dependents: list[Ordered] = []

    @property
    def changes(self) -> bool:
        """Does it change what a later read sees?"""
        return self.kind in (Kind.WRITE, Kind.WRITE_ZEROES, Kind.DISCARD)

    def blank_rest(self) -> None:
        """Zero what a read straight into the program's memory did not fill: the kernel may do other things there."""
        assert self.target is not None
        rest = self.target[max(self.result, 0) :]
        rest[:] = bytes(len(rest))

    def error(self, request_id: int | None, disk: str) -> RequestError:
        """The exception for its failed result."""
        errno = -self.result
        what = f"{self.kind.name.lower()} of {self.length} bytes at {self.offset}" if self.length else "fsync"
        return RequestError(errno, f"{os.strerror(errno)}: {what} on disk {disk!r}", request_id)


def data_of(request: Request) -> memoryview | None:
    """What a read has returned or a write writes; None for other requests, and for a read that has not completed."""
    if request.kind is Kind.WRITE:
        assert request.slot is not None
        return request.slot.view[: request.length]
    if request.kind is not Kind.READ or not request.completed:
        return None
    view: memoryview = request.memory[0] if request.slot is None else request.slot.view
    return view[: max(request.result, 0)]
