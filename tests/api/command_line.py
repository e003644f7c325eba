"""The command line as its users have it: the installed script in a process of its own, and programs for it to run."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ringtape as api
from tests.forking import SCRIPT, forker, plain_environment

TIMEOUT_S = 60

# For `file.py:function`: what the tests ask a program to do.
PROGRAMS = '''
"""Programs for the tests of the command line."""
import asyncio
import os
import time


async def main(io):
    """A little of everything; what it returns, JSON has."""
    io.log(f"worker {io.index} has {io.arguments}")
    print(f"printed by worker {io.index}\\n", end="", flush=True)
    a = io.disk("a")
    at = io.index * 65536
    await asyncio.gather(*(a.write(at + i * 4096, io.random.randbytes(4096)) for i in range(8)))
    await a.fsync()
    await a.write_zeroes(at, 4096)
    io.capture(time.time)
    return {"worker": io.index, "first": (await a.read(at + 4096, 4096))[:4].hex(), "arguments": io.arguments}


def arguments(io):
    return io.arguments


def read(io):
    """Reads where the arguments say."""
    disk, offset, length = io.arguments
    return len(io.disk(disk).read(int(offset), int(length)))


def odd_returns(io):
    return [float("nan"), b"bytes", {"set": {1}}, None][io.index]


def raises(io):
    io.disk("a").write(0, bytes(4096))
    raise ValueError(f"as asked\\nby {io.arguments}")


async def stuck(io):
    await asyncio.Event().wait()


def dies(io):
    os._exit(7)


def changes_its_mind(io):
    io.disk("a").write(0, bytes(4096))
    io.disk("a").write(8192 if os.path.exists("changed") else 4096, bytes(4096))


async def many(io):
    """As many reads as the argument says, at once: rows for more than one block of a tape."""
    a = io.disk("a")
    await asyncio.gather(*(a.read(i % 16 * 4096, 4096) for i in range(int(io.arguments[0]))))


async def endless(io):
    """Writes for ever; says who and that it is at it."""
    a = io.disk("a")
    for i in range(1 << 60):
        await asyncio.gather(*(a.write(j * 4096, io.random.randbytes(4096)) for j in range(16)))
        if i == 20:
            print("going", os.getpid(), flush=True)


def waits_for_a_file(io):
    """Works until the file is there: whoever watches says how long."""
    a = io.disk("a")
    while not io.capture(os.path.exists, "enough"):
        a.fsync()
    io.log("enough")


not_a_function = 3
'''


def make_programs(folder: Path) -> None:
    (folder / "prog.py").write_text(PROGRAMS)


def ringtape(
    *words: str, cwd: Path, launcher: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the script to its end; in a fork, unless it needs a start of its own, which Python's variables are for."""
    if not launcher and not any(name.startswith("PYTHON") for name in environment):
        return forker().run(words, cwd, {**plain_environment(), **environment}, TIMEOUT_S)
    return finished([*launcher, SCRIPT, *words], cwd, **environment)


def finished(
    words: Sequence[str], cwd: Path, text: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run any command to its end; the text is its standard input, if there is one."""
    return subprocess.run(
        words,
        cwd=cwd,
        env={**plain_environment(), **environment},
        stdin=subprocess.DEVNULL if text is None else None,
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def record(
    folder: Path,
    program: str,
    *arguments: str,
    disks: Sequence[str] = (),
    tape: str = "run.tape",
    workers: int = 1,
) -> api.Result:
    """A recording to work on, made in this process: it is what the script makes, sooner."""
    parsed = [api.Disk.parse(text) for text in disks]
    return api.record(
        str(folder / program),
        disks=[replace(disk, path=folder / disk.path) for disk in parsed],
        workers=workers,
        arguments=list(arguments),
        tape=folder / tape,
        console=api.Console(stdout=subprocess.DEVNULL),
    )


@contextmanager
def started(*words: str, cwd: Path, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """The script as the leader of its own process group, as a shell starts it."""
    with subprocess.Popen(
        [SCRIPT, *words],
        cwd=cwd,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def check_one_line(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> str:
    """The command ended with the code and one line of an error that has the parts in it; returns the line."""
    assert done.returncode == code, f"exit code {done.returncode}, not {code}: {done.stderr}"
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"not one line:\n{done.stderr}"
    assert lines[0].startswith("ringtape: error: "), lines[0]
    for part in parts:
        assert part in lines[0], f"{part!r} is not in: {lines[0]}"
    return lines[0]


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file under the folder: inode, time of its last change, contents."""
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---- launchers: a process that gives something up and becomes the script


def _launcher(code: str, *values: int) -> tuple[str, ...]:
    ending = f"\nos.execv(sys.argv[{len(values) + 1}], sys.argv[{len(values) + 1}:])\n"
    return (sys.executable, "-c", "import ctypes, os, sys\n" + code + ending, *map(str, values))


# Root reads and writes what it has no permission for: these take that away (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH out
# of the bounding set). Where the tests are not run by root it does nothing, and nothing is needed.
WITHOUT_PRIVILEGE = _launcher(
    """
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
"""
)


def without_io_uring(error: int) -> tuple[str, ...]:
    """The kernel answers io_uring_setup with this error, as a seccomp filter of a sandbox makes it."""
    assert error in (errno.EPERM, errno.ENOSYS)
    instructions = (
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x15, 0, 1, 425),  # io_uring_setup, on every architecture?
        (0x06, 0, 0, 0x00050000 | error),  # then it fails
        (0x06, 0, 0, 0x7FFF0000),  # else it is allowed
    )
    program = b"".join(struct.pack("HBBI", *one) for one in instructions).hex()
    return _launcher(
        f"""
import struct
code = ctypes.create_string_buffer(bytes.fromhex("{program}"))
filter = ctypes.create_string_buffer(struct.pack("H6xP", {len(instructions)}, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0, ctypes.get_errno()
assert libc.prctl(22, 2, filter, 0, 0) == 0, ctypes.get_errno()
"""
    )
