"""Snapshots: the initial contents of a disk, kept as a file for the replays, and the copies that replays begin with.

A file that is not whole, or that nobody will want, never has a name: until its recording begins a snapshot is a file
without one, and so is a replay's copy as long as it is there. So whatever ends the process leaves neither behind. A
snapshot replaces another only if the tape that its recording replaces names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import xxhash

from ringtape.coordinator.tape import TapeReader
from ringtape.engine import contents, copying
from ringtape.engine.disks import Geometry, probe
from ringtape.nameless import Nameless
from ringtape.proto import tape_pb2
from ringtape.proto.errors import DiskError, TapeError

if TYPE_CHECKING:
    from ringtape.disks import Disk

# How far a copy is: the disk's name, bytes done, bytes in all.
OnCopy = Callable[[str, int, int], None]
NAMES_MAX = 1000


class Taken(Nameless):
    """A snapshot that was taken and has no name yet."""

    def __init__(self, header: tape_pb2.DiskHeader, path: str, *, own: bool, on_copy: OnCopy | None) -> None:
        """The contents of the disk now, to be called `path`. Raises DiskError."""
        self._disk, self._path, self._own = header.name, path, own
        folder = os.path.dirname(path)
        try:
            super().__init__(folder)
        except OSError as error:
            raise _cannot_keep(header.name, folder, error) from error
        try:
            on_bytes = None if on_copy is None else _bytes_of(on_copy, header.name)
            copying.copy_to_new(header.path, header.size, self.fd, name=header.name, on_bytes=on_bytes)
        except OSError as error:
            self.close()
            raise _cannot_keep(header.name, folder, error) from error
        except BaseException:
            self.close()
            raise

    def publish(self) -> None:
        """The recording begins: the snapshot gets its name. Raises DiskError."""
        try:
            self.name(self._path, replace=self._own)
        except OSError as error:
            raise _cannot_keep(self._disk, os.path.dirname(self._path), error) from error
        finally:
            self.close()


class Copy(Nameless):
    """What a replay begins with in the place of the disk."""

    def __init__(self, header: tape_pb2.DiskHeader, *, force: bool, on_copy: OnCopy | None) -> None:
        """A copy of the tape's snapshot, beside it. Raises DiskError where it is missing or has changed."""
        check_there(header)
        self._header = header
        folder = os.path.dirname(header.snapshot)
        try:
            super().__init__(folder)
        except OSError as error:
            raise _cannot_copy(header, error) from error
        try:
            self.forget_name()
            on_bytes = None if on_copy is None else _bytes_of(on_copy, header.name)
            copying.copy_to_new(header.snapshot, header.size, self.fd, name=header.name, on_bytes=on_bytes)
            if not force:
                check_contents(header, self.path)
        except OSError as error:
            self.close()
            raise _cannot_copy(header, error) from error
        except BaseException:
            self.close()
            raise

    def stand_in(self) -> tuple[tape_pb2.DiskHeader, Geometry, bool]:
        """The disk of the replay, its geometry, and that it was not missing."""
        geometry = probe(self.path, self._header.name)
        again = tape_pb2.DiskHeader()
        again.CopyFrom(self._header)
        again.path = self.path
        # Requests of the recording's blocks may be too small for direct I/O there; the page cache takes them all.
        again.direct &= geometry.direct and again.block_size % geometry.block_size == 0
        again.block_device = False
        again.undo = False  # it goes away at the end
        return again, geometry, False


def check_asked(disk: Disk, *, recording: bool) -> None:
    """Does what the user wants to keep of a disk make sense?"""
    wanted = "undo" if disk.undo else "" if disk.snapshot is None else "snapshot"
    if not wanted:
        return
    if not recording:
        raise DiskError(f"disk {disk.name!r}: {wanted} is for a recording; leave it out here")
    if disk.fresh:
        raise DiskError(
            f"disk {disk.name!r}: fresh gives up what the disk holds, and {wanted} keeps it; leave one out"
        )
    if disk.snapshot is not None and not os.fspath(disk.snapshot):
        raise DiskError(f"disk {disk.name!r}: snapshot= wants a folder")


def check_there(header: tape_pb2.DiskHeader) -> None:
    """Raise DiskError if the tape's snapshot of this disk is missing or of another size."""
    what = f"disk {header.name!r}: the snapshot of its initial contents, {header.snapshot}"
    advice = f"restore it, or name a disk that holds them with --disk {header.name}=PATH"
    try:
        size = os.stat(header.snapshot).st_size
    except OSError as error:
        raise DiskError(f"{what}, is not there ({error.strerror}); {advice}") from None
    if size != header.size:
        raise DiskError(f"{what}, has {size} bytes, not {header.size}; {advice}")


def check_contents(header: tape_pb2.DiskHeader, path: str) -> None:
    """Raise DiskError if the snapshot, or the copy of it at `path`, is not what the disk held."""
    found = contents.fingerprint(path, header.size, name=header.name)
    if found.digest != header.initial.digest:
        raise DiskError(
            f"disk {header.name!r}: the snapshot of its initial contents, {header.snapshot}, has changed; restore it, "
            f"or name a disk that holds them with --disk {header.name}=PATH"
        )


class Names:
    """What snapshots of one tape are called."""

    def __init__(self, tape: str) -> None:
        """The tape need not be there; one that is there names the snapshots that may be replaced."""
        path = os.path.abspath(tape)
        digest = xxhash.xxh3_64_hexdigest(os.fsencode(path))[:8]
        self._stem = f"{os.path.basename(path)}-{digest}"
        self._replaced = _snapshots_of(path)

    def choose(self, disk: str, folder: str) -> tuple[str, bool]:
        """The path of the disk's snapshot in the folder, and whether it replaces the old tape's. Raises DiskError."""
        path = os.path.abspath(folder)
        if not os.path.isdir(path):
            raise DiskError(
                f"disk {disk!r}: its snapshot folder {path} does not exist; make the folder first"
            )
        for number in range(1, NAMES_MAX):
            mark = "" if number == 1 else f"-{number}"
            chosen = os.path.join(path, f"{self._stem}{mark}.{disk}.snapshot")
            own = chosen in self._replaced
            if own or not os.path.lexists(chosen):
                return _as_text(chosen, disk), own
        raise DiskError(f"disk {disk!r}: {path} is full of snapshots of {self._stem}; remove some")


def _snapshots_of(tape: str) -> Collection[str]:
    if not os.path.exists(tape):
        return ()
    try:
        with TapeReader.open(tape) as reader:
            return {disk.snapshot for disk in reader.header.disks if disk.snapshot}
    except TapeError:
        return ()  # whoever writes the tape says what is wrong with it


def _as_text(path: str, disk: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DiskError(
            f"disk {disk!r}: the path of its snapshot, {path!r}, is not UTF-8 text, which is what a tape keeps"
        ) from None
    return path


def _bytes_of(on_copy: OnCopy, disk: str) -> copying.OnBytes:
    return lambda done, size: on_copy(disk, done, size)


def _cannot_keep(disk: str, folder: str, error: OSError) -> DiskError:
    return DiskError(
        f"disk {disk!r}: its initial contents cannot be kept in {folder}: {error.strerror}; make room or give another "
        "folder"
    )


def _cannot_copy(header: tape_pb2.DiskHeader, error: OSError) -> DiskError:
    return DiskError(
        f"disk {header.name!r}: no copy of its snapshot can be made in {os.path.dirname(header.snapshot)}: "
        f"{error.strerror}; make room, or give a disk to copy it to with --disk {header.name}=PATH,fresh"
    )
