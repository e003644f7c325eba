"""Programs for recordings that keep the data: large requests, short and failed ones, the same data again and again."""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
from typing import Any

import ringtape

BLOCK = 4096
LARGE = (5 << 19) + BLOCK  # two pieces and a half, and a bit


async def large(io: ringtape.Worker) -> list[Any]:
    """Requests of more than a piece, among small ones, into all kinds of memory."""
    disk = io.disks[0]
    data = io.random.randbytes(LARGE)
    await asyncio.gather(disk.write(0, data), disk.write(4 << 20, bytes(LARGE)))
    aligned, other = mmap.mmap(-1, LARGE), memoryview(bytearray(LARGE + 1))[1:]
    found = await asyncio.gather(
        disk.read(0, LARGE),
        disk.read(BLOCK, LARGE),
        disk.read_into(0, aligned),
        disk.read_into(4 << 20, other),
        *(disk.read(block * BLOCK, BLOCK) for block in range(50)),
    )
    assert found[0] == data == bytes(aligned)
    assert bytes(other) == bytes(LARGE)
    return [one if isinstance(one, int) else one[:8] for one in found]


def _allow(bytes_: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, resource.RLIM_INFINITY))


def failing(io: ringtape.BlockingWorker) -> list[Any]:
    """Reads past the end of a file that was cut, and writes that the kernel refuses; the argument is the file."""
    disk, seen = io.disks[0], list[Any]()
    disk.write(0, io.random.randbytes(8 * BLOCK))
    io.capture(os.truncate, io.arguments, 3 * BLOCK)
    seen += [disk.read(BLOCK, 4 * BLOCK), disk.read(4 * BLOCK, BLOCK)]
    aligned = mmap.mmap(-1, 4 * BLOCK)
    seen += [disk.read_into(2 * BLOCK, aligned), bytes(aligned)]
    io.capture(_allow, 2 * BLOCK)
    for request in (lambda: disk.write(6 * BLOCK, bytes(BLOCK)), lambda: disk.write(0, bytes(BLOCK))):
        try:
            seen.append(request())
        except ringtape.RequestError as error:
            seen.append(str(error))
    io.capture(_allow, resource.RLIM_INFINITY)
    io.capture(os.truncate, io.arguments, disk.size)
    raise RuntimeError(repr([len(one) if isinstance(one, bytes) else one for one in seen]))


def zeros(io: ringtape.BlockingWorker) -> int:
    """Writes the same again and again: all of the disk, twice, in requests of the size of the argument."""
    disk = io.disks[0]
    for offset in [*range(0, disk.size, io.arguments)] * 2:
        disk.write(offset, bytes(io.arguments))
    return sum(map(len, (disk.read(offset, io.arguments) for offset in range(0, disk.size, io.arguments))))


async def unawaited(io: ringtape.Worker) -> str:
    """Ends while requests are under way that nobody waits for."""
    tasks = [asyncio.create_task(io.disks[0].read(block * BLOCK, BLOCK)) for block in range(9)]
    await io.disks[0].write(0, bytes(BLOCK))
    for task in tasks:
        task.cancel()
    return "done"


def nothing(io: ringtape.BlockingWorker) -> None:
    """Makes no request."""


def writers(io: ringtape.BlockingWorker) -> int:
    """The second worker writes, and the first reads afterwards what is on the disk, or what was put there behind us."""
    disk = io.disks[0]
    if io.index == 1:
        disk.write(0, b"\1" * 4 * BLOCK)
        disk.write(BLOCK, b"\2" * BLOCK)
        disk.write_zeroes(2 * BLOCK, BLOCK)
        io.capture(_meet, io.arguments, "written")
        return 0
    io.capture(_await, io.arguments, "written")
    _tamper(io.arguments)
    return sum(len(disk.read(block * BLOCK, count * BLOCK)) for block, count in ((0, 4), (1, 1), (8, 1)))


def _meet(folder: str, name: str) -> None:
    open(os.path.join(folder, name), "w").close()


def _tamper(folder: str) -> None:
    """Around `io`, if the test asks for it."""
    try:
        with open(os.path.join(folder, "tamper")) as file:
            offset = int(file.read())
    except FileNotFoundError:
        return
    with open(os.path.join(folder, "a.img"), "r+b") as image:
        image.seek(offset)
        image.write(b"\5")
        image.flush()
        os.fsync(image.fileno())


def _await(folder: str, name: str) -> None:
    while not os.path.exists(os.path.join(folder, name)):
        os.sched_yield()
