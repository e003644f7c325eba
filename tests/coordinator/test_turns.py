"""Goal: what leased workers report by columns is on the tape and in the digest as if it had come turn by turn.

Method: made-up reports of several workers, given to the recorder as they are, and to a journal a call each request
column, note and token. The two tapes have the same bytes, wherever blocks end. Then reports that cannot be.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.batches import BatchChecker
from ringtape.coordinator.completions import CompletionQueue
from ringtape.coordinator.digest import digest_of_tape
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.policy import Fifo
from ringtape.coordinator.recorder import Recorder
from ringtape.coordinator.tape import NullTape, TapeReader, TapeWriter
from ringtape.coordinator.tape.sink import TapeSink
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from tests.coordinator.tape.making import (
    Completion,
    Request,
    completion_columns,
    make_header,
    request_columns,
)
from tests.coordinator.test_columns import packed

DISKS = 2
FSYNC = messages_pb2.KIND_FSYNC


@dataclass
class Turn:
    """A checkpoint at which a worker released completions on its own, and what came before it."""

    made: list[Request | messages_pb2.Note] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    requests_ns: int = 0
    completions_ns: int = 0
    clock_ns: int = 0
    deadline_ns: int = 0
    mode: int = 0
    released: int = 0
    delivered: int = 0


@dataclass
class Report:
    """Turns, and the rest, of which the last four numbers mean nothing."""

    worker: int
    turns: list[Turn]
    rest: Turn

    def batch(self) -> wire_pb2.Batch:
        """As a worker sends it."""
        turns, every = self.turns, [*self.turns, self.rest]
        batch = wire_pb2.Batch(
            requests_ns=self.rest.requests_ns,
            completions_ns=self.rest.completions_ns,
            requests=request_columns([one for turn in every for one in requests_of(turn)]),
            completions=completion_columns([one for turn in every for one in turn.completions]),
        )
        count = 0
        for turn in every:
            for one in turn.made:
                if isinstance(one, Request):
                    count += 1
                else:
                    batch.notes.add().CopyFrom(one)
                    batch.notes[-1].after_requests = count
        batch.turns.CopyFrom(
            wire_pb2.Turns(
                requests=packed("I", [len(requests_of(turn)) for turn in turns]),
                notes=packed("I", [len(turn.made) - len(requests_of(turn)) for turn in turns]),
                completions=packed("I", [len(turn.completions) for turn in turns]),
                requests_ns=packed("Q", [turn.requests_ns for turn in turns]),
                completions_ns=packed("Q", [turn.completions_ns for turn in turns]),
                clock_ns=packed("Q", [turn.clock_ns for turn in turns]),
                deadline_ns=packed("Q", [turn.deadline_ns for turn in turns]),
                mode=bytes(turn.mode for turn in turns),
                released=packed("I", [turn.released for turn in turns]),
                delivered=packed("I", [turn.delivered for turn in turns]),
            )
        )
        return batch


def requests_of(turn: Turn) -> list[Request]:
    return [one for one in turn.made if isinstance(one, Request)]


class World:
    """Makes reports up, each of which could follow on those before it."""

    def __init__(self, seed: int, workers: int) -> None:
        self.random = random.Random(seed)
        self.workers = workers
        self.made = [0] * workers
        self.in_flight: list[list[int]] = [[] for _ in range(workers)]
        self.waiting = [0] * workers
        self.mail = [0] * workers
        self.now_ns = 1

    def report(self, turns: int) -> Report:
        worker = self.random.randrange(self.workers)
        mail = self.mail[worker]
        report = Report(worker, [self.turn(worker) for _ in range(turns)], self.turn(worker))
        for turn in report.turns:  # nothing comes while it is made
            turn.delivered = min(mail, self.random.choice((0, 0, 0, 1, 5)))
            mail -= turn.delivered
            self.mail[worker] -= turn.delivered
        self.waiting[worker] += report.rest.released  # it is no turn
        return report

    def turn(self, worker: int) -> Turn:
        rng, turn = self.random, Turn()
        for _ in range(rng.choice((0, 1, 1, 1, rng.randrange(9)))):
            if rng.random() < 0.04:
                turn.made.append(self.note())
            turn.made.append(self.request(worker))
        if rng.random() < 0.04:
            turn.made.append(self.note())
        flying = self.in_flight[worker]
        rng.shuffle(flying)
        for _ in range(min(len(flying), rng.choice((0, 1, 1, 1, 6)))):
            turn.completions.append(
                Completion(flying.pop(), rng.choice((4096, 4096, -5)), rng.getrandbits(64))
            )
        self.waiting[worker] += len(turn.completions)
        turn.released = rng.choice((self.waiting[worker],) * 5 + (rng.randint(0, self.waiting[worker]),))
        self.waiting[worker] -= turn.released
        turn.requests_ns = self.passes()
        turn.completions_ns = self.passes()
        turn.clock_ns = rng.choice((turn.completions_ns, self.passes()))
        turn.deadline_ns = rng.choice((0, 0, turn.clock_ns + 1000))
        turn.mode = rng.choice((0, 0, 1))
        return turn

    def passes(self) -> int:
        self.now_ns += self.random.choice((0, 0, 0, 1, 3000, 1 << 40))
        return self.now_ns

    def request(self, worker: int) -> Request:
        rng = self.random
        kind = rng.choice((1, 1, 2, 2, 3, 4, FSYNC))
        self.in_flight[worker].append(self.made[worker])
        self.made[worker] += 1
        offset, length = (0, 0) if kind == FSYNC else (4096 * rng.randrange(99), 4096)
        return Request(
            kind, 0, rng.randrange(DISKS), offset, length, rng.getrandbits(64), self.made[worker] - 1
        )

    def note(self) -> messages_pb2.Note:
        if self.random.random() < 0.5:
            return messages_pb2.Note(log="x" * self.random.choice((1, 300)))
        to = self.random.randrange(self.workers)
        self.mail[to] += 1
        return messages_pb2.Note(sent=messages_pb2.Sent(to=to, size=3, digest=bytes(16), payload=b"abc"))


class OneByOne:
    """What a recording was made of before there were columns of turns: a call a piece."""

    def __init__(self, journal: Journal, workers: int) -> None:
        self.journal = journal
        self.queues = [CompletionQueue() for _ in range(workers)]
        self.checkpoints = [0] * workers

    def take(self, report: Report) -> None:
        for turn in report.turns:
            self.rows(report.worker, turn)
            self.token(report.worker, turn)
        self.rows(report.worker, report.rest)

    def rows(self, worker: int, turn: Turn) -> None:
        for are_requests, ones in groupby(turn.made, key=lambda one: isinstance(one, Request)):
            if are_requests:
                rows = [one for one in ones if isinstance(one, Request)]
                self.journal.requests(worker, request_columns(rows), len(rows), turn.requests_ns)
                continue
            for one in ones:
                note = messages_pb2.Note()
                note.CopyFrom(one)  # type: ignore[arg-type]
                if note.HasField("sent"):
                    note.sent.ClearField("payload")
                self.journal.note(worker, note, turn.requests_ns)
        if turn.completions:
            columns = completion_columns(turn.completions)
            self.journal.completions(worker, columns, len(turn.completions), turn.completions_ns)
            self.queues[worker].add(columns)

    def token(self, worker: int, turn: Turn) -> None:
        released = self.queues[worker].first(turn.released)
        self.queues[worker].take(released)
        self.checkpoints[worker] += 1
        self.journal.token(
            worker,
            self.checkpoints[worker],
            clock_ns=turn.clock_ns,
            deadline_ns=turn.deadline_ns,
            mode=turn.mode,
            released=released,
            delivered=turn.delivered,
            at_ns=turn.clock_ns,
        )


def recorder_of(journal: Journal, workers: int, *, leased: bool = True) -> Recorder:
    checker = BatchChecker(disks=DISKS, workers=workers, digests=True)
    recorder = Recorder(
        journal,
        Fifo(),
        checker,
        workers=workers,
        leased=[leased] * workers,
        on_log=lambda worker, text: None,
    )
    recorder.start(lambda worker, message: None)
    return recorder


def taped(path: Path, workers: int, give: Callable[[Journal], None]) -> tuple[bytes, str]:
    """The bytes of the tape that this gives, and the run's digest."""
    writer = TapeWriter(path, make_header(workers=workers, disks=DISKS))
    journal = Journal(writer, workers)
    give(journal)
    journal.seal(tape_pb2.Seal.END_FINISHED, "", 1, [])
    with TapeReader.open(path) as reader:
        assert digest_of_tape(reader) == journal.hexdigest()
    return path.read_bytes(), journal.hexdigest()


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**32),
    workers=st.integers(1, 3),
    reports=st.lists(st.integers(0, 25), min_size=1, max_size=5),
    rows_max=st.sampled_from([1, 7, 40, 60, 16384]),
    bytes_max=st.sampled_from([300, 3000, 4 << 20]),
)
def test_the_tape_is_the_same_as_turn_by_turn(
    seed: int, workers: int, reports: list[int], rows_max: int, bytes_max: int
) -> None:
    world = World(seed, workers)
    made = [world.report(turns) for turns in reports]

    def by_columns(journal: Journal) -> None:
        recorder = recorder_of(journal, workers)
        for report in made:
            recorder.batch(report.worker, report.batch())

    def one_by_one(journal: Journal) -> None:
        taker = OneByOne(journal, workers)
        for report in made:
            taker.take(report)

    with (
        tempfile.TemporaryDirectory(prefix="ringtape-") as folder,
        mock.patch("ringtape.coordinator.tape.writer.BLOCK_ROWS_MAX", rows_max),
        mock.patch("ringtape.coordinator.tape.writer.BLOCK_BYTES_MAX", bytes_max),
    ):
        both = [
            taped(Path(folder) / name, workers, give)
            for name, give in (("columns", by_columns), ("one", one_by_one))
        ]
    assert both[0] == both[1]


def test_a_tape_that_nobody_keeps_counts_the_same() -> None:
    world = World(7, 1)
    recorded, one_by_one = Journal(NullTape(), 1), Journal(NullTape(), 1)
    recorder, taker = recorder_of(recorded, 1), OneByOne(one_by_one, 1)
    for _ in range(5):
        report = world.report(50)
        recorder.batch(0, report.batch())
        taker.take(report)
    counts = [
        (tape.request_count, tape.completion_count, tape.token_count)
        for tape in (recorded.tape, one_by_one.tape)
    ]
    assert counts[0] == counts[1] and recorded.hexdigest() == one_by_one.hexdigest()


def simple_turn(sequence: int) -> Turn:
    """It makes a read, which completes and is released."""
    request = Request(messages_pb2.KIND_READ, 0, 0, 0, 4096, 0, 0)
    now_ns = 1000 * (sequence + 1)
    return Turn([request], [Completion(sequence, 4096, 0)], now_ns, now_ns, now_ns, released=1)


def simple_batch() -> wire_pb2.Batch:
    return Report(0, [simple_turn(sequence) for sequence in range(3)], Turn()).batch()


def taken(batch: wire_pb2.Batch, *, leased: bool = True) -> TapeSink:
    journal = Journal(NullTape(), 1)
    recorder_of(journal, 1, leased=leased).batch(0, batch)
    return journal.tape


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("requests", packed("I", [1, 1]), "columns of other lengths"),
        ("deadline_ns", packed("I", [0, 0, 0]), "columns of other lengths"),
        ("requests", packed("I", [1, 1, 2]), "more rows than it has"),
        ("completions", packed("I", [1, 1, 2]), "more rows than it has"),
        ("completions", packed("I", [1, 2**32 - 1, 1]), "more rows than it has"),
        ("notes", packed("I", [0, 1, 0]), "more rows than it has"),
        ("released", packed("I", [2, 0, 1]), "released what it did not have"),
        ("released", packed("I", [1, 1, 2]), "released what it did not have"),
        ("released", packed("I", [1, 2**32 - 1, 1]), "released what it did not have"),
        ("delivered", packed("I", [0, 1, 0]), "released what it did not have"),
        ("mode", bytes((0, 2, 0)), "unknown mode 2"),
        ("clock_ns", packed("Q", [1000, 999, 3000]), "clock goes back"),
    ],
)
def test_turns_that_cannot_be_end_the_run(column: str, value: bytes, message: str) -> None:
    batch = simple_batch()
    assert taken(batch).token_count == 3
    setattr(batch.turns, column, value)
    with pytest.raises(ProtocolError, match=message):
        taken(batch)


def test_a_worker_without_a_lease_may_not_release() -> None:
    with pytest.raises(ProtocolError, match="released what it did not have"):
        taken(simple_batch(), leased=False)


@pytest.mark.parametrize("after", [0, 3])
def test_a_note_stands_among_the_requests_of_its_turn(after: int) -> None:
    batch = simple_batch()
    batch.turns.notes = packed("I", [0, 1, 0])
    batch.notes.add(log="a line", after_requests=1)
    assert taken(batch).token_count == 3
    batch = simple_batch()
    batch.turns.notes = packed("I", [0, 1, 0])
    batch.notes.add(log="a line", after_requests=after)
    with pytest.raises(ProtocolError, match=f"a note after {after} of 2 requests, 1 of which"):
        taken(batch)


def test_a_clock_does_not_go_back_from_one_report_to_the_next() -> None:
    recorder = recorder_of(Journal(NullTape(), 1), 1)
    recorder.batch(0, simple_batch())
    with pytest.raises(ProtocolError, match="worker 0 has turned its clock back"):
        recorder.batch(0, Report(0, [Turn(clock_ns=2999)], Turn()).batch())
