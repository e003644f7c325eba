"""RAID 1: a mirror of two disks, "a" and "b", with several writers, a damaged side and a rebuild.

Every write goes to both sides, and the writers write over one another all the time. What keeps the sides equal is a
rule of ringtape: requests of a worker that overlap on a disk are carried out in the order in which they were made. Here
each write is made on both sides at once, so both sides see the same order, and there is no lock. (`--overlap race`
switches the rule off; then a real disk soon has the first scrub find a difference.)

Which writer comes first is up to the disks, since each waits for its write before it makes the next. So two recordings
end with other contents, and a replay ends with the contents of its recording.

    python examples/mirror.py

    ringtape record examples/mirror.py --disk a=a.img,size=4M --disk b=b.img,size=4M -o run.tape
    ringtape replay run.tape
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import ringtape
from ringtape import AsyncDisk, Disk

BLOCK_BYTES = 4096  # a multiple of every usual block size
CHUNK_BYTES = 16 * BLOCK_BYTES  # what a scrub compares and a rebuild copies at a time
CHUNKS_MAX = 16  # of each worker's part of the disks, however large they are
WRITERS = 4
WRITES = 25  # by each writer
WRITE_BLOCKS_MAX = 8
CHUNKS_DAMAGED = 3


class Mirror:
    """A worker's part of both disks, of `size` bytes from 0, which holds everything twice."""

    def __init__(self, a: AsyncDisk, b: AsyncDisk, start: int, size: int) -> None:
        self.a = a
        self.b = b
        self.start = start
        self.size = size

    async def write(self, offset: int, data: bytes) -> None:
        """Write to both sides; returns when both have it."""
        # The two requests are made one right after the other, before any other task has its turn.
        async with asyncio.TaskGroup() as sides:
            sides.create_task(self.a.write(self.start + offset, data))
            sides.create_task(self.b.write(self.start + offset, data))

    async def clear(self) -> None:
        """Begin with zeros."""
        await asyncio.gather(*(side.write_zeroes(self.start, self.size) for side in (self.a, self.b)))

    async def fsync(self) -> None:
        """Put what has been written on stable storage, on both sides."""
        await asyncio.gather(self.a.fsync(), self.b.fsync())

    async def scrub(self) -> list[int]:
        """The offsets of the chunks in which the sides differ."""
        return [offset async for offset, a, b in self._chunks() if a != b]

    async def rebuild_b(self) -> int:
        """Copy from side a whatever side b has not got; how many chunks that were."""
        copied = 0
        async for offset, a, b in self._chunks():
            if a != b:
                await self.b.write(self.start + offset, a)
                copied += 1
        await self.b.fsync()
        return copied

    async def digests(self) -> tuple[str, str]:
        """A digest of what each side holds."""
        hashes = hashlib.sha256(), hashlib.sha256()
        async for _, *sides in self._chunks():
            for digest, data in zip(hashes, sides, strict=True):
                digest.update(data)
        return hashes[0].hexdigest()[:16], hashes[1].hexdigest()[:16]

    async def _chunks(self) -> AsyncIterator[tuple[int, bytes, bytes]]:
        """Each chunk with its offset, as both sides have it."""
        for offset in range(0, self.size, CHUNK_BYTES):
            reads = (side.read(self.start + offset, CHUNK_BYTES) for side in (self.a, self.b))
            a, b = await asyncio.gather(*reads)
            yield offset, a, b


async def main(io: ringtape.Worker) -> dict[str, Any]:
    """Write, scrub, damage one side, rebuild it. Each worker has a mirror of its own, in its own part of the disks."""
    a, b = io.disk("a"), io.disk("b")
    part = min(a.size, b.size) // io.worker_count // CHUNK_BYTES
    if part < CHUNKS_DAMAGED:
        needed = CHUNKS_DAMAGED * CHUNK_BYTES * io.worker_count
        raise ValueError(f"each disk needs at least {needed} bytes for {io.worker_count} workers")
    mirror = Mirror(a, b, io.index * part * CHUNK_BYTES, min(part, CHUNKS_MAX) * CHUNK_BYTES)
    await mirror.clear()

    order: list[tuple[int, int]] = []  # writer and number of each write, as they were done
    async with asyncio.TaskGroup() as writers:
        for writer in range(WRITERS):
            writers.create_task(write(io, mirror, writer, order))
    await mirror.fsync()
    assert await mirror.scrub() == [], "the sides differ although nothing has happened to them"

    # Something writes over side b behind the mirror's back.
    damaged = sorted(io.random.sample(range(0, mirror.size, CHUNK_BYTES), CHUNKS_DAMAGED))
    for offset in damaged:
        await b.write(mirror.start + offset + BLOCK_BYTES, b"\xff" * BLOCK_BYTES)
    found = await mirror.scrub()
    io.log(f"the scrub found damage at {found}")

    rebuilt = await mirror.rebuild_b()
    left = await mirror.scrub()
    side_a, side_b = await mirror.digests()
    assert not left and side_a == side_b, "the rebuild has left a difference"
    return {
        "writes": len(order),
        "order": order,
        "damaged": damaged,
        "found": found,
        "rebuilt": rebuilt,
        "left": left,
        "digest": side_a,
    }


async def write(io: ringtape.Worker, mirror: Mirror, writer: int, order: list[tuple[int, int]]) -> None:
    """One of the writers: fills ranges that it draws, and that overlap with everybody's."""
    blocks = mirror.size // BLOCK_BYTES
    for number in range(WRITES):
        length = io.random.randint(1, WRITE_BLOCKS_MAX)
        offset = io.random.randrange(blocks - length + 1)
        # No two writes have the same contents, so any difference between the sides would show.
        stamp = f"worker {io.index} writer {writer} write {number} ".encode()
        data = stamp * (length * BLOCK_BYTES // len(stamp) + 1)
        await mirror.write(offset * BLOCK_BYTES, data[: length * BLOCK_BYTES])
        order.append((writer, number))


def demonstrate() -> None:
    """Record the program with two workers, and replay it."""
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder:
        disks = [Disk(name, f"{folder}/{name}.img", size="2M") for name in ("a", "b")]
        recorded = ringtape.record(main, disks=disks, workers=2, seed=1, tape=f"{folder}/run.tape")
        recorded.raise_for_failures()
        print(f"recorded {recorded.requests} requests, digest {recorded.digest}")
        for worker, outcome in enumerate(recorded.returns):
            print(f"  worker {worker}: {outcome['writes']} writes, damage at {outcome['damaged']},")
            print(f"    found at {outcome['found']}, rebuilt; both sides now have digest {outcome['digest']}")
        replayed = ringtape.replay(f"{folder}/run.tape")
        same = replayed.digest == recorded.digest and replayed.returns == recorded.returns
        print(f"replayed: {'the same' if same else 'DIFFERENT'}, digest {replayed.digest}")


if __name__ == "__main__":
    demonstrate()
