"""Goal: what workers pass on their own in a replay counts as if they had asked for each checkpoint, on every tape.

Method: the made-up workers of `test_conductors`, of which some hold leases in the replay as real ones do: they compare
with the lease, pass, and tell a count. Tapes have blocks of a few rows, so that turns begin in one and end in another.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.ahead import LookAhead
from ringtape.coordinator.digest import digest_of_tape
from ringtape.coordinator.errors import Divergence, ProtocolError
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.policy import Fifo
from ringtape.coordinator.replayer import Replayer
from ringtape.coordinator.tape import NullTape, TapeReader
from ringtape.proto import wire_pb2
from tests.coordinator.test_columns import requests
from tests.coordinator.test_conductors import AnyOrder, Case, MadeUp, checker, conduct, no_log

_COLUMNS = (("kind", 1), ("flags", 1), ("disk", 2), ("offset", 8), ("length", 8), ("digest", 8))


class Leased(MadeUp):
    """A worker that passes what its leases have. It makes another request than the tape at number `changed`."""

    changed = -1

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.turns: dict[int, dict[str, Any]] = {}
        self.passed = self.passed_in_all = 0
        # At the last checkpoint: how many requests had been made. Since then: what was made, and is there a note?
        self.began = 0
        self.own: list[Any] = []
        self.noted = False

    def request(self, kind: int) -> None:
        super().request(kind)
        if self.made - 1 == self.changed:
            row = self.rows[-1]
            self.rows[-1] = (*row[:3], row[3] + 4096, *row[4:])
        self.own.append(self.rows[-1])

    def take_message(self) -> None:
        if not self.inbox[0].HasField("lease"):
            if not self.inbox[0].HasField("capture"):
                self.begin()
            super().take_message()
            return
        lease = self.inbox.popleft().lease
        for known in lease.ids:
            for i in range(known.count):
                self.ids[known.first_sequence + i] = known.first_id + i
        self.turns.update(_turns(lease))

    def checkpoint(self, kind: str) -> None:
        mode = wire_pb2.Checkpoint.MODE_POLL if kind == "poll" else wire_pb2.Checkpoint.MODE_WAIT
        deadline_ns = self.clock_ns + self.program.randint(1, 20_000) if kind == "sleep" else 0
        turn = self.turns.get(self.checkpoints + 1)
        if turn is not None and self.changed < 0:
            made = requests(self.own)
            assert not self.noted and not self.notes, "a checkpoint with notes before it is asked for"
            assert (turn["mode"], turn["deadline_ns"]) == (mode, deadline_ns)
            assert all(getattr(made, name) == turn[name] for name, _ in _COLUMNS)
        if turn is not None and len(self.rows) == self.made - self.began and self.world.random() < 0.9:
            made = requests(self.rows)
            if all(getattr(made, name) == turn[name] for name, _ in _COLUMNS):
                self.go_on(turn)
                return
        self.checkpoints += 1
        self.waits = "token"
        self.tell(checkpoint=wire_pb2.Checkpoint(number=self.checkpoints, mode=mode, deadline_ns=deadline_ns))

    def go_on(self, turn: dict[str, Any]) -> None:
        while self.in_kernel and not set(turn["released"]) <= self.done():
            self.complete()
        released = {row[0]: row for row in self.completions}
        for sequence, result, digest in zip(turn["released"], turn["results"], turn["digests"], strict=True):
            if sequence in released:  # else it has been told
                assert released[sequence] == (sequence, result, digest)
        self.completions = [row for row in self.completions if row[0] not in turn["released"]]
        self.rows = []
        self.checkpoints += 1
        self.passed += 1
        self.passed_in_all += 1
        self.begin()
        self.released += len(turn["released"])
        self.clock_ns = turn["clock_ns"]
        self.saw(repr((self.clock_ns, [(s, self.ids[s]) for s in turn["released"]])).encode())
        if self.passed > 5:
            self.tell()

    def begin(self) -> None:
        """A checkpoint is over."""
        self.began, self.own, self.noted = self.made, [], False

    def done(self) -> set[int]:
        return set(range(self.made)) - {sequence for sequence, _ in self.in_kernel}

    def tell(self, **waits: Any) -> None:
        passed, self.passed = self.passed, 0
        self.noted |= bool(self.notes)
        super().tell(**waits)
        self.link[-1].passed = passed


def _turns(lease: wire_pb2.Lease) -> Iterator[tuple[int, dict[str, Any]]]:
    """The checkpoints of a lease by their numbers."""
    numbers, counts, released = (
        memoryview(column).cast(form).tolist()
        for column, form in (
            (lease.checkpoint, "Q"),
            (lease.turns.requests, "I"),
            (lease.turns.released, "I"),
        )
    )
    row = done = 0
    for place, number in enumerate(numbers):
        turn = {
            name: getattr(lease.requests, name)[width * row : width * (row + counts[place])]
            for name, width in _COLUMNS
        }
        row += counts[place]
        part = slice(8 * done, 8 * (done + released[place]))
        done += released[place]
        turn["mode"] = lease.turns.mode[place]
        for name in ("clock_ns", "deadline_ns"):
            turn[name] = memoryview(getattr(lease.turns, name)).cast("Q")[place]
        turn["released"] = memoryview(lease.released.sequence[part]).cast("Q").tolist()
        turn["results"] = memoryview(lease.released.result[part]).cast("q").tolist()
        turn["digests"] = memoryview(lease.released.digest[part]).cast("Q").tolist()
        yield number, turn


@contextmanager
def small(rows: int, ahead: int) -> Iterator[None]:
    """Blocks of so many rows, and leases that go so many requests ahead."""
    with (
        mock.patch("ringtape.coordinator.tape.writer.BLOCK_ROWS_MAX", rows),
        mock.patch("ringtape.coordinator.ahead.AHEAD_ROWS", ahead),
    ):
        yield


def replay(case: Case, world: random.Random, workers: list[MadeUp]) -> Journal:
    """A replay of the tape `one` in which those that can have leases."""
    with TapeReader.open(case.folder / "one") as reader:
        ahead = LookAhead(reader, [isinstance(worker, Leased) for worker in workers])
        journal = Journal(NullTape(), case.workers)
        replayer = Replayer(reader, journal, checker(), stall_ns=10**15, on_log=no_log, ahead=ahead)
        conduct(replayer, workers, world)
    return journal


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    worlds=st.tuples(*[st.integers(0, 2**32)] * 2),
    leased=st.lists(st.booleans(), min_size=1, max_size=4),
    acts=st.integers(0, 60),
    fifo=st.booleans(),
    rows=st.sampled_from([2, 9, 40, 1 << 14]),
    ahead=st.sampled_from([1, 20, 1 << 13]),
)
def test_what_is_passed_counts_as_if_it_had_been_asked_for(
    seed: int, worlds: tuple[int, int], leased: list[bool], acts: int, fifo: bool, rows: int, ahead: int
) -> None:
    """Workers with leases and without, beside one another."""
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder, small(rows, ahead):
        case = Case(seed, len(leased), acts, Path(folder))
        policy = Fifo() if fifo else AnyOrder(seed)
        journal, recorded = case.record(random.Random(worlds[0]), policy, "one")
        world = random.Random(worlds[1])
        workers = [(Leased if one else MadeUp)(index, seed, acts, world) for index, one in enumerate(leased)]
        again = replay(case, world, workers)
        with TapeReader.open(case.folder / "one") as reader:
            assert again.hexdigest() == journal.hexdigest() == digest_of_tape(reader)
        assert again.tape.request_count == journal.tape.request_count
        assert again.tape.completion_count == journal.tape.completion_count
        assert again.tape.token_count == journal.tape.token_count
        for one, other in zip(recorded, workers, strict=True):
            assert one.seen.digest() == other.seen.digest()


def test_most_is_passed(tmp_path: Path) -> None:
    """Without this, made-up workers that never pass anything would pass the other tests."""
    with small(40, 200):
        case = Case(3, 3, 200, tmp_path)
        case.record(random.Random(1), Fifo(), "one")
        world = random.Random(2)
        workers: list[MadeUp] = [Leased(index, 3, 200, world) for index in range(3)]
        replay(case, world, workers)
    passed = [worker.passed_in_all for worker in workers if isinstance(worker, Leased)]
    assert all(3 * one > worker.checkpoints for one, worker in zip(passed, workers, strict=True)), passed


@pytest.mark.parametrize("changed", [0, 5, 31, 77])
def test_a_difference_is_the_same_with_leases_and_without(tmp_path: Path, changed: int) -> None:
    """The second worker makes another request than it did."""
    found = []
    with small(40, 200):
        case = Case(3, 3, 200, tmp_path)
        case.record(random.Random(1), Fifo(), "one")
        for leased in (True, False):
            world = random.Random(2)
            workers: list[MadeUp] = [Leased(index, 3, 200, world) for index in range(3)]
            workers[1].changed = changed  # type: ignore[attr-defined]
            with pytest.raises(Divergence) as caught:
                if leased:
                    replay(case, world, workers)
                else:
                    case.replay(world, "one", NullTape(), workers)
            error = caught.value
            found.append((str(error), error.worker, error.request_id, error.sequence))
    assert found[0] == found[1]


def test_nobody_passes_more_than_was_told(tmp_path: Path) -> None:
    case = Case(3, 1, 50, tmp_path)
    case.record(random.Random(1), Fifo(), "one")
    with TapeReader.open(tmp_path / "one") as reader:
        replayer = Replayer(
            reader,
            Journal(NullTape(), 1),
            checker(),
            stall_ns=10**15,
            on_log=no_log,
            ahead=LookAhead(reader, [True]),
        )
        told: list[wire_pb2.CoordinatorMessage] = []
        replayer.start(lambda _, message: told.append(message))
        count = sum(len(message.lease.checkpoint) // 8 for message in told)
        with pytest.raises(
            ProtocolError, match=rf"worker 0 passed {count + 1} checkpoints that it was not told"
        ):
            replayer.batch(0, wire_pb2.Batch(passed=count + 1))
