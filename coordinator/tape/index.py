"""Where a reader may begin: snapshots of the ledger before some of a tape's blocks.

Responsible for taking them within a bound while a tape is written, and for turning them back into ledgers. A
snapshot is what a reader would know had it read all before, so it is believed only as far as the blocks after it
hold together with it; `verify` compares each with what a whole reading gives.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.frames import Problem
from ringtape.coordinator.tape.ledger import OPEN_LIMIT, Ledger, Totals
from ringtape.proto import tape_pb2

STRIDE_BLOCKS = 8  # from one snapshot to the next, at first
INDEX_BYTES_MAX = 2 << 20  # of all snapshots, before compression; beyond, every second one is dropped


class IndexBuilder:
    """Takes snapshots of one tape: one every few blocks, fewer the longer the tape gets."""

    def __init__(self) -> None:
        # By block, serialized: a message keeps the memory of all that was ever in it.
        self._snapshots: dict[int, bytes] = {}
        self._bytes = 0
        self._stride = STRIDE_BLOCKS

    def block(self, offset: int, block: int, ledger: Ledger) -> None:
        """The block with this number is the next after this byte, and after what the ledger knows."""
        if block == 1 or (block - 1) % self._stride:
            return
        self._snapshots[block] = snapshot_of(offset, block, ledger).SerializeToString()
        self._bytes += len(self._snapshots[block])
        while self._bytes > INDEX_BYTES_MAX and self._snapshots:
            self._stride *= 2
            self._snapshots = {
                number: snapshot
                for number, snapshot in self._snapshots.items()
                if (number - 1) % self._stride == 0
            }
            self._bytes = sum(map(len, self._snapshots.values()))

    def finish(self) -> tape_pb2.Index | None:
        """The index; None where it would be empty."""
        if not self._snapshots:
            return None
        index = tape_pb2.Index()
        for snapshot in self._snapshots.values():
            index.snapshots.add().ParseFromString(snapshot)
        return index


def snapshot_of(offset: int, block: int, ledger: Ledger) -> tape_pb2.Snapshot:
    """What the ledger knows, as it is before the block."""
    workers = np.flatnonzero(ledger.requests | ledger.tokens)
    flying_worker, flying_sequence = ledger.flying()
    return tape_pb2.Snapshot(
        offset=offset,
        block=block,
        requests=ledger.totals.requests,
        completions=ledger.totals.completions,
        tokens=ledger.totals.tokens,
        worker=workers.astype("<u2").tobytes(),
        worker_requests=ledger.requests[workers].tobytes(),
        worker_completions=ledger.completions[workers].tobytes(),
        worker_tokens=ledger.tokens[workers].tobytes(),
        in_flight_worker=flying_worker.astype("<u2").tobytes(),
        in_flight_sequence=flying_sequence.tobytes(),
        in_flight_id=ledger.flying_ids.tobytes(),
        waiting_worker=ledger.waiting_worker.astype("<u2").tobytes(),
        waiting_id=ledger.waiting_ids.tobytes(),
        contents=ledger.contents,
    )


def ledger_of(snapshot: tape_pb2.Snapshot, workers: int) -> Ledger:
    """The ledger as it was. Raises Problem for a snapshot that cannot be one."""
    worker = _column(snapshot.worker, "<u2", None)
    flying = _column(snapshot.in_flight_worker, "<u2", None)
    waiting = _column(snapshot.waiting_worker, "<u2", None)
    if len(flying) + len(waiting) > OPEN_LIMIT:
        raise Problem("its index has more requests in flight than a tape may have")
    if any(len(column) and int(column.max()) >= workers for column in (worker, flying, waiting)):
        raise Problem("its index names a worker that its header does not")
    if (np.diff(worker.astype(np.int64)) <= 0).any() or (np.diff(waiting.astype(np.int64)) < 0).any():
        raise Problem("its index has workers out of order")
    ledger = Ledger(workers)
    ledger.totals = Totals(snapshot.requests, snapshot.completions, snapshot.tokens)
    for counter, data in (
        (ledger.requests, snapshot.worker_requests),
        (ledger.completions, snapshot.worker_completions),
        (ledger.tokens, snapshot.worker_tokens),
    ):
        counter[worker] = _column(data, "<u8", len(worker))
    if max(snapshot.requests, snapshot.completions, snapshot.tokens, snapshot.contents) >> 62 or any(
        len(counter) and int(counter.max()) >> 43 for counter in (ledger.requests, ledger.tokens)
    ):
        raise Problem("its index counts more than a tape can hold")
    ledger.contents = snapshot.contents
    sequence = _column(snapshot.in_flight_sequence, "<u8", len(flying))
    if (sequence >= ledger.requests[flying]).any():
        raise Problem("its index has a request in flight that was not made")
    ledger.fly(flying, sequence, _column(snapshot.in_flight_id, "<u8", len(flying)))
    ledger.waiting_worker = waiting.astype(np.int64)
    ledger.waiting_ids = _column(snapshot.waiting_id, "<u8", len(waiting)).astype(np.uint64)
    return ledger


def _column(data: bytes, dtype: str, rows: int | None) -> NDArray[Any]:
    size = np.dtype(dtype).itemsize
    if len(data) % size or (rows is not None and len(data) != rows * size):
        raise Problem(f"its index has a column of {len(data)} bytes for {rows} rows of {size}")
    return np.frombuffer(data, dtype=dtype)
