"""A program that looks at how its disk is open."""

from __future__ import annotations

import os
from pathlib import Path

import ringtape


def direct(io: ringtape.BlockingWorker) -> list[bool]:
    """Is each descriptor of the disk's file O_DIRECT? Its path is the argument."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") != io.arguments:
                continue
            lines = Path(f"/proc/self/fdinfo/{name}").read_text().splitlines()
        except FileNotFoundError:  # that of the folder itself
            continue
        (flags,) = (int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
        found.append(bool(flags & os.O_DIRECT))
    io.disks[0].read(0, 4096)
    return found
