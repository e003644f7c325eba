"""Programs to stop, to watch and to stand still in."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from typing import Any

BLOCK = 4096
WRITES = 12


def fill(worker: int, number: int) -> bytes:
    """What a worker writes with its request of that number."""
    return bytes([16 * (worker + 1) + number]) * BLOCK


async def writes(io: Any) -> int:
    """Each worker writes blocks of its own, two at a time."""
    disk = io.disk("a")
    for number in range(0, WRITES, 2):
        await asyncio.gather(
            *(
                disk.write((io.index * WRITES + one) * BLOCK, fill(io.index, one))
                for one in (number, number + 1)
            )
        )
    return WRITES


def fails(io: Any) -> str:
    """Its third request fails, which it takes; then it raises."""
    disk = io.disk("a")
    disk.write(0, bytes(BLOCK))
    disk.read(0, BLOCK)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK, resource.RLIM_INFINITY))
    try:
        disk.write(BLOCK, bytes(BLOCK))
    except OSError as error:
        io.log(str(error))
    disk.read(0, BLOCK)
    raise ValueError("as it must")


def touches(io: Any) -> None:
    """Every kind of request around block 2, on two disks."""
    for name in ("a", "b"):
        disk = io.disk(name)
        disk.read(0, 2 * BLOCK)  # touches nothing that is watched
        disk.read(BLOCK, 2 * BLOCK)
        disk.write(0, b"1" * 3 * BLOCK)
        disk.fsync()
        disk.write(3 * BLOCK, b"2" * BLOCK)
        disk.write_zeroes(2 * BLOCK, BLOCK)
        disk.write(2 * BLOCK, b"3" * 2 * BLOCK)
        disk.discard(0, 4 * BLOCK)


def by_chance(io: Any) -> None:
    """What it reads is left to chance."""
    io.disk("a").read(os.urandom(8)[0] * BLOCK, BLOCK)


def by_the_clock(io: Any) -> None:
    """What it reads is up to how fast it is."""
    disk = io.disk("a")
    begun = time.monotonic()
    disk.read(0, BLOCK)
    disk.read(int((time.monotonic() - begun) * 1e9) % 256 * BLOCK, BLOCK)


def leaves_nothing_to_chance(io: Any) -> float:
    """Random numbers and the time as they should be had."""
    disk = io.disk("a")
    begun = io.now()
    for _ in range(4):
        disk.read(io.random.randrange(256) * BLOCK, BLOCK)
    return float(io.now() - begun)


def pattern(size: int) -> bytes:
    """Bytes no two stretches of which are alike."""
    return b"".join(number.to_bytes(8, "little") for number in range(size // 8))


def large(io: Any) -> None:
    """Writes the whole disk at once, and reads it."""
    disk = io.disk("a")
    disk.write(0, pattern(io.arguments))
    disk.read(0, io.arguments)


async def races(io: Any) -> None:
    """Two workers write and read one block: which is first is left to the run."""
    disk = io.disk("a")
    for number in range(6):
        await asyncio.gather(disk.write(BLOCK, fill(io.index, number)), disk.read(0, 2 * BLOCK))
