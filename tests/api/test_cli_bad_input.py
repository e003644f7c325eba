"""Goal: whatever is wrong is one clear line and the right exit code, and nothing is left behind or changed.

Method: the installed script in a folder whose files are compared before and after; each cause is real.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ringtape as api
from ringtape.coordinator.tape import frames
from ringtape.engine import ring
from tests.api.command_line import (
    TIMEOUT_S,
    WITHOUT_PRIVILEGE,
    check_one_line,
    make_programs,
    record,
    ringtape,
    snapshot,
    started,
    without_io_uring,
)

DISK = "a=a.img,size=1M,fresh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Programs, a tape and its disk, and what else a command could harm."""
    make_programs(tmp_path)
    (tmp_path / "kept.img").write_bytes(b"kept" * 4096)
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.py").write_text("def main(io:\n")
    (tmp_path / "imports.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "text").write_text("this is no tape\n")
    (tmp_path / "empty").touch()
    return tmp_path


# ---- what is refused before anything begins

REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "missing disk": (("-d", "a=none.img"), ("disk 'a'", "none.img", "does not exist; give size= to make it")),
    "folder as a disk": (("-d", "a=folder"), ("disk 'a'", "is a directory")),
    "size that is none": (("-d", "a=new.img,size=64Q"), ("'a'", "'64Q' is not a size")),
    "size of nothing": (("-d", "a=new.img,size=0"), ("'a'", "size '0' is nothing")),
    "other size": (("-d", "a=kept.img,size=1M"), ("disk 'a'", "has 16384 bytes")),
    "disk option": (("-d", "a=new.img,size=1M,fersh"), ("unknown option 'fersh'",)),
    "disk without a path": (("-d", "a"), ("--disk a: expected NAME=PATH",)),
    "name given twice": (("-d", "a=kept.img", "-d", "a=new.img,size=1M"), ("disk name 'a' is given twice",)),
    "path under two names": (
        ("-d", "a=new.img,size=1M,fresh", "-d", "b=kept.img", "-d", "c=../{folder}/kept.img,fresh"),
        ("disks 'b' and 'c' are the same",),
    ),
    "no workers": (("-w", "0"), ("workers 0 must be",)),
    "workers in words": (("-w", "two"), ("'--workers'", "see ringtape record --help")),
    "seed": (("--seed", "-1"), ("seed -1 must be",)),
    "data level": (("--data", "everything"), ("'--data'", "order")),
    "unknown option": (("--wokers", "2"), ("No such option: --wokers", "put -- before arguments")),
    "tape is a folder": (("-d", "a=kept.img,fresh", "-o", "folder"), ("cannot write the tape folder",)),
    "tape is no tape": (("-d", "a=kept.img,fresh", "-o", "text"), ("it exists and is not a tape",)),
    "tape is a disk": (("-d", "a=kept.img,fresh", "-o", "kept.img"), ("is disk 'a' of this run",)),
    "no folder for the tape": (("-o", "no/run.tape"), ("there is no folder no",)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_recording_is_refused(case: str, folder: Path) -> None:
    words, parts = REFUSED[case]
    words = tuple(word.format(folder=folder.name) for word in words)
    before = snapshot(folder)
    check_one_line(ringtape("record", "prog.py", *words, cwd=folder), 2, *parts)
    assert snapshot(folder) == before


PROGRAMS = {
    "no.py": ("there is no file no.py",),
    "./folder": ("./folder is a directory",),
    "no.module:main": ("there is no module 'no.module'",),
    "broken.py": ("broken.py does not import: SyntaxError",),
    "imports.py:main": ("does not import: ModuleNotFoundError", "nothing_of_this_name"),
    "prog.py:no": ("prog.py has no function 'no'",),
    "prog.py:not_a_function": ("'not_a_function' in", "is not a function but int"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_cannot_be_had(program: str, folder: Path) -> None:
    record(folder, "prog.py:arguments")
    before = snapshot(folder)
    # The tape of before, a disk that would begin as zeros and one that would be made: all are as they were.
    disks = ("-d", "kept=kept.img,fresh", "-d", DISK)
    check_one_line(ringtape("record", program, *disks, "-w", "2", cwd=folder), 2, *PROGRAMS[program])
    assert snapshot(folder) == before


def test_names_that_are_no_text(folder: Path) -> None:
    unreadable = os.fsdecode(b"\xff")
    (folder / f"{unreadable}.py").write_text("def main(io): pass\n")
    before = snapshot(folder)
    part = "the path is not UTF-8 text"
    check_one_line(
        ringtape("record", "prog.py", "-d", f"a={unreadable},size=1M", cwd=folder), 2, "disk 'a'", part
    )
    check_one_line(ringtape("record", f"{unreadable}.py", cwd=folder), 2, part)
    assert snapshot(folder) == before
    recorded = ringtape("record", "prog.py:arguments", unreadable, "-o", f"{unreadable}.tape", cwd=folder)
    assert (recorded.returncode, recorded.stderr) == (0, "")
    replayed = ringtape("replay", f"{unreadable}.tape", "-o", "again.tape", cwd=folder)
    assert (replayed.returncode, replayed.stderr) == (0, "")


def test_a_missing_program_argument(folder: Path) -> None:
    check_one_line(ringtape("record", cwd=folder), 2, "Missing argument", "PROGRAM", "ringtape record --help")
    check_one_line(ringtape("recrod", cwd=folder), 2, "No such command 'recrod'")


def test_programs_that_cannot_be_sent(folder: Path) -> None:
    def nested(io: object) -> None: ...

    class Unpicklable:
        def __call__(self, io: object) -> None: ...

        def __reduce__(self) -> str:
            raise TypeError("not this one")

    before = snapshot(folder)
    programs: tuple[tuple[Callable[..., object], str], ...] = (
        (lambda io: None, "<lambda> cannot be sent to the workers"),
        (nested, "nested cannot be sent to the workers"),
        (Unpicklable(), "cannot be sent to the workers: not this one"),
    )
    disk = api.Disk("a", folder / "a.img", size="1M", fresh=True)
    for program, message in programs:
        with pytest.raises(api.ProgramError, match=re.escape(message)) as caught:
            api.record(program, disks=[disk], tape=folder / "run.tape")
        assert "\n" not in str(caught.value)
    assert snapshot(folder) == before


def test_without_permission(folder: Path) -> None:
    record(folder, "prog.py:arguments", tape="closed.tape")
    (folder / "locked").mkdir()
    for name in ("closed.tape", "kept.img"):
        (folder / name).chmod(0o000)
    (folder / "locked").chmod(0o555)
    before = {path: path.stat() for path in folder.rglob("*")}
    for command, part in (
        (("record", "prog.py", "-d", "a=kept.img"), "disk 'a'"),
        (("record", "prog.py", "-d", "a=locked/a.img,size=1M"), "disk 'a'"),
        (("record", "prog.py", "-d", DISK, "-o", "locked/run.tape"), "cannot write the tape locked/run.tape"),
        (("record", "prog.py", "-d", DISK, "-o", "closed.tape"), "cannot write the tape closed.tape"),
        (("replay", "closed.tape"), "cannot read the tape closed.tape"),
    ):
        done = ringtape(*command, cwd=folder, launcher=WITHOUT_PRIVILEGE)
        assert "ermission" in check_one_line(done, 2, part)
    after = {path: path.stat() for path in folder.rglob("*")}
    assert {path: (one.st_ino, one.st_mtime_ns) for path, one in before.items() if path.is_file()} == {
        path: (one.st_ino, one.st_mtime_ns) for path, one in after.items() if path.is_file()
    }


# ---- what a program asks for that cannot be: its own failure, in a replay too

ASKED = {
    "unknown disk": (("b", "0", "4096"), "this run has no disk 'b'; the disks of worker 0 are: 'a'"),
    "unaligned offset": (("a", "100", "4096"), "offset 100 on disk 'a' is not a multiple of its block size"),
    "unaligned length": (("a", "0", "4000"), "length 4000 on disk 'a' is not a multiple of its block size"),
    "out of range": (("a", "1048576", "4096"), "offset 1048576 with length 4096 is out of range on disk 'a'"),
}


@pytest.mark.parametrize("case", ASKED)
def test_a_program_asks_for_what_cannot_be(case: str, folder: Path) -> None:
    arguments, part = ASKED[case]
    recorded = ringtape("record", "prog.py:read", *arguments, "-d", DISK, cwd=folder)
    line = check_one_line(recorded, 1, "worker 0 raised ", "prog.py:", part)
    assert check_one_line(ringtape("replay", "run.tape", cwd=folder), 1, part) == line


# ---- tapes


def test_files_that_are_no_tapes(folder: Path) -> None:
    record(folder, "prog.py:arguments")
    tape = (folder / "run.tape").read_bytes()
    begins = frames.FILE_HEADER.pack(frames.MAGIC, 99, frames.file_check(99))
    (folder / "newer.tape").write_bytes(begins + tape[len(begins) :])
    (folder / "stub.tape").write_bytes(tape[:30])
    before = snapshot(folder)
    cases = (
        ("none.tape", 2, "cannot read the tape none.tape: No such file"),
        ("folder", 2, "cannot read the tape folder: it is a folder"),
        ("empty", 2, "empty is empty: its recording was killed before it began, or it is no tape"),
        ("text", 2, "text is not a tape"),
        ("newer.tape", 2, "newer.tape is made by a newer ringtape: format 99"),
        ("stub.tape", 4, "stub.tape is damaged at byte 16 (the header)"),
    )
    for name, code, part in cases:
        check_one_line(ringtape("replay", name, cwd=folder), code, part)
    for command, (name, code, part) in zip(("info", "dump"), cases[2:4], strict=True):
        done = ringtape("tape", command, name, cwd=folder)
        check_one_line(done, code, part)
        assert done.stdout == ""
    assert snapshot(folder) == before


def test_a_tape_cut_in_the_middle_replays_up_to_there(folder: Path) -> None:
    record(folder, "prog.py:many", "12000", disks=[DISK])
    tape = folder / "run.tape"
    whole = tape.read_bytes()
    frames = [match.start() for match in re.finditer(b"RTfr", whole)]
    second_block = frames[2]  # the header is the first frame
    tape.write_bytes(whole[: second_block + 30])
    message = f"run.tape is damaged at byte {second_block} (block 2): the file ends inside a frame"

    replayed = ringtape("replay", "run.tape", "-o", "again.tape", "--json", cwd=folder)
    check_one_line(replayed, 4, message)
    assert replayed.stdout == ""
    again = json.loads(ringtape("tape", "info", "again.tape", "--json", cwd=folder).stdout)
    requests = again["requests"]
    assert 0 < requests <= 12000
    assert f"its first {requests} requests are whole" in replayed.stderr

    info = ringtape("tape", "info", "run.tape", "--json", cwd=folder)
    check_one_line(info, 4, message)
    assert (json.loads(info.stdout)["ended"], json.loads(info.stdout)["requests"]) == ("damaged", requests)
    dump = ringtape("tape", "dump", "run.tape", cwd=folder)
    check_one_line(dump, 4, message)
    assert dump.stdout.count(" request ") == requests

    # Cut between two frames it is no damage: that is how a kill leaves a tape.
    tape.write_bytes(whole[:second_block])
    cut = ringtape("replay", "run.tape", cwd=folder)
    assert (cut.returncode, cut.stderr) == (0, "")
    assert f"the recording was cut after request id {requests}" in cut.stdout


def test_a_replay_is_refused(folder: Path) -> None:
    record(folder, "prog.py", disks=["a=a.img,size=1M", "b=kept.img"])
    (folder / "kept.img").write_bytes(b"gone" * 4096)
    (folder / "old.tape").write_bytes((folder / "run.tape").read_bytes())
    before = snapshot(folder)
    kept = ("-d", "b=new.img,size=16K,fresh")
    for words, parts in (
        (("-d", "c=kept.img"), ("the tape has no disk 'c'; its disks are: a, b",)),
        ((), ("disk 'b'", "does not hold what it held when the recording began")),
        (("-d", "b=a.img"), ("disk 'b'", "has 1048576 bytes; the recording's had 16384")),
        ((*kept, "-o", "run.tape"), ("run.tape",)),
        ((*kept, "-o", "old.tape", "--program", "prog.py:no"), ("has no function 'no'",)),
        ((*kept, "--stall-timeout", "0"), ("must be positive",)),
    ):
        lines = ringtape("replay", "run.tape", *words, cwd=folder)
        check_one_line(lines, 2, *parts)
        assert snapshot(folder) == before, words


@pytest.fixture
def small_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which little room is."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.strip()}")
    yield small
    subprocess.run(["umount", str(small)], check=True)


def test_a_full_disk_while_the_tape_is_written(folder: Path, small_folder: Path) -> None:
    done = ringtape("record", "prog.py:endless", "-d", DISK, "-o", "small/run.tape", "--json", cwd=folder)
    line = check_one_line_and_prints(done, 2, "no space left on device while writing small/run.tape")
    whole = re.search(r"its first (\d+) requests are whole", line)
    assert whole is not None
    assert int(whole[1]) > 1000
    assert done.stdout == ""
    replayed = ringtape("replay", "small/run.tape", "--json", cwd=folder)
    assert replayed.returncode == 0, replayed.stderr
    result = json.loads(replayed.stdout)
    assert (result["ended"], result["requests"]) == (
        f"the recording was cut after request id {whole[1]}",
        int(whole[1]),
    )


def check_one_line_and_prints(done: subprocess.CompletedProcess[str], code: int, part: str) -> str:
    """As `check_one_line`, beside what the worker printed itself."""
    own = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("going ")]
    return check_one_line(
        subprocess.CompletedProcess(done.args, done.returncode, done.stdout, "".join(own)), code, part
    )


# ---- interruption


def test_ctrl_c_seals_the_tape_and_the_tape_replays(folder: Path) -> None:
    with started("record", "prog.py:endless", "-d", DISK, "-w", "2", cwd=folder) as process:
        assert process.stdout is not None
        workers = [int(process.stdout.readline().removeprefix("going ")) for _ in range(2)]
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (130, "ringtape: interrupted; the tape is sealed: run.tape\n")
    assert (folder / "a.img").exists()
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    info = json.loads(ringtape("tape", "info", "run.tape", "--json", cwd=folder).stdout)
    assert (info["ended"], info["ended_text"]) == ("interrupted", "interrupted by SIGINT")
    assert info["requests"] >= 2 * 20 * 16
    replayed = ringtape("replay", "run.tape", cwd=folder)
    assert (replayed.returncode, replayed.stderr) == (0, "")
    ended = f"the recording ends after request id {info['requests']}: interrupted by SIGINT"
    assert f"exact as far as the tape goes: {ended}\n" in replayed.stdout
    assert info["digest"] in replayed.stdout


@pytest.mark.parametrize("command", ["run", "record"])
def test_ctrl_c_before_and_without_a_tape(command: str, folder: Path) -> None:
    # A program that is not loaded before somebody reads what it writes at its top.
    os.mkfifo(folder / "fifo")
    (folder / "slow.py").write_text("open('fifo', 'w').close()\nopen('fifo')\n")
    disks = ("-d", "new=new.img,size=1M", "-d", "kept=kept.img,fresh")
    before = (folder / "kept.img").read_bytes()
    with started(command, "slow.py", *disks, cwd=folder) as process:
        with open(folder / "fifo") as fifo:
            assert fifo.read() == ""
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stdout, stderr) == (130, "", "ringtape: interrupted\n")
    assert not (folder / "run.tape").exists()
    assert not (folder / "new.img").exists()
    assert (folder / "kept.img").read_bytes() == before


def test_ctrl_c_in_a_plain_run(folder: Path) -> None:
    with started("run", "prog.py:endless", "-d", DISK, cwd=folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("going ")
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stdout, stderr) == (130, "", "ringtape: interrupted\n")


# ---- no io_uring


@pytest.mark.parametrize(
    ("error", "why"), [(errno.EPERM, "seccomp filter"), (errno.ENOSYS, "no io_uring (ENOSYS)")]
)
def test_without_io_uring(error: int, why: str, folder: Path) -> None:
    record(folder, "prog.py", disks=[DISK])
    before = snapshot(folder)
    for command in (
        ("record", "prog.py", "-d", "a=kept.img,fresh", "-d", "b=new.img,size=1M"),
        ("replay", "run.tape"),
    ):
        check_one_line(ringtape(*command, cwd=folder, launcher=without_io_uring(error)), 5, why)
    assert snapshot(folder) == before


def test_io_uring_switched_off_by_the_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = PermissionError(errno.EPERM, "Operation not permitted")
    for setting in ("1", "2"):
        monkeypatch.setattr(ring, "_disabled_setting", lambda setting=setting: setting)
        assert str(ring.unavailable(refused)) == (
            f"io_uring is switched off by kernel.io_uring_disabled={setting}: sysctl kernel.io_uring_disabled=0"
        )
    for setting in ("0", ""):
        monkeypatch.setattr(ring, "_disabled_setting", lambda setting=setting: setting)
        assert "seccomp filter" in str(ring.unavailable(refused))
