"""Programs for what leases must not change."""

from __future__ import annotations

import asyncio
import os

import ringtape

BLOCK = 4096
EXPECTED = list(range(20))
MESSAGES = [b"%d" % number for number in range(30)]


def one_by_one(io: ringtape.BlockingWorker) -> list[int]:
    disk = io.disk("a")
    start = io.index * 20
    for number in range(20):
        disk.write((start + number) * BLOCK, bytes([number]) * BLOCK)
    return [disk.read((start + number) * BLOCK, BLOCK)[0] for number in range(20)]


async def fails(io: ringtape.Worker) -> list[tuple[int, int]]:
    """The file becomes shorter than the disk, so that reads behind its end give nothing, and O_DIRECT writes of it fail
    where the limit on a file's size forbids it to grow.
    """
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    io.capture(os.truncate, io.arguments, 4 * BLOCK)
    io.capture(resource.setrlimit, resource.RLIMIT_FSIZE, (4 * BLOCK, resource.RLIM_INFINITY))
    disk = io.disk("a")
    found: list[tuple[int, int]] = []

    async def write(block: int) -> None:
        try:
            await disk.write(block * BLOCK, bytes(BLOCK))
        except ringtape.RequestError as error:
            assert error.request_id is not None
            found.append((error.request_id, block * BLOCK))

    await asyncio.gather(*(write(block) for block in range(8)))
    return found


async def works_and_hears(io: ringtape.Worker) -> list[bytes]:
    disk = io.disks[0]

    async def work() -> None:
        for number in range(100):
            await disk.write(number * BLOCK, bytes(BLOCK))

    async def send() -> None:
        for message in MESSAGES:
            await io.send(1 - io.index, message)
            await disk.read(0, BLOCK)

    async def hear() -> list[bytes]:
        return [(await io.receive()).payload for _ in MESSAGES]

    heard, _, _ = await asyncio.gather(hear(), work(), send())
    return heard


async def waits_for_ever(io: ringtape.Worker) -> None:
    await io.disk("a").read(0, BLOCK)
    await io.receive()


def reads_an_array(io: ringtape.BlockingWorker) -> int:
    """Reads that go by columns; as many as are compared ahead some times over."""
    return _reads(io)


def reads_another_array(io: ringtape.BlockingWorker) -> int:
    """One of the reads is another."""
    return _reads(io, other=1700)


def _reads(io: ringtape.BlockingWorker, other: int = -1) -> int:
    import numpy as np

    from ringtape.engine.rows import REQUEST

    rows = np.zeros(3000, REQUEST)
    rows["kind"], rows["length"] = 1, BLOCK
    rows["offset"] = BLOCK * (np.arange(len(rows)) * 7 % 256)
    if other >= 0:
        rows["offset"][other] += BLOCK
    results = io.submit(rows, depth=32)
    return int(results["result"].sum())
