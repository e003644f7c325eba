"""Programs that make many requests, or are many."""

from __future__ import annotations

import asyncio

import ringtape

BLOCK = 4096


async def small(io: ringtape.Worker) -> int:
    """One of very many workers."""
    block = io.index * BLOCK
    await io.disks[0].write(block, bytes([io.index]) * BLOCK)
    await asyncio.sleep(0.001 * io.random.random())
    return sum(await io.disks[0].read(block, BLOCK))


async def deep(io: ringtape.Worker) -> int:
    """As many reads as the arguments say, 64 at a time."""
    disk, left = io.disks[0], int(io.arguments)
    blocks = disk.size // BLOCK

    async def read() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await disk.read(left % blocks * BLOCK, BLOCK)

    async with asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(read())
    return left


async def all_at_once(io: ringtape.Worker) -> int:
    """As many requests as the arguments say, before the first checkpoint."""
    disk = io.disks[0]
    blocks = disk.size // BLOCK
    requests = [asyncio.create_task(disk.read(i % blocks * BLOCK, BLOCK)) for i in range(int(io.arguments))]
    return sum(map(len, await asyncio.gather(*requests)))
