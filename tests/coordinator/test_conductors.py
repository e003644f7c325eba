"""Goal: a replay gives each worker the tokens of the recording, however workers and completions race; never more.

Method: the two conductors without processes. Made-up workers act as real ones do: what they do follows from a seed and
from every token they were given, so one difference in a token is a difference in everything after it. Their messages
wait in made-up links, and what is delivered next, split where, and when a completion comes is drawn anew for each run.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.batches import BatchChecker
from ringtape.coordinator.conductor import Conductor
from ringtape.coordinator.digest import digest_of_tape
from ringtape.coordinator.errors import Divergence, ProtocolError, WorkerDied
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.policy import Fifo, Queued, ReleasePolicy
from ringtape.coordinator.recorder import Recorder
from ringtape.coordinator.replayer import Replayer
from ringtape.coordinator.stops import Inspection, Stop
from ringtape.coordinator.tape import NullTape, TapeReader, TapeSink, TapeWriter
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2
from ringtape.proto.errors import Stalled
from tests.coordinator.test_columns import Row, packed, requests

DISKS = 2
STEPS_MAX = 100_000


class AnyOrder:
    """Releases some of what there is, in any order; at least one, since an empty choice keeps the worker waiting."""

    name = "any"

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def choose(self, worker: int, queue: Queued) -> Sequence[int] | None:
        places = list(range(len(queue)))
        self.random.shuffle(places)
        return places[: self.random.randint(1, len(places))]


class MadeUp:
    """A worker. `program` decides what it does and sees nothing but tokens; `world` decides when things happen."""

    def __init__(self, index: int, seed: int, acts: int, world: random.Random) -> None:
        self.index = index
        self.world = world
        self.seen = hashlib.sha256(f"{seed}/{index}".encode())
        self.program = random.Random(self.seen.digest())
        self.acts_left = acts
        self.link: deque[wire_pb2.Batch] = deque()
        self.inbox: deque[wire_pb2.CoordinatorMessage] = deque()
        self.in_kernel: list[tuple[int, int]] = []
        self.rows: list[Row] = []
        self.notes: list[messages_pb2.Note] = []
        self.completions: list[tuple[int, int, int]] = []
        self.made = self.completed = self.released = self.checkpoints = 0
        self.clock_ns = 0
        self.ids: dict[int, int] = {}
        self.asked = ""
        self.waits = "token"  # for the one that starts it
        self.ended = False

    def step(self) -> bool:
        """Do one thing that can be done; False if there is none."""
        can = [self.complete] * bool(self.in_kernel)
        if self.inbox:
            can.append(self.take_message)
        elif not self.waits and not self.ended:
            can += [self.act] * 4
        if self.rows or self.notes or self.completions:
            can.append(self.tell)
        if not can:
            return False
        self.world.choice(can)()
        return True

    def complete(self) -> None:
        sequence, kind = self.in_kernel.pop(self.world.randrange(len(self.in_kernel)))
        # What comes back follows from the request, as it does on a disk that nobody else changes.
        result = -5 if sequence % 11 == 10 else 4096
        self.completions.append((sequence, result, 7 * sequence if kind == messages_pb2.KIND_READ else 0))
        self.completed += 1
        if self.waits == "finish" and not self.in_kernel:
            self.finish()

    def act(self) -> None:
        if self.acts_left == 0:
            self.waits = "finish"
            if not self.in_kernel:
                self.finish()
            return
        self.acts_left -= 1
        program = self.program
        kind = program.choice(["requests"] * 5 + ["log", "capture", "wait", "wait", "poll", "sleep"])
        if kind == "requests":
            for _ in range(program.randint(1, 9)):
                self.request(program.randint(1, 5))
        elif kind == "log":
            self.notes.append(
                messages_pb2.Note(log=f"line {program.random()}", after_requests=len(self.rows))
            )
        elif kind == "capture":
            self.waits, self.asked = "capture", f"outside:{program.randint(0, 2)}"
            self.tell(capture=wire_pb2.CaptureAsk(name=self.asked))
        elif kind != "wait" or self.made > self.released:
            self.checkpoint(kind)

    def request(self, kind: int) -> None:
        program = self.program
        disk, offset, length = program.randrange(DISKS), 4096 * program.randint(0, 99), 4096
        digest = program.getrandbits(64) if kind == messages_pb2.KIND_WRITE else 0
        if kind == messages_pb2.KIND_FSYNC:
            offset = length = 0
        self.rows.append((kind, 0, disk, offset, length, digest, self.completed))
        self.in_kernel.append((self.made, kind))
        self.made += 1

    def checkpoint(self, kind: str) -> None:
        self.checkpoints += 1
        self.waits = "token"
        mode = wire_pb2.Checkpoint.MODE_POLL if kind == "poll" else wire_pb2.Checkpoint.MODE_WAIT
        deadline_ns = self.clock_ns + self.program.randint(1, 20_000) if kind == "sleep" else 0
        self.tell(checkpoint=wire_pb2.Checkpoint(number=self.checkpoints, mode=mode, deadline_ns=deadline_ns))

    def finish(self) -> None:
        outcome = messages_pb2.Outcome(digest=self.seen.digest()[:16], pickled_bytes=self.made)
        self.tell(finish=wire_pb2.Finish(outcome=outcome, requests=self.made, checkpoints=self.checkpoints))
        self.ended = True

    def tell(self, **waits: Any) -> None:
        """Send what has gathered; without `waits` as a batch of its own, as happens when much has."""
        batch = wire_pb2.Batch(
            requests=requests(self.rows),
            notes=self.notes,
            completions=messages_pb2.Completions(
                sequence=packed("Q", [row[0] for row in self.completions]),
                result=packed("q", [row[1] for row in self.completions]),
                digest=packed("Q", [row[2] for row in self.completions]),
            ),
            requests_ns=self.clock_ns,
            completions_ns=self.clock_ns,
            **waits,
        )
        self.rows, self.notes, self.completions = [], [], []
        self.link.append(batch)

    def take_message(self) -> None:
        message = self.inbox.popleft()
        if message.HasField("capture"):
            assert self.waits == "capture"
            captured = message.capture.recorded
            if message.capture.call:
                # The outside is another each time: only what is on the tape may reach the program.
                captured = messages_pb2.Captured(name=self.asked, pickled=self.world.randbytes(8))
                self.notes.append(messages_pb2.Note(captured=captured, after_requests=len(self.rows)))
            self.saw(captured.SerializeToString(deterministic=True))
        else:
            self.take_token(message.token)
        self.waits = ""

    def take_token(self, token: wire_pb2.Token) -> None:
        assert self.waits == "token"
        assert token.checkpoint == self.checkpoints
        assert token.clock_ns >= self.clock_ns
        for known in token.ids:
            for i in range(known.count):
                assert self.ids.setdefault(known.first_sequence + i, known.first_id + i) == known.first_id + i
        sequences = memoryview(token.sequences).cast("Q").tolist()
        done = set(range(self.made)) - {sequence for sequence, _ in self.in_kernel}
        assert set(sequences) <= done, "released before it completed"
        self.released += len(sequences)
        self.clock_ns = token.clock_ns
        self.saw(repr((token.clock_ns, [(s, self.ids[s]) for s in sequences])).encode())

    def saw(self, what: bytes) -> None:
        self.seen.update(what)
        self.program = random.Random(self.seen.digest())


def conduct(conductor: Conductor, workers: list[MadeUp], world: random.Random) -> None:
    """Let things happen in any order that can be, until the run is done."""
    started_ns = time.monotonic_ns()
    conductor.start(lambda index, message: workers[index].inbox.append(message))
    for _ in range(STEPS_MAX):
        if conductor.done:
            return
        went_on = False
        for worker in world.sample(workers, len(workers)):
            if worker.link and conductor.wants(worker.index) and world.random() < 0.5:
                conductor.batch(worker.index, worker.link.popleft())
                went_on = True
            else:
                went_on |= worker.step() or bool(worker.link)
            if conductor.done or world.random() < 0.5:
                break
        conductor.tick(time.monotonic_ns() - started_ns)
        assert went_on or any(worker.step() or worker.link for worker in workers) or conductor.next_due_ns()
    raise AssertionError(f"not done after {STEPS_MAX} steps")


def no_log(worker: int, text: str) -> None:
    pass


def checker() -> BatchChecker:
    return BatchChecker(disks=DISKS, workers=16, digests=True)


def header(workers: int) -> tape_pb2.Header:
    disks = [tape_pb2.DiskHeader(name=name, path=f"/{name}", size=1 << 20, block_size=4096) for name in "ab"]
    return tape_pb2.Header(
        workers=workers, data=messages_pb2.DATA_LEVEL_DIGEST, disks=disks, policy="any", overlap="order"
    )


class Case:
    """One program of made-up workers and its tapes."""

    def __init__(self, seed: int, workers: int, acts: int, folder: Path) -> None:
        self.seed, self.workers, self.acts, self.folder = seed, workers, acts, folder

    def made_up(self, world: random.Random) -> list[MadeUp]:
        return [MadeUp(index, self.seed, self.acts, world) for index in range(self.workers)]

    def record(self, world: random.Random, policy: ReleasePolicy, tape: str) -> tuple[Journal, list[MadeUp]]:
        workers = self.made_up(world)
        writer = TapeWriter(self.folder / tape, header(self.workers))
        writer.begin()
        journal = Journal(writer, self.workers)
        recorder = Recorder(journal, policy, checker(), workers=self.workers, on_log=no_log)
        conduct(recorder, workers, world)
        journal.seal(tape_pb2.Seal.END_FINISHED, "", 1, [])
        return journal, workers

    def replay(
        self, world: random.Random, tape: str, sink: TapeSink, workers: list[MadeUp] | None = None
    ) -> tuple[Journal, list[MadeUp]]:
        workers = self.made_up(world) if workers is None else workers
        with TapeReader.open(self.folder / tape) as reader:
            journal = Journal(sink, self.workers)
            replayer = Replayer(reader, journal, checker(), stall_ns=10**15, on_log=no_log)
            conduct(replayer, workers, world)
        return journal, workers

    def writer(self, tape: str) -> TapeWriter:
        writer = TapeWriter(self.folder / tape, header(self.workers))
        writer.begin()
        return writer


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    worlds=st.tuples(*[st.integers(0, 2**32)] * 3),
    workers=st.integers(1, 4),
    acts=st.integers(0, 40),
    fifo=st.booleans(),
    ahead=st.sampled_from([1, 5, 1 << 16]),
)
def test_a_replay_gives_the_tokens_of_the_recording_however_things_race(
    seed: int, worlds: tuple[int, int, int], workers: int, acts: int, fifo: bool, ahead: int
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ringtape-") as folder,
        mock.patch("ringtape.coordinator.replayer.AHEAD_ROWS_MAX", ahead),
    ):
        case = Case(seed, workers, acts, Path(folder))
        worlds_ = [random.Random(world) for world in worlds]
        policy = Fifo() if fifo else AnyOrder(seed)
        journal, recorded = case.record(worlds_[0], policy, "one")
        sink = case.writer("two")
        again, replayed = case.replay(worlds_[1], "one", sink)
        again.seal(tape_pb2.Seal.END_FINISHED, "", 1, [])
        last, replayed_again = case.replay(worlds_[2], "two", NullTape())
        assert journal.hexdigest() == again.hexdigest() == last.hexdigest()
        for one, other, third in zip(recorded, replayed, replayed_again, strict=True):
            assert one.seen.digest() == other.seen.digest() == third.seen.digest()
            assert one.made == other.made == third.made
        for tape in ("one", "two"):
            with TapeReader.open(case.folder / tape) as reader:
                assert digest_of_tape(reader) == journal.hexdigest()


def test_another_program_diverges_for_every_seed() -> None:
    """Without this, made-up workers that do the same whatever they see would pass the other test."""
    with tempfile.TemporaryDirectory(prefix="ringtape-") as folder:
        for seed in range(30):
            case = Case(seed, 2, 12, Path(folder))
            case.record(random.Random(seed), Fifo(), "tape")
            other = Case(seed + 1000, 2, 12, Path(folder))
            with pytest.raises(Divergence):
                other.replay(random.Random(seed), "tape", NullTape())


def batch_at(number: int) -> wire_pb2.Batch:
    return wire_pb2.Batch(checkpoint=wire_pb2.Checkpoint(number=number, mode=wire_pb2.Checkpoint.MODE_WAIT))


def test_a_worker_that_goes_on_without_a_token_ends_the_run() -> None:
    recorder = Recorder(Journal(NullTape(), 1), Fifo(), checker(), workers=1, on_log=no_log)
    recorder.start(lambda worker, message: None)
    batch = batch_at(1)  # with a request under way, or its token would come at once
    batch.requests.CopyFrom(requests([ROWS[0]]))
    recorder.batch(0, batch)
    with pytest.raises(ProtocolError, match="without a token"):
        recorder.batch(0, batch_at(2))


def test_a_worker_that_skips_a_checkpoint_ends_the_run() -> None:
    recorder = Recorder(Journal(NullTape(), 1), Fifo(), checker(), workers=1, on_log=no_log)
    recorder.start(lambda worker, message: None)
    with pytest.raises(ProtocolError, match="expected 1"):
        recorder.batch(0, batch_at(2))


ROWS: list[Row] = [
    (1, 0, 0, 0, 4096, 0, 0),
    (2, 1, 0, 4096, 4096, 77, 0),
    (5, 0, 1, 0, 0, 0, 1),
    (2, 0, 1, 8192, 8192, 78, 0),
    (4, 0, 0, 0, 8192, 0, 0),
]
WAIT = wire_pb2.Checkpoint(number=1, mode=wire_pb2.Checkpoint.MODE_WAIT)


def completions(*sequences: int) -> messages_pb2.Completions:
    return messages_pb2.Completions(
        sequence=packed("Q", list(sequences)),
        result=packed("q", [4096 for _ in sequences]),
        digest=packed("Q", [0 for _ in sequences]),
    )


@pytest.fixture
def tape(tmp_path: Path) -> Iterator[TapeReader]:
    """Of one worker that makes `ROWS` at once, and waits until the first and the fourth have completed."""
    writer = TapeWriter(tmp_path / "tape", header(1))
    writer.begin()
    journal = Journal(writer, 1)
    recorder = Recorder(journal, Fifo(), checker(), workers=1, on_log=no_log)
    recorder.start(lambda worker, message: None)
    recorder.batch(0, wire_pb2.Batch(requests=requests(ROWS), completions=completions(0, 3), checkpoint=WAIT))
    journal.seal(tape_pb2.Seal.END_FINISHED, "", 1, [])
    with TapeReader.open(tmp_path / "tape") as reader:
        yield reader


def replayer_of(
    tape: TapeReader, *, stall_ns: int, inspection: Inspection | None = None
) -> tuple[Replayer, list[wire_pb2.CoordinatorMessage]]:
    sent: list[wire_pb2.CoordinatorMessage] = []
    replayer = Replayer(
        tape, Journal(NullTape(), 1), checker(), stall_ns=stall_ns, on_log=no_log, inspection=inspection
    )
    replayer.start(lambda worker, message: sent.append(message))
    return replayer, sent


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [(1, 0, 1), (1, 1, 0), (3, 2, 0), (3, 3, 4096), (4, 4, 4096), (3, 5, 79), (2, 1, 2), (0, 0, 5)],
)
def test_a_difference_in_any_column_is_a_divergence_at_its_row(
    row: int, column: int, value: int, tape: TapeReader
) -> None:
    changed = list(ROWS)
    one = list(ROWS[row])
    one[column] = value
    changed[row] = tuple(one)  # type: ignore[assignment]
    replayer, _ = replayer_of(tape, stall_ns=10**15)
    with pytest.raises(Divergence) as caught:
        replayer.batch(0, wire_pb2.Batch(requests=requests(changed), checkpoint=WAIT))
    assert (caught.value.request_id, caught.value.sequence) == (row + 1, row)


def test_what_an_fsync_covers_may_differ(tape: TapeReader) -> None:
    """It follows the hardware: how many had completed when it was made."""
    changed = [(*row[:6], row[6] + 5) for row in ROWS]
    replayer, sent = replayer_of(tape, stall_ns=10**15)
    replayer.batch(0, wire_pb2.Batch(requests=requests(changed), checkpoint=WAIT))
    assert not replayer.done and len(sent) == 1
    replayer.batch(0, wire_pb2.Batch(completions=completions(3, 1, 0)))
    assert replayer.done
    assert memoryview(sent[1].token.sequences).cast("Q").tolist() == [0, 3]


def test_a_completion_that_does_not_come_is_a_stall_that_names_it(tape: TapeReader) -> None:
    replayer, _ = replayer_of(tape, stall_ns=1_000_000)
    replayer.batch(0, wire_pb2.Batch(requests=requests(ROWS), completions=completions(1, 0), checkpoint=WAIT))
    due_ns = replayer.next_due_ns()
    assert due_ns is not None
    replayer.tick(due_ns - 1)
    with pytest.raises(Stalled) as caught:
        replayer.tick(due_ns)
    assert str(caught.value) == (
        "worker 0 waits at checkpoint 1 for the completion of request ids 4, which does not come; "
        "completed and queued: 2, 1"
    )


def test_a_worker_that_does_not_come_to_what_the_tape_has_is_a_stall(tape: TapeReader) -> None:
    replayer, _ = replayer_of(tape, stall_ns=1_000_000)
    replayer.batch(0, wire_pb2.Batch(requests=requests(ROWS[:2]), completions=completions(0)))
    due_ns = replayer.next_due_ns()
    assert due_ns is not None
    with pytest.raises(Stalled, match=r"request id 3, fsync on disk 'b'; completed and queued: 1$") as caught:
        replayer.tick(due_ns)
    assert caught.value.worker == 0


def stopped(**fields: bool) -> wire_pb2.WorkerMessage:
    return wire_pb2.WorkerMessage(stopped=wire_pb2.Stopped(**fields))


def test_nothing_is_a_stall_while_a_program_stands_in_the_debugger(tape: TapeReader) -> None:
    replayer, _ = replayer_of(tape, stall_ns=1_000_000, inspection=Inspection(["a", "b"]))
    assert replayer.next_due_ns() is not None
    assert replayer.take(0, stopped(stopped=True))
    assert replayer.next_due_ns() is None
    replayer.tick(10**18)
    assert replayer.take(0, stopped(stopped=False))
    due_ns = replayer.next_due_ns()
    assert due_ns is not None
    with pytest.raises(Stalled):
        replayer.tick(due_ns)


def test_a_replay_that_nobody_looks_into_takes_no_other_messages(tape: TapeReader) -> None:
    replayer, _ = replayer_of(tape, stall_ns=10**15)
    assert not replayer.take(0, stopped(stopped=True))
    replayer, _ = replayer_of(tape, stall_ns=10**15, inspection=Inspection(["a", "b"]))
    assert not replayer.take(0, wire_pb2.WorkerMessage(touched=wire_pb2.Touched()))


def test_a_stop_waits_for_what_was_made_before_it_and_for_nothing_else(tape: TapeReader) -> None:
    inspection = Inspection(["a", "b"], stop=Stop(request_id=3))
    replayer, sent = replayer_of(tape, stall_ns=1_000_000, inspection=inspection)
    # What it makes after the stop may be what it likes: the tape is not compared any more.
    made = [*ROWS[:3], (1, 0, 0, 0, 4096, 0, 0)]
    replayer.batch(0, wire_pb2.Batch(requests=requests(made), completions=completions(0, 3), checkpoint=WAIT))
    assert not replayer.done
    replayer.batch(0, wire_pb2.Batch(completions=completions(2)))
    due_ns = replayer.next_due_ns()
    assert due_ns is not None
    with pytest.raises(Stalled, match=r"after request id 3, .* but request ids 2 do not complete$"):
        replayer.tick(due_ns)
    replayer.batch(0, wire_pb2.Batch(completions=completions(1)))
    assert replayer.done
    assert replayer.stopped.startswith("stopped after request id 3, fsync on disk 'b', by worker 0")
    assert len(sent) == 1, "no token after the stop"


def test_quitting_the_debugger_waits_for_nobody(tape: TapeReader) -> None:
    replayer, _ = replayer_of(tape, stall_ns=1_000_000, inspection=Inspection(["a", "b"]))
    replayer.batch(0, wire_pb2.Batch(requests=requests(ROWS[:3])))
    replayer.take(0, stopped(stopped=True))
    replayer.take(0, stopped(quit=True))
    assert replayer.done
    assert replayer.stopped == "stopped where worker 0 stood in the debugger; the tape goes on"


WRITE: list[Row] = [(2, 0, 0, 0, 4096, 77, 0)]


def cut_tape_of_a_shared_disk(folder: Path, *, workers: int) -> Path:
    """Each worker in turn writes one block, and waits for that; the last has its token before the recording is cut."""
    writer = TapeWriter(folder / "shared", header(workers))
    writer.begin()
    recorder = Recorder(
        Journal(writer, workers), Fifo(), checker(), workers=workers, shared=[True, True], on_log=no_log
    )
    recorder.start(lambda worker, message: None)
    for worker in range(workers):
        recorder.batch(worker, wire_pb2.Batch(requests=requests(WRITE)))
    for worker in range(workers):
        waits = WAIT if worker == workers - 1 else None
        recorder.batch(worker, wire_pb2.Batch(completions=completions(0), checkpoint=waits))
    writer.close()
    return folder / "shared"


@pytest.mark.parametrize("until", [None, 3])
def test_a_death_that_others_wait_for_is_no_stall(until: int | None, tmp_path: Path) -> None:
    """A write of the last worker waits for one of the middle worker, and that for one of the first, which is killed."""
    with TapeReader.open(cut_tape_of_a_shared_disk(tmp_path, workers=3)) as reader:
        inspection = None if until is None else Inspection(["a", "b"], stop=Stop(request_id=until))
        replayer = Replayer(
            reader,
            Journal(NullTape(), 3),
            checker(),
            shared=[True, True],
            stall_ns=10**15,
            on_log=no_log,
            inspection=inspection,
        )
        replayer.start(lambda worker, message: None)
        for worker in range(3):
            replayer.batch(worker, wire_pb2.Batch(requests=requests(WRITE), checkpoint=WAIT))
        killed = WorkerDied("worker 0 was killed", 0)
        with pytest.raises(WorkerDied) as caught:
            replayer.died(0, killed)
        assert caught.value is killed


def test_a_stall_names_the_worker_whose_request_comes_first(tmp_path: Path) -> None:
    with TapeReader.open(cut_tape_of_a_shared_disk(tmp_path, workers=2)) as reader:
        replayer = Replayer(
            reader, Journal(NullTape(), 2), checker(), shared=[True, True], stall_ns=1_000_000, on_log=no_log
        )
        replayer.start(lambda worker, message: None)
        for worker in range(2):
            replayer.batch(worker, wire_pb2.Batch(requests=requests(WRITE), checkpoint=WAIT))
        due_ns = replayer.next_due_ns()
        assert due_ns is not None
        with pytest.raises(Stalled) as caught:
            replayer.tick(due_ns)
    assert caught.value.worker == 0
    assert str(caught.value) == (
        "worker 1 waits at checkpoint 1 for the completion of request ids 2, which does not come, nor does that of "
        "requests of worker 0 on a shared disk that come first; completed and queued: none"
    )


def test_a_death_that_nobody_waits_for_leaves_the_others_to_come_to_the_end(tmp_path: Path) -> None:
    with TapeReader.open(cut_tape_of_a_shared_disk(tmp_path, workers=3)) as reader:
        replayer = Replayer(
            reader, Journal(NullTape(), 3), checker(), shared=[True, True], stall_ns=10**15, on_log=no_log
        )
        replayer.start(lambda worker, message: None)
        replayer.batch(0, wire_pb2.Batch(requests=requests(WRITE)))
        replayer.batch(0, wire_pb2.Batch(completions=completions(0)))
        for worker in (1, 2):
            replayer.batch(worker, wire_pb2.Batch(requests=requests(WRITE), checkpoint=WAIT))
        replayer.died(0, WorkerDied("worker 0 was killed", 0))
        replayer.batch(1, wire_pb2.Batch(completions=completions(0)))
        assert not replayer.done
        replayer.batch(2, wire_pb2.Batch(completions=completions(0)))
        assert replayer.done


@pytest.mark.parametrize("what", ["requests", "notes"])
def test_a_worker_that_runs_ahead_of_the_tape_is_not_listened_to(what: str, tmp_path: Path) -> None:
    """The tape has worker 0 first; worker 1 makes more of something than the coordinator is willing to keep."""
    rows, lines = (ROWS * 40, []) if what == "requests" else ([], ["x" * 5000] * 200)
    batch = wire_pb2.Batch(requests=requests(rows), notes=[messages_pb2.Note(log=line) for line in lines])
    writer = TapeWriter(tmp_path / "tape", header(2))
    writer.begin()
    journal = Journal(writer, 2)
    recorder = Recorder(journal, Fifo(), checker(), workers=2, on_log=no_log)
    recorder.start(lambda worker, message: None)
    recorder.batch(0, wire_pb2.Batch(requests=requests(ROWS[:1])))
    recorder.batch(1, batch)
    journal.seal(tape_pb2.Seal.END_FINISHED, "", 1, [])
    with (
        TapeReader.open(tmp_path / "tape") as reader,
        mock.patch("ringtape.coordinator.replayer.AHEAD_ROWS_MAX", 150),
    ):
        replayer = Replayer(reader, Journal(NullTape(), 2), checker(), stall_ns=10**15, on_log=no_log)
        replayer.start(lambda worker, message: None)
        assert replayer.wants(1)
        replayer.batch(1, batch)
        assert not replayer.wants(1)
        assert replayer.wants(0)
        replayer.batch(0, wire_pb2.Batch(requests=requests(ROWS[:1])))
        assert replayer.wants(1), "the tape has come to what it made"
        assert replayer.done
