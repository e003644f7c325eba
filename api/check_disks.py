"""The disks of a determinism check: what holds something is run on as a copy, and the original is only read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import replace

from ringtape.disks import Disk, checked
from ringtape.engine import claims
from ringtape.engine.copying import copy_to_new
from ringtape.engine.disks import explained, probe
from ringtape.proto.errors import DiskError


class CheckDisks:
    """The disks for the recording of a check; its replays begin with the snapshots that the recording keeps.

    Disks that are `fresh` begin as zeros by themselves, and so do those that a run makes: they are where the user says.
    """

    def __init__(self, disks: Iterable[Disk], folder: str) -> None:
        """Copies into the folder, where the snapshots go too; DiskError for what cannot be copied."""
        self.disks: list[Disk] = []
        #: Is there a copy?
        self.copied = False
        given = checked(disks)
        self._missing = [os.fspath(disk.path) for disk in given if not os.path.lexists(disk.path)]
        _refuse_the_same(given)
        for disk in given:
            path = os.fspath(disk.path)
            if disk.fresh or path in self._missing:
                self.disks.append(replace(disk, snapshot=None, undo=False))
                continue
            if probe(path, disk.name).block_device:
                raise DiskError(
                    f"disk {disk.name!r} ({path}): a check would have to put back what a block device holds before "
                    "each of its replays; say fresh to give it up, or name a copy in a file"
                )
            copy = os.path.join(folder, f"{disk.name}.img")
            with claims.claim(disk.name, path, force=disk.force):
                _copy(path, copy, disk.name)
            self.copied = True
            self.disks.append(replace(disk, path=copy, snapshot=folder, undo=False))

    def remove_made(self) -> None:
        """Remove what the runs made where nothing was."""
        for path in self._missing:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _refuse_the_same(disks: list[Disk]) -> None:
    there = [disk for disk in disks if os.path.exists(disk.path)]
    for i, one in enumerate(there):
        for other in there[:i]:
            if claims.same_storage(os.fspath(one.path), os.fspath(other.path)):
                raise DiskError(
                    f"disks {other.name!r} and {one.name!r} are the same storage: {other.path} and {one.path}"
                )


def _copy(path: str, target: str, name: str) -> None:
    try:
        with open(target, "xb") as copy:
            copy_to_new(path, os.path.getsize(path), copy.fileno(), name=name)
    except OSError as error:
        raise explained(error, name, target) from error
