"""The disks of a determinism check: what one begins with again and again is a copy, and the original is only read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ringtape.disks import Disk
from ringtape.engine import claims
from ringtape.engine.disks import explained, probe
from ringtape.proto.errors import DiskError

_FICLONE = 0x40049409
_PIECE_BYTES = 1 << 30


@dataclass(frozen=True)
class _Copied:
    name: str
    initial: str
    work: str


class CheckDisks:
    """The disks for the runs of a check, in a folder of its own where they are copies.

    Disks that are `fresh` begin as zeros by themselves, and so do those that a run makes: they are where the user says.
    """

    def __init__(self, disks: Iterable[Disk], folder: str) -> None:
        """Copies; DiskError for what cannot be copied."""
        self.disks: list[Disk] = []
        self._copied: list[_Copied] = []
        given = list(disks)
        self._missing = [os.fspath(disk.path) for disk in given if not os.path.lexists(disk.path)]
        _refuse_the_same(given)
        for disk in given:
            path = os.fspath(disk.path)
            if disk.fresh or path in self._missing:
                self.disks.append(disk)
                continue
            if probe(path, disk.name).block_device:
                raise DiskError(
                    f"disk {disk.name!r} ({path}): a check would have to put back what a block device holds before "
                    "each of its replays; say fresh to give it up, or name a copy in a file"
                )
            copied = _Copied(
                disk.name,
                os.path.join(folder, f"{disk.name}.initial"),
                os.path.join(folder, f"{disk.name}.img"),
            )
            with claims.claim(disk.name, path, force=disk.force):
                _copy(path, copied.initial, disk.name)
            self._copied.append(copied)
            self.disks.append(replace(disk, path=copied.work))
        self.put_back()

    def put_back(self) -> None:
        """Let the copies hold again what they began with."""
        for one in self._copied:
            _copy(one.initial, one.work, one.name)

    @property
    def copied(self) -> bool:
        """Is there a copy?"""
        return bool(self._copied)

    def put_back_command(self) -> str:
        """What a shell does to put the copies back; empty without any."""
        return " && ".join(
            f"cp --sparse=always {shlex.quote(one.initial)} {shlex.quote(one.work)}" for one in self._copied
        )

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


def _copy(source: str, target: str, name: str) -> None:
    """Make `target` a copy of the file, by sharing its blocks where the file system can; holes stay holes."""
    try:
        with open(source, "rb") as original, open(target, "wb") as copy:
            try:
                fcntl.ioctl(copy, _FICLONE, original.fileno())
            except OSError:
                _copy_data(original.fileno(), copy.fileno())
    except OSError as error:
        raise explained(error, name, target) from error


def _copy_data(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # a hole up to the end
            return
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            at += os.sendfile(target, source, at, min(end - at, _PIECE_BYTES))
