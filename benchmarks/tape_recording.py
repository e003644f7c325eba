"""Programs for `tape_size` and `data_levels`: reads at a depth, as a real recording hands them to the tape."""

import asyncio
import time
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


async def stretches(io: Worker) -> float:
    """For `data_levels`: all of a disk, in reads of what length and how many at a time `io.arguments` say.

    Returns the processor time that it took, which is the machine's, not the recording's.
    """
    arguments: Any = io.arguments
    length, depth, disk_bytes = arguments
    disk = io.disk("a")
    left = iter(range(0, disk_bytes, length))
    begun_s = time.process_time()

    async def one_after_another() -> None:
        for offset in left:
            await disk.read(offset, length)

    await asyncio.gather(*(one_after_another() for _ in range(depth)))
    return time.process_time() - begun_s
