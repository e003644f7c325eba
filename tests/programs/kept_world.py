"""The program of the tapes tests/data/v3-*.tape. Never change it: they stand for what people keep."""

from __future__ import annotations

import asyncio
import os

import ringtape

BLOCK = 4096
REGION = 4 * BLOCK
WORKERS = 2
# Of the disks before the recording: the undo frames hold some of it.
BEFORE = {"a": bytes(range(256)) * (WORKERS * REGION // 256), "b": b"\7" * 4 * BLOCK}


async def main(io: ringtape.Worker) -> dict[str, object]:
    """What version 3 has and version 2 has not: messages, barriers, faults; and data and undo, if asked for.

    Both disks are everybody's. The argument is the path of `b`, which is cut short while it is read.
    """
    a, b = io.disk("a"), io.disk("b")
    base, peer = io.index * REGION, 1 - io.index
    io.log(f"worker {io.index} of {io.worker_count}")

    async def change(block: int) -> None:
        await a.write(base + block * BLOCK, io.random.randbytes(8) * (BLOCK // 8), fua=block == 0)
        await io.send(peer, b"%d has written %d" % (io.index, block))

    await asyncio.gather(change(0), change(1))
    heard = [(await io.receive()).payload for _ in range(2)]
    await io.barrier("written")
    theirs = await a.read(peer * REGION, 2 * BLOCK)
    await a.write_zeroes(base + 2 * BLOCK, BLOCK)
    await a.discard(base + 3 * BLOCK, BLOCK)
    await asyncio.sleep(0.001)
    await a.fsync(data_only=io.index == 1)
    if io.index == 0:
        await b.write(0, bytes(BLOCK))
        io.capture(os.truncate, io.arguments, BLOCK)
        short = await b.read(0, 2 * BLOCK)
        io.capture(os.truncate, io.arguments, b.size)
        await io.send(peer, b"%d bytes" % len(short))
    else:
        heard.append((await io.receive()).payload)
    await io.barrier("over")
    if io.index == 1:
        raise LookupError(f"as it should, after {heard[-1]!r}")
    return {"heard": heard, "theirs": theirs[:8].hex(), "short": len(short), "at": io.now()}
