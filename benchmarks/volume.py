"""What the workers run while the volume face is measured: arrays of random reads, or writes, through `io.submit`.

A worker imports this module before its program begins, and with it what the first `io.submit` would load, so that no
import is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.random import default_rng

import ringtape.engine.volume  # noqa: F401
from ringtape.benchmarks.programs import Reads, profiled
from ringtape.engine.faces import BlockingWorker
from ringtape.engine.requests import Kind
from ringtape.engine.rows import REQUEST

# Of one array; a run is a stream of them.
ARRAY_ROWS = 1 << 16


def volume_reads(io: BlockingWorker) -> None:
    """Random reads on all its disks, whose data is dropped."""
    io.submit(_arrays(io, Kind.READ), depth=io.arguments.depth)


def volume_writes(io: BlockingWorker) -> None:
    """Random writes of the pattern."""
    io.submit(_arrays(io, Kind.WRITE), depth=io.arguments.depth)


def profiled_volume_reads(io: BlockingWorker) -> None:
    """`volume_reads` under a sampler."""
    with profiled(io.arguments):
        volume_reads(io)


def profiled_volume_writes(io: BlockingWorker) -> None:
    """`volume_writes` under a sampler."""
    with profiled(io.arguments):
        volume_writes(io)


def _arrays(io: BlockingWorker, kind: Kind) -> Iterator[Any]:
    reads: Reads = io.arguments
    disks = len(io.disks)
    blocks = min(disk.size for disk in io.disks) // reads.block_bytes
    random = default_rng(io.random.getrandbits(64))
    for first in range(0, reads.requests, ARRAY_ROWS):
        rows = np.zeros(min(ARRAY_ROWS, reads.requests - first), REQUEST)
        rows["kind"], rows["length"] = kind, reads.block_bytes
        rows["offset"] = random.integers(0, blocks, len(rows)) * reads.block_bytes
        if disks > 1:
            rows["disk"] = random.integers(0, disks, len(rows))
        yield rows
