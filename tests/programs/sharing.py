"""Programs whose workers race on one disk, and talk to each other."""

from __future__ import annotations

import asyncio

import ringtape

BLOCK = 4096
ROUNDS = 12


def number(block: bytes) -> int:
    return int.from_bytes(block[:8], "little")


def block_of(value: int) -> bytes:
    return value.to_bytes(8, "little") * (BLOCK // 8)


async def count(io: ringtape.Worker) -> list[int]:
    """A counter that everybody adds to without a lock: how much is lost depends on the race."""
    disk = io.disk("shared")
    seen = []

    async def add() -> None:
        value = number(await disk.read(0, BLOCK))
        await disk.write(0, block_of(value + 1))
        seen.append(value)

    for _ in range(ROUNDS):
        await asyncio.gather(add(), add())
    return seen


def count_blocking(io: ringtape.BlockingWorker) -> list[int]:
    disk = io.disk("shared")
    seen = []
    for _ in range(ROUNDS):
        value = number(disk.read(0, BLOCK))
        disk.write(0, block_of(value + 1))
        seen.append(value)
    return seen


def locked(io: ringtape.BlockingWorker) -> int:
    """Lamport's bakery on disk blocks: a counter that no increment is lost of, if requests act one after another."""
    disk, me, everyone = io.disk("shared"), io.index, range(io.worker_count)

    def choosing(worker: int) -> int:
        return (1 + worker) * BLOCK

    def ticket(worker: int) -> int:
        return (1 + io.worker_count + worker) * BLOCK

    def get(offset: int) -> int:
        return number(disk.read(offset, BLOCK))

    for _ in range(3):
        disk.write(choosing(me), block_of(1))
        mine = 1 + max(get(ticket(worker)) for worker in everyone)
        disk.write(ticket(me), block_of(mine))
        disk.write(choosing(me), block_of(0))
        for other in everyone:
            while get(choosing(other)):
                pass
            while (theirs := get(ticket(other))) and (theirs, other) < (mine, me):
                pass
        value = get(0)
        disk.write(0, block_of(value + 1))
        disk.write(ticket(me), block_of(0))
    io.barrier("all have counted")
    return get(0)


async def pairs(io: ringtape.Worker) -> tuple[int, int]:
    """Writes pairs of blocks in one request each, and reads them: a pair of two writers would be torn."""
    disk = io.disk("shared")
    torn = 0
    seen = 0

    async def write(value: int) -> None:
        await disk.write(0, block_of(value) * 2)

    async def read() -> None:
        nonlocal torn, seen
        pair = await disk.read(0, 2 * BLOCK)
        torn += pair[:BLOCK] != pair[BLOCK:]
        seen = hash((seen, number(pair)))

    for round_ in range(ROUNDS):
        value = 1000 * (io.index + 1) + round_
        await asyncio.gather(write(value), read(), write(value + 500), read())
    return torn, seen


async def talk(io: ringtape.Worker) -> list[tuple[int, bytes]]:
    """Everybody sends to everybody, and the order of arrival decides who is answered."""
    heard = []
    for to in range(io.worker_count):
        await io.send(to, b"hello from %d" % io.index)
    for _ in range(io.worker_count):
        message = await io.receive()
        heard.append((message.sender, message.payload))
    await io.barrier("greeted")
    await io.send(heard[0][0], b"first")
    await io.barrier("answered")
    await io.send(io.index, b"over")
    while (message := await io.receive()).payload != b"over":
        heard.append((message.sender, message.payload))
    return heard


def talk_blocking(io: ringtape.BlockingWorker) -> list[tuple[int, bytes]]:
    heard = []
    for to in range(io.worker_count):
        io.send(to, b"hello from %d" % io.index)
    for _ in range(io.worker_count):
        message = io.receive()
        heard.append((message.sender, message.payload))
    io.barrier("greeted")
    io.send(heard[0][0], b"first")
    io.barrier("answered")
    io.send(io.index, b"over")
    while (message := io.receive()).payload != b"over":
        heard.append((message.sender, message.payload))
    return heard


async def other_disks(io: ringtape.Worker) -> list[str]:
    """What this worker may touch, and what it is told of the rest."""
    names = [disk.name for disk in io.disks]
    for name in ("a", "b"):
        try:
            await io.disk(name).write(0, block_of(io.index))
        except ringtape.UnknownDisk as error:
            names.append(str(error))
    return names


async def wait_for_ever(io: ringtape.Worker) -> str:
    """Worker 0 ends; 1 waits for a message, 2 at a barrier, and 3 for a message of 2."""
    if io.index == 1:
        await io.receive()
    elif io.index == 2:
        await io.barrier("nobody else comes")
        await io.send(3, b"told")
    elif io.index == 3:
        return (await io.receive()).payload.decode()
    return "ended"


def wait_for_ever_blocking(io: ringtape.BlockingWorker) -> str:
    """The same, but that 2 sends its message when it is told that it waits for ever."""
    if io.index == 1:
        io.receive()
    elif io.index == 2:
        try:
            io.barrier("nobody else comes")
        except ringtape.Stalled:
            io.send(3, b"told")
            raise
    elif io.index == 3:
        return io.receive().payload.decode()
    return "ended"


async def refused(io: ringtape.Worker) -> list[str]:
    refusals = []
    for worker, payload in ((2, b""), (-1, b""), ("0", b""), (0, "text"), (0, bytes((1 << 20) + 1))):
        try:
            await io.send(worker, payload)  # type: ignore[arg-type]
        except ringtape.InvalidMessage as error:
            refusals.append(str(error))
    return refusals
