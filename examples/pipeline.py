"""A pipeline whose outcome depends on which request completes first.

Every item lies on two disks, "a" and "b". Readers fetch each one from the disk that answers first and pass it through
a bounded queue to writers. These append it to a log on one of the disks, and turn to the other disk when an append was
slower than the one before it; an append that is much slower is given up, and its item goes to the other disk.

The program leaves nothing to chance, and yet no two runs of it are the same: which copy wins, when a timeout strikes,
in which order the items arrive, and so which requests are made at all, is up to the disks. A replay takes each of
these turns as the recording took it.

    python examples/pipeline.py

    ringtape record examples/pipeline.py --disk a=a.img,size=8M,fresh --disk b=b.img,size=8M,fresh -o run.tape
    ringtape replay run.tape
"""

from __future__ import annotations

import asyncio
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import ringtape
from ringtape import AsyncDisk, Disk

BLOCK_BYTES = 4096  # a multiple of every usual block size
ITEMS = 96  # for each worker
READERS = 5
WRITERS = 3
QUEUE_ITEMS_MAX = 4
PATIENCE = 1.5  # how many times as long as the one before it an append may take


@dataclass
class Item:
    """A stretch of bytes that is at the same offset on both disks."""

    number: int
    offset: int
    length: int


@dataclass
class Log:
    """The part of a disk to which items are appended."""

    disk: AsyncDisk
    end: int  # where the next item goes
    latest_s: float = 0.0  # what the latest append took; 0 before the first


@dataclass
class Outcome:
    """What came of a run. The disks have a say in every field."""

    copies: str = ""  # the disk that won each race, in the order in which the items were fetched
    stored: list[tuple[int, str, int]] = field(
        default_factory=list
    )  # item, disk, offset; as they were stored
    late: list[tuple[int, str]] = field(
        default_factory=list
    )  # item and disk of each append that was given up
    checksum: int = 0  # of the items' contents, in the order in which they were stored


Queue = asyncio.Queue[tuple[Item, bytes] | None]  # None: there is nothing more


async def main(io: ringtape.Worker) -> dict[str, Any]:
    """Run the pipeline. Each worker does so in a part of the disks that is its own."""
    disks = [io.disk("a"), io.disk("b")]
    part = min(disk.size for disk in disks) // io.worker_count // BLOCK_BYTES * BLOCK_BYTES
    start = io.index * part
    items = list(laid_out(start))
    items_end = items[-1].offset + items[-1].length
    if items_end - start > part // 2:  # the other half is for the log, which may get each of them
        needed = 2 * (items_end - start) * io.worker_count
        raise ValueError(f"each disk needs {needed} bytes for {io.worker_count} workers")
    await fill(disks, items)

    logs = [Log(disk, items_end) for disk in disks]  # the first is the one in use
    outcome = Outcome()
    queue: Queue = asyncio.Queue(QUEUE_ITEMS_MAX)
    source = iter(items)  # the readers share it: whoever is free takes the next item
    async with asyncio.TaskGroup() as writers:
        for _ in range(WRITERS):
            writers.create_task(store(logs, queue, outcome))
        async with asyncio.TaskGroup() as readers:
            for _ in range(READERS):
                readers.create_task(fetch(disks, source, queue, outcome))
        for _ in range(WRITERS):
            await queue.put(None)
    await asyncio.gather(*(disk.fsync() for disk in disks))
    io.log(f"stored {len(outcome.stored)} items, gave up {len(outcome.late)} appends")
    return asdict(outcome)


def laid_out(offset: int) -> Iterator[Item]:
    """The items, one after the other from `offset`, of one to four blocks each."""
    for number in range(ITEMS):
        length = (1 + number * 3 % 4) * BLOCK_BYTES
        yield Item(number, offset, length)
        offset += length


async def fill(disks: list[AsyncDisk], items: list[Item]) -> None:
    """Write what the pipeline is to work on: each item to both disks."""
    async with asyncio.TaskGroup() as writes:
        for item in items:
            for disk in disks:
                writes.create_task(disk.write(item.offset, bytes([item.number]) * item.length))


async def fetch(disks: list[AsyncDisk], source: Iterator[Item], queue: Queue, outcome: Outcome) -> None:
    """A reader, the first stage of the pipeline."""
    for item in source:
        # Both disks are asked, now the one first and now the other; the first answer is taken.
        first = item.number % 2
        races = [asyncio.create_task(read(disk, item)) for disk in (disks[first], disks[1 - first])]
        done, slower = await asyncio.wait(races, return_when=asyncio.FIRST_COMPLETED)
        for race in slower:
            race.cancel()  # the request is carried out all the same, but nobody hears of it
        copy, data = next(race for race in races if race in done).result()
        outcome.copies += copy
        # Here a reader waits while the queue is full: the writers set the pace.
        await queue.put((item, data))


async def read(disk: AsyncDisk, item: Item) -> tuple[str, bytes]:
    """The name of the disk, and what it has of the item."""
    return disk.name, await disk.read(item.offset, item.length)


async def store(logs: list[Log], queue: Queue, outcome: Outcome) -> None:
    """A writer, the second stage of the pipeline."""
    while (entry := await queue.get()) is not None:
        item, data = entry
        log = logs[0]
        offset = await append(logs, log, data, patience=PATIENCE)
        if offset is None:
            outcome.late.append((item.number, log.disk.name))
            log = next(other for other in logs if other is not log)
            offset = await append(logs, log, data, patience=None)
        assert offset is not None, "it was given all the time it needed"
        outcome.stored.append((item.number, log.disk.name, offset))
        outcome.checksum = zlib.crc32(data, outcome.checksum)


async def append(logs: list[Log], log: Log, data: bytes, *, patience: float | None) -> int | None:
    """Append to a log and say where the data is, or None if it took too long."""
    offset, log.end = log.end, log.end + len(data)
    # The loop's clock is the recorded one: in a replay it reads what it read in the recording, and a timeout strikes
    # where it struck then.
    clock = asyncio.get_running_loop().time
    began_s, before_s = clock(), log.latest_s
    in_time = True
    try:
        async with asyncio.timeout(patience * before_s if patience and before_s else None):
            await log.disk.write(offset, data)
    except TimeoutError:
        in_time = False
    log.latest_s = clock() - began_s
    if log.latest_s > before_s > 0 and log is logs[0]:
        logs.reverse()
    return offset if in_time else None


def demonstrate() -> None:
    """Record the pipeline twice, and replay both recordings."""
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder:
        disks = [Disk(name, f"{folder}/{name}.img", size="8M", fresh=True) for name in ("a", "b")]
        for tape in (f"{folder}/first.tape", f"{folder}/second.tape"):
            recorded = ringtape.record(main, disks=disks, workers=2, seed=1, tape=tape)
            recorded.raise_for_failures()
            print(f"recorded {recorded.requests} requests, digest {recorded.digest}")
            describe(recorded.returns)
            for _ in range(2):
                replayed = ringtape.replay(tape)
                same = replayed.digest == recorded.digest and replayed.returns == recorded.returns
                print(f"  replayed: {'the same' if same else 'DIFFERENT'}, digest {replayed.digest}")


def describe(outcomes: list[dict[str, Any]]) -> None:
    """What the workers returned, in short."""
    for worker, outcome in enumerate(outcomes):
        places = "".join(disk for _, disk, _ in outcome["stored"])
        print(f"  worker {worker} gave up {len(outcome['late'])} appends; its items went to the disks")
        print(f"    {places[:64]}...")


if __name__ == "__main__":
    demonstrate()
