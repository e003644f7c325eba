"""Which disk each device of a trace is replayed on, and where on it: what the user says, held against what there is.

It knows names and places, and nothing of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ringtape.proto.errors import TraceError

#: Stands for every device that is not named.
OTHERS = "*"
# Of so many names a message shows.
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Entry:
    """One device, or all others, and where it goes: its byte 0 is byte `offset` of the disk."""

    device: str
    disk: str
    offset: int = 0


def resolved(
    entries: Sequence[Entry], devices: Sequence[str], disks: Sequence[str], *, trace: str
) -> list[Entry]:
    """For each device, in that order, where it goes; `TraceError` where that is not said or cannot be.

    A device that no entry names goes where `*` says, or else to the disk of its name. One device and one disk go
    together without a word.
    """
    _check(entries, devices, disks, trace)
    named = {entry.device: entry for entry in entries}
    if not entries and len(devices) == len(disks) == 1:
        return [Entry(devices[0], disks[0])]
    found: list[Entry] = []
    missing: list[str] = []
    for device in devices:
        entry = named.get(device) or named.get(OTHERS)
        if entry is not None:
            found.append(Entry(device, entry.disk, entry.offset))
        elif device in disks:
            found.append(Entry(device, device))
        else:
            missing.append(device)
    if missing:
        many = "s" if len(missing) > 1 else ""
        raise TraceError(
            f"{trace}: no disk is named for device{many} {listed(missing)} of the trace: say --map DEVICE=DISK for "
            f"each, or --map '{OTHERS}={disks[0] if disks else 'DISK'}' for all"
        )
    idle = [disk for disk in disks if disk not in {entry.disk for entry in found}]
    if idle:
        raise TraceError(
            f"{trace}: no device of the trace goes to disk {listed(idle)}; its devices are {listed(devices)}"
        )
    return found


def _check(entries: Sequence[Entry], devices: Sequence[str], disks: Sequence[str], trace: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.device in seen:
            raise TraceError(f"device {entry.device!r} is mapped twice")
        seen.add(entry.device)
        if entry.disk not in disks:
            raise TraceError(
                f"device {entry.device!r} is mapped onto disk {entry.disk!r}, which is not among the disks: "
                f"{listed(disks) or 'none'}"
            )
        if entry.device not in devices and entry.device != OTHERS:
            raise TraceError(f"{trace} has no device {entry.device!r}; it has {listed(devices)}")


def listed(names: Sequence[str]) -> str:
    """The first few of the names."""
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else "")
