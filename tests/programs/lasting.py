"""Programs that go on until somebody ends them, and tell through a named pipe how far they are.

`io.arguments` is the pipe's path. What goes through it never comes back: the tape does not miss it. What a program is
told (to wait at the next lap) goes around `io` on purpose.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import ringtape

BLOCK = 4096
REGION = 16 * BLOCK
LAPS = 5
CHILD = [sys.executable, "-c", "import time; time.sleep(1000)"]


def tell(path: str, what: str, pid: int | None = None) -> None:
    """Put "what pid" into the pipe."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, f"{what} {os.getpid() if pid is None else pid}\n".encode())
    finally:
        os.close(fd)


def wait_if_told(path: str, what: str) -> None:
    """If there is a file that says so, wait here to be killed."""
    if Path(f"{path}.{what}").exists():
        tell(path, f"waiting-{what}")
        signal.pause()


async def works(io: ringtape.Worker, laps: int | None = None) -> str:
    """Does a bit of everything in each lap."""
    path: str = io.arguments
    base = io.index * REGION

    async def change(block: int) -> None:
        await io.disks[0].write(base + block * BLOCK, bytes([block]) * BLOCK)
        await io.disks[0].read(base + block * BLOCK, BLOCK)

    for lap in itertools.count() if laps is None else range(laps):
        tell(path, f"{io.index}-requests-{lap}")
        await asyncio.gather(*[change(block) for block in range(16)])
        tell(path, f"{io.index}-computing-{lap}")
        sum(range(100_000))
        tell(path, f"{io.index}-capturing-{lap}")
        io.capture(os.getpid)
        tell(path, f"{io.index}-logging-{lap}")
        for line in range(20):
            io.log(f"{line} " * 50)
        wait_if_told(path, str(io.index))
        tell(path, f"{io.index}-sleeping-{lap}")
        await asyncio.sleep(0.001)
    return "done"


async def ends(io: ringtape.Worker) -> str:
    return await works(io, LAPS)


def computes(io: ringtape.BlockingWorker) -> None:
    """Worker 0 computes, and never looks at what comes from the coordinator; the others wait for a timer."""
    io.disks[0].write(io.index * REGION, bytes(BLOCK))
    tell(io.arguments, f"{io.index}-begun")
    while io.index == 0:
        pass
    io.sleep(1000)


def exits(io: ringtape.BlockingWorker) -> None:
    """Worker 1 ends its process."""
    io.disks[0].write(io.index * REGION, bytes(BLOCK))
    if io.index == 1:
        os._exit(7)
    io.sleep(1000)


def exits_early_or_late(io: ringtape.BlockingWorker) -> None:
    """Worker 1 ends its process: when worker 0 is done if there is a pipe "go", before it begins if one "gone"."""
    io.disks[0].write(io.index * REGION, bytes(BLOCK))
    go, gone = Path(f"{io.arguments}.go"), Path(f"{io.arguments}.gone")
    if io.index == 1:
        _held = gone.open("w") if gone.exists() else None
        if go.exists():
            go.write_bytes(b"")
            go.read_bytes()
        os._exit(7)
    if go.exists():
        go.read_bytes()  # so that what worker 1 does comes first on the tape
    if gone.exists():
        gone.read_bytes()  # which comes to its end with the process that holds the other end
    for block in range(16):
        io.disks[0].write(block * BLOCK, bytes(BLOCK))
    if go.exists():
        go.write_bytes(b"")
    io.sleep(1000)


def has_started(io: ringtape.BlockingWorker) -> None:
    """A child process that has nothing of what this one had open."""
    started = subprocess.Popen(CHILD)
    tell(io.arguments, "child", started.pid)
    wait_if_told(io.arguments, "parent")


def has_forked(io: ringtape.BlockingWorker) -> None:
    """A child process that holds all that this one had open, its link to the coordinator too."""
    forked = os.fork()
    if forked == 0:
        signal.pause()
        os._exit(1)
    tell(io.arguments, "child", forked)
    wait_if_told(io.arguments, "parent")
