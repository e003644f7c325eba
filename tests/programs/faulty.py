"""Programs whose requests fail or are cut short, and that say what they saw. Nothing in them knows of the fault.

`io.arguments` is a list of acts: a kind, a disk, the first block and how many; blocks are of the disk's own size.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
from typing import Any

import ringtape

Act = tuple[str, int, int, int]
FILL = b"\xee"


def data(act: int, count: int) -> bytes:
    """What act number `act` writes, the same in no two places."""
    return b"".join(b"%7d %7d" % (act, i) for i in range(count // 15 + 1))[:count]


async def one(io: ringtape.Worker, number: int, act: Act) -> Any:
    kind, index, first, count = act
    disk = io.disks[index]
    offset, length = first * disk.block_size, count * disk.block_size
    try:
        match kind:
            case "read":
                return (await disk.read(offset, length)).hex()
            case "read_into":
                buffer = mmap.mmap(-1, length)
                buffer[:] = FILL * length
                return await disk.read_into(offset, buffer), buffer[:].hex()
            case "write":
                return await disk.write(offset, data(number, length))
            case "write_zeroes":
                return await disk.write_zeroes(offset, length)
            case "discard":
                return await disk.discard(offset, length)
            case _:
                return await disk.fsync()
    except ringtape.RequestError as error:
        return error.errno, error.request_id


async def in_turn(io: ringtape.Worker) -> list[Any]:
    return [await one(io, number, act) for number, act in enumerate(io.arguments)]


async def at_once(io: ringtape.Worker) -> list[Any]:
    return list(await asyncio.gather(*(one(io, number, act) for number, act in enumerate(io.arguments))))


def limited(io: ringtape.BlockingWorker) -> list[Any]:
    """The first argument is what RLIMIT_FSIZE is in the recording; a write at it is cut short, one beyond it fails."""
    limit, *acts = io.arguments
    if limit:
        io.capture(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    seen: list[Any] = []
    for number, (kind, index, first, count) in enumerate(acts):
        disk = io.disks[index]
        offset, length = first * disk.block_size, count * disk.block_size
        try:
            if kind == "write":
                seen.append(disk.write(offset, data(number, length)))
            else:
                seen.append(disk.read(offset, length))
        except ringtape.RequestError as error:
            seen.append((error.errno, error.request_id))
    return seen


def shrinks(io: ringtape.BlockingWorker) -> list[Any]:
    """The disk's file becomes shorter in the recording; it is as long as ever in a replay."""
    disk, keep = io.disks[0], io.arguments[0]
    io.capture(os.truncate, io.arguments[1], keep)
    buffer = mmap.mmap(-1, 4 * 4096)
    buffer[:] = FILL * len(buffer)
    seen: list[Any] = [disk.read(keep // 4096 * 4096, 8192), disk.read(disk.size - 4096, 4096)]
    seen += [disk.read_into(keep // 4096 * 4096, buffer), buffer[:]]
    return seen
