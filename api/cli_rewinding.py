"""What `ringtape rewind` prints."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from ringtape import console
from ringtape.rewinding import RewoundDisk, rewind

if TYPE_CHECKING:
    from ringtape.disks import Disk


def print_rewind(tape: str, disks: list[Disk], *, force: bool, as_json: bool) -> None:
    """Rewind, and print what was put back. Raises what `rewind` raises."""
    with console.shown_bytes(f"rewinding {tape}") as on_progress:
        rewound = rewind(tape, disks=disks, force=force, on_progress=on_progress)
    if as_json:
        print(json.dumps({"tape": tape, "disks": [dataclasses.asdict(disk) for disk in rewound]}))
        return
    console.print_facts(f"rewound {tape}", {disk.name: _in_words(disk) for disk in rewound})


def _in_words(disk: RewoundDisk) -> str:
    holds = "holds what it held" if disk.exact else "does NOT hold what it held"
    return f"{disk.path}: {disk.bytes:,} bytes in {disk.ranges:,} ranges; {holds} when the recording began"
