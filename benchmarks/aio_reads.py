"""Awaited reads by caio and aiofile, for a process of their own, as a worker is one.

`python -m ringtape.benchmarks.aio_reads LIBRARY FILE REQUESTS TASKS BLOCK_BYTES SEED` reads a file through the page
cache: so many tasks, each of which awaits one random read after the other, as `programs.awaited_reads` does. It prints
the seconds that took, without the start of the process, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable

from ringtape.benchmarks.programs import shares

Read = Callable[[int, int], Awaitable[bytes]]  # bytes, offset


async def timed(read: Read, blocks: int, requests: int, tasks: int, block_bytes: int) -> float:
    """Seconds that the reads take."""
    draw = random.random

    async def reader(count: int) -> None:
        for _ in range(count):
            data = await read(block_bytes, int(draw() * blocks) * block_bytes)
            assert len(data) == block_bytes, f"{len(data)} bytes read instead of {block_bytes}"

    begun_s = time.perf_counter()
    await asyncio.gather(*(reader(share) for share in shares(requests, tasks)))
    return time.perf_counter() - begun_s


async def by_caio(path: str, requests: int, tasks: int, block_bytes: int) -> float:
    """With caio's own choice of a backend."""
    from caio import AsyncioContext

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        async with AsyncioContext(max_requests=tasks) as context:

            def read(count: int, offset: int) -> Awaitable[bytes]:
                reading: Awaitable[bytes] = context.read(count, fd, offset)
                return reading

            return await timed(read, os.fstat(fd).st_size // block_bytes, requests, tasks, block_bytes)
    finally:
        os.close(fd)


async def by_aiofile(path: str, requests: int, tasks: int, block_bytes: int) -> float:
    """With one `AIOFile` for all tasks."""
    from aiofile import AIOFile

    async with AIOFile(path, "rb") as file:
        blocks = os.path.getsize(path) // block_bytes
        return await timed(file.read_bytes, blocks, requests, tasks, block_bytes)


def main() -> None:
    """See the module."""
    library, path, seed = sys.argv[1], sys.argv[2], int(sys.argv[6])
    requests, tasks, block_bytes = map(int, sys.argv[3:6])
    random.seed(seed)
    reads = {"caio": by_caio, "aiofile": by_aiofile}[library]
    print(asyncio.run(reads(path, requests, tasks, block_bytes)))


if __name__ == "__main__":
    main()
