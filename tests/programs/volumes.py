"""Programs that submit arrays of requests of every kind, beside ordinary requests, and return all that they saw."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from xxhash import xxh3_64_hexdigest

import ringtape
from ringtape.engine.pattern import pattern

BLOCK = 4096
FIELDS = [
    ("kind", "u1"),
    ("disk", "u1"),
    ("offset", "i8"),
    ("length", "u4"),
    ("flags", "u1"),
    ("time_ns", "i8"),
]


@dataclass(frozen=True)
class Load:
    """What one call of `submit` gets: `arrays` of `rows` each, on the first `blocks` of each disk."""

    seed: int
    rows: int
    arrays: int = 1
    depth: int = 64
    blocks: int = 64
    longest: int = 4  # blocks
    kinds: tuple[int, ...] = (1, 2, 3, 4, 5)
    streams: bool = False
    own_data: bool = False
    keeps: bool = True
    timed: bool = False


@dataclass(frozen=True)
class Work:
    loads: tuple[Load, ...]
    ordinary: int = 0  # ordinary requests beside


def array_of(load: Load, number: int, disks: int) -> np.ndarray[Any, Any]:
    random = np.random.default_rng((load.seed, number))
    rows = np.zeros(load.rows, FIELDS)
    rows["kind"] = random.choice(load.kinds, load.rows)
    rows["disk"] = random.integers(0, disks, load.rows)
    lengths = random.integers(1, load.longest + 1, load.rows)
    rows["offset"] = random.integers(0, load.blocks - lengths + 1) * BLOCK
    rows["length"] = lengths * BLOCK
    rows["flags"][rows["kind"] == 2] = random.integers(0, 2, np.count_nonzero(rows["kind"] == 2))
    for name in ("offset", "length"):
        rows[name][rows["kind"] == 5] = 0
    if load.timed:
        rows["time_ns"] = np.sort(random.integers(0, 3_000_000, load.rows))
    return rows


def bytes_of_kind(rows: np.ndarray[Any, Any], kind: int) -> int:
    return int(rows["length"][rows["kind"] == kind].sum())


def options_of(load: Load, rows: np.ndarray[Any, Any]) -> tuple[dict[str, Any], bytearray]:
    into = bytearray(bytes_of_kind(rows, 1))
    options: dict[str, Any] = {"depth": load.depth}
    if load.keeps:
        options["into"] = into
    if load.own_data:
        options["data"] = np.random.default_rng(load.seed).bytes(bytes_of_kind(rows, 2))
    return options, into


def seen_of(load: Load, rows: np.ndarray[Any, Any], results: Any, into: bytearray) -> list[Any]:
    """A row for each request: id, sequence, result, latency, and the digest of what a read read."""
    seen, place = [], 0
    for row, result in zip(rows, results.tolist(), strict=True):
        digest = None
        if row["kind"] == 1 and load.keeps:
            digest = xxh3_64_hexdigest(into[place : place + result[2]])
            place += int(row["length"])
        seen.append([*result, digest])
    return seen


def ordinary_data(offset: int, length: int) -> bytes:
    return bytes([offset // BLOCK % 251 + 1]) * length


async def run(io: ringtape.Worker) -> Any:
    work: Work = io.arguments[io.index]

    async def submit(load: Load) -> Any:
        arrays = [array_of(load, number, len(io.disks)) for number in range(load.arrays)]
        if load.streams:
            got: list[Any] = []
            count = await io.submit(
                iter(arrays), depth=load.depth, on_results=lambda one: got.append(one.tolist())
            )
            return count, got
        seen = []
        for rows in arrays:
            options, into = options_of(load, rows)
            seen.append(seen_of(load, rows, await io.submit(rows, **options), into))
        return seen

    async def ordinary(number: int) -> Any:
        seen = []
        for step in range(work.ordinary):
            place = number * 7 + step * 3
            disk, offset = io.disks[step % len(io.disks)], place % 60 * BLOCK
            if (number + step) % 2:
                seen.append(await disk.write(offset, ordinary_data(offset, 2 * BLOCK)))
            else:
                seen.append(xxh3_64_hexdigest(await disk.read(offset, 3 * BLOCK)))
        return seen, io.now_ns()

    return await asyncio.gather(*map(submit, work.loads), *(ordinary(number) for number in range(3)))


def run_blocking(io: ringtape.BlockingWorker) -> Any:
    work: Work = io.arguments[io.index]
    seen: list[Any] = []
    for load in work.loads:
        arrays = [array_of(load, number, len(io.disks)) for number in range(load.arrays)]
        if load.streams:
            got: list[Any] = []
            count = io.submit(
                arrays, depth=load.depth, on_results=lambda one, got=got: got.append(one.tolist())
            )
            seen.append((count, got))
        else:
            for rows in arrays:
                options, into = options_of(load, rows)
                seen.append(seen_of(load, rows, io.submit(rows, **options), into))
        for step in range(work.ordinary):
            offset = step * 5 % 60 * BLOCK
            io.disks[0].write(offset, ordinary_data(offset, BLOCK))
    return seen, io.now_ns()


async def overtaking(io: ringtape.Worker) -> None:
    """Worker 1 has read what worker 0 writes when that is not at a checkpoint yet; a file says so (the arguments)."""
    disk, done = io.disk("a"), io.arguments[io.index]
    if io.index == 0:
        write = asyncio.ensure_future(disk.write(0, ordinary_data(0, BLOCK)))
        await asyncio.sleep(0)
        await io.send(1, b"made")
        while not io.capture(done.exists):
            pass
        await write
    else:
        await io.receive()
        await disk.read(0, BLOCK)
        io.capture(done.touch)


def with_depths(io: ringtape.BlockingWorker) -> None:
    """Arrays whose rows say how many may be under way with each; of two such calls the second is timed."""
    for timed in (False, True):
        arrays = [array_of(Load(number, 300, kinds=(1, 2), timed=timed), number, 2) for number in range(2)]
        for rows in (wide := [with_depth(array) for array in arrays]):
            rows["depth"] = DEPTHS
        io.submit(iter(wide), depth=max(DEPTHS))


DEPTHS = [1 + number * number % 23 for number in range(300)]


def with_depth(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wide = np.zeros(len(array), [*FIELDS, ("depth", "u4")])
    for name, *_ in FIELDS:
        wide[name] = array[name]
    return wide


def changed(io: ringtape.BlockingWorker) -> None:
    """Another array in a replay than in the recording: `io.arguments` is a file that says so."""
    rows = np.zeros(200, FIELDS)
    rows["kind"], rows["length"] = 1, BLOCK
    rows["offset"] = np.arange(200) % 60 * BLOCK
    with open(io.arguments) as file:
        rows["offset"][100] += int(file.read())
    io.submit(rows, depth=16)


def refused(io: ringtape.BlockingWorker) -> Any:
    """Tries arrays with a bad row; returns what each is refused with, and that nothing was made."""
    texts = []
    for name, value in (
        ("kind", 9),
        ("disk", 7),
        ("offset", 100),
        ("offset", -BLOCK),
        ("offset", 1 << 40),
        ("length", 100),
        ("length", 0),
        ("flags", 4),
        ("time_ns", -1),
        ("depth", 0),
    ):
        rows = np.zeros(5, [*FIELDS, ("depth", "u4")])
        rows["kind"], rows["length"], rows["depth"] = 2, BLOCK, 1
        rows[name][3] = value
        texts.append(text_of(io, rows))
    rows = np.zeros(3, FIELDS)
    rows["kind"], rows["length"] = 5, BLOCK
    texts.append(text_of(io, rows))
    for requests, options in (
        (np.zeros(3), {}),
        (7, {}),
        (np.zeros(1, FIELDS[:3]), {}),
        (np.zeros(0, [*FIELDS, ("color", "i1")]), {}),
        (np.zeros(0, [("kind", "f8"), *FIELDS[1:]]), {}),
        (np.zeros(0, FIELDS), {"depth": 0}),
        (np.zeros(0, FIELDS), {"data": b"more"}),
        (np.zeros(0, FIELDS), {"into": b""}),
        (np.zeros(0, FIELDS), {"on_results": print}),
        ([], {"data": b""}),
    ):
        texts.append(text_of(io, requests, **options))
    return texts, io.disks[0].block_size


def told(io: ringtape.BlockingWorker) -> Any:
    """Three arrays that write and read, each with a buffer of its own; returns what `on_made` was told."""
    arrays = [array_of(Load(number, 100, kinds=(1, 2), blocks=250), number, 2) for number in range(3)]
    buffers = [bytearray(bytes_of_kind(rows, 1)) for rows in arrays]
    counts: list[int] = []
    io.submit(zip(arrays, buffers, strict=True), depth=16, on_made=counts.append)
    return counts, list(map(xxh3_64_hexdigest, buffers)), list(map(xxh3_64_hexdigest, replayed(arrays)))


def stamped(io: ringtape.BlockingWorker) -> Any:
    """Writes of the pattern into memory that held such writes, reads, or writes to where no block begins."""
    block, random = io.disks[0].block_size, np.random.default_rng(0)
    arrays = []
    for kind, step in ((2, 4096), (1, 4096), (2, 4096), (2, block)) * 3:
        rows = np.zeros(40, FIELDS)
        rows["kind"], rows["length"] = kind, 4096
        starts = random.permutation((1 << 19) // 4096)[:40] * 4096
        rows["offset"] = starts + step % 4096 * random.integers(0, 8, 40)
        arrays.append(rows)
    whole = np.zeros(1, FIELDS)
    whole["kind"], whole["length"] = 1, 1 << 20
    arrays.append(whole)
    buffers = [bytearray(bytes_of_kind(rows, 1)) for rows in arrays]
    io.submit(zip(arrays, buffers, strict=True), depth=4)
    return list(map(xxh3_64_hexdigest, buffers)), list(map(xxh3_64_hexdigest, replayed(arrays)))


def anywhere(io: ringtape.BlockingWorker) -> Any:
    """Reads and writes of many lengths at many places that overlap, some longer than what goes by columns."""
    block, random = io.disks[0].block_size, np.random.default_rng(2)
    arrays = []
    for number, longest in enumerate((8, 8, 8, 64, (300 << 10) // block, 64)):
        rows = np.zeros(250, FIELDS)
        # Reads spoil memory that held writes.
        rows["kind"] = 2 if number in (0, 2) else random.choice((1, 2, 2), len(rows))
        rows["disk"] = random.integers(0, 2, len(rows))
        lengths = random.integers(1, longest + 1, len(rows))
        rows["offset"] = random.integers(0, 400, len(rows)) * block
        rows["length"] = lengths * block
        if number == 5:
            rows["time_ns"] = np.sort(random.integers(0, 30, len(rows))) * 1_000_000
        arrays.append(rows)
    buffers = [bytearray(bytes_of_kind(rows, 1)) for rows in arrays]
    io.submit(zip(arrays, buffers, strict=True), depth=40)
    return list(map(xxh3_64_hexdigest, buffers)), list(map(xxh3_64_hexdigest, replayed(arrays)))


def replayed(arrays: list[np.ndarray[Any, Any]]) -> list[bytes]:
    """What the reads of the arrays read, if all is carried out one after the other, on two empty disks."""
    model, made, read = [bytearray(2 << 20), bytearray(2 << 20)], 0, []
    for rows in arrays:
        parts = []
        for row in rows:
            offset, length = int(row["offset"]), int(row["length"])
            if row["kind"] == 2:
                model[row["disk"]][offset : offset + length] = pattern(0, made, offset, length)
            else:
                parts.append(bytes(model[row["disk"]][offset : offset + length]))
            made += 1
        read.append(b"".join(parts))
    return read


def text_of(io: ringtape.BlockingWorker, requests: Any, **options: Any) -> str:
    try:
        io.submit(requests, **options)
    except ringtape.InvalidRequest as error:
        return error.strerror
    return "nothing"


async def left(io: ringtape.Worker) -> Any:
    """A call that is cancelled with requests under way, and another after it; results that raise; memory reused."""
    rows = np.zeros(500, FIELDS)
    rows["kind"], rows["length"] = 2, BLOCK
    rows["offset"] = np.arange(500) % 60 * BLOCK
    task = asyncio.ensure_future(io.submit(rows, depth=8))
    await io.disks[0].read(0, BLOCK)
    task.cancel()
    seen = [(await asyncio.gather(task, return_exceptions=True))[0].__class__.__name__]

    def fail(_: Any) -> None:
        raise KeyError("enough")

    try:
        await io.submit(iter([rows, rows]), depth=8, on_results=fail)
    except KeyError as error:
        seen.append(str(error))
    rows["kind"] = 1
    into = bytearray(500 * BLOCK)
    results = await io.submit(rows, depth=8, into=into)
    return seen, results.tolist(), xxh3_64_hexdigest(into)


def narrow(io: ringtape.BlockingWorker) -> Any:
    """`run_blocking` with no more memory than may be under way: whatever comes out of order holds up the rest."""
    from ringtape.engine import columns

    columns.WINDOW = 1
    return run_blocking(io)
