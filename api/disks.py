"""What a user says of a disk, and getting disks ready for a run: found or made, claimed, in the right contents.

Nothing on a disk is touched but what the user asked for: a fresh disk and one that the recording itself made begin as
zeros; everything else is only read.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ringtape import initial
from ringtape.engine import claims, contents, copying, marks
from ringtape.engine.disks import Geometry, parse_size, probe
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
        workers: indexes of the workers that use it; None is all of them. A disk of several workers is shared: each
            request on it is admitted by the coordinator, so that conflicting ones keep one order. A disk of one worker
            needs no such round trip.
        snapshot: a folder; a recording keeps there what the disk held, and replays begin with a copy of that.
        undo: a recording puts on the tape what each range held before its first change; `rewind` puts it back.
        buffered: requests go through the page cache, without O_DIRECT; a replay of the recording does the same.
    """

    name: str
    path: str | os.PathLike[str]
    size: int | str | None = None
    fresh: bool = False
    force: bool = False
    workers: Sequence[int] | None = None
    snapshot: str | os.PathLike[str] | None = None
    undo: bool = False
    buffered: bool = False

    @classmethod
    def parse(cls, text: str) -> Disk:
        """`NAME=PATH` and options after commas, as on the command line; `DiskError` if it is not that."""
        name, equals, rest = text.partition("=")
        path, *options = rest.split(",")
        if not equals or not path:
            raise DiskError(
                f"--disk {text}: expected NAME=PATH[,size=64M][,fresh][,force][,workers=0+2][,snapshot=DIR][,undo]"
                "[,buffered]"
            )
        size: str | None = None
        workers: list[int] | None = None
        snapshot: str | None = None
        flags = {"fresh": False, "force": False, "undo": False, "buffered": False}
        names = [option.partition("=")[0] for option in options]
        for option_name in names:
            if names.count(option_name) > 1:
                raise DiskError(f"--disk {text}: {option_name} is given twice")
        for option in options:
            if option.startswith("size="):
                size = option.removeprefix("size=")
            elif option.startswith("workers="):
                workers = _indexes(text, option.removeprefix("workers="))
            elif option.startswith("snapshot="):
                snapshot = option.removeprefix("snapshot=")
            elif option in flags:
                flags[option] = True
            else:
                raise DiskError(
                    f"--disk {text}: unknown option {option!r}; there are size=, fresh, force, workers=, snapshot=, "
                    "undo and buffered"
                )
        return cls(name, path, size, workers=workers, snapshot=snapshot, **flags)

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


class Prepared(list[tape_pb2.DiskHeader]):
    """The disks of a run, found or made, and claimed. Nothing on a disk has been changed before `begin`."""

    def __init__(self) -> None:
        #: Files that this run made. They go again if the run ends with an error before it has begun.
        self.made_files: list[str] = []
        self.began = False
        #: Those that begin as zeros.
        self.zeros_first: list[tape_pb2.DiskHeader] = []
        #: Those to which their snapshot is copied first.
        self.restored_first: list[tape_pb2.DiskHeader] = []
        #: Snapshots that were taken for this recording.
        self.snapshots: list[initial.Taken] = []
        #: Of a replay: by index, what the tape has of a disk that a copy of its snapshot stands for.
        self.copied: dict[int, tape_pb2.DiskHeader] = {}
        self.on_copy: initial.OnCopy | None = None
        #: Of a replay: files that begin as zeros, by whoever's hand, and are marked with what it leaves on them.
        self.marked: list[tape_pb2.DiskHeader] = []

    def add(self, header: tape_pb2.DiskHeader, *, zeros_first: bool) -> None:
        """One more disk."""
        self.append(header)
        if zeros_first:
            self.zeros_first.append(header)

    def begin(self) -> None:
        """Give the disks what they begin with: nothing is left that could refuse the run."""
        for snapshot in self.snapshots:
            snapshot.publish()
        self.began = True
        for header in self.restored_first:
            copying.overwrite(
                header.snapshot, header.path, header.size, header.block_device, name=header.name
            )
        for header in self.zeros_first:
            contents.zero(header.path, header.size, header.block_device, name=header.name)


def _indexes(disk: str, text: str) -> list[int]:
    try:
        return [int(index) for index in text.split("+")]
    except ValueError:
        raise DiskError(
            f"--disk {disk}: workers={text} is not indexes of workers with + between: workers=0+2"
        ) from None


def checked(disks: Iterable[Disk]) -> list[Disk]:
    """The disks; `DiskError` if they are something else."""
    if isinstance(disks, Disk):
        raise DiskError(f"disks is one disk, {disks.name!r}: give a list of them")
    given: list[object] = list(disks)
    for disk in given:
        if not isinstance(disk, Disk):
            raise DiskError(f"{disk!r} is not a ringtape.Disk; Disk.parse makes one of text")
    return list(cast("list[Disk]", given))


def path_of(disk: Disk) -> str:
    """The disk's absolute path; `DiskError` if a tape cannot keep it."""
    path = os.path.abspath(os.fspath(disk.path))
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DiskError(
            f"disk {disk.name!r} ({path!r}): the path is not UTF-8 text, which is what a tape keeps; give a link to it"
        ) from None
    return path


@contextlib.contextmanager
def prepared(
    disks: Iterable[Disk], *, workers: int, tape: str | None, on_copy: initial.OnCopy | None = None
) -> Iterator[Prepared]:
    """The disks of a recording or a plain run (`tape` is None), claimed until the context ends.

    Raises `DiskError` in one line. `on_copy` hears how far the snapshots are.
    """
    given = [replace(disk, path=path_of(disk)) for disk in checked(disks)]
    for disk in given:
        initial.check_asked(disk, recording=tape is not None)
    names = initial.Names(tape) if tape is not None and any(disk.snapshot for disk in given) else None
    _check_names([disk.name for disk in given])
    for disk in given:
        _check_workers(disk, workers)
    with contextlib.ExitStack() as stack, _unmade_unless_begun() as headers:
        for disk in given:
            path = os.fspath(disk.path)
            made = _make_if_missing(disk, path)
            if made:
                headers.made_files.append(path)
            headers.add(_look_at(disk, path, made=made), zeros_first=disk.fresh)
        _check_paths(headers)
        for disk, header in zip(given, headers, strict=True):
            stack.enter_context(claims.claim(header.name, header.path, force=disk.force))
            if tape is not None and not header.fresh:
                header.initial.CopyFrom(fingerprint_of(header))
            if names is not None and disk.snapshot is not None:
                header.snapshot, own = names.choose(disk.name, os.fspath(disk.snapshot))
                taken = initial.Taken(header, header.snapshot, own=own, on_copy=on_copy)
                headers.snapshots.append(stack.enter_context(taken))
        yield headers


@contextlib.contextmanager
def _unmade_unless_begun() -> Iterator[Prepared]:
    """A run that fails before its programs begin leaves no file behind that was made for it."""
    headers = Prepared()
    try:
        yield headers
    except BaseException:
        for path in [] if headers.began else headers.made_files:
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


def _check_workers(disk: Disk, workers: int) -> None:
    if disk.workers is None:
        return
    if not isinstance(disk.workers, Collection) or isinstance(disk.workers, (str, bytes)):
        raise DiskError(f"disk {disk.name!r}: workers is {disk.workers!r}; give a list of indexes, [0, 2]")
    if not disk.workers:
        raise DiskError(f"disk {disk.name!r}: workers is empty; leave it out for all of them")
    for index in disk.workers:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < workers:
            raise DiskError(
                f"disk {disk.name!r}: there is no worker {index!r}; the run's workers are 0 to {workers - 1}"
            )
    if len(set(disk.workers)) != len(disk.workers):
        raise DiskError(f"disk {disk.name!r}: workers names one of them twice: {list(disk.workers)}")


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


def _look_at(disk: Disk, path: str, *, made: bool) -> tape_pb2.DiskHeader:
    size = disk.size_bytes()
    if disk.fresh and size is not None and os.path.isfile(path) and os.path.getsize(path) == 0:
        contents.zero(path, size, False, name=disk.name)
    geometry = probe(path, disk.name)
    if size is not None and not (disk.fresh and not geometry.block_device) and size != geometry.size:
        raise DiskError(
            f"disk {disk.name!r} ({path}) has {geometry.size} bytes, not size={disk.size}; leave size= out to use it "
            "as it is"
        )
    header = tape_pb2.DiskHeader(
        name=disk.name,
        path=path,
        size=size if disk.fresh and size is not None else geometry.size,
        block_size=geometry.block_size,
        direct=geometry.direct and not disk.buffered,
        block_device=geometry.block_device,
        fresh=disk.fresh,
        made=made and not disk.fresh,
        inode=geometry.inode if made else 0,
        workers=sorted(disk.workers or ()),
        undo=disk.undo,
    )
    if header.size % geometry.block_size:
        raise DiskError(
            f"disk {disk.name!r} ({path}): size {header.size} is not a multiple of its block size {geometry.block_size}"
        )
    return header


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
    recording: str,
    force: bool,
    on_copy: initial.OnCopy | None = None,
) -> Iterator[Prepared]:
    """The disks of a replay, claimed, with the contents that the recording began with.

    `left` has, for disks that the recording made, what it left on them, and `recording` says which one it is to replays
    that come later. With `force` other contents are accepted.
    """
    recorded = list(headers)
    named = named_again(recorded, overrides)
    for disk in named.values():
        initial.check_asked(disk, recording=False)
    with contextlib.ExitStack() as stack, _unmade_unless_begun() as again:
        missing, inodes = [], []
        for index, header in enumerate(recorded):
            if header.snapshot and header.name not in named:
                copy = stack.enter_context(initial.Copy(header, force=force, on_copy=on_copy))
                one, geometry, was_missing = copy.stand_in()
                again.copied[index] = header
            else:
                one, geometry, was_missing = _look_again_at(header, named.get(header.name), again.made_files)
            again.append(one)
            missing.append(was_missing)
            inodes.append(geometry.inode)
        _check_paths(again)
        for index, one in enumerate(again):
            if index in again.copied:
                continue  # nobody else can get at it
            override = named.get(one.name)
            force_claim = override is not None and override.force
            stack.enter_context(claims.claim(one.name, one.path, force=force_claim))
            if override is not None and override.fresh and one.snapshot:
                initial.check_there(one)
                if not force:
                    initial.check_contents(one, one.snapshot)
                again.restored_first.append(one)
                continue
            same_file = one.path == recorded[index].path and inodes[index] == one.inode
            if not missing[index] and _needs_zeros(
                one,
                moved=one.path != recorded[index].path,
                give_up=override is not None and override.fresh,
                ours=one.made and same_file,
                left=left.get(index),
                recording=recording,
                force=force,
            ):
                again.zeros_first.append(one)
            elif force and not missing[index]:
                continue  # it may hold anything
            if (one.made or (one.fresh and one.path != recorded[index].path)) and not one.block_device:
                again.marked.append(one)
        stack.callback(_leave_marks, again, recording)
        yield again


def _leave_marks(again: Prepared, recording: str) -> None:
    """The replay has ended, in whatever way: what it left on files that were zeros may be given up for the next one."""
    for header in again.marked if again.began else []:
        marks.leave(header.path, header.size, recording)


def named_again(recorded: list[tape_pb2.DiskHeader], overrides: Iterable[Disk]) -> dict[str, Disk]:
    """Where disks of a tape are now, by name; `DiskError` for one that it does not have."""
    named = {disk.name: disk for disk in overrides}
    unknown = sorted(set(named) - {header.name for header in recorded})
    if unknown:
        known = ", ".join(header.name for header in recorded) or "none"
        raise DiskError(f"the tape has no disk {unknown[0]!r}; its disks are: {known}")
    return named


def _look_again_at(
    header: tape_pb2.DiskHeader, override: Disk | None, made_files: list[str]
) -> tuple[tape_pb2.DiskHeader, Geometry, bool]:
    """The disk for a replay, its geometry, and whether it was missing and had to be made."""
    path = path_of(override) if override is not None else header.path
    begins_as_zeros = header.fresh or header.made
    given_up = override is not None and override.fresh and bool(header.snapshot)
    missing = not os.path.lexists(path)
    if missing and (begins_as_zeros or given_up or (override is not None and override.size is not None)):
        contents.make_file(path, header.size, name=header.name)
        made_files.append(path)
    geometry = probe(path, header.name)
    larger_device = geometry.block_device and geometry.size > header.size
    made_anew = header.fresh and path == header.path and not geometry.block_device
    if geometry.size != header.size and not larger_device and not made_anew:
        raise DiskError(
            f"disk {header.name!r} ({path}) has {geometry.size} bytes; the recording's had {header.size}"
        )
    if header.block_size % geometry.block_size:
        raise DiskError(
            f"disk {header.name!r} ({path}) has blocks of {geometry.block_size} bytes; the recording's had "
            f"{header.block_size}, and its requests would not be aligned"
        )
    again = tape_pb2.DiskHeader()
    again.CopyFrom(header)
    again.path = path
    again.direct = geometry.direct and header.direct and not (override is not None and override.buffered)
    again.block_device = geometry.block_device
    return again, geometry, missing


def _needs_zeros(
    header: tape_pb2.DiskHeader,
    *,
    moved: bool,
    give_up: bool,
    ours: bool,
    left: tape_pb2.Fingerprint | None,
    recording: str,
    force: bool,
) -> bool:
    """May (and must) the disk be zeroed for a replay? Raises `DiskError` if it holds something else to keep.

    `moved`: it is not where it was in the recording. `give_up`: the user gives up what it holds. `ours`: it is the file
    that the recording made, which held what `left` says (None: unknown, the tape was cut) when the recording ended.
    What a replay of the same recording has left is nothing to keep either.
    """
    if give_up:
        return True
    if header.fresh:
        if not moved:
            return True
        if contents.is_zero(header.path, header.size, name=header.name):
            return False
        if marks.holds(header.path, header.size, recording):
            return True
        raise DiskError(
            f"disk {header.name!r} ({header.path}) is not empty, and this replay starts from zeros: "
            f"say --disk {header.name}={header.path},fresh to give up what it holds"
        )
    now = fingerprint_of(header)
    if now.digest == header.initial.digest:
        return False
    if ours and (left is None or left.digest == now.digest):
        return True
    if header.made and marks.holds(header.path, header.size, recording):
        return True
    if force:
        return False
    restore = "put it back with `ringtape rewind`" if header.undo else "restore it"
    raise DiskError(
        f"disk {header.name!r} ({header.path}) does not hold what it held when the recording began: {restore}, name "
        f"another with --disk {header.name}=PATH, record with `fresh`, or replay all the same with --force"
    )


def is_shared(header: tape_pb2.DiskHeader, workers: int) -> bool:
    """Does more than one worker of the run use it?"""
    return (len(header.workers) or workers) > 1


def start_message(header: tape_pb2.DiskHeader, worker: int, *, shared: bool) -> wire_pb2.WorkerDisk:
    """What a worker is told of a disk. `shared`: its requests wait for their admission."""
    return wire_pb2.WorkerDisk(
        name=header.name,
        path=header.path,
        size=header.size,
        block_size=header.block_size,
        direct=header.direct,
        block_device=header.block_device,
        used=not header.workers or worker in header.workers,
        shared=shared,
        undo=header.undo,
    )
