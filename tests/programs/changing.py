"""Programs that change what disks hold."""

from __future__ import annotations

import asyncio
import os

import ringtape

BLOCK = 4096


async def changes(io: ringtape.Worker) -> int:
    """Changes at random, of the worker's own part of each disk; at first of what nobody has changed."""
    made = 0
    for _ in range(io.arguments):
        jobs = []
        for disk in io.disks:
            part = disk.size // BLOCK // io.worker_count
            for _ in range(4):
                count = io.random.randint(1, 6)
                offset = BLOCK * (io.index * part + io.random.randrange(part - count + 1))
                kind = io.random.choice(["write", "write", "zeroes", "discard", "read"])
                if kind == "write":
                    jobs.append(disk.write(offset, io.random.randbytes(count * BLOCK)))
                elif kind == "read":
                    jobs.append(disk.read(offset, count * BLOCK))
                else:
                    change = disk.write_zeroes if kind == "zeroes" else disk.discard
                    jobs.append(change(offset, count * BLOCK))
        made += len(jobs)
        await asyncio.gather(*jobs)
    return made


async def races(io: ringtape.Worker) -> None:
    """All workers change the same blocks, and more than one request at a time does."""
    (disk,) = io.disks
    for _ in range(io.arguments):
        await asyncio.gather(
            disk.read(io.random.randrange(8) * BLOCK, 2 * BLOCK),
            *(
                disk.write(
                    io.random.randrange(8) * BLOCK, io.random.randbytes(io.random.randint(1, 4) * BLOCK)
                )
                for _ in range(8)
            ),
        )


async def busy(io: ringtape.Worker) -> int:
    """`changes`, for the command line."""
    io.arguments = 3
    return await changes(io)


def overwrites(io: ringtape.BlockingWorker) -> None:
    """All of the disk in one request."""
    (disk,) = io.disks
    disk.write(0, b"\xee" * disk.size)


def changes_its_mind(io: ringtape.BlockingWorker) -> None:
    """Writes somewhere else if there is a file that says so."""
    disk = io.disk("a")
    disk.write(0, b"1" * BLOCK)
    disk.write(2 * BLOCK if os.path.exists(f"{io.arguments}/changed") else BLOCK, b"2" * BLOCK)
    disk.write(0, b"3" * BLOCK)
