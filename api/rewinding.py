"""Putting disks back as they were before a recording, by what its tape keeps of each range before its first change.

It is all found out before anything is written: that the disk is this tape's, by what its fingerprint would be. What is
written is the same each time, so a rewind that was cut is simply done again.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ringtape import disks as disk_setup
from ringtape.coordinator.tape import TapeReader
from ringtape.coordinator.tape.undo import UNDO_BYTES_MAX, UndoScan
from ringtape.disks import Disk, checked
from ringtape.engine import claims, contents
from ringtape.engine.disks import explained, open_disk, probe
from ringtape.engine.program import refuse_in_worker
from ringtape.proto import tape_pb2
from ringtape.proto.errors import DiskError, TapeDamaged, TapeError
from ringtape.proto.ranges import BlockSet
from ringtape.settings import StrPath

# How far a part of the work is: bytes of the tape done, bytes in all.
OnProgress = Callable[[int, int], None]

_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 1, 2
_fallocate = ctypes.CDLL(None).fallocate


@dataclass(frozen=True)
class RewoundDisk:
    """A disk that was put back.

    Attributes:
        name: the disk's name on the tape.
        path: where it is.
        ranges: how many ranges were written.
        bytes: how many bytes.
        exact: its fingerprint is that of its contents before the recording.
    """

    name: str
    path: str
    ranges: int
    bytes: int
    exact: bool


def rewind(
    tape: StrPath,
    *,
    disks: Iterable[Disk] = (),
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[RewoundDisk, ...]:
    """Put every disk of the tape that was recorded with `undo` back as it was before the recording.

    It may be done at any time after the recording, however that ended, after replays too, and again if it was cut.

    Args:
        tape: the tape.
        disks: where disks of the tape are now, by name; the others are where they were.
        force: write although the disk will not hold then what it held: something else has changed it, or it is
            another disk.
        on_progress: called with how much of the tape is done and how much there is, twice over.

    Returns:
        What was put back, a disk each, in the order of the tape.

    Raises:
        DiskError: a disk cannot be used or would not be as it was; nothing was written, or not all if it says so.
        TapeError: the tape cannot be read, keeps nothing to put back, or is being written.
        TapeDamaged: the tape is damaged; what is whole was put back, and the text says what may be missing.
    """
    refuse_in_worker()
    disks = checked(disks)
    with TapeReader.open(tape) as reader, contextlib.ExitStack() as stack:
        if reader.being_written:
            raise TapeError(f"{os.fspath(tape)} is being written by a run; rewind it when that has ended")
        headers = _found(reader, disks, stack, os.fspath(tape))
        scan = UndoScan()
        patches = _patches(reader, scan, headers, on_progress)
        for index, header in headers.items():
            would = contents.fingerprint(header.path, header.size, name=header.name, patches=patches[index])
            if would.digest != header.initial.digest and scan.damage is None and not force:
                raise DiskError(
                    f"disk {header.name!r} ({header.path}) would not hold then what it held when the recording began: "
                    "something else has changed it since, or it is another disk; name it with "
                    f"--disk {header.name}=PATH, or rewind all the same with --force"
                )
        rewound = _put_back(reader, headers, on_progress)
    if scan.damage is not None and not (scan.torn and all(disk.exact for disk in rewound)):
        raise TapeDamaged(_damage_in_words(os.fspath(tape), scan, rewound))
    return rewound


def changed_ranges(reader: TapeReader, headers: disk_setup.Prepared, *, force: bool) -> dict[int, BlockSet]:
    """By disk of a replay: the blocks that the tape can put back. Raises DiskError where they hold something else now.

    A fingerprint of a large disk does not cover all of it; this covers what matters. With `force` nothing is compared.
    """
    changed = {index: BlockSet() for index, header in enumerate(headers) if header.undo}
    if not changed:
        return changed
    made_anew = [id(one) for one in (*headers.zeros_first, *headers.restored_first)]
    with contextlib.ExitStack() as stack:
        compared: dict[int, int] = {}
        for index in changed:
            if not force and id(headers[index]) not in made_anew:
                compared[index] = contents.open_for_reading(headers[index].path)
                stack.callback(os.close, compared[index])
        memory = memoryview(mmap.mmap(-1, UNDO_BYTES_MAX))  # page-aligned, as O_DIRECT wants it
        for _, undo in reader.undo_ranges(UndoScan()):
            if undo.disk not in changed:
                continue
            header = headers[undo.disk]
            if undo.disk in compared:
                view = memory[: len(undo.data)]
                contents.read_all(compared[undo.disk], view, undo.offset, header.name, header.path)
                if bytearray(undo.data) != view:  # with memcmp; bytes would go one by one
                    raise DiskError(
                        f"disk {header.name!r} ({header.path}) does not hold at byte {undo.offset} what it held when "
                        "the recording began: put it back with `ringtape rewind`"
                    )
            start = undo.offset // header.block_size
            changed[undo.disk].add(start, start + len(undo.data) // header.block_size)
    return changed


class _Patches:
    """What a rewind would write into the chunks that a fingerprint covers: where on the tape that is."""

    def __init__(self, reader: TapeReader, size: int) -> None:
        self._reader = reader
        self._frames: dict[int, array[int]] = {index: array("Q") for index in contents.picked_chunks(size)}

    def add(self, frame: int, offset: int, length: int) -> None:
        """The undo frame that begins at byte `frame` of the tape has this range."""
        first, last = offset // contents.CHUNK_BYTES, (offset + length - 1) // contents.CHUNK_BYTES
        for index in range(first, last + 1):
            if index in self._frames:
                self._frames[index].append(frame)

    def touches(self, index: int) -> bool:
        """See `contents.Patches`."""
        return bool(self._frames[index])

    def apply(self, index: int, chunk: memoryview) -> None:
        """See `contents.Patches`. The first of several frames for one block wins."""
        base = index * contents.CHUNK_BYTES
        for frame in reversed(self._frames[index]):
            undo = self._reader.undo_at(frame)
            start, stop = undo.offset - base, undo.offset - base + len(undo.data)
            data = undo.data[max(-start, 0) : len(undo.data) - max(stop - len(chunk), 0)]
            chunk[max(start, 0) : max(start, 0) + len(data)] = data


def _found(
    reader: TapeReader, disks: Iterable[Disk], stack: contextlib.ExitStack, tape: str
) -> dict[int, tape_pb2.DiskHeader]:
    """The disks to put back, by index, where they are now; claimed until the stack unwinds."""
    recorded = list(reader.header.disks)
    named = disk_setup.named_again(recorded, disks)
    undone = {index: header for index, header in enumerate(recorded) if header.undo}
    if not undone:
        kept = [f"{header.name} in {header.snapshot}" for header in recorded if header.snapshot]
        hint = f"; it names snapshots: of {', of '.join(kept)}" if kept else ""
        raise TapeError(f"{tape} keeps nothing to put back: none of its disks was recorded with undo{hint}")
    for name, disk in named.items():
        if name not in {header.name for header in undone.values()}:
            raise DiskError(f"disk {name!r} was recorded without undo and cannot be put back")
        if disk.fresh or disk.undo or disk.size is not None or disk.snapshot is not None:
            raise DiskError(f"disk {name!r}: a rewind takes its path, and force; leave out the rest")
    headers = {}
    for index, header in undone.items():
        override = named.get(header.name)
        headers[index] = _look_at(header, override)
        claimed = claims.claim(
            header.name, headers[index].path, force=override is not None and override.force
        )
        stack.enter_context(claimed)
    return headers


def _look_at(header: tape_pb2.DiskHeader, override: Disk | None) -> tape_pb2.DiskHeader:
    found = tape_pb2.DiskHeader()
    found.CopyFrom(header)
    if override is not None:
        found.path = disk_setup.path_of(override)
    geometry = probe(found.path, found.name)
    if geometry.size != found.size and not (geometry.block_device and geometry.size > found.size):
        raise DiskError(
            f"disk {found.name!r} ({found.path}) has {geometry.size} bytes; the recording's had {found.size}"
        )
    found.block_device = geometry.block_device
    return found


def _ranges(
    reader: TapeReader, scan: UndoScan, on_progress: OnProgress | None
) -> Iterator[tuple[int, tape_pb2.Undo]]:
    for frame, undo in reader.undo_ranges(scan):
        yield frame, undo
        if on_progress is not None:
            on_progress(frame, reader.file_bytes)


def _patches(
    reader: TapeReader,
    scan: UndoScan,
    headers: dict[int, tape_pb2.DiskHeader],
    on_progress: OnProgress | None,
) -> dict[int, _Patches]:
    patches = {index: _Patches(reader, header.size) for index, header in headers.items()}
    for frame, undo in _ranges(reader, scan, on_progress):
        patches[undo.disk].add(frame, undo.offset, len(undo.data))
    return patches


class _Target:
    """A disk that is being put back."""

    def __init__(self, header: tape_pb2.DiskHeader) -> None:
        self.header = header
        # Through the page cache, which puts what comes in the program's order into the disk's.
        self.fd = open_disk(header.path, direct=False, name=header.name)
        self.ranges = self.bytes = 0
        self._done = BlockSet()

    def write(self, undo: tape_pb2.Undo) -> None:
        """What the range held, but for blocks that are done: the first that was kept is what there was."""
        block = self.header.block_size
        first = undo.offset // block
        missing = list(self._done.missing(first, first + len(undo.data) // block))
        for start, end in missing:
            data = memoryview(undo.data)[(start - first) * block : (end - first) * block]
            self._write(start * block, data)
            self._done.add(start, end)
            self.ranges += 1
            self.bytes += len(data)

    def _write(self, offset: int, data: memoryview) -> None:
        if (
            not self.header.block_device
            and bytearray(len(data)) == data
            and _punched(self.fd, offset, len(data))
        ):
            return
        done = 0
        while done < len(data):
            done += os.pwritev(self.fd, [data[done:]], offset + done)


def _put_back(
    reader: TapeReader, headers: dict[int, tape_pb2.DiskHeader], on_progress: OnProgress | None
) -> tuple[RewoundDisk, ...]:
    rewound = []
    with contextlib.ExitStack() as stack:
        targets: dict[int, _Target] = {}
        for index, header in headers.items():
            targets[index] = _Target(header)
            stack.callback(os.close, targets[index].fd)
        for _, undo in _ranges(reader, UndoScan(), on_progress):
            with _explained(headers[undo.disk]):
                targets[undo.disk].write(undo)
        for target in targets.values():
            with _explained(target.header):
                os.fsync(target.fd)
        for target in targets.values():
            header = target.header
            now = contents.fingerprint(header.path, header.size, name=header.name)
            exact = now.digest == header.initial.digest
            rewound.append(RewoundDisk(header.name, header.path, target.ranges, target.bytes, exact))
    return tuple(rewound)


@contextlib.contextmanager
def _explained(header: tape_pb2.DiskHeader) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = explained(error, header.name, header.path)
        raise DiskError(f"{why}; it is put back in part: rewind again when that is mended") from error


def _punched(fd: int, offset: int, length: int) -> bool:
    """A hole made where zeros are to be; False where the file system has none."""
    mode = _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE
    return bool(_fallocate(fd, mode, ctypes.c_longlong(offset), ctypes.c_longlong(length)) == 0)


def _damage_in_words(tape: str, scan: UndoScan, rewound: Sequence[RewoundDisk]) -> str:
    if all(disk.exact for disk in rewound):
        missing = "by their fingerprints the disks hold what they held"
    elif scan.lost:
        missing = f"at least {scan.lost} of {scan.last} ranges are missing, and the disks do not hold what they held"
    else:
        missing = "ranges are missing at its end, and the disks do not hold what they held"
    return f"{tape} is damaged at byte {scan.damage}; everything whole was put back: {missing}"
