"""Real block devices for tests: loop devices, file systems on them, partitions. All of it is undone at the end."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_loop_devices = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control") or shutil.which("losetup") is None,
    reason="loop devices need root, /dev/loop-control and losetup",
)


def run(*command: str) -> str:
    """What a tool prints. A tool that is not there skips the test; one that fails, fails it."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout.strip()


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@contextmanager
def loop_device(file: Path, *options: str) -> Iterator[str]:
    """The path of a loop device attached to the file."""
    device = run("losetup", "--find", "--show", *options, str(file))
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


@contextmanager
def partitioned(file: Path, *partitions: tuple[int, int]) -> Iterator[list[str]]:
    """A loop device with an MBR with Linux partitions, each (first sector, sectors), and their devices."""
    table = b"".join(struct.pack("<B3sB3sII", 0, bytes(3), 0x83, bytes(3), *entry) for entry in partitions)
    with file.open("r+b") as disk:
        disk.seek(446)
        disk.write(table.ljust(64, b"\0") + b"\x55\xaa")
    with loop_device(file, "--partscan") as device:
        nodes = [f"{device}p{number}" for number in range(1, len(partitions) + 1)]
        by_kernel = os.path.exists(nodes[0])  # if it was built to read such tables
        if not by_kernel:
            run("partx", "--add", device)
        try:
            yield [device, *nodes]
        finally:
            if not by_kernel:
                run("partx", "--delete", device)


@contextmanager
def mounted(what: str, where: Path, *options: str) -> Iterator[Path]:
    """The folder at which it is mounted; skips where mounting is forbidden, as in most containers."""
    where.mkdir()
    done = subprocess.run(["mount", *options, what, str(where)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")
    try:
        yield where
    finally:
        run("umount", str(where))
