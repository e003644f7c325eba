"""Goal: a breakpoint is pdb at the program's own line, on the user's terminal, and changes nothing.

Method: the script on a terminal of its own (a pseudo-terminal). What is typed is sent when the prompt has come.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import RequestRow, TapeReader, iter_rows
from tests.api.command_line import SCRIPT, TIMEOUT_S, check_one_line, plain_environment
from tests.api.command_line import ringtape as script

PROMPT = "(Pdb) "

# Loaded as a file of this name: the debugger needs the real module `cmd`.
PROGRAM = """
import asyncio


async def put(disk, place):
    data = bytes([place]) * 4096
    await disk.write(place * 4096, data)
    return place


async def main(io):
    disk = io.disk("a")
    base = 8 * io.index
    for place in range(3):
        await put(disk, base + place)
    await asyncio.gather(disk.read(0, 4096), disk.read(4096, 4096))
    async with asyncio.TaskGroup() as group:
        group.create_task(disk.read(0, 4096))
    await asyncio.create_task(put(disk, base + 3))
    return base


def blocking(io):
    total = 0
    for place in range(3):
        io.disk("a").write(place * 4096, bytes(4096))
        total += place
    return total


def spins(io):
    import os

    io.disk("a").write(0, bytes(4096))
    if not os.path.exists("recording"):
        print("spinning", flush=True)
    while not os.path.exists("recording"):
        pass
    io.disk("a").write(0, bytes(4096))
"""


class Typed:
    """A session on a terminal: `told` is everything that has been shown."""

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env=plain_environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.told = ""
        self._seen = 0

    def until(self, text: str) -> str:
        """Read on until the text comes; returns what came before it."""
        while (at := self.told.find(text, self._seen)) < 0:
            assert self._read(), f"it ended without {text!r}:\n{self.told}"
        before, self._seen = self.told[self._seen : at], at + len(text)
        return before

    def type(self, line: str, *, then: str = PROMPT) -> str:
        """Type a line; returns what is shown up to the next prompt."""
        self.send(line + "\n")
        return self.until(then)

    def send(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self, code: int = 0) -> str:
        """The rest, once it has ended with that code."""
        while self._read():
            pass
        assert self.process.wait(TIMEOUT_S) == code, self.told
        return self.told[self._seen :]

    def _read(self) -> bool:
        assert select.select([self._ours], [], [], TIMEOUT_S)[0], f"nothing more comes:\n{self.told}"
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # how a terminal says that nobody has it open any more
            return False
        self.told += data.decode().replace("\r\n", "\n")
        return bool(data)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a recording of two workers in `run.tape`, and of a blocking program in `blocking.tape`."""
    folder = tmp_path_factory.mktemp("debugger")
    program = folder / "cmd.py"
    program.write_text(PROGRAM)
    disk = Disk("a", folder / "a.img", size="64K", fresh=True)
    recorded = ringtape.record(str(program), disks=[disk], workers=2, tape=folder / "run.tape")
    (folder / "digest").write_text(recorded.digest or "")
    ringtape.record(f"{program}:blocking", disks=[disk], tape=folder / "blocking.tape").raise_for_failures()
    return folder


@pytest.fixture
def sessions(folder: Path) -> Iterator[list[Typed]]:
    started: list[Typed] = []
    yield started
    for session in started:
        session.close()


def start(sessions: list[Typed], folder: Path, *words: str) -> Typed:
    sessions.append(Typed(words, folder))
    return sessions[-1]


def ids_of(folder: Path, worker: int) -> list[int]:
    """Of its requests."""
    with TapeReader.open(folder / "run.tape") as reader:
        return [row.id for row in iter_rows(reader) if isinstance(row, RequestRow) and row.worker == worker]


def digest_of(told: str) -> str:
    found = re.search(r"digest +([0-9a-f]{32})", told)
    assert found, told
    return found[1]


def test_it_stands_at_the_program_s_own_line_and_goes_on_exactly(folder: Path, sessions: list[Typed]) -> None:
    second = ids_of(folder, 0)[1]
    session = start(sessions, folder, SCRIPT, "replay", "run.tape", "--break", str(second))
    stood = session.until(PROMPT)
    assert (
        f"worker 0, after its checkpoint 1, is about to make request id {second}, write of 4096 bytes"
        in stood
    )
    assert stood.endswith("cmd.py(7)put()\n-> await disk.write(place * 4096, data)\n")
    assert "\n1\n" in session.type("p place")
    where = session.type("where")
    # The program's frames, the innermost last, and nothing else.
    assert re.findall(r"cmd\.py\((\d+)\)(\w+)", where) == [("15", "main"), ("7", "put")]
    assert where.count("\n-> ") == 2 and "ringtape" not in where
    session.send("\x03")  # Ctrl-C gives up a command, and ends nothing
    session.until("--KeyboardInterrupt--\n" + PROMPT)
    assert "cmd.py(8)put()\n-> return place\n" in session.type("next")
    assert "--Return--\n" in session.type("next")
    assert "cmd.py(14)main()\n" in session.type("next")
    rest = session.type("continue", then="exact: same digest as the recording\n") + session.end()
    assert digest_of(rest) == (folder / "digest").read_text()


def test_a_request_that_a_task_makes_by_itself_is_shown_where_it_is_awaited(
    folder: Path, sessions: list[Typed]
) -> None:
    gathered, _, grouped, _ = ids_of(folder, 1)[-4:]
    words = ("replay", "run.tape", "--break", str(grouped), "--break", str(gathered))
    session = start(sessions, folder, SCRIPT, *words)
    assert "cmd.py(16)main()\n-> await asyncio.gather(" in session.until(PROMPT)
    assert "cmd.py(17)main()\n-> async with asyncio.TaskGroup() as group:\n" in session.type("c")
    # In a task of its own: what runs the task is not shown.
    session.type("break 7")
    assert "cmd.py(7)put()\n" in session.type("c")
    where = session.type("where")
    assert where.count("\n-> ") == 1 and "asyncio" not in where and "ringtape" not in where
    session.type("c", then="exact: same digest as the recording\n")
    session.end()


def test_two_workers_have_the_terminal_one_after_the_other(folder: Path, sessions: list[Typed]) -> None:
    first = [ids_of(folder, worker)[0] for worker in (0, 1)]
    words = [word for one in first for word in ("--break", str(one))]
    session = start(sessions, folder, SCRIPT, "replay", "run.tape", *words)
    session.until(PROMPT)
    assert session.told.count("is about to make") == 1
    session.type("p 1")
    session.type("c")
    assert session.told.count("is about to make") == 2
    session.type("c", then="exact: same digest as the recording\n")
    session.end()


def test_quitting_ends_the_replay_and_gives_the_terminal_back(folder: Path, sessions: list[Typed]) -> None:
    # A shell without job control leaves the terminal as it finds it: it can read only if it was given back.
    lines = f"{SCRIPT} replay blocking.tape --break 2; echo code $?; read line; echo read $line"
    session = start(sessions, folder, "bash", "-c", lines)
    assert "cmd.py(26)blocking()\n" in session.until(PROMPT)
    assert "\n0\n" in session.type("p total")
    shown = session.type("q", then="code 0\n")
    assert "exact so far: stopped where worker 0 stood in the debugger; the tape goes on\n" in shown
    assert "error" not in shown and "Traceback" not in shown
    session.send("again\n")
    session.until("read again\n")
    session.end()


def test_a_worker_that_dies_in_the_debugger_leaves_the_terminal_to_the_run(
    folder: Path, sessions: list[Typed]
) -> None:
    lines = f"{SCRIPT} replay blocking.tape --break 2; echo code $?; read line; echo read $line"
    session = start(sessions, folder, "bash", "-c", lines)
    session.until(PROMPT)
    shown = session.type("import os; os.kill(os.getpid(), 9)", then="code 1\n")
    assert "ringtape: error: worker 0 (pid " in shown and "was killed by SIGKILL" in shown
    session.send("again\n")
    session.until("read again\n")
    session.end()


def test_ctrl_c_is_the_run_s_again_when_the_program_goes_on(folder: Path, sessions: list[Typed]) -> None:
    recording = folder / "recording"
    recording.touch()
    disk = Disk("a", folder / "spins.img", size="64K", fresh=True)
    with chdir(folder):
        ringtape.record(f"{folder / 'cmd.py'}:spins", disks=[disk], tape="spins.tape").raise_for_failures()
    recording.unlink()
    session = start(sessions, folder, SCRIPT, "replay", "spins.tape", "--break", "1")
    session.until(PROMPT)
    session.type("c", then="spinning\n")
    session.send("\x03")
    session.until("ringtape: interrupted")
    session.end(130)


def test_every_request_that_touches_a_watched_range_has_a_breakpoint(
    folder: Path, sessions: list[Typed]
) -> None:
    words = ("replay", "blocking.tape", "--watch", "a:4K:4K", "--break", "watch")
    session = start(sessions, folder, SCRIPT, *words)
    assert "is about to make request id 2, write of 4096 bytes at 4096 on disk 'a'\n" in session.until(PROMPT)
    # Breakpoints of pdb's own work beside them.
    session.type("break 28")
    stopped = session.type("c")
    assert "request 2: write a offset 4096 length 4096; a:4096:4096 " in session.told
    assert "cmd.py(28)blocking()\n-> return total\n" in stopped
    session.type("c", then="exact: same digest as the recording\n")
    assert session.end().count("is about to make") == 0


def test_an_offline_replay_needs_no_disk_to_stand_still(folder: Path, sessions: list[Typed]) -> None:
    disk = Disk("a", folder / "full.img", size="64K", fresh=True)
    full = folder / "full.tape"
    ringtape.record(
        f"{folder / 'cmd.py'}:blocking", disks=[disk], tape=full, data="full"
    ).raise_for_failures()
    (folder / "full.img").unlink()
    session = start(sessions, folder, SCRIPT, "replay", "full.tape", "--offline", "--break", "3")
    assert "cmd.py(26)blocking()\n" in session.until(PROMPT)
    assert "\n1\n" in session.type("p total")
    session.type("c", then="exact: same digest as the recording\n")
    session.end()


def test_a_stop_waits_for_whoever_stands_in_the_debugger(folder: Path, sessions: list[Typed]) -> None:
    words = ("replay", "blocking.tape", "--break", "2", "--until", "2")
    session = start(sessions, folder, SCRIPT, *words)
    session.until(PROMPT)
    session.type("next", then="exact so far: stopped after request id 2, write of 4096 bytes at 4096")
    session.end()


def test_without_a_terminal_it_is_refused_before_anything_begins(folder: Path) -> None:
    disk = folder / "a.img"
    before = disk.stat().st_mtime_ns
    alone = (sys.executable, "-c", "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])")
    done = script("replay", "blocking.tape", "--break", "2", cwd=folder, launcher=alone)
    check_one_line(done, 2, "a breakpoint needs a terminal")
    assert disk.stat().st_mtime_ns == before


def test_in_the_background_it_is_refused(folder: Path, sessions: list[Typed]) -> None:
    # With job control, so that the command is in a process group of its own.
    lines = f"set -m; {SCRIPT} replay blocking.tape --break 2 & wait $!; echo code $?"
    session = start(sessions, folder, "bash", "-c", lines)
    assert "a breakpoint needs the terminal, and this process runs in the background" in session.until(
        "code 2"
    )
    session.end()
