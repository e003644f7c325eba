"""What is measured on: set up here, filled with random data, and taken away again whatever happens.

Nothing that was there before is ever used: files are made in new folders, the loop device is the one that the kernel
gives for the new file, the zram device is one that is added for the purpose. Signals that end the benchmark are held
back while a target is made or taken away, so that none is left half made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ringtape.benchmarks.errors import BenchmarkError, TargetUnavailable

SHARED_MEMORY = Path("/dev/shm")
ZRAM_CONTROL = Path("/sys/class/zram-control")
LOOP_CONTROL = Path("/dev/loop-control")
# Where a local file may go, first that is no tmpfs.
LOCAL_FOLDERS = (Path("/var/tmp"), Path(tempfile.gettempdir()), Path.cwd())
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
# What has to be left free, beside the data itself.
MARGIN_BYTES = 64 << 20
HELPER_S_MAX = 30
REMOVE_S_MAX = 20.0
REMOVE_AGAIN_S = 0.05
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Target:
    """A file or block device full of random data."""

    name: str
    title: str
    path: str
    #: It is read through the page cache, which holds all of it.
    cached: bool = False


@dataclass(frozen=True)
class Setup:
    """How targets are made: `size_bytes` each; `folder` is for the local file, None for one that is found."""

    size_bytes: int
    folder: Path | None = None


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back the signals that end the benchmark until the end of the block. For the main thread.

    A signal mask would not do: it is this thread's alone, and the kernel then gives the signal to one of numpy's.
    """
    came: list[int] = []
    before = {number: signal.signal(number, lambda one, frame: came.append(one)) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def tmpfs(setup: Setup) -> Iterator[Target]:
    """A file on tmpfs."""
    if not SHARED_MEMORY.is_dir() or file_system_of(SHARED_MEMORY) not in MEMORY_FILE_SYSTEMS:
        raise TargetUnavailable(f"there is no tmpfs at {SHARED_MEMORY}")
    with _file(SHARED_MEMORY, setup.size_bytes) as path:
        yield Target("tmpfs", "file on tmpfs", path)


@contextlib.contextmanager
def local_file(setup: Setup) -> Iterator[Target]:
    """A file on the local file system."""
    folder = setup.folder or local_folder()
    if not folder.is_dir():
        raise TargetUnavailable(f"there is no folder {folder}")
    with _file(folder, setup.size_bytes) as path:
        yield Target("file", f"file on {file_system_of(folder)}", path)


@contextlib.contextmanager
def page_cache(setup: Setup) -> Iterator[Target]:
    """A file on the local file system, all of it in the page cache."""
    with local_file(setup) as target:
        with open(target.path, "rb", buffering=0) as file:
            while file.read(_CHUNK_BYTES):
                pass
        yield Target("cached", f"{target.title}, in the page cache", target.path, cached=True)


@contextlib.contextmanager
def loop_device(setup: Setup) -> Iterator[Target]:
    """A loop device over a file on tmpfs."""
    if os.geteuid() or not LOOP_CONTROL.exists() or shutil.which("losetup") is None:
        raise TargetUnavailable(f"a loop device needs root, {LOOP_CONTROL} and losetup")
    with tmpfs(setup) as below, contextlib.ExitStack() as stack:
        with undisturbed():
            device = _helper("losetup", "--find", "--show", below.path)
            stack.callback(_detach, device, below.path)
            stack.callback(os.close, os.open(device, os.O_RDONLY | os.O_CLOEXEC))
            # Detached while it is open, it goes with the last descriptor: even if this process is killed.
            _helper("losetup", "--detach", device)
        _check_direct(device)
        yield Target("loop", "loop device on tmpfs", device)


@contextlib.contextmanager
def zram(setup: Setup) -> Iterator[Target]:
    """A zram device of our own."""
    if os.geteuid() or not (ZRAM_CONTROL / "hot_add").exists():
        raise TargetUnavailable(f"zram needs root and {ZRAM_CONTROL} (modprobe zram)")
    # Random data does not compress.
    _check_room(_memory_available_bytes(), setup.size_bytes, "memory")
    with contextlib.ExitStack() as stack:
        with undisturbed():
            number = int((ZRAM_CONTROL / "hot_add").read_text())  # reading it adds a device
            stack.callback(_remove_zram, number)
        (Path(f"/sys/block/zram{number}") / "disksize").write_text(str(setup.size_bytes))
        path = f"/dev/zram{number}"
        if not os.path.exists(path):
            raise TargetUnavailable(f"the kernel added zram{number}, but there is no {path}")
        fill(path, setup.size_bytes)
        _check_direct(path)
        yield Target("zram", "zram", path)


TARGETS: dict[str, Callable[[Setup], contextlib.AbstractContextManager[Target]]] = {
    "tmpfs": tmpfs,
    "file": local_file,
    "loop": loop_device,
    "zram": zram,
}


def fill(path: str, size_bytes: int) -> None:
    """Write random data over all of it, and see that it is there: no hole is left to be read as zeros for free."""
    random = np.random.default_rng()
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    with open(fd, "wb", buffering=0) as file:
        left = size_bytes
        while left:
            left -= file.write(random.bytes(min(left, _CHUNK_BYTES)))
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def local_folder() -> Path:
    """A folder that can be written to, on a file system that is not memory."""
    for folder in LOCAL_FOLDERS:
        if os.access(folder, os.W_OK) and file_system_of(folder) not in MEMORY_FILE_SYSTEMS:
            return folder
    tried = ", ".join(map(str, LOCAL_FOLDERS))
    raise TargetUnavailable(f"none of {tried} is on a disk and can be written to: name one with --folder")


def file_system_of(path: Path) -> str:
    """The type of the file system that a path is on, as the kernel calls it."""
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    found = "a file system"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if fields[2] == device:
            found = after.split()[0]
    return found


@contextlib.contextmanager
def _file(folder: Path, size_bytes: int) -> Iterator[str]:
    """The path of a new file full of random data, in a folder of its own."""
    with contextlib.ExitStack() as stack:
        try:
            space = os.statvfs(folder)
            _check_room(space.f_bavail * space.f_frsize, size_bytes, str(folder))
            with undisturbed():
                own = tempfile.mkdtemp(prefix="ringtape-bench-", dir=folder)
                stack.callback(_remove_folder, own)
            path = os.path.join(own, "data")
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            fill(path, size_bytes)
        except OSError as error:
            raise TargetUnavailable(f"{folder}: {error.strerror or error}") from error
        _check_direct(path)
        yield path


def _remove_folder(folder: str) -> None:
    with undisturbed():
        shutil.rmtree(folder, ignore_errors=True)


def _detach(device: str, path: str) -> None:
    """Detach the loop device if it has not gone by itself; another's, of the same number, is left alone."""
    backing_file = Path(f"/sys/block/{os.path.basename(device)}/loop/backing_file")
    with undisturbed(), contextlib.suppress(FileNotFoundError):
        if backing_file.read_text().rstrip("\n") == path:
            _helper("losetup", "--detach", device)


def _remove_zram(number: int) -> None:
    """Remove the device that we added; a ring keeps its disks open for a moment after its process has ended."""
    until = time.monotonic() + REMOVE_S_MAX
    with undisturbed():
        while True:
            try:
                Path(f"/sys/block/zram{number}/reset").write_text("1")
                (ZRAM_CONTROL / "hot_remove").write_text(str(number))
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    raise BenchmarkError(
                        f"zram{number} cannot be removed ({error.strerror}): echo 1 > /sys/block/zram{number}/reset; "
                        f"echo {number} > {ZRAM_CONTROL}/hot_remove"
                    ) from None
            time.sleep(REMOVE_AGAIN_S)


def _helper(*command: str) -> str:
    """What a tool prints; `TargetUnavailable` with its own words if it fails. It gets no Ctrl-C of ours."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=HELPER_S_MAX,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetUnavailable(f"{' '.join(command)}: {error}") from None
    if done.returncode:
        raise TargetUnavailable(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()


def _check_direct(path: str) -> None:
    """Without O_DIRECT the page cache would be measured."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as error:
        raise TargetUnavailable(f"{path} cannot be opened with O_DIRECT: {error.strerror}") from None


def _check_room(free_bytes: int, size_bytes: int, where: str) -> None:
    if free_bytes < size_bytes + MARGIN_BYTES:
        raise TargetUnavailable(
            f"{where} has {free_bytes >> 20} MiB free, and {size_bytes >> 20} MiB of data need "
            f"{(size_bytes + MARGIN_BYTES) >> 20}: say --size"
        )


def _memory_available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
