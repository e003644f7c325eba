"""Programs that behave in one way as long as a file is missing and in another once it is there.

Each makes one request first, and comes with what the tape has and what the other behaviour does then, as a divergence
puts it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import ringtape

BLOCK = 4096


def _switched(io: ringtape.Worker | ringtape.BlockingWorker) -> bool:
    return Path(io.arguments).exists()


def log_line(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    io.log("other" if _switched(io) else "one")
    io.disk("a").read(0, BLOCK)


def log_missing(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    if not _switched(io):
        io.log("one")
    io.disk("a").read(0, BLOCK)


def log_added(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    if _switched(io):
        io.log("other")
    io.disk("a").fsync()


def captured_call(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    io.capture(os.getppid if _switched(io) else os.getpid)


def captured_missing(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    if not _switched(io):
        io.capture(os.getpid)
    io.disk("a").fsync()


def returned(io: ringtape.BlockingWorker) -> str:
    io.disk("a").read(0, BLOCK)
    return "other" if _switched(io) else "one"


def raised_not_returned(io: ringtape.BlockingWorker) -> str:
    io.disk("a").read(0, BLOCK)
    if _switched(io):
        raise KeyError("other")
    return "one"


def returned_not_raised(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    if not _switched(io):
        raise KeyError("one")


def raised_otherwise(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    raise KeyError("other" if _switched(io) else "one")


def checkpoint_added(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    if _switched(io):
        io.checkpoint()
    io.disk("a").fsync()


def checkpoint_missing(io: ringtape.BlockingWorker) -> None:
    io.disk("a").read(0, BLOCK)
    if not _switched(io):
        io.checkpoint()
    io.disk("a").fsync()


async def timer(io: ringtape.Worker) -> None:
    await io.disk("a").read(0, BLOCK)
    await asyncio.sleep(0.002 if _switched(io) else 0.001)


async def timer_missing(io: ringtape.Worker) -> None:
    await io.disk("a").read(0, BLOCK)
    read = asyncio.create_task(io.disk("a").read(0, BLOCK))
    async with asyncio.timeout(None if _switched(io) else 60):
        await read


# What the tape has and what the program did: how each begins.
DIVERGENCES: dict[str, tuple[str, str]] = {
    "log_line": ("log line 'one'", "log line 'other'"),
    "log_missing": ("log line 'one'", "read of 4096 bytes at 0"),
    "log_added": ("fsync on disk 'a'", "log line 'other'"),
    "captured_call": ("a captured call of posix:getpid", "a captured call of posix:getppid"),
    "captured_missing": ("a captured call of posix:getpid", "fsync on disk 'a'"),
    "returned": ("the program's return of 'one'", "the program's return of 'other'"),
    "raised_not_returned": ("the program's return of 'one'", "the program's end by KeyError"),
    "returned_not_raised": ("the program's end by KeyError", "the program's return of None"),
    "raised_otherwise": (
        "the program's end by KeyError: \"'one'\"",
        "the program's end by KeyError: \"'other'\"",
    ),
    "checkpoint_added": ("fsync on disk 'a'", "a checkpoint that does not wait"),
    "checkpoint_missing": ("a checkpoint that does not wait", "fsync on disk 'a'"),
    "timer": (
        "a checkpoint that waits for a completion until",
        "a checkpoint that waits for a completion until",
    ),
    "timer_missing": (
        "a checkpoint that waits for a completion until",
        "a checkpoint that waits for a completion",
    ),
}


def computes(io: ringtape.BlockingWorker) -> int:
    """The same requests; but then it never comes back."""
    io.disk("a").read(0, BLOCK)
    while _switched(io):
        pass
    return len(io.disk("a").read(BLOCK, BLOCK))


async def ahead(io: ringtape.Worker) -> None:
    """Makes more requests than fit a message, the first of them another one, and takes its time before it waits.

    The coordinator sees the difference, and asks where the program is, before the program's first checkpoint.
    """
    first = 1 if _switched(io) else 0

    async def read(block: int) -> None:
        await io.disk("a").read(block % 16 * BLOCK, BLOCK)

    tasks = [asyncio.create_task(read(block)) for block in range(first, 5000)]
    await asyncio.sleep(0)
    if first:
        time.sleep(0.3)
    await asyncio.gather(*tasks)


async def waits_for_nothing(io: ringtape.Worker) -> Any:
    await io.disk("a").read(0, BLOCK)
    try:
        return await asyncio.get_running_loop().create_future()
    finally:
        io.log("never told: nothing can go on, not even to be cancelled")
