"""Programs that do what a file says: who changes the file between a recording and its replay changes the program.

Reading the file goes around `io` on purpose: that is what a program that is not deterministic does.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from pathlib import Path
from typing import NamedTuple

import ringtape

BLOCK = 4096


class Planned(NamedTuple):
    """One request; `flag` is fua or data_only."""

    kind: str
    disk: int
    block: int
    count: int
    flag: bool
    value: int

    def words(self) -> str:
        """As a divergence has it."""
        name = "ab"[self.disk]
        if self.kind == "fsync":
            return f"fsync{' data-only' * self.flag} on disk '{name}'"
        fua = " fua" * (self.flag and self.kind == "write")
        return f"{self.kind}{fua} of {self.count * BLOCK} bytes at {self.block * BLOCK} on disk '{name}'"


# By worker and task.
Plan = list[list[list[Planned]]]


def _tasks(io: ringtape.Worker | ringtape.BlockingWorker) -> list[list[Planned]]:
    plan: Plan = pickle.loads(Path(io.arguments).read_bytes())
    return plan[io.index]


async def run_async(io: ringtape.Worker) -> str:
    async def do(requests: list[Planned]) -> None:
        for kind, disk, block, count, flag, value in requests:
            offset, length = block * BLOCK, count * BLOCK
            match kind:
                case "read":
                    await io.disks[disk].read(offset, length)
                case "write":
                    await io.disks[disk].write(offset, bytes([value]) * length, fua=flag)
                case "write_zeroes":
                    await io.disks[disk].write_zeroes(offset, length)
                case "discard":
                    await io.disks[disk].discard(offset, length)
                case "fsync":
                    await io.disks[disk].fsync(data_only=flag)

    async with asyncio.TaskGroup() as group:
        for requests in _tasks(io):
            group.create_task(do(requests))
    return "done"


def run_blocking(io: ringtape.BlockingWorker) -> str:
    for kind, disk, block, count, flag, value in itertools.chain(*_tasks(io)):
        offset, length = block * BLOCK, count * BLOCK
        match kind:
            case "read":
                io.disks[disk].read(offset, length)
            case "write":
                io.disks[disk].write(offset, bytes([value]) * length, fua=flag)
            case "write_zeroes":
                io.disks[disk].write_zeroes(offset, length)
            case "discard":
                io.disks[disk].discard(offset, length)
            case "fsync":
                io.disks[disk].fsync(data_only=flag)
    return "done"
