"""What a worker tells beside the run: live numbers, what it has measured so far, and at its end what no replay gives.

In a file without a name, in memory, that the process that started the run has made for it and that is gone with that
process, however it ends. Workers open it as a descriptor of that process; each has a place in it for each job. The
worker writes there, and never reads. In a replay the file is not there, and nothing is written; so nothing here may
ever come back to the program. Who started the run reads: the live numbers at any time, the rest when the run has ended,
what was measured so far when it was interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pickle
import resource
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ringtape.jobs.timed import Timed

# Words of 64 bits: how often it was written, two for each time, so that it is odd while it is being written; the clock;
# whether the job has ended; how many disks. Then those of each disk.
_HEAD = 4
_WRITTEN, _CLOCK, _ENDED, _DISKS = range(_HEAD)
_READS_MAX = 100

# A place has more room than there is memory for: only what is written takes any. It has three parts, for what is live,
# so far, and told at the end.
_WORKERS_MAX = 1 << 16
_PLACE_BYTES = 1 << 30
_PART_BYTES = _PLACE_BYTES // 4
_LIVE, _SO_FAR, _END = (number * _PART_BYTES for number in range(3))
# What is told is in one half of its part or the other: a word before them says in which, 1 or 2, and changes when it is
# there as a whole. It is 0 before anything is told.
_HALF_BYTES = _PART_BYTES // 2 - mmap.PAGESIZE

# Of the C library's `linux/memfd.h`; Python has no name for it yet.
_MFD_NOEXEC_SEAL = 0x8
# What was measured so far is told so often at most, and takes no larger share of a worker's time.
_SO_FAR_NS_MIN = 1_000_000_000
_SO_FAR_SHARE = 100


class Place(NamedTuple):
    """Where a worker tells of a job: in a file that `side_file` made, from this byte on."""

    file: str
    at: int


NOWHERE = Place("", 0)


@contextlib.contextmanager
def side_file() -> Iterator[str]:
    """A file for what workers tell beside the run, as they find it; it goes with the context, or with the process."""
    # A replay, or a worker that outlives the context, may find another file under this number, but none of this name.
    name = f"ringtape-side-{secrets.token_hex(16)}"
    try:
        number = os.memfd_create(name, os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError:  # Linux before 6.3
        number = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        path = f"/proc/{os.getpid()}/fd/{number}"
        yield f"{path} {os.readlink(path)}"
    finally:
        os.close(number)


def place_of(file: str, job: int, worker: int) -> Place:
    """The place of a job (its place among the jobs of the run) and a worker."""
    assert worker < _WORKERS_MAX
    return Place(file, (job * _WORKERS_MAX + worker) * _PLACE_BYTES)


@contextlib.contextmanager
def _opened(file: str) -> Iterator[int]:
    """Raises OSError where the file is not there."""
    path, _, name = file.partition(" ")
    # Of what else may be there nothing is opened.
    found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if os.readlink(f"/proc/self/fd/{found}") != name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        number = os.open(f"/proc/self/fd/{found}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(found)
    try:
        yield number
    finally:
        os.close(number)


class LiveDisk(NamedTuple):
    """Requests, bytes and errors of one disk so far, and the p99 of late (ns; 0 where there was nothing)."""

    requests: int
    bytes: int
    errors: int
    p99_ns: int


class Live(NamedTuple):
    """The live numbers of a worker at one moment of its clock."""

    clock_ns: int
    ended: bool
    disks: tuple[LiveDisk, ...]


@dataclass
class Apart:
    """Submission and completion apart, of one kind on one disk."""

    submission: Timed = field(default_factory=Timed)
    completion: Timed = field(default_factory=Timed)


@dataclass
class Usage:
    """What a process used: seconds of CPU in user mode and in the kernel, context switches, page faults."""

    user_s: float = 0.0
    system_s: float = 0.0
    switches: int = 0
    major_faults: int = 0
    minor_faults: int = 0

    @classmethod
    def now(cls) -> Usage:
        """Of this process, since it began; getrusage(2)."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        switches = used.ru_nvcsw + used.ru_nivcsw
        return cls(used.ru_utime, used.ru_stime, switches, used.ru_majflt, used.ru_minflt)

    def since(self, earlier: Usage) -> Usage:
        """What was used after `earlier` was taken."""
        return Usage(
            self.user_s - earlier.user_s,
            self.system_s - earlier.system_s,
            self.switches - earlier.switches,
            self.major_faults - earlier.major_faults,
            self.minor_faults - earlier.minor_faults,
        )

    def add(self, other: Usage) -> None:
        """Takes in another's."""
        self.user_s += other.user_s
        self.system_s += other.system_s
        self.switches += other.switches
        self.major_faults += other.major_faults
        self.minor_faults += other.minor_faults


@dataclass
class Ended:
    """What a worker tells at the end of a job.

    Attributes:
        apart: by disk (its place among the job's) and kind.
        usage: what its process used.
        depths: requests by how many were under way with them; see `Depths.counts`.
    """

    apart: dict[tuple[int, int], Apart]
    usage: Usage
    depths: tuple[int, ...]


class Side:
    """The worker's end of a place."""

    def __init__(self, place: Place, memory: mmap.mmap, disks: int) -> None:
        self._place = place
        self._words = np.frombuffer(memory, np.uint64)
        self._words[_DISKS] = disks

    @classmethod
    def open(cls, place: Place, disks: int) -> Side | None:
        """None where the file is not there, as in a replay, or has no room."""
        size = 8 * (_HEAD + len(LiveDisk._fields) * disks)
        try:
            with _opened(place.file) as number:
                # With its room, so that what is lacking is an error here and not a signal later.
                os.posix_fallocate(number, place.at + _LIVE, size)
                return cls(place, mmap.mmap(number, size, offset=place.at + _LIVE), disks)
        except OSError:
            return None

    def show(self, clock_ns: int, disks: Sequence[LiveDisk], *, ended: bool) -> None:
        """Put these numbers there."""
        words = self._words
        words[_WRITTEN] += np.uint64(1)
        words[_CLOCK], words[_ENDED] = clock_ns, ended
        words[_HEAD:] = np.array(disks, np.uint64).reshape(-1)
        words[_WRITTEN] += np.uint64(1)

    def end(self, ended: Ended) -> None:
        """Tell what is told at the end; it is missing where there is no room for it."""
        with contextlib.suppress(OSError):
            _tell(self._place, _END, lambda: ended)


class SoFar:
    """Tells now and then what was measured so far; `place` is as `place_of` gives it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._due_ns = 0

    def tell(self, measured: Callable[[], Any], *, ended: bool = False) -> None:
        """Tell what `measured` gives, which can be pickled, if that is due; nothing where the file is not there."""
        began_ns = time.monotonic_ns()
        if not self._place.file or (began_ns < self._due_ns and not ended):
            return
        try:
            _tell(self._place, _SO_FAR, measured)
        except OSError:
            self._place = NOWHERE
        now_ns = time.monotonic_ns()
        self._due_ns = now_ns + max(_SO_FAR_NS_MIN, _SO_FAR_SHARE * (now_ns - began_ns))


def _tell(place: Place, part: int, value: Callable[[], Any]) -> None:
    """Raises OSError: the file is not there, or has no room."""
    with _opened(place.file) as number:
        data = pickle.dumps(value(), protocol=5)
        if len(data) > _HALF_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        half = 2 if _word(number, place.at + part) == 1 else 1
        with open(number, "r+b", closefd=False) as file:
            file.seek(_half_at(place, part, half))
            file.write(data)
        os.pwrite(number, half.to_bytes(8, "little"), place.at + part)


def _told(place: Place, part: int) -> Any:
    """What was told last; None where nothing was."""
    with _opened(place.file) as number:
        half = _word(number, place.at + part)
        if not half:
            return None
        with open(number, "rb", closefd=False) as file:
            file.seek(_half_at(place, part, half))
            return pickle.load(file)


def _half_at(place: Place, part: int, half: int) -> int:
    return place.at + part + mmap.PAGESIZE + (half - 1) * _HALF_BYTES


def _word(number: int, at: int) -> int:
    return int.from_bytes(os.pread(number, 8, at), "little")


def read_live(place: Place) -> Live | None:
    """What a worker shows; None before it shows anything, or while it cannot be had whole."""
    with _opened(place.file) as number:
        at = place.at + _LIVE
        for _ in range(_READS_MAX):
            head = np.frombuffer(os.pread(number, 8 * _HEAD, at), np.uint64).tolist()
            if len(head) < _HEAD or not head[_WRITTEN]:
                return None
            size = 8 * len(LiveDisk._fields) * head[_DISKS]
            rows = np.frombuffer(os.pread(number, size, at + 8 * _HEAD), np.uint64)
            if head[_WRITTEN] % 2 == 0 and _word(number, at) == head[_WRITTEN]:
                shown = rows.reshape(-1, len(LiveDisk._fields)).tolist()
                return Live(head[_CLOCK], bool(head[_ENDED]), tuple(LiveDisk(*row) for row in shown))
    return None


def read_so_far(place: Place) -> Any:
    """What a worker told last that it had measured; None where it told nothing. Only for a file of this process's."""
    return _told(place, _SO_FAR)


def read_end(place: Place) -> Ended | None:
    """What a worker told at the end; None where it told nothing. Only for a file of this process's."""
    ended = _told(place, _END)
    assert ended is None or isinstance(ended, Ended)
    return ended
