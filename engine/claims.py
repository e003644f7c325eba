"""Whether a disk may be used at all: the claim that a run holds, and which paths are one storage.

The process that starts a run claims each disk before anything is written and holds the claim until the run
ends; the kernel drops it if the process is killed. A claim keeps two runs off one disk, and a run off what
the system uses or what holds a file system or a partition table. It never writes, and `force` never gets past
another ringtape run.

- A regular file: an exclusive flock. One that active swap or a running program uses is refused even with
  `force`: the kernel would refuse the writes.
- A block device: an exclusive open, which the kernel refuses if the device, its whole disk or one of its
  partitions is mounted, is swap or belongs to a mapped device; then blkid says whether it holds something.
  With `force` the open need not be exclusive, so a lock on the device node keeps other runs off. It is an
  open-file-description lock and no flock, since udev takes that one for moments of its own.
- A loop device: what it is attached to is locked as well, shared, since two loop devices may have parts of
  one file. What has a loop device attached to it that is in use is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from ringtape.engine.disks import disk_error, explained

# (_FILE, device of the file system, inode) or (_DEVICE, major, minor).
Identity = tuple[int, int, int]
_FILE = 0
_DEVICE = 1

_LAYERS_MAX = 16  # loop devices over files over loop devices; the kernel itself stops at 8
_BLKID_SECONDS_MAX = 60
_PROCESSES_NAMED_MAX = 3
_SECTOR_BYTES = 512  # sysfs counts in these, whatever the device's block size
_END_UNLIMITED = 1 << 63
_OVERRIDE = "force overrides this at the price of what is on it"


class Claim:
    """Keeps a disk for this process until `close`, the end of the `with` block, or the end of the process."""

    def __init__(self, fds: list[int]) -> None:
        self._fds = fds

    def close(self) -> None:
        """Give the disk up; may be called twice."""
        while self._fds:
            os.close(self._fds.pop())

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def claim(name: str, path: str, *, force: bool) -> Claim:
    """Claim the disk `name` at `path`, which must exist.

    Raises DiskError if another run has it or, unless `force`, the system uses it or it holds something.
    """
    fds: list[int] = []
    claimed = Claim(fds)
    try:
        if identity(path)[0] == _DEVICE:
            _claim_device(fds, name, path, force=force)
        else:
            _claim_file(fds, name, path, force=force)
    except (OSError, ValueError) as error:
        claimed.close()
        raise explained(error, name, path) from error
    except BaseException:
        claimed.close()
        raise
    return claimed


def identity(path: str) -> Identity:
    """What tells two disks apart: equal for two paths, links or device nodes of one file or one block device.

    Raises OSError if there is nothing at `path`.
    """
    status = os.stat(path)
    if stat.S_ISBLK(status.st_mode):
        return _DEVICE, os.major(status.st_rdev), os.minor(status.st_rdev)
    return _FILE, status.st_dev, status.st_ino


def same_storage(a: str, b: str) -> bool:
    """Whether a write to one of two disks may change the other.

    So it is for two names of one disk, a loop device and its backing file, a whole disk and its partition; not
    for two partitions of one disk, or loop devices over separate parts of a file. Device-mapper and md devices
    are not looked through: the kernel refuses a claim on what they are made of. Raises OSError if there is
    nothing at one of the paths.
    """
    one, other = _extent(a), _extent(b)
    return one.base == other.base and one.start < other.end and other.start < one.end


# ---- claiming


def _claim_file(fds: list[int], name: str, path: str, *, force: bool) -> None:
    fds.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    _lock(fds[-1], path, name, path, shared=False)
    # The kernel refuses swap at the write, not at the open. Of a write of nothing only the refusal is left.
    os.pwrite(fds[-1], b"", 0)
    if not force:
        _refuse_if_attached(name, path)


def _claim_device(fds: list[int], name: str, path: str, *, force: bool) -> None:
    # Kernels built without BLK_DEV_WRITE_MOUNTED refuse even this for a mounted device, and force is no help.
    fds.append(_open_device(name, path, 0, "stop that use: this kernel lets nobody else write to it"))
    _lock(fds[-1], path, name, path, shared=False)
    for layer in _layers(identity(path)):
        if layer.backing_path is None:
            continue
        try:
            fds.append(os.open(layer.backing_path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue  # no run of this user can get at it either
        _lock(fds[-1], layer.backing_path, name, path, shared=True)
    if force:
        return
    fds.append(_open_device(name, path, os.O_EXCL, _OVERRIDE))
    _refuse_if_attached(name, path)
    # After the exclusive open: from here on nobody can mount it.
    found = _what_it_holds(path)
    if found is not None:
        raise disk_error(name, path, f"{found}; {_OVERRIDE}")


def _open_device(name: str, path: str, flag: int, advice: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | flag)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise disk_error(name, path, f"{_who_uses(path)}; {advice}") from error


def _lock(fd: int, locked: str, name: str, path: str, *, shared: bool) -> None:
    """Lock the open file or device node `locked`, which is the disk at `path` or what that lies on."""
    try:
        if stat.S_ISBLK(os.fstat(fd).st_mode):
            kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
            # struct flock: type, whence, start, length (0 is all), pid (0 for this kind of lock)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
        else:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        what = "" if locked == path else f"{locked}, on which it lies, is "
        if error.errno in (errno.EAGAIN, errno.EACCES):
            text = f"{what}in use by another ringtape run; wait for it, or give another disk"
        else:
            text = f"{what}not to be locked ({error.strerror}); give a path on another file system"
        raise disk_error(name, path, text) from error


def _refuse_if_attached(name: str, path: str) -> None:
    """Raise DiskError if a loop device over the disk is in use: its user would see it change."""
    disk = identity(path)
    for entry in sorted(_listed("/sys/block")):
        backing = _loop_backing(f"/sys/block/{entry}")
        if backing is None or backing[0] != disk:
            continue
        device = f"/dev/{entry}"
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_EXCL))
        except OSError as error:
            if error.errno == errno.EBUSY:
                text = f"is attached to {device}, which {_who_uses(device)}; {_OVERRIDE}"
                raise disk_error(name, path, text) from error


# ---- who uses a device


def _who_uses(path: str) -> str:
    """Where the kernel's refusal of an exclusive open comes from, as the end of a sentence."""
    family = dict(_family(path))
    mounts = _mounts()
    swaps = _swaps()
    for device, label in family.items():
        if device in mounts:
            return f"{label} mounted on {mounts[device]}"
        if device in swaps:
            return f"{label} swap space"
        holders = _holders(_sysfs(device))
        if holders:
            return f"{label} part of {', '.join(holders)}"
    processes = _processes_that_opened(set(family))
    return "is claimed by another program" + (f": it is open in {', '.join(processes)}" if processes else "")


def _family(path: str) -> Iterator[tuple[Identity, str]]:
    """The device, its partitions and, if it is one, its whole disk, each with the beginning of a sentence."""
    device = identity(path)
    yield device, "is"
    entry = _sysfs(device)
    for partition in _partitions(entry):
        yield _device_of(f"{entry}/{partition}"), f"has the partition {partition}, which is"
    if os.path.exists(f"{entry}/partition"):
        yield _device_of(os.path.dirname(entry)), "lies on a disk that is"


def _mounts(table: str = "/proc/self/mountinfo") -> dict[Identity, str]:
    """The mount point of each block device that is mounted in this process's view."""
    mounts: dict[Identity, str] = {}
    with open(table, errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            _, _, number, _, mount_point = before.split(" ")[:5]
            major, minor = map(int, number.split(":"))
            mounts.setdefault((_DEVICE, major, minor), _unescaped(mount_point))
            # btrfs and others mount under a number of their own; then the source tells.
            source = _unescaped(after.split(" ")[1])
            if source.startswith("/dev/"):
                with suppress(OSError):
                    mounts.setdefault(identity(source), _unescaped(mount_point))
    return mounts


def _swaps() -> set[Identity]:
    with open("/proc/swaps", errors="surrogateescape") as file:
        paths = [_unescaped(line.split()[0]) for line in file.readlines()[1:]]
    found = set()
    for path in paths:
        with suppress(OSError):
            found.add(identity(path))
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _holders(entry: str) -> list[str]:
    """The mapped devices made of this one, by the names that people gave them where they did."""
    names = []
    for holder in _listed(f"{entry}/holders"):
        given = _read(f"/sys/block/{holder}/dm/name")
        names.append(f"/dev/mapper/{given}" if given else f"/dev/{holder}")
    return names


def _processes_that_opened(devices: set[Identity]) -> list[str]:
    """Some of the other processes that have one of the devices open, as far as this one may look."""
    found: list[str] = []
    for pid in _listed("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        for fd in _listed(f"/proc/{pid}/fd"):
            try:
                opened = identity(f"/proc/{pid}/fd/{fd}") in devices
            except OSError:
                continue  # closed in the meantime, or a process that is gone
            if opened:
                found.append(f"process {pid} ({_read(f'/proc/{pid}/comm')})")
                break
        if len(found) == _PROCESSES_NAMED_MAX:
            break
    return found


# ---- what a device holds


def _what_it_holds(path: str) -> str | None:
    """Why the contents of a device forbid its use, as the end of a sentence; None if it holds nothing."""
    partitions = _partitions(_sysfs(identity(path)))
    if partitions:
        return f"has partitions ({', '.join(partitions)})"
    blkid = _blkid()
    if blkid is None:
        return "cannot be checked for a file system, since there is no blkid (install util-linux)"
    answer = _run(blkid, "--probe", "--output", "export", path)
    if answer.returncode == 0:
        return _signature(answer.stdout)
    if answer.returncode == 8:
        return "holds more than one file system or partition table at once"
    # 2 is "found nothing" and "could not look" alike, so let it show that it can look.
    if answer.returncode == 2 and _run(blkid, "--info", path).returncode == 0:
        return None
    return f"cannot be checked for a file system: blkid failed ({answer.stderr.strip() or answer.returncode})"


_USAGES = {
    "filesystem": "holds a file system",
    "raid": "is a member of a volume",
    "crypto": "is an encrypted volume",
}


def _signature(export: str) -> str | None:
    """What blkid's `KEY=value` lines name; None if they tell only which partition of a disk this is."""
    values = dict(line.partition("=")[::2] for line in export.splitlines())
    if "PTTYPE" in values:
        return f"holds a partition table ({values['PTTYPE']})"
    if "TYPE" in values:
        return f"{_USAGES.get(values.get('USAGE', ''), 'holds data')} ({values['TYPE']})"
    return None


def _blkid() -> str | None:
    # Not every user's PATH has the system's tools.
    return shutil.which("blkid", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool; one that does not end in time counts as one that failed."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_BLKID_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"no answer in {_BLKID_SECONDS_MAX} s")


# ---- layers of storage


@dataclass(frozen=True)
class _Extent:
    """A stretch of bytes of the file or the device that a disk lies on in the end."""

    base: Identity
    start: int
    end: int


@dataclass(frozen=True)
class _Layer:
    """What a block device directly lies on, and where in it."""

    below: Identity
    backing_path: str | None  # of what a loop device is attached to
    start: int
    length: int


def _extent(path: str) -> _Extent:
    device = identity(path)
    start, end = 0, _END_UNLIMITED
    for layer in _layers(device):
        device = layer.below
        start, end = start + layer.start, min(end, layer.length) + layer.start
    return _Extent(device, start, end)


def _layers(device: Identity) -> Iterator[_Layer]:
    """From a disk down to what it lies on; nothing for a file or a device that is its own storage."""
    for _ in range(_LAYERS_MAX):
        layer = _layer_below(device)
        if layer is None:
            return
        yield layer
        device = layer.below
    raise AssertionError(f"more than {_LAYERS_MAX} layers of storage under one disk")


def _layer_below(device: Identity) -> _Layer | None:
    if device[0] == _FILE:
        return None
    entry = _sysfs(device)
    if os.path.exists(f"{entry}/partition"):
        start, length = (int(_read(f"{entry}/{key}")) * _SECTOR_BYTES for key in ("start", "size"))
        return _Layer(_device_of(os.path.dirname(entry)), None, start, length)
    backing = _loop_backing(entry)
    if backing is None:
        return None
    limit = int(_read(f"{entry}/loop/sizelimit") or 0)
    return _Layer(*backing, int(_read(f"{entry}/loop/offset") or 0), limit or _END_UNLIMITED)


def _loop_backing(entry: str) -> tuple[Identity, str] | None:
    """What a loop device is attached to; None if `entry` is none, or what it is attached to cannot be found.

    The kernel keeps the path up to date when the file is renamed.
    """
    path = _read(f"{entry}/loop/backing_file")
    try:
        return (identity(path), path) if path else None
    except OSError:
        return None


def _sysfs(device: Identity) -> str:
    return os.path.realpath(f"/sys/dev/block/{device[1]}:{device[2]}")


def _device_of(entry: str) -> Identity:
    major, minor = _read(f"{entry}/dev").split(":")
    return _DEVICE, int(major), int(minor)


def _partitions(entry: str) -> list[str]:
    return sorted(name for name in _listed(entry) if os.path.exists(f"{entry}/{name}/partition"))


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _read(path: str) -> str:
    """The one line of a file in /proc or /sys; empty if there is none."""
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""
