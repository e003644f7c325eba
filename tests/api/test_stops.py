"""Goal: a replay stops where it was told to, exact so far, and says where. Method: real runs, stopped everywhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from xxhash import xxh3_64_intdigest

import ringtape
from ringtape import Disk, ReplayedRequest, UsageError, WatchedRequest
from ringtape.coordinator.tape import RequestRow, TapeReader, TokenRow, iter_rows
from tests.api.command_line import SCRIPT, plain_environment
from tests.api.command_line import ringtape as script
from tests.programs import inspected
from tests.programs.inspected import BLOCK, WRITES, fill

WORKERS = 2


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of two workers that write blocks of their own."""
    folder = tmp_path_factory.mktemp("stops")
    disk = Disk("a", folder / "a.img", size=WORKERS * WRITES * BLOCK, fresh=True)
    path = folder / "run.tape"
    ringtape.record(inspected.writes, disks=[disk], workers=WORKERS, tape=path).raise_for_failures()
    return path


def recorded_requests(tape: Path) -> list[RequestRow]:
    with TapeReader.open(tape) as reader:
        return [row for row in iter_rows(reader) if isinstance(row, RequestRow)]


def nobody_is_left() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return True


@pytest.mark.parametrize("last", [1, 11, WORKERS * WRITES])
def test_after_a_request(tape: Path, last: int) -> None:
    seen: list[ReplayedRequest] = []
    result = ringtape.replay(tape, until=last, on_request=seen.append, output=tape.with_name("part.tape"))
    rows = recorded_requests(tape)
    assert result.requests == last
    assert result.ended.startswith(
        f"stopped after request id {last}, write of {BLOCK} bytes at {rows[last - 1].offset}"
    )
    assert (
        f"by worker {rows[last - 1].worker} after its checkpoint {rows[last - 1].checkpoint};" in result.ended
    )
    assert result.ended.endswith("the tape goes on")
    # Told in the order of ids, all that the tape has of them.
    assert [one.id for one in seen] == list(range(1, last + 1))
    for one, row in zip(seen, rows, strict=False):
        assert (one.worker, one.sequence, one.checkpoint) == (row.worker, row.sequence, row.checkpoint)
        assert (one.kind, one.disk, one.offset, one.length) == ("write", row.disk, row.offset, row.length)
        assert (one.flags, one.digest) == ((), row.digest)
    # All of them have reached the disk.
    held = tape.with_name("a.img").read_bytes()
    for row in rows[:last]:
        assert held[row.offset :][:BLOCK] == fill(row.worker, row.sequence)
    # The replay's own tape ends there too, and replays.
    again = ringtape.replay(tape.with_name("part.tape"))
    assert (again.requests, again.digest) == (last, result.digest)
    assert again.ended == f"the recording ends after request id {last}: {result.ended}"


def test_at_a_checkpoint(tape: Path) -> None:
    part = tape.with_name("part.tape")
    result = ringtape.replay(tape, until="checkpoint:1:3", output=part)
    assert result.ended == "stopped at checkpoint 3 of worker 1; the tape goes on"
    with TapeReader.open(part) as reader:
        tokens = [row for row in iter_rows(reader) if isinstance(row, TokenRow)]
    assert (tokens[-1].worker, tokens[-1].checkpoint) == (1, 3)
    assert result.checkpoints == len(tokens)


def test_a_stop_that_the_tape_does_not_come_to_is_said(tape: Path) -> None:
    whole = ringtape.replay(tape)
    for until, what in (
        (1000, "request id 1000"),
        ("checkpoint:0:1000", "checkpoint 1000 of worker 0"),
        ("failure", "a failure"),
    ):
        result = ringtape.replay(tape, until=until)
        assert (result.digest, result.ended) == (whole.digest, f"finished, without coming to {what}")


def test_at_the_first_failure_which_may_be_a_request_or_a_program(tmp_path: Path) -> None:
    disk = Disk("a", tmp_path / "a.img", size=16 * BLOCK, fresh=True)
    tape, part = tmp_path / "run.tape", tmp_path / "part.tape"
    recorded = ringtape.record(inspected.fails, disks=[disk], tape=tape)
    assert [failure.message for failure in recorded.failures] == ["as it must"]
    result = ringtape.replay(tape, until="failure", output=part)
    assert result.ended.startswith(
        "stopped at the first failure: request id 3 failed (File too large, errno 27)"
    )
    assert "by worker 0 after its checkpoint 3" in result.ended
    assert (result.requests, result.failures) == (3, [])
    # Where no request fails it is the program's exception.
    disk = Disk("a", tmp_path / "b.img", size=BLOCK, fresh=True)
    ringtape.record(inspected.touches, disks=[disk], tape=tape)
    result = ringtape.replay(tape, until="failure")
    assert result.ended.startswith(
        "stopped at the first failure: worker 0 raised ringtape.InvalidRequest at "
    )
    assert "inspected.py" in result.ended
    assert result.ended.endswith("; the tape ends there too")
    assert len(result.failures) == 1


class Told(Exception):
    pass


def test_what_the_callback_raises_comes_out_and_nobody_is_left(tape: Path) -> None:
    def on_request(request: ReplayedRequest) -> None:
        if request.id == 5:
            raise Told(str(request))

    with pytest.raises(Told, match=r"^request id 5, write of 4096 bytes at \d+ on disk 'a'$"):
        ringtape.replay(tape, on_request=on_request)
    assert nobody_is_left()
    assert ringtape.replay(tape).ended == "finished"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"until": 0}, "until 0 is none of: a request id"),
        ({"until": True}, "until True is none of"),
        ({"until": "checkpoint:0"}, "until 'checkpoint:0' is none of"),
        ({"until": "checkpoint:2:1"}, "the run has no worker 2; it has workers 0 to 1"),
        ({"break_at": ["x"]}, "break at 'x': expected a request id, from 1, or watch"),
        ({"break_at": ["watch"]}, "break at 'watch' needs a range"),
        ({"break_at": [5], "until": 4}, "the replay stops before it, after request id 4"),
        ({"watch": ["a:0:4K"]}, "watch needs on_watched"),
        ({"on_watched": print}, "on_watched needs watch"),
        ({"watch": ["a:0"], "on_watched": print}, "watch 'a:0': expected DISK:OFFSET:LENGTH"),
        ({"watch": ["c:0:1"], "on_watched": print}, "the tape has no disk 'c'; its disks are: a"),
        ({"watch": ["a:0:1M"], "on_watched": print}, "ends after the disk, which has 98304 bytes"),
        ({"watch": ["a:0:0"], "on_watched": print}, "size '0' is nothing"),
        ({"watch": ["a:x:4K"], "on_watched": print}, "size 'x' is not a size"),
        ({"disturb": 0}, "conditions 0 must be a whole number from 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_begins(
    tape: Path, arguments: dict[str, Any], text: str
) -> None:
    disk = tape.with_name("a.img")
    disk.write_bytes(b"x" * disk.stat().st_size)
    with pytest.raises(UsageError) as caught:
        ringtape.replay(tape, **arguments)
    assert text in str(caught.value)
    assert disk.read_bytes()[:1] == b"x"


def test_a_breakpoint_at_a_request_that_is_not_on_the_tape(tape: Path) -> None:
    with pytest.raises(ringtape.TapeError, match="has no request 1000"):
        ringtape.replay(tape, break_at=[1000])


# ---- watched ranges


def test_a_watched_range_is_what_the_disk_holds(tmp_path: Path) -> None:
    """On a fresh disk and on one that holds something, from inside the block that most requests touch."""
    (tmp_path / "b.img").write_bytes(b"old!" * 4 * BLOCK)
    disks = [Disk("a", tmp_path / "a.img", size=16 * BLOCK, fresh=True), Disk("b", tmp_path / "b.img")]
    tape = tmp_path / "run.tape"
    ringtape.record(inspected.touches, disks=disks, tape=tape).raise_for_failures()
    (tmp_path / "b.img").write_bytes(b"old!" * 4 * BLOCK)
    seen: list[WatchedRequest] = []
    ranges = [f"{name}:{2 * BLOCK + 5}:100" for name in "ab"]
    result = ringtape.replay(tape, watch=ranges, on_watched=seen.append)
    assert result.ended == "finished"
    for index, name in enumerate("ab"):
        at = 8 * index
        begin = bytes(100) if name == "a" else (b"old!" * 100)[5 % 4 :][:100]
        held = [(begin, begin), (begin, b"1" * 100), (b"1" * 100, bytes(100)), (bytes(100), b"3" * 100)]
        held.append((b"3" * 100, bytes(100)))
        told = [one for one in seen if one.range == f"{name}:{2 * BLOCK + 5}:100"]
        assert [one.request.id - at for one in told] == [2, 3, 6, 7, 8]
        assert [one.request.kind for one in told] == ["read", "write", "write_zeroes", "write", "discard"]
        assert [one.result for one in told] == [2 * BLOCK, 3 * BLOCK, 0, 2 * BLOCK, 0]
        digests = [(xxh3_64_intdigest(before), xxh3_64_intdigest(after)) for before, after in held]
        assert [(one.before, one.after) for one in told] == digests


def test_an_offline_replay_can_be_looked_into_as_well(tmp_path: Path) -> None:
    disks = [Disk(name, tmp_path / f"{name}.img", size=16 * BLOCK, fresh=True) for name in "ab"]
    tape = tmp_path / "run.tape"
    ringtape.record(inspected.touches, disks=disks, tape=tape, data="full").raise_for_failures()
    there: list[WatchedRequest] = []
    offline: list[WatchedRequest] = []
    watch = [f"a:{BLOCK}:{2 * BLOCK}"]
    ringtape.replay(tape, watch=watch, on_watched=there.append)
    (tmp_path / "a.img").unlink()
    result = ringtape.replay(tape, offline=True, watch=watch, on_watched=offline.append)
    assert result.ended == "finished"
    # What the disk held is not known until all of it has been read: the second read does that.
    assert [one.request for one in offline] == [one.request for one in there]
    assert [one.result for one in offline] == [one.result for one in there]
    assert [one.after for one in offline] == [None, *(one.after for one in there[1:])]
    assert [one.before for one in offline] == [None, None, *(one.before for one in there[2:])]
    assert ringtape.replay(tape, offline=True, until=5).requests == 5
    assert ringtape.replay(tape, offline=True, until="checkpoint:0:2").checkpoints == 2


@pytest.mark.parametrize("until", [None, 9])
def test_on_a_shared_disk_ids_are_the_order_of_what_it_holds(until: int | None, tmp_path: Path) -> None:
    disk = Disk("a", tmp_path / "a.img", size=4 * BLOCK, fresh=True)
    tape = tmp_path / "run.tape"
    ringtape.record(inspected.races, disks=[disk], workers=2, tape=tape).raise_for_failures()
    seen: list[WatchedRequest] = []
    ringtape.replay(tape, watch=[f"a:{BLOCK}:{BLOCK}"], on_watched=seen.append, until=until, disturb=3)
    assert len(seen) == (until or 24)
    held = xxh3_64_intdigest(bytes(BLOCK))
    for one in seen:
        assert one.before == held
        if one.request.kind == "write":
            # A worker's even requests are its writes.
            held = xxh3_64_intdigest(fill(one.request.worker, one.request.sequence // 2))
        assert one.after == held, "a read has returned what the copy holds"
    # What comes after a stop is not admitted to a shared disk.
    with (tmp_path / "a.img").open("rb") as file:
        file.seek(BLOCK)
        assert xxh3_64_intdigest(file.read(BLOCK)) == held


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"on_request": 3}, "on_request 3 is nothing that can be called"),
        ({"watch": "a:0:4K", "on_watched": print}, "watch is 'a:0:4K': give a list"),
        ({"break_at": 5}, "break_at is 5: give a list"),
        ({"stall_timeout_s": "x"}, "stall_timeout_s 'x' must be positive"),
        ({"stall_timeout_s": float("inf")}, "stall_timeout_s inf must be positive, 1000000000 at most"),
    ],
)
def test_arguments_of_another_type_are_refused_by_name(tape: Path, wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        ringtape.replay(tape, **wrong)


def test_the_command_prints_a_line_for_each_and_ends_when_nobody_reads_on(tape: Path) -> None:
    command = ("replay", "run.tape", "--watch", "a:0:4K", "--watch", "a:48K:1")
    done = script(*command, cwd=tape.parent)
    first, second, *rest = done.stdout.splitlines()
    lines = re.compile(
        r"w([01])   c0      request \d: write a offset (\d+) length 4096; a:\2:(\d+) [0-9a-f]{16} -> [0-9a-f]{16}"
    )
    found = [lines.fullmatch(line) for line in (first, second)]
    assert sorted(one.groups() for one in found if one) == [("0", "0", "4096"), ("1", "49152", "1")]
    assert rest[0] == "exact: same digest as the recording"
    as_json = script(*command, "--json", cwd=tape.parent)
    assert json.loads(as_json.stdout)["ended"] == "finished"
    assert as_json.stderr.splitlines() == [first, second]
    # Nobody reads: the first line that is written through ends the replay, and that is no error.
    reader, writer = os.pipe()
    os.close(reader)
    words = [SCRIPT, *command]
    environment = plain_environment() | {"PYTHONUNBUFFERED": "1"}
    with os.fdopen(writer, "w") as out:
        unread = subprocess.run(
            words,
            cwd=tape.parent,
            env=environment,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (unread.returncode, unread.stderr) == (0, "")


def test_a_large_watched_request_comes_in_pieces(tmp_path: Path) -> None:
    size = 5 << 19
    disk = Disk("a", tmp_path / "a.img", size=size, fresh=True)
    tape = tmp_path / "run.tape"
    ringtape.record(inspected.large, disks=[disk], arguments=size, tape=tape).raise_for_failures()
    seen: list[WatchedRequest] = []
    ringtape.replay(tape, watch=[f"a:0:{size}"], on_watched=seen.append)
    written = xxh3_64_intdigest(inspected.pattern(size))
    zeros = xxh3_64_intdigest(bytes(size))
    assert [(one.before, one.after) for one in seen] == [(zeros, written), (written, written)]
