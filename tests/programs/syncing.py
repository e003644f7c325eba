"""Programs that tell through a pipe, whose path is their argument, how far they are, for the tests of what survives."""

from __future__ import annotations

import ringtape

BLOCK = 4096


def some_reads(io: ringtape.BlockingWorker) -> None:
    for number in range(10):
        io.disks[0].read(number * BLOCK, BLOCK)


def tell(path: str, what: str) -> None:
    with open(path, "a") as pipe:
        pipe.write(f"{what}\n")


def tells_each(io: ringtape.BlockingWorker) -> None:
    """Goes on until it is killed; tells whenever it was given something."""
    (path,) = io.arguments
    number = 0
    while True:
        number += 1
        io.disks[0].write(number % 8 * BLOCK, bytes([number % 256]) * BLOCK)
        tell(path, f"given {number}")


def writes_and_waits(io: ringtape.BlockingWorker) -> None:
    (path,) = io.arguments
    io.disks[0].write(0, bytes(BLOCK))
    tell(path, "waiting")
    io.sleep(1000)
