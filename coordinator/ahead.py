"""Leases of a replay: what is to come, read off the tape ahead and told to the workers, a block at a time.

A worker that has been told passes such a checkpoint without asking. Left out are checkpoints before which the worker's
program did something other than requests, or at which it got messages: these bind workers to each other, and are asked
for. So is a checkpoint that could wait for ever.

The tape is read once: blocks that have been told are kept, columns and all, for the replay that comes to them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.completions import CompletionQueue, Released
from ringtape.coordinator.conductor import Send
from ringtape.coordinator.errors import ProtocolError
from ringtape.coordinator.tape.parts import REQUEST_COLUMNS, Part, Parts, Tokens
from ringtape.coordinator.tape.reader import TapeReader
from ringtape.proto import tape_pb2, wire_pb2
from ringtape.proto.errors import TapeDamaged

# The workers know what is to come at least so many requests ahead, each; and are told a block more when they do not.
AHEAD_ROWS = 1 << 13
# No more is read ahead than so many requests, or so many blocks.
AHEAD_ROWS_MAX = 1 << 17
AHEAD_BLOCKS_MAX = 32
_WAIT = wire_pb2.Checkpoint.MODE_WAIT


class _Ahead:
    """One worker, as far as the tape has been read ahead."""

    def __init__(self) -> None:
        self.checkpoints = 0
        self.completed = CompletionQueue()
        self.told = 0  # checkpoints that are in a lease and have not been passed
        # Since the last checkpoint: requests, and whether there was something else.
        self._columns: list[bytes] = [b"" for _ in REQUEST_COLUMNS]
        self._made = 0
        self._noted = False
        self._leases: list[wire_pb2.Lease] = []

    def read(self, part: Part) -> None:
        """What the worker does in the next block."""
        lease = wire_pb2.Lease()
        for sequence, first_id, count in part.id_ranges():
            lease.ids.add(first_sequence=sequence, first_id=first_id, count=count)
        self.completed.add(part.completions())
        start, stop = part.all
        noted = part.noted()
        noted[0] |= self._noted
        self._noted = bool(noted[-1])
        columns = [
            before + column for before, column in zip(self._columns, part.request_columns, strict=True)
        ]
        if part.tokens:
            turns = part.between(start, stop)
            turns.requests[0] += self._made
            released = take_released(self.completed, part, start.tokens, stop.tokens)
            self._made += int(part.made[-1])
            self._tell(lease, turns, noted[:-1], columns, released)
            columns = [
                column[dtype.itemsize * self._made :]
                for column, (_, dtype) in zip(columns, REQUEST_COLUMNS, strict=True)
            ]
        self._columns, self._made = columns, len(columns[0])
        self.checkpoints += part.tokens
        if lease.checkpoint or lease.ids:
            self._leases.append(lease)

    def _tell(
        self,
        lease: wire_pb2.Lease,
        turns: Tokens,
        noted: NDArray[np.bool_],
        columns: list[bytes],
        released: Released,
    ) -> None:
        """Put these turns into the lease, but for those that are asked for."""
        endless = (turns.mode == _WAIT) & (turns.released == 0) & (turns.deadline_ns == 0)
        told = ~(noted | endless | (turns.delivered != 0))
        numbers = np.arange(1, len(turns) + 1, dtype=np.uint64) + np.uint64(self.checkpoints)
        self.told += int(told.sum())
        rows, results = np.repeat(told, turns.requests), np.repeat(told, turns.released)
        lease.checkpoint = numbers[told].tobytes()
        out = lease.turns
        out.requests = turns.requests[told].astype("<u4").tobytes()
        out.released = turns.released[told].astype("<u4").tobytes()
        out.clock_ns, out.deadline_ns = turns.clock_ns[told].tobytes(), turns.deadline_ns[told].tobytes()
        out.mode = turns.mode[told].tobytes()
        for column, (name, dtype) in zip(columns, REQUEST_COLUMNS, strict=True):
            setattr(lease.requests, name, _chosen(column, dtype, rows))
        completions, u64 = lease.released, np.dtype("<u8")
        completions.sequence = _chosen(released.sequences, u64, results)
        completions.result = _chosen(released.results, u64, results)
        completions.digest = _chosen(released.digests, u64, results)

    def take(self) -> list[wire_pb2.Lease]:
        """What has not been told."""
        leases, self._leases = self._leases, []
        return leases


def _chosen(column: bytes, dtype: np.dtype[Any], rows: NDArray[np.bool_]) -> bytes:
    """These of the column's first rows."""
    if not column:
        return column
    return np.frombuffer(column, dtype, len(rows))[rows].tobytes()


def take_released(queue: CompletionQueue, part: Part, start: int, stop: int) -> Released:
    """Take out of a worker's queue, which has all its completions so far, what its tokens between release.

    The columns are of all of them.
    """
    orders = part.orders(start, stop)
    if not any(orders):
        released = queue.first(int(part.released[start:stop].sum()))
        queue.take(released)
        return released
    found = []
    for count, order in zip(part.released[start:stop].tolist(), orders, strict=True):
        one = queue.first(count) if order is None else queue.chosen(order)
        queue.take(one)
        found.append(one)
    return Released(
        sum(one.count for one in found),
        b"".join(one.sequences for one in found),
        b"".join(one.results for one in found),
        b"".join(one.digests for one in found),
        b"".join(one.contents for one in found),
        None,
    )


class LookAhead:
    """Reads the tape ahead of a replay, and keeps count of what its workers may pass."""

    def __init__(self, reader: TapeReader, leased: Sequence[bool]) -> None:
        """`leased` says which workers have leases. Nobody else reads blocks from `reader`."""
        self._reader = reader
        self._workers = {worker: _Ahead() for worker, one in enumerate(leased) if one}
        self._rows_ahead = min(AHEAD_ROWS * len(self._workers), AHEAD_ROWS_MAX)
        self._blocks = self._read()
        #: What the replay has not come to.
        self._kept: deque[Parts] = deque()
        self._damage: TapeDamaged | None = None
        self._next_id = 1

    def _read(self) -> Iterator[Parts]:
        """Read on, and see what there is to tell."""
        try:
            for block in self._reader.blocks():
                parts = Parts(block)
                self._next_id = block.first_id + block.request_count
                for part in parts.of:
                    ahead = self._workers.get(part.worker)
                    if ahead is not None:
                        ahead.read(part)
                yield parts
        except TapeDamaged as error:
            self._damage = error  # whoever follows the tape comes to it

    def blocks(self) -> Iterator[Parts]:
        """The blocks of the tape, for who follows it. Raises what `TapeReader.blocks` raises."""
        while True:
            parts = self._kept.popleft() if self._kept else next(self._blocks, None)
            if parts is None:
                break
            yield parts
        if self._damage is not None:
            raise self._damage

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

    def tell(self, send: Send, next_id: int) -> None:
        """The replay has come so far along the tape: see that the workers know what is to come."""
        while self._next_id - next_id <= self._rows_ahead and len(self._kept) < AHEAD_BLOCKS_MAX:
            parts = next(self._blocks, None)
            if parts is None:
                break
            self._kept.append(parts)
        for worker, ahead in self._workers.items():
            for lease in ahead.take():
                send(worker, wire_pb2.CoordinatorMessage(lease=lease))


def may_look_ahead(reader: TapeReader) -> bool:
    """Only on a tape that ended as planned: of a worker that dies in a replay, what it has not told is lost."""
    seal = reader.find_seal()
    return seal is not None and seal.end == tape_pb2.Seal.END_FINISHED
