"""The program of the tapes tests/data/*-replay.tape. Never change `main`: they stand for what people keep."""

from __future__ import annotations

import asyncio
import os

import ringtape

BLOCK = 4096
REGION = 16 * BLOCK


async def main(io: ringtape.Worker) -> dict[str, object]:
    """All kinds of requests, some of which overlap, logs, timers and captured calls, one of which raises."""
    disk, base = io.disk("a"), io.index * REGION
    io.log(f"worker {io.index} of {io.worker_count} has {io.arguments}")

    async def change(block: int) -> bytes:
        await disk.write(base + block * BLOCK, io.random.randbytes(BLOCK), fua=block % 3 == 0)
        await asyncio.sleep(0.001 * io.random.random())
        return (await disk.read(base + block * BLOCK, BLOCK))[:8]

    firsts = await asyncio.gather(*(change(block) for block in range(8)))
    await disk.write_zeroes(base, BLOCK)
    await disk.discard(base + BLOCK, 2 * BLOCK)
    await asyncio.gather(*(disk.write(base + 4 * BLOCK, bytes([value]) * 2 * BLOCK) for value in range(4)))
    await disk.fsync(data_only=True)
    process = io.capture(os.getpid)
    try:
        io.capture(int, "not a number")
    except ValueError as error:
        io.log(str(error))
    await disk.fsync()
    last = await disk.read(base + 4 * BLOCK, 2 * BLOCK)
    if io.index == 1:
        raise LookupError(f"as it should, at {io.now()}, in {process > 0}")
    return {"firsts": [first.hex() for first in firsts], "last": last[0], "at": io.now()}


async def other(io: ringtape.Worker) -> None:
    """Another program, to see that it is found out."""
    await io.disk("a").write(io.index * REGION, bytes(BLOCK))
