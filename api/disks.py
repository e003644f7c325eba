"""What a user says of a disk, and getting disks ready for a run: found or made, claimed, in the right contents.

Nothing on a disk is touched but what the user asked for: a fresh disk and one that the recording itself made begin as
zeros; everything else is only read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ringtape.engine import claims, contents
from ringtape.engine.disks import parse_size, probe
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.errors import DiskError

_NAME = re.compile(r"[A-Za-z0-9_.-]+")
DISKS_MAX = 1024


@dataclass(frozen=True)
class Disk:
    """A disk of a run.

    Attributes:
        name: what the program calls it: letters, digits, `_`, `.` and `-`.
        path: a regular file or a block device.
        size: bytes, or text such as "64M" (powers of 1024); makes the file, sparse, where it is missing.
        fresh: every run starts from zeros, a replay too. What the disk held is lost.
        force: use a block device although it is mounted, claimed, or carries a file system or partition table.
    """

    name: str
    path: str | os.PathLike[str]
    size: int | str | None = None
    fresh: bool = False
    force: bool = False

    @classmethod
    def parse(cls, text: str) -> Disk:
        """`NAME=PATH[,size=64M][,fresh][,force]`, as on the command line; `DiskError` if it is not that."""
        name, equals, rest = text.partition("=")
        path, *options = rest.split(",")
        if not equals or not path:
            raise DiskError(f"--disk {text}: expected NAME=PATH[,size=64M][,fresh][,force]")
        size: str | None = None
        flags = {"fresh": False, "force": False}
        for option in options:
            if option.startswith("size="):
                size = option.removeprefix("size=")
            elif option in flags:
                flags[option] = True
            else:
                raise DiskError(f"--disk {text}: unknown option {option!r}; there are size=, fresh and force")
        return cls(name, path, size, **flags)

    def size_bytes(self) -> int | None:
        """The size in bytes; `DiskError` if it is none."""
        if self.size is None:
            return None
        try:
            size = parse_size(self.size) if isinstance(self.size, str) else int(self.size)
        except DiskError as error:
            raise DiskError(f"disk {self.name!r}: {error}") from None
        if size <= 0:
            raise DiskError(f"disk {self.name!r}: size {self.size} must be positive")
        return size


@contextlib.contextmanager
def prepared(disks: Iterable[Disk], *, fingerprints: bool) -> Iterator[list[tape_pb2.DiskHeader]]:
    """The disks of a recording or a plain run, claimed until the context ends; `DiskError` in one line."""
    given = [replace(disk, path=os.path.abspath(os.fspath(disk.path))) for disk in disks]
    _check_names([disk.name for disk in given])
    with contextlib.ExitStack() as stack:
        headers = []
        with _unmade_on_error() as made_files:
            for disk in given:
                path = os.fspath(disk.path)
                made = _make_if_missing(disk, path)
                if made:
                    made_files.append(path)
                headers.append(_prepare(disk, path, stack, made=made, fingerprint=fingerprints))
            _check_paths(headers)
        # Only now is it certain that no disk is refused: nothing has been changed before.
        for disk, header in zip(given, headers, strict=True):
            if disk.fresh:
                _zero_fresh(disk, header)
        yield headers


@contextlib.contextmanager
def _unmade_on_error() -> Iterator[list[str]]:
    """Files that are entered in the list are removed again if the context ends with an error."""
    made: list[str] = []
    try:
        yield made
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise


def _check_names(names: list[str]) -> None:
    if len(names) > DISKS_MAX:
        raise DiskError(f"a run has at most {DISKS_MAX} disks, not {len(names)}")
    seen = set()
    for name in names:
        if not _NAME.fullmatch(name):
            raise DiskError(f"disk name {name!r}: a name is letters, digits, '_', '.' and '-'")
        if name in seen:
            raise DiskError(f"disk name {name!r} is given twice")
        seen.add(name)


def _check_paths(headers: list[tape_pb2.DiskHeader]) -> None:
    for i, one in enumerate(headers):
        for other in headers[:i]:
            if claims.identity(one.path) == claims.identity(other.path):
                raise DiskError(f"disks {other.name!r} and {one.name!r} are the same: {one.path}")
            if claims.same_storage(one.path, other.path):
                raise DiskError(
                    f"disks {other.name!r} and {one.name!r} are the same storage: {other.path} and {one.path}"
                )


def _make_if_missing(disk: Disk, path: str) -> bool:
    size = disk.size_bytes()
    if size is None or os.path.lexists(path):
        return False
    contents.make_file(path, size, name=disk.name)
    return True


def _prepare(
    disk: Disk, path: str, stack: contextlib.ExitStack, *, made: bool, fingerprint: bool
) -> tape_pb2.DiskHeader:
    size = disk.size_bytes()
    if disk.fresh and size is not None and os.path.isfile(path) and os.path.getsize(path) == 0:
        contents.zero(path, size, False, name=disk.name)
    geometry = probe(path, disk.name)
    if size is not None and not (disk.fresh and not geometry.block_device) and size != geometry.size:
        raise DiskError(
            f"disk {disk.name!r} ({path}) has {geometry.size} bytes, not size={disk.size}; leave size= out to use it "
            "as it is"
        )
    stack.enter_context(claims.claim(disk.name, path, force=disk.force))
    header = tape_pb2.DiskHeader(
        name=disk.name,
        path=path,
        size=size if disk.fresh and size is not None else geometry.size,
        block_size=geometry.block_size,
        direct=geometry.direct,
        block_device=geometry.block_device,
        fresh=disk.fresh,
        made=made and not disk.fresh,
        inode=geometry.inode if made else 0,
    )
    if header.size % geometry.block_size:
        raise DiskError(
            f"disk {disk.name!r} ({path}): size {header.size} is not a multiple of its block size {geometry.block_size}"
        )
    if fingerprint and not disk.fresh:
        header.initial.CopyFrom(fingerprint_of(header))
    return header


def _zero_fresh(disk: Disk, header: tape_pb2.DiskHeader) -> None:
    contents.zero(header.path, header.size, header.block_device, name=disk.name)


def fingerprint_of(header: tape_pb2.DiskHeader) -> tape_pb2.Fingerprint:
    """What the disk holds now."""
    found = contents.fingerprint(header.path, header.size, name=header.name)
    return tape_pb2.Fingerprint(method=found.method, digest=found.digest, bytes_read=found.bytes_read)


@contextlib.contextmanager
def prepared_again(
    headers: Iterable[tape_pb2.DiskHeader],
    overrides: Iterable[Disk],
    left: Mapping[int, tape_pb2.Fingerprint],
    *,
    force: bool,
) -> Iterator[list[tape_pb2.DiskHeader]]:
    """The disks of a replay, claimed, with the contents that the recording began with.

    `left` has, for disks that the recording made, what it left on them. With `force` other contents are accepted.
    """
    recorded = list(headers)
    named = {disk.name: disk for disk in overrides}
    unknown = sorted(set(named) - {header.name for header in recorded})
    if unknown:
        known = ", ".join(header.name for header in recorded) or "none"
        raise DiskError(f"the tape has no disk {unknown[0]!r}; its disks are: {known}")
    with contextlib.ExitStack() as stack:
        again: list[tape_pb2.DiskHeader] = []
        begin: list[bool] = []
        with _unmade_on_error() as made_files:
            for index, header in enumerate(recorded):
                override = named.get(header.name)
                one, zero = _prepare_again(header, override, left.get(index), stack, made_files, force=force)
                again.append(one)
                begin.append(zero)
            _check_paths(again)
        for one, zero in zip(again, begin, strict=True):
            if zero:
                contents.zero(one.path, one.size, one.block_device, name=one.name)
        yield again


def _prepare_again(
    header: tape_pb2.DiskHeader,
    override: Disk | None,
    left: tape_pb2.Fingerprint | None,
    stack: contextlib.ExitStack,
    made_files: list[str],
    *,
    force: bool,
) -> tuple[tape_pb2.DiskHeader, bool]:
    """The disk for a replay, and whether it has to be made zeros first."""
    path = os.path.abspath(os.fspath(override.path)) if override is not None else header.path
    zeros_first = header.fresh or header.made
    missing = not os.path.lexists(path)
    if missing and (zeros_first or (override is not None and override.size is not None)):
        contents.make_file(path, header.size, name=header.name)
        made_files.append(path)
    geometry = probe(path, header.name)
    larger_device = geometry.block_device and geometry.size > header.size
    made_anew = header.fresh and override is None and not geometry.block_device
    if geometry.size != header.size and not larger_device and not made_anew:
        raise DiskError(
            f"disk {header.name!r} ({path}) has {geometry.size} bytes; the recording's had {header.size}"
        )
    if header.block_size % geometry.block_size:
        raise DiskError(
            f"disk {header.name!r} ({path}) has blocks of {geometry.block_size} bytes; the recording's had "
            f"{header.block_size}, and its requests would not be aligned"
        )
    force_claim = override.force if override is not None else force
    stack.enter_context(claims.claim(header.name, path, force=force_claim))
    again = tape_pb2.DiskHeader()
    again.CopyFrom(header)
    again.path = path
    again.direct = geometry.direct
    again.block_device = geometry.block_device
    if missing:
        return again, False
    return again, _needs_zeros(again, geometry.inode, override, left, force=force)


def _needs_zeros(
    header: tape_pb2.DiskHeader,
    inode: int,
    override: Disk | None,
    left: tape_pb2.Fingerprint | None,
    *,
    force: bool,
) -> bool:
    """May (and must) the disk be zeroed for a replay? Raises `DiskError` if it holds something else to keep."""
    if override is not None and override.fresh:
        return True
    if header.fresh:
        # The same disk as in the recording, or one that has nothing to lose.
        if override is None or contents.is_zero(header.path, header.size, name=header.name):
            return override is None
        raise DiskError(
            f"disk {header.name!r} ({header.path}) is not empty, and this replay starts from zeros: "
            f"say --disk {header.name}={header.path},fresh to give up what it holds"
        )
    now = fingerprint_of(header)
    if now.digest == header.initial.digest:
        return False
    # A file that the recording made holds what the recording left there; a cut tape does not know what that was.
    if (
        header.made
        and override is None
        and inode == header.inode
        and (left is None or left.digest == now.digest)
    ):
        return True
    if force:
        return False
    raise DiskError(
        f"disk {header.name!r} ({header.path}) does not hold what it held when the recording began: restore it, name "
        f"another with --disk {header.name}=PATH, record with `fresh`, or replay all the same with --force"
    )


def start_message(header: tape_pb2.DiskHeader) -> wire_pb2.WorkerDisk:
    """What a worker is told of a disk."""
    return wire_pb2.WorkerDisk(
        name=header.name,
        path=header.path,
        size=header.size,
        block_size=header.block_size,
        direct=header.direct,
        block_device=header.block_device,
    )
