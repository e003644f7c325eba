"""What a worker tells beside the run: live numbers, what it has measured so far, and at its end what no replay gives.

Small files per worker and job, in a folder that the process that started the run has made for it. The worker writes
them, and never reads them. In a replay the folder is not there, and nothing is written; so nothing here may ever come
back to the program. Who started the run reads: the live numbers at any time, the rest when the run has ended, what was
measured so far when it was interrupted.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ringtape.jobs.timed import Timed

# Words of 64 bits: how often it was written, two for each time, so that it is odd while it is being written; the clock;
# whether the job has ended. Then those of each disk.
_HEAD = 3
_WRITTEN, _CLOCK, _ENDED = range(_HEAD)
_READS_MAX = 100

# In memory, where that can be: what is measured is a disk.
_MEMORY = "/dev/shm"
# What was measured so far is told so often at most, and takes no larger share of a worker's time.
_SO_FAR_NS_MIN = 1_000_000_000
_SO_FAR_SHARE = 100


@contextlib.contextmanager
def side_folder() -> Iterator[str]:
    """A folder of this process's own for what workers tell beside the run; gone afterwards."""
    where = _MEMORY if os.access(_MEMORY, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(
        prefix="ringtape-side-", dir=where, ignore_cleanup_errors=True
    ) as folder:
        yield folder


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
    """The worker's end of the file."""

    def __init__(self, path: str, memory: mmap.mmap) -> None:
        self._path = path
        self._words = np.frombuffer(memory, np.uint64)

    @classmethod
    def open(cls, path: str, disks: int) -> Side | None:
        """Make the file; None where that cannot be, as in a replay."""
        size = 8 * (_HEAD + len(LiveDisk._fields) * disks)
        try:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            # With its room, so that a full disk is an error here and not a signal later.
            os.posix_fallocate(number, 0, size)
            return cls(path, mmap.mmap(number, size))
        except OSError:
            return None
        finally:
            os.close(number)

    def show(self, clock_ns: int, disks: Sequence[LiveDisk], *, ended: bool) -> None:
        """Put these numbers there."""
        words = self._words
        words[_WRITTEN] += np.uint64(1)
        words[_CLOCK], words[_ENDED] = clock_ns, ended
        words[_HEAD:] = np.array(disks, np.uint64).reshape(-1)
        words[_WRITTEN] += np.uint64(1)

    def end(self, ended: Ended) -> None:
        """Tell what is told at the end; it is missing where there is no room for it."""
        with contextlib.suppress(OSError), open(_end_of(self._path), "xb") as file:
            pickle.dump(ended, file, protocol=5)


class SoFar:
    """Tells now and then what was measured so far; `path` is as `path_of` gives it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._due_ns = 0

    def tell(self, measured: Callable[[], Any], *, ended: bool = False) -> None:
        """Tell what `measured` gives, which can be pickled, if that is due; nothing where the folder is not there."""
        began_ns = time.monotonic_ns()
        if not self._path or (began_ns < self._due_ns and not ended):
            return
        # A new file each time, which nobody else can have put there, so that whoever reads finds a whole one.
        new = f"{self._path}.new"
        try:
            with open(new, "xb") as file:
                pickle.dump(measured(), file, protocol=5)
            os.replace(new, _so_far_of(self._path))
        except OSError:
            self._path = ""
        now_ns = time.monotonic_ns()
        self._due_ns = now_ns + max(_SO_FAR_NS_MIN, _SO_FAR_SHARE * (now_ns - began_ns))


def path_of(folder: str, job: int, worker: int) -> str:
    """The file of a job (its place among the jobs of the run) and a worker; empty for no folder."""
    return os.path.join(folder, f"{job}.{worker}") if folder else ""


def read_live(path: str) -> Live | None:
    """What a worker shows; None before it shows anything, or while it cannot be had whole."""
    try:
        with open(path, "rb", buffering=0) as file:
            for _ in range(_READS_MAX):
                first = np.frombuffer(os.pread(file.fileno(), 1 << 20, 0), np.uint64)
                again = np.frombuffer(os.pread(file.fileno(), 8, 0), np.uint64)
                written = int(first[_WRITTEN]) if len(first) >= _HEAD else 0
                if not written:
                    return None
                if written % 2 == 0 and again[0] == written:
                    rows = first[_HEAD:].reshape(-1, len(LiveDisk._fields)).tolist()
                    return Live(
                        int(first[_CLOCK]), bool(first[_ENDED]), tuple(LiveDisk(*row) for row in rows)
                    )
    except FileNotFoundError:
        pass
    return None


def read_so_far(path: str) -> Any:
    """What a worker told last that it had measured; None where it told nothing. Only for a folder of this process's."""
    try:
        with open(_so_far_of(path), "rb") as file:
            return pickle.load(file)
    except FileNotFoundError:
        return None


def read_end(path: str) -> Ended | None:
    """What a worker told at the end; None where it told nothing. Only for a folder that this process has made."""
    try:
        with open(_end_of(path), "rb") as file:
            ended = pickle.load(file)
    except (FileNotFoundError, EOFError, pickle.UnpicklingError):
        return None
    assert isinstance(ended, Ended)
    return ended


def _so_far_of(path: str) -> str:
    return f"{path}.so-far"


def _end_of(path: str) -> str:
    return f"{path}.end"
