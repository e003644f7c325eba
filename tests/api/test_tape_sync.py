"""Goal: what `tape_sync` promises is on the tape when it has to be, and the default hands blocks on by themselves.

Method: recordings in this process, which is their coordinator, with its calls of fdatasync and fsync looked at; and
coordinators of their own that are killed when a program has told that it is where it must be. That 100 ms are counted
right is for the tests of the writer.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ringtape
from ringtape import Disk
from ringtape.coordinator.tape import RequestRow, TapeEnd, TapeReader, TokenRow, iter_rows
from ringtape.proto.errors import TapeDamaged
from tests.programs import syncing

PROGRAMS = Path(syncing.__file__)
PATIENCE_S = 60.0


class Syncs:
    """Each fdatasync and fsync of a tape: which it was, and how many tokens and blocks the file had."""

    def __init__(self, tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, int, int]] = []
        for name in ("fdatasync", "fsync"):
            self._watch(name, tape, monkeypatch)

    def _watch(self, name: str, tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(os, name)

        def sync(fd: int) -> None:
            real(fd)
            if tape.exists() and os.path.samestat(os.fstat(fd), tape.stat()):
                with TapeReader.open(tape) as reader:
                    blocks = sum(1 for _ in reader.blocks())
                    self.calls.append((name, reader.totals.tokens, blocks))

        monkeypatch.setattr(os, name, sync)


def record(folder: Path, tape_sync: str) -> tuple[ringtape.Result, Path]:
    tape = folder / "tape"
    disk = Disk("a", folder / "a.img", size="1M")
    result = ringtape.record(
        syncing.some_reads,
        disks=[disk],
        workers=2,
        tape=tape,
        tape_sync=tape_sync,  # type: ignore[arg-type]
    )
    return result, tape


def test_by_default_the_tape_is_synced_with_its_seal_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(tmp_path / "tape", monkeypatch)
    result, _ = record(tmp_path, "none")
    ((name, tokens, _),) = syncs.calls
    assert (name, tokens) == ("fsync", result.checkpoints)


def test_each_block_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = Syncs(tmp_path / "tape", monkeypatch)
    _, tape = record(tmp_path, "block")
    with TapeReader.open(tape) as reader:
        blocks = len(list(reader.blocks()))
    assert [call[2] for call in syncs.calls if call[0] == "fdatasync"] == list(range(1, blocks + 1))


def test_each_checkpoint_is_synced_before_its_token_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = Syncs(tmp_path / "tape", monkeypatch)
    result, tape = record(tmp_path, "checkpoint")
    tokens = {tokens for name, tokens, _ in syncs.calls if name == "fdatasync"}
    assert set(range(1, result.checkpoints + 1)) <= tokens
    assert ringtape.replay(tape).digest == result.digest


def test_an_impossible_sync_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ringtape.UsageError, match="tape_sync 'always' must be one of: none, block, checkpoint"
    ):
        record(tmp_path, "always")
    assert not (tmp_path / "tape").exists()


class Recording:
    """A command that records until it is killed, and what its program tells."""

    def __init__(self, folder: Path, function: str, *options: str) -> None:
        pipe = folder / "pipe"
        os.mkfifo(pipe)
        self._told_fd = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._told = b""
        self.tape = folder / "tape"
        command = [
            *(sys.executable, "-m", "ringtape", "record", f"{PROGRAMS}:{function}"),
            *("--disk", f"a={folder / 'a.img'},size=1M", "--output", str(self.tape), *options, str(pipe)),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def told(self, word: str) -> None:
        """Wait for the program to tell this next."""
        while b"\n" not in self._told:
            assert select.select([self._told_fd], [], [], PATIENCE_S)[0], "the program tells nothing"
            self._told += os.read(self._told_fd, 1 << 16)
        line, self._told = self._told.split(b"\n", 1)
        assert line.decode() == word

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.kill()
        os.close(self._told_fd)


@pytest.fixture
def recording(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Recording]:
    recording = Recording(tmp_path, *request.param)
    yield recording
    recording.close()


@pytest.mark.parametrize("recording", [("tells_each", "--tape-sync", "checkpoint")], indirect=True)
def test_what_a_program_was_given_survives_a_kill(recording: Recording) -> None:
    """At `checkpoint`, at once: it is killed when the program has told that it goes on after its 7th."""
    for number in range(1, 8):
        recording.told(f"given {number}")
    recording.kill()
    with TapeReader.open(recording.tape) as reader:
        rows = []
        try:
            rows.extend(iter_rows(reader))
        except TapeDamaged:
            assert reader.end is TapeEnd.DAMAGED  # the kill came into the next block
    assert sum(isinstance(row, TokenRow) for row in rows) >= 7
    assert requests_replayed(recording.tape) >= 7


@pytest.mark.parametrize("recording", [("writes_and_waits",)], indirect=True)
def test_blocks_reach_the_kernel_while_nothing_happens(recording: Recording) -> None:
    """By default, by a timer: the program waits for a thousand seconds, and what it did before survives a kill."""
    recording.told("waiting")
    while not tokens_of(recording.tape):
        assert recording.process.poll() is None, "the block did not come"
    recording.kill()
    with TapeReader.open(recording.tape) as reader:
        rows = list(iter_rows(reader))
        assert reader.end is TapeEnd.UNSEALED
    assert sum(isinstance(row, RequestRow) for row in rows) == 1
    assert requests_replayed(recording.tape) == 1


def tokens_of(tape: Path) -> int:
    """How many a reader finds now."""
    if not tape.exists() or not tape.stat().st_size:
        return 0
    with TapeReader.open(tape) as reader:
        for _ in reader.blocks():
            pass
        return reader.totals.tokens


def requests_replayed(tape: Path) -> int:
    """How many requests a replay goes through; nobody listens to what the program tells now."""
    pipe = tape.with_name("pipe")
    pipe.unlink()
    pipe.touch()
    try:
        return ringtape.replay(tape).requests
    except TapeDamaged as error:
        assert "requests are whole" in str(error)
        return int(str(error).rsplit(" requests are whole", 1)[0].rsplit(" ", 1)[1])
