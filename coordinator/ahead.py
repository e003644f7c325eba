"""Leases of a replay: what is to come, read off the tape ahead and told to the workers.

A worker that has been told passes such a checkpoint without asking. Left out are checkpoints before which the worker's
program did something other than requests, or at which it got messages: these bind workers to each other, and are asked
for. So is a checkpoint that could wait for ever.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

from ringtape.coordinator.completions import CompletionQueue
from ringtape.coordinator.conductor import Send
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.coordinator.tape.runs import CompletionsRun, RequestsRun, Run, TokenRun
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.errors import TapeDamaged

# The workers know what is to come so many requests ahead, and are told more when they know half of it.
AHEAD_ROWS = 1 << 14
_WAIT = wire_pb2.Checkpoint.MODE_WAIT
_REQUESTS = ("kind", "flags", "disk", "offset", "length", "digest")


class _Ahead:
    """One worker, as far as the tape has been read ahead."""

    def __init__(self) -> None:
        self.checkpoints = 0
        self.completed = CompletionQueue()
        self.told = 0  # checkpoints that are in a lease and have not been passed
        # Since the last checkpoint: requests, and whether there was something else.
        self._columns = tuple(bytearray() for _ in _REQUESTS)
        self._made = 0
        self._noted = False
        self._lease = _Lease()

    def requests(self, run: RequestsRun) -> None:
        self._lease.ids.append(
            wire_pb2.IdRange(first_sequence=run.first_sequence, first_id=run.first_id, count=run.count)
        )
        self._made += run.count
        columns = run.columns
        for column, name in zip(self._columns, _REQUESTS, strict=True):
            column += getattr(columns, name)

    def note(self) -> None:
        self._noted = True

    def token(self, run: TokenRun) -> None:
        self.checkpoints += 1
        queue = self.completed
        released = queue.first(run.released) if run.order is None else queue.chosen(run.order)
        queue.take(released)
        endless = run.mode == _WAIT and not run.released and not run.deadline_ns
        if not (self._noted or run.delivered or endless):
            lease = self._lease
            lease.checkpoint.append(self.checkpoints)
            lease.counts.append(self._made)
            lease.clock_ns.append(run.clock_ns)
            lease.deadline_ns.append(run.deadline_ns)
            lease.mode.append(run.mode)
            lease.released.append(run.released)
            for column, more in zip(lease.columns, self._columns, strict=True):
                column += more
            lease.sequences += released.sequences
            lease.results += released.results
            lease.digests += released.digests
        self._noted, self._made = False, 0
        for column in self._columns:
            column.clear()

    def take(self) -> wire_pb2.Lease | None:
        """What has not been told; None if that is nothing."""
        lease, self._lease = self._lease, _Lease()
        self.told += len(lease.checkpoint)
        return lease.message() if lease.checkpoint or lease.ids else None


class _Lease:
    """The columns of a message."""

    def __init__(self) -> None:
        self.ids: list[wire_pb2.IdRange] = []
        self.checkpoint, self.clock_ns, self.deadline_ns = array("Q"), array("Q"), array("Q")
        self.counts, self.released = array("I"), array("I")
        self.mode = bytearray()
        self.columns = tuple(bytearray() for _ in _REQUESTS)
        self.sequences, self.results, self.digests = bytearray(), bytearray(), bytearray()

    def message(self) -> wire_pb2.Lease:
        message = wire_pb2.Lease(checkpoint=self.checkpoint.tobytes(), ids=self.ids)
        turns = message.turns
        turns.requests, turns.released = self.counts.tobytes(), self.released.tobytes()
        turns.clock_ns, turns.deadline_ns = self.clock_ns.tobytes(), self.deadline_ns.tobytes()
        turns.mode = bytes(self.mode)
        for column, name in zip(self.columns, _REQUESTS, strict=True):
            setattr(message.requests, name, bytes(column))
        released = message.released
        released.sequence, released.result = bytes(self.sequences), bytes(self.results)
        released.digest = bytes(self.digests)
        return message


class LookAhead:
    """Reads the tape ahead of a replay, and keeps count of what its workers may pass."""

    def __init__(self, reader: TapeReader, leased: Sequence[bool]) -> None:
        """`reader` is at the tape's start, and used by nobody else; `leased` says which workers have leases."""
        self._runs = self._runs_of(reader)
        self._workers = {worker: _Ahead() for worker, one in enumerate(leased) if one}
        self._runs_read = 0
        self._next_id = 1

    def _runs_of(self, reader: TapeReader) -> Iterator[Run]:
        try:
            for block in reader.blocks():
                yield from block.runs()
        except TapeDamaged:
            return  # whoever follows the tape comes to it and says so

    def has(self, worker: int) -> bool:
        """Has this worker leases?"""
        return worker in self._workers

    def passed(self, worker: int, count: int) -> None:
        """The worker says that it has passed so many checkpoints; `ProtocolError` if it cannot have."""
        ahead = self._workers.get(worker)
        if ahead is None or count > ahead.told:
            raise ProtocolError(f"worker {worker} passed {count} checkpoints that it was not told of")
        ahead.told -= count

    def asked(self, worker: int, checkpoint: int) -> None:
        """The worker asks for this checkpoint, and passes none before it any more."""
        # What it was told of that is behind it: at most what there is between it and what has been read.
        ahead = self._workers[worker]
        ahead.told = min(ahead.told, max(ahead.checkpoints - checkpoint, 0))

    def tell(self, send: Send, runs: int, next_id: int) -> None:
        """The replay has come so far along the tape: see that the workers know what is to come."""
        if self._runs_read > runs and self._next_id - next_id > AHEAD_ROWS // 2:
            return
        before = self._runs_read
        while self._runs_read <= runs or self._next_id - next_id <= AHEAD_ROWS:
            run = next(self._runs, None)
            if run is None:
                break
            self._runs_read += 1
            self._take(run)
        if self._runs_read == before:
            return
        for worker, ahead in self._workers.items():
            lease = ahead.take()
            if lease is not None:
                send(worker, wire_pb2.CoordinatorMessage(lease=lease))

    def _take(self, run: Run) -> None:
        if isinstance(run, RequestsRun):
            self._next_id = run.first_id + run.count
        ahead = self._workers.get(run.worker)
        if ahead is None:
            return
        if isinstance(run, RequestsRun):
            ahead.requests(run)
        elif isinstance(run, CompletionsRun):
            ahead.completed.add(run.columns)
        elif isinstance(run, TokenRun):
            ahead.token(run)
        else:
            ahead.note()


def may_look_ahead(reader: TapeReader) -> bool:
    """Only on a tape that ended as planned: of a worker that dies in a replay, what it has not told is lost."""
    seal = reader.find_seal()
    return seal is not None and seal.end == tape_pb2.Seal.END_FINISHED
