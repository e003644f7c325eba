"""Goal: whoever is killed at whatever moment, within two seconds nothing of the run is alive, and its tape replays.

Method: programs that tell through a pipe how far they are and who they are. The killer waits for the moment to come
through the pipe and for the processes to end by their pidfds; nothing sleeps. Two seconds are the promise itself.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk
from tests.programs import lasting, starting

SECONDS_MAX = 2.0
# How long to wait for something that must come; a test fails by this only if the run hangs.
PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")


class Pipe:
    """What programs tell, and a pidfd of every process that told."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.pidfds: dict[int, int] = {}
        self._rest = b""
        self._lines: list[str] = []

    def wait_for(self, *what: str) -> list[int]:
        """The pids of those that told these words, in any order."""
        found: dict[str, int] = {}
        while len(found) < len(what):
            word, pid = self._next()
            if word in what:
                found[word] = pid
        return [found[word] for word in what]

    def _next(self) -> tuple[str, int]:
        while not self._lines:
            assert select.select([self.fd], [], [], PATIENCE_S)[0], "the program tells nothing any more"
            *lines, self._rest = (self._rest + os.read(self.fd, 1 << 16)).split(b"\n")
            self._lines += [line.decode() for line in lines]
        word, pid_ = self._lines.pop(0).split(" ")
        pid = int(pid_)
        if pid not in self.pidfds:
            try:
                self.pidfds[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                self.pidfds[pid] = -1  # it has ended already
        return word, pid

    def drain(self) -> None:
        while self._lines or select.select([self.fd], [], [], 0)[0]:
            self._next()

    def check_all_ended(self, since: float) -> None:
        """Everyone who has told anything is gone two seconds after `since` at the latest."""
        self.drain()
        for pid, fd in self.pidfds.items():
            left = max(since + SECONDS_MAX - time.monotonic(), 0)
            assert fd < 0 or select.select([fd], [], [], left)[0], f"process {pid} is alive"

    def close(self) -> None:
        os.close(self.fd)
        for fd in self.pidfds.values():
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "pipe")
    yield pipe
    pipe.close()


def disk(folder: Path) -> Disk:
    return Disk("a", folder / "a.img", size="1M")


class Killer(threading.Thread):
    """Waits for words in the pipe and kills the process that told the first of them."""

    def __init__(self, pipe: Pipe, moment: str, *others: str) -> None:
        super().__init__()
        self.pipe, self.what = pipe, (moment, *others)
        self.pid = 0
        self.at = 0.0

    def run(self) -> None:
        self.pid = self.pipe.wait_for(*self.what)[0]
        self.at = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()


MOMENTS = [
    f"{worker}-{what}-{lap}"
    for worker, what, lap in [
        (0, "requests", 0),
        (1, "requests", 3),
        (2, "computing", 1),
        (0, "capturing", 2),
        (1, "logging", 1),
        (2, "sleeping", 4),
    ]
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_worker_ends_the_recording(moment: str, tmp_path: Path, pipe: Pipe) -> None:
    tape = tmp_path / "tape"
    everyone = {f"{worker}-requests-0" for worker in range(3)}
    with (
        Killer(pipe, moment, *everyone - {moment}) as killer,
        pytest.raises(ringtape.WorkerDied) as caught,
    ):
        ringtape.record(lasting.works, disks=[disk(tmp_path)], workers=3, arguments=pipe.path, tape=tape)
    pipe.check_all_ended(killer.at)
    assert len(pipe.pidfds) == 3
    assert caught.value.worker == int(moment[0])
    text = f"worker {moment[0]} (pid {killer.pid}) was killed by SIGKILL before its program ended"
    assert str(caught.value) == text
    partly = ringtape.replay(tape)
    assert partly.ended == f"the recording ends after request id {partly.requests}: {text}"
    pipe.check_all_ended(time.monotonic())


def test_a_worker_that_ends_its_process_ends_the_run(tmp_path: Path, pipe: Pipe) -> None:
    tape = tmp_path / "tape"
    with pytest.raises(ringtape.WorkerDied, match=r"worker 1 .* ended with exit status 7 before") as caught:
        ringtape.record(lasting.exits, disks=[disk(tmp_path)], workers=3, arguments=pipe.path, tape=tape)
    assert caught.value.worker == 1
    assert "ended with exit status 7" in ringtape.replay(tape).ended


def test_a_worker_that_dies_earlier_in_the_replay_leaves_the_others_to_come_to_the_end(
    tmp_path: Path, pipe: Pipe
) -> None:
    tape = tmp_path / "tape"
    os.mkfifo(f"{pipe.path}.go")
    with pytest.raises(ringtape.WorkerDied, match=r"worker 1 .* ended with exit status 7") as caught:
        ringtape.record(
            lasting.exits_early_or_late, disks=[disk(tmp_path)], workers=2, arguments=pipe.path, tape=tape
        )
    os.unlink(f"{pipe.path}.go")
    os.mkfifo(f"{pipe.path}.gone")
    for output in (None, tmp_path / "again"):
        partly = ringtape.replay(tape, output=output)
        assert partly.requests == 2 + 16
        assert partly.ended == f"the recording ends after request id 18: {caught.value}"


def test_a_worker_that_is_killed_while_it_starts_ends_the_run(
    tmp_path: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = tmp_path / "tape"
    monkeypatch.setenv("RINGTAPE_TEST_PIPE", pipe.path)
    Path(f"{pipe.path}.import").touch()
    with Killer(pipe, "waiting-import") as killer, pytest.raises(ringtape.WorkerDied) as caught:
        ringtape.record(starting.main, disks=[disk(tmp_path)], workers=3, tape=tape)
    pipe.check_all_ended(killer.at)
    assert f"(pid {killer.pid}) was killed by SIGKILL" in str(caught.value)
    assert not tape.exists(), "nothing has happened that a tape could keep"


def test_a_worker_that_is_killed_in_a_replay_ends_the_replay(tmp_path: Path, pipe: Pipe) -> None:
    tape, again = tmp_path / "tape", tmp_path / "again"
    recorded = ringtape.record(
        lasting.ends, disks=[disk(tmp_path)], workers=3, arguments=pipe.path, tape=tape
    )
    Path(f"{pipe.path}.1").touch()
    with Killer(pipe, "waiting-1") as killer, pytest.raises(ringtape.WorkerDied) as caught:
        ringtape.replay(tape, output=again)
    pipe.check_all_ended(killer.at)
    assert caught.value.worker == 1
    Path(f"{pipe.path}.1").unlink()
    assert "worker 1" in ringtape.replay(again).ended
    assert ringtape.replay(tape).digest == recorded.digest


CHILDREN = [lasting.has_started, lasting.has_forked]


@pytest.mark.parametrize("program", CHILDREN)
def test_what_a_program_has_started_ends_with_it(
    program: Callable[[Any], None], tmp_path: Path, pipe: Pipe
) -> None:
    ringtape.record(program, arguments=pipe.path, tape=tmp_path / "tape")
    pipe.check_all_ended(time.monotonic())
    assert len(pipe.pidfds) == 1


@pytest.mark.parametrize("program", CHILDREN)
def test_what_a_killed_program_has_started_ends_with_it(
    program: Callable[[Any], None], tmp_path: Path, pipe: Pipe
) -> None:
    """Nor does it keep the coordinator from noticing that the worker has died."""
    Path(f"{pipe.path}.parent").touch()
    with Killer(pipe, "waiting-parent") as killer, pytest.raises(ringtape.WorkerDied):
        ringtape.record(program, arguments=pipe.path, tape=tmp_path / "tape")
    pipe.check_all_ended(killer.at)
    assert len(pipe.pidfds) == 2


@contextmanager
def coordinator(mode: str, program: str, folder: Path, pipe: Pipe) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that records or replays."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.programs.coordinating", mode),
            *(f"tests.programs.lasting:{program}", str(folder / "tape"), str(folder / "a.img"), pipe.path),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("moment", ["0-requests-0", "1-computing-2", "2-capturing-5", "0-logging-9"])
def test_a_killed_coordinator_takes_its_workers_with_it(moment: str, tmp_path: Path, pipe: Pipe) -> None:
    with coordinator("record", "works", tmp_path, pipe) as process:
        pipe.wait_for(*{moment, *(f"{worker}-requests-0" for worker in range(3))})
        process.kill()
        killed_at = time.monotonic()
        pipe.check_all_ended(killed_at)
    assert len(pipe.pidfds) == 3
    partly = ringtape.replay(tmp_path / "tape")
    assert partly.ended == f"the recording was cut after request id {partly.requests}"


def test_workers_that_do_not_look_end_with_the_coordinator(tmp_path: Path, pipe: Pipe) -> None:
    """One computes, one waits, one is stopped."""
    with coordinator("record", "computes", tmp_path, pipe) as process:
        pids = pipe.wait_for("0-begun", "1-begun", "2-begun")
        os.kill(pids[2], signal.SIGSTOP)
        process.kill()
        pipe.check_all_ended(time.monotonic())
    assert len(pipe.pidfds) == 3


@pytest.mark.parametrize("program", CHILDREN)
def test_what_programs_have_started_ends_with_the_coordinator(
    program: Callable[[Any], None], tmp_path: Path, pipe: Pipe
) -> None:
    Path(f"{pipe.path}.parent").touch()
    with coordinator("record", program.__name__, tmp_path, pipe) as process:
        for _ in range(3):
            pipe.wait_for("waiting-parent")
        process.kill()
        pipe.check_all_ended(time.monotonic())
    assert len(pipe.pidfds) == 6


def test_a_coordinator_killed_in_a_replay_takes_its_workers_with_it(tmp_path: Path, pipe: Pipe) -> None:
    tape = tmp_path / "tape"
    recorded = ringtape.record(
        lasting.ends, disks=[disk(tmp_path)], workers=3, arguments=pipe.path, tape=tape
    )
    Path(f"{pipe.path}.2").touch()
    with coordinator("replay", "ends", tmp_path, pipe) as process:
        pipe.wait_for("waiting-2")
        process.kill()
        pipe.check_all_ended(time.monotonic())
    Path(f"{pipe.path}.2").unlink()
    # Nobody knows what it had written by then: the user gives it up.
    given_up = Disk("a", tmp_path / "a.img", fresh=True)
    assert ringtape.replay(tape, disks=[given_up]).digest == recorded.digest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_recording_is_sealed_and_replays(
    number: signal.Signals, tmp_path: Path, pipe: Pipe
) -> None:
    with coordinator("record", "works", tmp_path, pipe) as process:
        pipe.wait_for("1-requests-3")
        process.send_signal(number)
        since = time.monotonic()
        process.send_signal(number)  # as people do
        output, _ = process.communicate(timeout=PATIENCE_S)
        pipe.check_all_ended(since)
    assert output == f"KeyboardInterrupt: interrupted by {number.name}\n"
    partly = ringtape.replay(tmp_path / "tape")
    assert partly.ended == (
        f"the recording ends after request id {partly.requests}: interrupted by {number.name}"
    )


def test_an_interrupted_replay_ends(tmp_path: Path, pipe: Pipe) -> None:
    tape = tmp_path / "tape"
    ringtape.record(lasting.ends, disks=[disk(tmp_path)], workers=3, arguments=pipe.path, tape=tape)
    Path(f"{pipe.path}.0").touch()
    with coordinator("replay", "ends", tmp_path, pipe) as process:
        pipe.wait_for("waiting-0")
        process.send_signal(signal.SIGINT)
        since = time.monotonic()
        output, _ = process.communicate(timeout=PATIENCE_S)
        pipe.check_all_ended(since)
    assert output == "KeyboardInterrupt: interrupted by SIGINT\n"
    Path(f"{pipe.path}.0").unlink()
    assert "interrupted by SIGINT" in ringtape.replay(f"{tape}.again").ended
