"""Goal: nothing that is in use or holds something is written to by mistake. Method: real devices and mounts.

Each refusal is met by its own cause, and the same disk without that cause is claimed in the same test.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ringtape.engine import claims
from ringtape.engine.claims import claim, identity, same_storage
from ringtape.proto.errors import DiskError
from tests.engine.loop_devices import (
    loop_device,
    mounted,
    needs_loop_devices,
    partitioned,
    run,
    sparse,
)

MIB = 1 << 20
# A process of its own that claims and holds until its standard input ends.
HOLDER = """
import sys
from ringtape.engine.claims import claim
with claim("theirs", sys.argv[1], force="force" in sys.argv):
    print("held", flush=True)
    sys.stdin.read()
"""
# One that has a device exclusively for itself without being of ringtape.
STRANGER = """
import os, sys
os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has said that it holds what it is to hold."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def refusal(path: str | Path, *, force: bool = False) -> str:
    """What claim says against the disk `journal` at `path`, checked for form and for what it leaves open."""
    before = descriptors()
    with pytest.raises(DiskError) as caught:
        claim("journal", str(path), force=force)
    assert descriptors() == before, "a refused claim left a descriptor open"
    text = str(caught.value)
    assert text.startswith(f"disk 'journal' ({path}): ") and "\n" not in text
    return text.partition("): ")[2]


def claimable(path: str | Path, *, force: bool = False) -> bool:
    with claim("journal", str(path), force=force):
        return True


@contextmanager
def ext4(file: Path) -> Iterator[str]:
    """A loop device with an ext4 on it."""
    with loop_device(sparse(file, 8 * MIB)) as device:
        run("mkfs.ext4", "-q", device)
        yield device


def two_partitions(file: Path) -> AbstractContextManager[list[str]]:
    """A loop device and its two partitions of 8 MiB."""
    return partitioned(sparse(file, 32 * MIB), (2048, 16384), (2048 + 16384, 16384))


def descriptors() -> set[str]:
    """The open descriptors of this process, without the one that lists them."""
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")}


# ---- regular files


@pytest.mark.parametrize("force", [False, True])
def test_a_file_has_one_run_at_a_time(tmp_path: Path, force: bool) -> None:
    file = sparse(tmp_path / "a", 4096)
    os.link(file, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(file)
    with claim("a", str(file), force=False):
        for name in ("a", "hard", "soft"):
            assert refusal(tmp_path / name, force=force).startswith("in use by another ringtape run")
    assert claimable(tmp_path / "hard", force=force)


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a", 4096)
    with process(HOLDER, str(file)) as holder:
        assert "in use by another ringtape run" in refusal(file)
        holder.kill()
        holder.wait()
        assert claimable(file)


def test_a_claim_is_not_inherited_and_closes_twice(tmp_path: Path) -> None:
    file = sparse(tmp_path / "a", 4096)
    before = descriptors()
    held = claim("a", str(file), force=False)
    opened = descriptors() - before
    assert opened and not any(os.get_inheritable(int(fd)) for fd in opened)
    held.close()
    held.close()
    assert descriptors() == before


def test_claiming_a_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"precious")
    status = file.stat()
    assert claimable(file)
    assert file.read_bytes() == b"precious"
    assert (file.stat().st_mtime_ns, file.stat().st_ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)


@pytest.mark.parametrize("force", [False, True])
def test_a_running_program_is_refused(tmp_path: Path, force: bool) -> None:
    cat = shutil.which("cat")
    assert cat is not None
    program = tmp_path / "program"
    shutil.copy(os.path.realpath(cat), program)
    with subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"runs\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"runs\n"
        assert "is a running program or active swap space" in refusal(program, force=force)
        child.stdin.close()
        child.wait()
    assert claimable(program, force=force)


@needs_loop_devices
@pytest.mark.parametrize("force", [False, True])
def test_active_swap_in_a_file_is_refused(tmp_path: Path, force: bool) -> None:
    file = tmp_path / "swap"
    file.write_bytes(bytes(MIB))
    file.chmod(0o600)
    run("mkswap", str(file))
    assert claimable(file, force=force)
    on = subprocess.run(
        ["swapon", "--priority", "-1", str(file)], capture_output=True, text=True, check=False
    )
    if on.returncode != 0:
        pytest.skip(f"cannot swap on: {on.stderr.strip()}")
    try:
        assert "is a running program or active swap space" in refusal(file, force=force)
    finally:
        run("swapoff", str(file))
    assert claimable(file, force=force)


def test_what_does_not_open_is_named(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "a")
    assert "is a directory" in refusal(tmp_path)


@needs_loop_devices
def test_a_file_is_refused_while_a_loop_device_over_it_is_in_use(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    with ext4(file) as device:
        assert claimable(file)
        with mounted(device, tmp_path / "folder") as folder:
            text = refusal(file)
            assert text.startswith(f"is attached to {device}, which is mounted on {folder}; force")
            assert claimable(file, force=True)


# ---- block devices


@needs_loop_devices
def test_a_block_device_with_nothing_on_it_has_one_run_at_a_time(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "disk", MIB)) as device:
        with claim("a", device, force=False):
            for force in (False, True):
                assert refusal(device, force=force).startswith("in use by another ringtape run")
        with process(HOLDER, device, "force"):
            for force in (False, True):
                assert refusal(device, force=force).startswith("in use by another ringtape run")
        assert claimable(device)


@needs_loop_devices
def test_a_claim_on_a_block_device_keeps_others_from_using_it(tmp_path: Path) -> None:
    with (
        ext4(tmp_path / "disk") as device,
        claim("a", device, force=True),
        mounted(device, tmp_path / "folder"),
    ):
        pass  # force takes it without keeping it from others
    with (
        loop_device(sparse(tmp_path / "empty", MIB)) as device,
        claim("a", device, force=False),
        pytest.raises(OSError, match="busy"),
    ):
        os.open(device, os.O_RDONLY | os.O_EXCL)


@needs_loop_devices
def test_a_file_system_is_refused_and_named(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk") as device:
        assert refusal(device).startswith("holds a file system (ext4); force")
        assert claimable(device, force=True)


@needs_loop_devices
def test_swap_space_and_raid_members_are_refused_and_named(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "swap", MIB)) as device:
        run("mkswap", device)
        assert refusal(device).startswith("holds data (swap); force")
    assert claims._signature("DEVNAME=/dev/x\nTYPE=linux_raid_member\nUSAGE=raid\n") == (
        "is a member of a volume (linux_raid_member)"
    )
    assert claims._signature("DEVNAME=/dev/x1\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_NUMBER=1\n") is None


@needs_loop_devices
def test_a_mounted_device_is_refused_and_its_mount_point_named(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk") as device, mounted(device, tmp_path / "a folder") as folder:
        assert refusal(device).startswith(f"is mounted on {folder}; force")
        assert claimable(device, force=True)


@needs_loop_devices
def test_a_file_system_with_a_device_number_of_its_own_is_found_by_its_source(tmp_path: Path) -> None:
    """As btrfs has it; the table is made up, since few machines can make one."""
    table = tmp_path / "mountinfo"
    with loop_device(sparse(tmp_path / "disk", MIB)) as device:
        table.write_text(
            "22 1 0:20 / /proc rw - proc proc rw\n"
            f"42 27 0:45 /sub /my\\040data rw,relatime shared:1 - btrfs {device} rw,ssd\n"
            "43 27 0:46 / /gone rw - btrfs /dev/ringtape-no-such-device rw\n"
        )
        assert claims._mounts(str(table))[identity(device)] == "/my data"


@needs_loop_devices
@pytest.mark.parametrize("force", [False, True])
def test_a_kernel_that_guards_mounted_devices_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Such a kernel refuses every open for writing, not the exclusive one alone."""
    opens = os.open

    def guarded(path: str, flags: int) -> int:
        if flags & os.O_ACCMODE == os.O_RDWR:
            raise OSError(errno.EBUSY, "busy")
        return opens(path, flags)

    with ext4(tmp_path / "disk") as device, mounted(device, tmp_path / "folder") as folder:
        monkeypatch.setattr(os, "open", guarded)
        text = refusal(device, force=force)
        assert text.startswith(
            f"is mounted on {folder}; stop that use: this kernel lets nobody else write to it"
        )


@needs_loop_devices
def test_a_partition_table_is_refused_and_named(tmp_path: Path) -> None:
    file = sparse(tmp_path / "disk", 32 * MIB)
    with loop_device(file) as device:
        assert claimable(device)
    with file.open("r+b") as disk:
        disk.seek(510)
        disk.write(b"\x55\xaa")  # an MBR without partitions
    with loop_device(file) as device:
        assert refusal(device).startswith("holds a partition table (dos); force")
        assert claimable(device, force=True)


@needs_loop_devices
def test_a_disk_with_partitions_is_refused_but_an_empty_partition_is_not(tmp_path: Path) -> None:
    with two_partitions(tmp_path / "disk") as (device, one, other):
        names = f"{os.path.basename(one)}, {os.path.basename(other)}"
        assert refusal(device).startswith(f"has partitions ({names}); force")
        assert claimable(device, force=True)
        assert claimable(one)


@needs_loop_devices
def test_a_mounted_partition_counts_for_its_whole_disk(tmp_path: Path) -> None:
    with two_partitions(tmp_path / "disk") as (device, one, other):
        run("mkfs.ext4", "-q", one)
        with mounted(one, tmp_path / "folder") as folder:
            name = os.path.basename(one)
            assert refusal(device).startswith(
                f"has the partition {name}, which is mounted on {folder}; force"
            )
            assert refusal(one).startswith(f"is mounted on {folder}; force")
            assert claimable(other)


@needs_loop_devices
def test_a_claimed_disk_is_refused_by_its_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_PROCESSES_NAMED_MAX", 1000)
    with two_partitions(tmp_path / "disk") as (device, one, _), process(STRANGER, device) as stranger:
        assert f"process {stranger.pid} (python" in refusal(one)


@needs_loop_devices
def test_a_part_of_a_mapped_device_is_refused_and_the_device_named(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "disk", MIB)) as device:
        name = f"ringtape-test-{os.getpid()}"
        made = subprocess.run(
            ["dmsetup", "create", name, "--noudevsync", "--table", f"0 2048 linear {device} 0"],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            pytest.skip(f"no device mapper: {made.stderr.strip()}")
        try:
            assert refusal(device).startswith(f"is part of /dev/mapper/{name}; force")
            assert claimable(device, force=True)
        finally:
            run("dmsetup", "remove", "--noudevsync", name)
        assert claimable(device)


def test_what_a_device_is_part_of_has_the_name_that_people_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On made-up entries of /sys, since kernels for virtual machines often lack the device mapper."""
    for holder in ("dm-0", "md0"):
        (tmp_path / "holders" / holder).mkdir(parents=True)
    monkeypatch.setattr(claims, "_read", lambda path: "vg-root" if path == "/sys/block/dm-0/dm/name" else "")
    assert sorted(claims._holders(str(tmp_path))) == ["/dev/mapper/vg-root", "/dev/md0"]


@needs_loop_devices
def test_a_device_in_use_as_swap_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "swap"
    file.write_bytes(bytes(MIB))
    with loop_device(file) as device:
        run("mkswap", device)
        on = subprocess.run(
            ["swapon", "--priority", "-1", device], capture_output=True, text=True, check=False
        )
        if on.returncode != 0:
            pytest.skip(f"cannot swap on: {on.stderr.strip()}")
        try:
            assert refusal(device).startswith("is swap space; force")
        finally:
            run("swapoff", device)


@needs_loop_devices
def test_a_device_of_another_program_is_refused_and_the_process_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        claims, "_PROCESSES_NAMED_MAX", 1000
    )  # tools of other tests may look at the device too
    with loop_device(sparse(tmp_path / "disk", MIB)) as device:
        with process(STRANGER, device) as stranger:
            text = refusal(device)
            assert text.startswith("is claimed by another program: it is open in process ")
            assert f"process {stranger.pid} (python" in text
            assert f"process {os.getpid()} (" not in text, "it names the run itself"
            assert claimable(device, force=True)
        assert claimable(device)


@needs_loop_devices
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "cannot be checked for a file system, since there is no blkid"),
        (
            "exit 2",
            "cannot be checked for a file system: blkid failed",
        ),  # can look at nothing, so found nothing
        ("echo no such option >&2; exit 4", "blkid failed (no such option)"),
        ("exit 8", "holds more than one file system or partition table at once"),
    ],
)
def test_a_device_that_cannot_be_checked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, said: str
) -> None:
    if script is not None:
        (tmp_path / "blkid").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "blkid").chmod(0o755)
    with loop_device(sparse(tmp_path / "disk", MIB)) as device:
        assert claimable(device)
        found = None if script is None else str(tmp_path / "blkid")
        monkeypatch.setattr(claims, "_blkid", lambda: found)
        text = refusal(device)
        assert said in text and "force" in text
        assert claimable(device, force=True)


def test_blkid_is_found_where_the_path_of_users_does_not_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(os.path.exists(f"{folder}/blkid") for folder in ("/usr/sbin", "/sbin")):
        pytest.skip("needs blkid")
    monkeypatch.setenv("PATH", "/nowhere")
    assert claims._blkid() is not None


@needs_loop_devices
@pytest.mark.parametrize("force", [False, True])
def test_a_loop_device_and_its_backing_file_have_one_run_at_a_time(tmp_path: Path, force: bool) -> None:
    file = sparse(tmp_path / "disk", MIB)
    with loop_device(file) as device:
        with process(HOLDER, device):
            assert "in use by another ringtape run" in refusal(file, force=force)
        with process(HOLDER, str(file)):
            text = refusal(device, force=force)
            assert text.startswith(f"{file}, on which it lies, is in use by another ringtape run")


@needs_loop_devices
def test_loop_devices_over_devices_keep_runs_off_them(tmp_path: Path) -> None:
    with loop_device(sparse(tmp_path / "disk", MIB)) as lower, loop_device(Path(lower)) as upper:
        with process(HOLDER, upper, "force"):
            assert "in use by another ringtape run" in refusal(lower, force=True)
        with process(STRANGER, upper):
            assert refusal(lower).startswith(f"is attached to {upper}, which is claimed by another program")
        assert claimable(lower)


# ---- one storage under two names


def test_names_of_one_file_have_one_identity(tmp_path: Path) -> None:
    file, other = sparse(tmp_path / "a", 4096), sparse(tmp_path / "b", 4096)
    os.link(file, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(file)
    for name in ("hard", "soft"):
        assert identity(str(tmp_path / name)) == identity(str(file))
        assert same_storage(str(tmp_path / name), str(file))
    assert identity(str(other)) != identity(str(file))
    assert not same_storage(str(other), str(file))
    with pytest.raises(FileNotFoundError):
        same_storage(str(file), str(tmp_path / "missing"))


@needs_loop_devices
def test_nodes_of_one_device_have_one_identity(tmp_path: Path) -> None:
    with (
        loop_device(sparse(tmp_path / "a", MIB)) as device,
        loop_device(sparse(tmp_path / "b", MIB)) as other,
    ):
        os.mknod(tmp_path / "node", 0o600 | stat.S_IFBLK, os.stat(device).st_rdev)
        (tmp_path / "soft").symlink_to(device)
        for name in ("node", "soft"):
            assert identity(str(tmp_path / name)) == identity(device)
            assert same_storage(str(tmp_path / name), device)
        assert identity(other) != identity(device)
        assert not same_storage(other, device)


@needs_loop_devices
def test_a_loop_device_is_its_backing_file_under_another_name(tmp_path: Path) -> None:
    file, stranger = sparse(tmp_path / "disk", 4 * MIB), sparse(tmp_path / "stranger", MIB)
    with loop_device(file) as device, loop_device(file, "--offset=0") as again:
        assert same_storage(device, str(file)) and same_storage(str(file), device)
        assert same_storage(device, again)
        assert not same_storage(device, str(stranger))
        file.rename(tmp_path / "moved")
        assert same_storage(device, str(tmp_path / "moved"))
        with loop_device(Path(device)) as upper:
            assert same_storage(upper, str(tmp_path / "moved")) and same_storage(upper, device)


@needs_loop_devices
def test_loop_devices_over_separate_parts_of_a_file_are_apart(tmp_path: Path) -> None:
    file = sparse(tmp_path / "disk", 4 * MIB)
    with (
        loop_device(file, "--sizelimit", str(MIB)) as first,
        loop_device(file, "--offset", str(MIB)) as rest,
        loop_device(file, "--offset", str(MIB - 4096), "--sizelimit", "8192") as across,
    ):
        assert not same_storage(first, rest) and not same_storage(rest, first)
        assert same_storage(first, across) and same_storage(across, rest)
        assert all(same_storage(device, str(file)) for device in (first, rest, across))
        with claim("a", first, force=False):
            assert claimable(rest)


@needs_loop_devices
def test_a_partition_is_part_of_its_disk_and_not_of_its_neighbour(tmp_path: Path) -> None:
    with two_partitions(tmp_path / "disk") as (device, one, other):
        assert same_storage(device, one) and same_storage(other, device)
        assert same_storage(one, str(tmp_path / "disk"))
        assert not same_storage(one, other)
