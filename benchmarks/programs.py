"""What the workers run while they are measured: random reads in both faces, with or without a sampler.

A worker imports this module, so it imports little. The offsets cost as little as Python lets them: what is measured
is what is around a request, and what the program does itself counts too.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import resource
from collections.abc import Iterator
from dataclasses import dataclass

from ringtape.benchmarks.sampling import Sampler, Samples
from ringtape.engine.faces import BlockingWorker, Worker


@dataclass(frozen=True)
class Reads:
    """The arguments of a run: so many random reads of `block_bytes` by each worker, `depth` at once."""

    requests: int
    depth: int
    block_bytes: int
    # For the programs that are profiled. Their profile goes into a file: what they return is part of the run, and a
    # replay that returned another would diverge.
    sample_every_s: float = 0.0
    profile_path: str = ""


@dataclass(frozen=True)
class WorkerProfile:
    """Where a worker was while its program ran, and the processor time it took."""

    samples: Samples
    user_s: float
    system_s: float


def shares(requests: int, depth: int) -> list[int]:
    """How many requests each of `depth` tasks makes."""
    each, more = divmod(requests, depth)
    return [each + (task < more) for task in range(depth)]


async def awaited_reads(io: Worker) -> None:
    """`depth` tasks, each of which awaits one read after the other."""
    reads: Reads = io.arguments
    (disk,) = io.disks
    block_bytes, blocks = reads.block_bytes, disk.size // reads.block_bytes

    async def reader(count: int) -> None:
        read, random = disk.read, io.random.random
        for _ in range(count):
            await read(int(random() * blocks) * block_bytes, block_bytes)

    await asyncio.gather(*(reader(share) for share in shares(reads.requests, reads.depth)))


def blocking_reads(io: BlockingWorker) -> None:
    """One read after the other: depth 1, and a checkpoint for each."""
    reads: Reads = io.arguments
    (disk,) = io.disks
    block_bytes, blocks = reads.block_bytes, disk.size // reads.block_bytes
    read, random = disk.read, io.random.random
    for _ in range(reads.requests):
        read(int(random() * blocks) * block_bytes, block_bytes)


async def profiled_awaited_reads(io: Worker) -> None:
    """`awaited_reads` under a sampler."""
    with profiled(io.arguments):
        await awaited_reads(io)


def profiled_blocking_reads(io: BlockingWorker) -> None:
    """`blocking_reads` under a sampler."""
    with profiled(io.arguments):
        blocking_reads(io)


@contextlib.contextmanager
def profiled(reads: Reads) -> Iterator[None]:
    """Sample the block, and put what was found where the arguments say."""
    sampler = Sampler(reads.sample_every_s)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with sampler:
        yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    profile = WorkerProfile(
        sampler.samples, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    )
    with open(reads.profile_path, "wb") as file:
        pickle.dump(profile, file)
