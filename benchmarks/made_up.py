"""The coordinator alone, fed with messages of made-up workers: everything that it does but for the sockets.

A worker's messages are made beforehand, as the bytes that come out of a link: random reads, and completions nearly in
the order of submission. What is measured takes them in turn from all workers, parses them, gives the ids, journals them
onto a tape in a file and makes the answers' bytes.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ringtape.benchmarks.contenders import Case, Contender
from ringtape.benchmarks.errors import BenchmarkError
from ringtape.benchmarks.jobs import Measurement
from ringtape.coordinator.batches import BatchChecker
from ringtape.coordinator.journal import Journal
from ringtape.coordinator.policy import Fifo
from ringtape.coordinator.recorder import Recorder
from ringtape.coordinator.tape import TapeWriter
from ringtape.proto import messages_pb2, tape_pb2, wire_pb2

BLOCK_BYTES = 4096
DISK_BYTES = 1 << 30
SWAPS = 8  # a completion is early or late by about so many
REQUEST_NS = 3000
FLUSH_EVERY = 16  # messages, between two looks at whether a block of the tape is due
LOOK_EVERY = 256  # messages, between two looks at the memory


@dataclass(frozen=True)
class Shape:
    """What a message holds: so many requests and completions, in one checkpoint or in turns of a leased worker."""

    rows: int
    turns: int = 0

    @property
    def title(self) -> str:
        """For people."""
        by = f" in {self.turns} turns" if self.turns else ""
        return f"{self.rows} completions a message{by}"


SHAPES = (Shape(64), Shape(512), Shape(4096), Shape(512, 16))
WORKERS = (1, 8, 64)


def messages(shape: Shape, workers: int, count: int) -> Iterator[tuple[int, bytes]]:
    """Worker by worker in turn, `count` messages each, with the worker that each comes from."""
    random = np.random.default_rng(workers)
    for number in range(count):
        for worker in range(workers):
            yield worker, _message(shape, number, random)


def _message(shape: Shape, number: int, random: np.random.Generator) -> bytes:
    rows = shape.rows
    at_ns = (number + 1) * rows * REQUEST_NS
    message = wire_pb2.WorkerMessage()
    batch = message.batch
    offsets = random.integers(DISK_BYTES // BLOCK_BYTES, size=rows, dtype=np.uint64) * np.uint64(BLOCK_BYTES)
    length = np.full(rows, BLOCK_BYTES, np.uint64).tobytes()
    batch.requests.kind = bytes((messages_pb2.KIND_READ,)) * rows
    batch.requests.flags, batch.requests.disk = bytes(rows), bytes(2 * rows)
    batch.requests.offset, batch.requests.length = offsets.tobytes(), length
    order = _order(shape, random)
    batch.completions.sequence = (order.astype(np.uint64) + np.uint64(number * rows)).tobytes()
    batch.completions.result = length
    batch.requests_ns, batch.completions_ns = at_ns, at_ns + rows * REQUEST_NS // 2
    if shape.turns:
        _add_turns(batch, shape, at_ns)
        batch.oldest = (number + 1) * rows
    else:
        batch.checkpoint.number, batch.checkpoint.mode = number + 1, wire_pb2.Checkpoint.MODE_WAIT
    return message.SerializeToString()


def _order(shape: Shape, random: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """In which order the requests complete; none later than its turn."""
    turn = np.arange(shape.rows) // (shape.rows // (shape.turns or 1))
    due = np.arange(shape.rows) + random.exponential(SWAPS, shape.rows)
    return np.lexsort((due, turn))


def _add_turns(batch: wire_pb2.Batch, shape: Shape, at_ns: int) -> None:
    count, rows = shape.turns, shape.rows // shape.turns
    narrow = np.full(count, rows, np.uint32).tobytes()
    times = np.uint64(at_ns) + np.arange(count, dtype=np.uint64) * np.uint64(rows * REQUEST_NS)
    later = times + np.uint64(rows * REQUEST_NS // 2)
    turns = batch.turns
    turns.requests = turns.completions = turns.released = narrow
    turns.notes = turns.delivered = bytes(4 * count)
    turns.requests_ns, turns.completions_ns, turns.clock_ns = (
        times.tobytes(),
        later.tobytes(),
        later.tobytes(),
    )
    turns.deadline_ns, turns.mode = bytes(8 * count), bytes(count)


class Fed:
    """A recorder, its tape, and the answers that it makes."""

    def __init__(self, path: Path, workers: int, *, leased: bool) -> None:
        header = tape_pb2.Header(
            workers=workers,
            data=messages_pb2.DATA_LEVEL_ORDER,
            policy=Fifo.name,
            program="made_up.py:main",
            leased=leased,
        )
        header.disks.add(name="a", path="/made/up", size=DISK_BYTES, block_size=512)
        path.unlink(missing_ok=True)
        self._tape = TapeWriter(path, header)
        self._tape.begin()
        self._journal = Journal(self._tape, workers)
        self._recorder = Recorder(
            self._journal,
            Fifo(),
            BatchChecker(disks=1, workers=workers, digests=False),
            workers=workers,
            shared=[False],
            leased=[leased] * workers,
            on_log=lambda worker, text: None,
        )
        self.answers = 0
        self._recorder.start(self._send)

    def _send(
        self, worker: int, message: wire_pb2.CoordinatorMessage | Iterator[wire_pb2.CoordinatorMessage]
    ) -> None:
        assert isinstance(message, wire_pb2.CoordinatorMessage), "nobody asked for much"
        message.SerializeToString()
        self.answers += 1

    def take(self, source: Iterator[tuple[int, bytes]]) -> Iterator[int]:
        """Take all messages; yields their number now and then."""
        recorder, tape = self._recorder, self._tape
        for number, (worker, data) in enumerate(source, 1):
            batch = wire_pb2.WorkerMessage.FromString(data).batch
            recorder.batch(worker, batch)
            if not number % FLUSH_EVERY:
                # By the clock of the made-up run, which its rows have: by ours every block would be due at once.
                tape.flush_due(batch.completions_ns)
            if not number % LOOK_EVERY:
                yield number

    def finish(self, requests: int) -> None:
        """Seal the tape; `BenchmarkError` if not every request is on it and completed."""
        made, completed = self._tape.request_count, self._tape.completion_count
        self._journal.seal(tape_pb2.Seal.END_FINISHED, "", 0, [])
        if (made, completed) != (requests, requests):
            raise BenchmarkError(f"the tape has {made} requests and {completed} completions, not {requests}")


class Coordinator(Contender):
    """The coordinator, fed with messages of one shape by so many workers."""

    def __init__(self, shape: Shape, workers: int) -> None:
        self.name = self.paced_by = name_of(workers)
        self._shape, self._workers = shape, workers

    def measure(self, case: Case, requests: int, seed: int) -> Measurement:
        """See `Contender`; as many whole messages as come to the requests."""
        shape, workers = self._shape, self._workers
        count = max(requests // (shape.rows * workers), 1)
        made = list(messages(shape, workers, count))
        fed = Fed(case.folder / "made-up.tape", workers, leased=bool(shape.turns))
        begun_s = time.perf_counter()
        for _ in fed.take(iter(made)):
            pass
        elapsed_s = time.perf_counter() - begun_s
        requests = count * workers * shape.rows
        fed.finish(requests)
        return Measurement(requests, elapsed_s)


def name_of(workers: int) -> str:
    """Of a contender."""
    return f"{workers} worker{'s' if workers > 1 else ''}"


def resident_bytes(pid: int | str = "self") -> int:
    """What of a process is in memory; 0 if it has gone."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(text.split()[1]) * resource.getpagesize()
