"""Goal: whatever a program learns of the world, a replay tells it again; what would get past the tape is refused.

Method: one program for each way in (see `tests/programs/worldly.py`), recorded and replayed. That a replay equals its
recording is checked for all of them; what each way in promises beside that, test by test.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ringtape
from ringtape import Disk, Failure, Result
from tests.programs import worldly
from tests.programs.worldly import BLOCK

HOUR_NS = 3_600_000_000_000
Program = Callable[[Any], Any] | str


def disk(folder: Path) -> Disk:
    return Disk("a", folder / "a.img", size=16 * BLOCK, fresh=True)


def check(program: Program, folder: Path, *, replays: int = 1, **how: Any) -> Result:
    """Record the program and replay it; the recording."""
    tape = folder / "tape"
    recorded = ringtape.record(program, disks=[disk(folder)], tape=tape, **how)
    for _ in range(replays):
        again = ringtape.replay(tape)
        assert again.digest == recorded.digest
        assert again.returns == recorded.returns
        assert again.failures == recorded.failures
        assert again.ended == "finished"
    return recorded


def returned(program: Program, folder: Path, **how: Any) -> Any:
    recorded = check(program, folder, **how)
    recorded.raise_for_failures()
    return recorded.returns[0]


def failure(program: Program, folder: Path, **how: Any) -> Failure:
    (failed,) = check(program, folder, **how).failures
    return failed


# --- what is captured -------------------------------------------------------------------------------------------------


def test_captured_calls(tmp_path: Path) -> None:
    seen = returned(worldly.captures, tmp_path)
    pid, _, both, partial, _, (copy, same), *raised = seen
    assert pid != os.getpid()
    assert both == ((1,), {"two": 2}) and partial == ((1, 2), {})
    assert copy == [1] and not same, "what comes back is a copy in the recording too"
    problem, exit_, lock, asynchronous, number, *inside = raised
    assert problem[:2] == ("Problem", f"problem {problem[2]}") and problem[2] > 10**18
    assert exit_[:2] == ("SystemExit", "")
    assert lock[0] == "TypeError" and "returned (lock) cannot be pickled" in lock[1]
    assert asynchronous[0] == "TypeError" and "asynchronous is asynchronous" in asynchronous[1]
    assert number[0] == "TypeError"
    for kind, text, _ in inside:
        assert kind == "Unrecorded"
        assert "uses_io was called through io.capture and uses io" in text
    assert len(inside) == 5


# --- the clock --------------------------------------------------------------------------------------------------------


def test_the_clock_stands_still_between_checkpoints(tmp_path: Path) -> None:
    for program in (worldly.blocking_clock, worldly.async_clock):
        first, again, read, checked, *_ = returned(program, tmp_path)
        assert first == again < read < checked


def test_a_sleep_takes_its_time_on_the_recorded_clock(tmp_path: Path) -> None:
    seen = returned(worldly.blocking_clock, tmp_path)
    _, _, _, before, short, outside, long, outside_again = seen
    assert short - before >= 10_000_000
    assert long - short >= 250_000_000
    # The same on the clock of the machine, which the replay has from the tape although it did not sleep.
    assert outside_again - outside >= 250_000_000
    assert returned(worldly.async_clock, tmp_path)[4] >= 0.25


class Hurried:
    """A clock on which an hour passes whenever somebody looks at it."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.hours = 0

    def monotonic_ns(self) -> int:
        self.hours += 1
        return time.monotonic_ns() + self.hours * HOUR_NS


@pytest.mark.parametrize("strict", [False, True])
def test_requests_complete_beside_a_timer_that_is_always_over(tmp_path: Path, strict: bool) -> None:
    """Where there is no time to wait the kernel is asked all the same."""
    plain = ringtape.run(worldly.naps, disks=[disk(tmp_path)])
    recorded = check(worldly.naps, tmp_path, strict=strict)
    assert [plain.returns[0][0], recorded.returns[0][0]] == [True, True]


def test_a_replay_does_not_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tape says that ten hours have passed: a replay that took the time would not come back today."""
    clock = Hurried()
    with monkeypatch.context() as patch:
        for module in ("recorder", "supervisor"):
            patch.setattr(f"ringtape.coordinator.{module}.time", clock)
        # With a lease the worker would read its own clock.
        recorded = ringtape.record(
            worldly.sleeps, disks=[disk(tmp_path)], tape=tmp_path / "tape", strict=True
        )
    assert recorded.returns[0] >= 10 * HOUR_NS
    again = ringtape.replay(tmp_path / "tape")
    assert (again.digest, again.returns) == (recorded.digest, recorded.returns)


def test_waiting_without_waiting_comes_to_an_end(tmp_path: Path) -> None:
    returned(worldly.spins, tmp_path)


# --- chance and order -------------------------------------------------------------------------------------------------


def test_chance_follows_from_the_seed(tmp_path: Path) -> None:
    first = check(worldly.chance, tmp_path, workers=2, seed=5)
    second = check(worldly.chance, tmp_path, workers=2, seed=5)
    other = check(worldly.chance, tmp_path, workers=2, seed=6)
    assert first.returns == second.returns
    for one, two in zip(first.returns, other.returns, strict=True):
        assert [a == b for a, b in zip(one, two, strict=True)] == [False, False, False]
    assert first.returns[0][0] != first.returns[1][0], "each worker has its own"
    assert first.returns[0][1:] == first.returns[1][1:] and first.returns[0][2] == "5"


@pytest.mark.parametrize(
    "program",
    [
        worldly.sets_of_tasks,
        worldly.group_of_50,
        worldly.garbage,
        worldly.generators_left_open,
        worldly.tasks_left_running,
        worldly.requests_in_flight,
        worldly.catches_cancellation,
    ],
    ids=lambda program: program.__name__,
)
def test_order_does_not_follow_the_memory(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replayed by workers whose memory is laid out in other ways, as it is when another process replays."""
    recorded = check(program, tmp_path)
    recorded.raise_for_failures()
    for entries in (3, 40):
        with monkeypatch.context() as patch:
            # It reaches the workers, which keep it in memory from their start on.
            patch.setattr(sys, "path", sys.path + [f"/nowhere/{'x' * 50 * n}" for n in range(entries)])
            again = ringtape.replay(tmp_path / "tape")
        assert (again.digest, again.returns) == (recorded.digest, recorded.returns)


def test_as_many_are_cancelled_and_collected_as_there_are(tmp_path: Path) -> None:
    """Without this, programs in which nothing happens would pass the test above."""
    cancelled = returned(worldly.group_of_50, tmp_path)
    assert sorted(cancelled[:-1]) == [number for number in range(50) if number != 17]
    assert cancelled[-1] == "(Problem('problem 17'),)"
    collected = returned(worldly.garbage, tmp_path)
    for kind in (int, str):
        assert len([one for one in collected if isinstance(one, kind)]) > 100
    opened = returned(worldly.generators_left_open, tmp_path)
    assert sorted(opened) == list(range(40)) != opened


def test_ringtape_makes_no_garbage_of_its_own(tmp_path: Path) -> None:
    """When everything is collected follows from how much was found: that must be the program's doing alone."""
    assert returned(worldly.clean, tmp_path) == 0


# --- ways to the outside that the tape does not see -------------------------------------------------------------------


def test_what_the_tape_would_not_see_is_refused_with_what_to_do(tmp_path: Path) -> None:
    seen = returned(worldly.unrecorded, tmp_path)
    assert len(seen) == 12
    for way, kind, text in seen:
        assert kind == "Unrecorded", way
        named = {"signals": "signals are the coordinator's", "io_in_a_thread": "use asyncio tasks"}
        assert named.get(way, "io.capture") in text, way


def test_threads_cannot_use_disks(tmp_path: Path) -> None:
    recorded = check(worldly.threads_use_disks, tmp_path)
    assert recorded.requests == 1, "nothing came of theirs"
    (seen,) = recorded.returns
    assert len(seen) == 3 and all(text.startswith("Unrecorded: io was used in a thread") for text in seen)


def test_a_run_cannot_start_a_run(tmp_path: Path) -> None:
    failed = failure(worldly.starts_a_run, tmp_path)
    assert failed.message == "a run cannot be started from inside a worker"
    assert failed.refused


# --- how programs end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "exception", "message"),
    [
        ("text", "ValueError", "half a pair: \\udcff"),
        ("no text", "tests.programs.worldly.Untold", "(its text cannot be had"),
        ("exit", "SystemExit", "3"),
        ("interrupt", "KeyboardInterrupt", "by hand"),
        ("stop", "StopIteration", ""),
        ("generator", "GeneratorExit", ""),
        ("group", "ExceptionGroup", "two (2 sub-exceptions)"),
        ("lambda", "TypeError", "what the program returned (function) cannot be pickled"),
        ("request", "ringtape.InvalidRequest", "[Errno 22] offset 1 on disk 'a'"),
        ("disk", "ringtape.UnknownDisk", "this run has no disk 'none'"),
        ("recursion", "RecursionError", "maximum recursion depth exceeded"),
    ],
)
def test_a_program_that_raises_is_recorded(end: str, exception: str, message: str, tmp_path: Path) -> None:
    failed = failure(worldly.ends, tmp_path, arguments=end)
    assert failed.exception == exception
    assert failed.message.startswith(message)
    assert failed.refused == (end in ("request", "disk"))


def test_odd_values_may_be_returned(tmp_path: Path) -> None:
    assert returned(worldly.ends, tmp_path, arguments="no repr") == worldly.Unshown()
    assert returned(worldly.ends, tmp_path, arguments="child") == 0


def test_a_request_that_the_kernel_fails_says_which(tmp_path: Path) -> None:
    written, failed = returned(worldly.fails_in_the_kernel, tmp_path)
    assert written == BLOCK
    kind, errno, request_id, text = failed
    assert (kind, errno, request_id) == ("RequestError", 27, 3)
    assert "write of 4096 bytes at 36864 on disk 'a'" in text and "request id 3" in text


# --- how programs are named -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "value"),
    [
        (functools.partial(worldly.with_number, 5), 5 + BLOCK),
        (functools.partial(functools.partial(worldly.with_number), 6), 6 + BLOCK),
        (worldly.Caller(7), 7 + BLOCK),
        (worldly.AsyncCaller(8), 8 + BLOCK),
        (functools.partial(worldly.AsyncCaller(9)), 9 + BLOCK),
    ],
)
def test_a_program_without_a_name_has_to_be_given_again(program: Program, value: int, tmp_path: Path) -> None:
    tape = tmp_path / "tape"
    recorded = ringtape.record(program, disks=[disk(tmp_path)], tape=tape)
    assert recorded.returns == [value]
    assert ringtape.replay(tape, program).digest == recorded.digest
    with pytest.raises(ringtape.ProgramError, match="no name under which its program could be found"):
        ringtape.replay(tape)


@pytest.mark.parametrize(
    "program",
    [
        worldly.Holder.main,
        "tests.programs.worldly:Holder.main",
        f"{worldly.__file__}:Holder.main",
    ],
)
def test_a_program_with_a_name_is_found_again(program: Program, tmp_path: Path) -> None:
    assert returned(program, tmp_path) == BLOCK


SCRIPT = """
    import ringtape
    from ringtape import Disk

    class Own:
        def __init__(self, value):
            self.value = value
        def __eq__(self, other):
            return type(self) is type(other) and self.value == other.value

    async def main(io):
        assert __name__ != "__main__"
        await io.disk("a").write(0, bytes(4096))
        return Own(io.arguments.value)

    GUARD
    recorded = ringtape.record(
        main, disks=[Disk("a", "a.img", size="1M")], workers=2, arguments=Own(5), tape="tape"
    )
    again = ringtape.replay("tape")
    assert recorded.returns == again.returns == [Own(5), Own(5)], recorded
    assert recorded.digest == again.digest
    print("fine")
"""


@pytest.mark.parametrize("guarded", [True, False])
def test_a_script_may_record_itself_guarded_or_not(guarded: bool, tmp_path: Path) -> None:
    """Classes of the script travel both ways; a worker does not run the script's own run again."""
    text = textwrap.dedent(SCRIPT)
    if guarded:
        head, tail = text.split("GUARD\n")
        text = f"{head}if __name__ == '__main__':\n{textwrap.indent(tail, '    ')}"
    script = tmp_path / "script.py"
    script.write_text(text.replace("GUARD\n", ""))
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100
    )
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
    # A stranger finds the program by its name on the tape, and reads what it can of the values.
    assert ringtape.replay(tmp_path / "tape").ended == "finished"
