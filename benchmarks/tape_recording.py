"""A program for `tape_size`: 4 KiB reads at a depth, as a real recording hands them to the tape."""

import asyncio
from typing import Any

from ringtape import Worker

DEPTH = 64
BLOCK_BYTES = 4096


async def reads(io: Worker) -> None:
    """`io.arguments` says how many, of a disk of how many bytes, and whether anywhere or one after another."""
    arguments: Any = io.arguments
    count, disk_bytes, anywhere = arguments
    disk = io.disk("a")
    blocks = disk_bytes // BLOCK_BYTES
    left = iter(range(count))

    async def one_after_another() -> None:
        for number in left:
            block = io.random.randrange(blocks) if anywhere else number % blocks
            await disk.read(block * BLOCK_BYTES, BLOCK_BYTES)

    await asyncio.gather(*(one_after_another() for _ in range(DEPTH)))
