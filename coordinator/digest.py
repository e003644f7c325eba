"""The digest of a run: one value that says whether two runs were the same.

Responsible for covering everything a program sees and does (ids, requests, results, data digests, clock readings,
releases, logs, captured values, outcomes) and for nothing that may differ between a recording and its replay: the
times at which things happened, how rows were grouped into messages, and how the workers raced one another.

Each worker has one running xxh3_128 a column, fed with the column's bytes: where one call ends and the next
begins leaves no trace. What happened between which requests is covered by counts: every token and note is fed with
how many requests (and notes) its worker had made before it.
"""

import struct

import numpy as np
import xxhash
from numpy.typing import NDArray

from ringtape.coordinator.tape import CompletionsRun, NoteRun, RequestsRun, TapeReader, TokenRun
from ringtape.coordinator.tape.slices import Completions, Requests, request_columns
from ringtape.coordinator.tape.turns import Turns
from ringtape.proto import messages_pb2

_SMALL = 16  # rows; below, `struct` is faster than numpy
_TOKEN = struct.Struct("<QQQQQ")
_NOTE = struct.Struct("<cQ")
_LENGTH = struct.Struct("<Q")
_DELIVERED = struct.Struct("<QQ")
_COUNTS = struct.Struct("<QQQQ")


class RunDigest:
    """Takes a run row by row, in each worker's order; workers may come in any order among each other."""

    def __init__(self, workers: int) -> None:
        self._workers = tuple(_WorkerDigest() for _ in range(workers))

    def requests(self, worker: int, columns: Requests, count: int, first_id: int) -> None:
        """Requests with ids from `first_id` on. `fsync_covers` is left out: it follows the hardware."""
        self._workers[worker].requests(columns, count, first_id)

    def token(
        self,
        worker: int,
        checkpoint: int,
        clock_ns: int,
        sequences: bytes,
        results: bytes,
        digests: bytes,
        delivered: int = 0,
    ) -> None:
        """The answer to a worker's checkpoint, which is counted from 1; what starts a worker is not in the digest.

        The columns have a row for each released completion, in the order of release: `sequences` u64, `results`
        i64, `digests` u64, or empty below DATA_LEVEL_DIGEST. `delivered` is how many messages came with it: which,
        follows from what was sent.
        """
        self._workers[worker].token(checkpoint, clock_ns, sequences, results, digests)
        if delivered:
            self._workers[worker].delivered(delivered)

    def turns(
        self,
        worker: int,
        checkpoint: int,
        turns: Turns,
        columns: Requests,
        first_id: int,
        released: tuple[bytes, bytes, bytes],
    ) -> None:
        """The same as `requests` and `token` for each turn, from that checkpoint on; columns are of all turns.

        `released` are sequences, results and digests, as in `token`.
        """
        self._workers[worker].turns(checkpoint, turns, columns, first_id, released)

    def passed(
        self,
        worker: int,
        tokens: NDArray[np.uint64],
        delivered: NDArray[np.int64],
        columns: messages_pb2.Requests,
        ids: NDArray[np.uint64],
        released: tuple[bytes, bytes, bytes],
    ) -> None:
        """The same as `requests` and `token` for tokens, maybe none, and the requests among and behind them.

        `tokens` has a row for each: its checkpoint, its clock, how many of these requests are before it, 0, and how
        many completions it releases; `delivered` is of each. `released` are sequences, results and digests, as in
        `token`.
        """
        self._workers[worker].passed(tokens, delivered, columns, ids, released)

    def note(self, worker: int, note: messages_pb2.Note) -> None:
        """A note, made after the requests given before. What is only for people is left out."""
        self._workers[worker].note(note)

    def hexdigest(self) -> str:
        """32 hex digits for everything so far; more may follow."""
        whole = xxhash.xxh3_128(_LENGTH.pack(len(self._workers)))
        for worker in self._workers:
            whole.update(worker.digest())
        return whole.hexdigest()


class _WorkerDigest:
    """One running hash a column."""

    def __init__(self) -> None:
        self._requests = tuple(xxhash.xxh3_128() for _ in range(7))
        self._released = tuple(xxhash.xxh3_128() for _ in range(3))
        self._tokens = xxhash.xxh3_128()
        self._notes = xxhash.xxh3_128()
        self._delivered = xxhash.xxh3_128()
        self._any_delivered = False
        self._request_count = 0
        self._token_count = 0
        self._note_count = 0
        self._released_count = 0

    def requests(self, columns: Requests, count: int, first_id: int) -> None:
        if count == 1:
            ids: bytes | memoryview = first_id.to_bytes(8, "little")
        elif count < _SMALL:
            ids = struct.pack(f"<{count}Q", *range(first_id, first_id + count))
        else:
            ids = np.arange(first_id, first_id + count, dtype="<u8").data
        self._add_requests(columns, count, ids)

    def _add_requests(self, columns: Requests, count: int, their_ids: bytes | memoryview) -> None:
        kinds, flags, disks, offsets, lengths, digests, ids = self._requests
        kind, flag, disk, offset, length, digest, _, _ = request_columns(columns)
        kinds.update(kind)
        flags.update(flag)
        disks.update(disk)
        offsets.update(offset)
        lengths.update(length)
        digests.update(digest)
        ids.update(their_ids)
        self._request_count += count

    def _add_released(self, sequences: bytes, results: bytes, digests: bytes) -> None:
        sequence, result, digest = self._released
        sequence.update(sequences)
        result.update(results)
        digest.update(digests)
        self._released_count += len(sequences) // 8

    def token(self, checkpoint: int, clock_ns: int, sequences: bytes, results: bytes, digests: bytes) -> None:
        released = len(sequences) // 8
        assert len(sequences) == len(results) == 8 * released and len(digests) in (0, 8 * released), (
            f"columns of {len(sequences)}, {len(results)} and {len(digests)} bytes"
        )
        # What the worker had done before it puts the token in its place among requests and notes.
        self._tokens.update(
            _TOKEN.pack(checkpoint, clock_ns, self._request_count, self._note_count, released)
        )
        if released:
            self._add_released(sequences, results, digests)
        self._token_count += 1

    def turns(
        self,
        checkpoint: int,
        turns: Turns,
        columns: Requests,
        first_id: int,
        released: tuple[bytes, bytes, bytes],
    ) -> None:
        count = len(turns)
        made, _, _, delivered = turns.totals
        rows = np.empty((count, 5), dtype="<u8")  # as `_TOKEN` packs them
        rows[:, 0] = np.arange(checkpoint, checkpoint + count)
        rows[:, 1] = turns.times[2]
        np.add(turns.sums[0], self._request_count, out=rows[:, 2], casting="unsafe")
        rows[:, 3] = self._note_count
        rows[:, 4] = turns.counts[2]
        self._tokens.update(rows.data)
        if made:
            self.requests(columns, made, first_id)
        self._add_released(*released)
        if delivered:
            self._any_delivered = True
            some = turns.counts[3].nonzero()[0]
            pairs = np.stack((some + (self._token_count + 1), turns.counts[3][some]), axis=1)
            self._delivered.update(pairs.astype("<u8").tobytes())
        self._token_count += count

    def passed(
        self,
        tokens: NDArray[np.uint64],
        delivered: NDArray[np.int64],
        columns: messages_pb2.Requests,
        ids: NDArray[np.uint64],
        released: tuple[bytes, bytes, bytes],
    ) -> None:
        # What was before these, as `_TOKEN` packs it.
        before = np.array((0, 0, self._request_count, self._note_count, 0), dtype="<u8")
        self._tokens.update((tokens + before).tobytes())
        self._add_requests(columns, len(ids), ids.tobytes())
        self._add_released(*released)
        for place in delivered.nonzero()[0].tolist():
            self._any_delivered = True
            self._delivered.update(_DELIVERED.pack(self._token_count + place + 1, int(delivered[place])))
        self._token_count += len(tokens)

    def delivered(self, count: int) -> None:
        self._any_delivered = True
        self._delivered.update(_DELIVERED.pack(self._token_count, count))

    def note(self, note: messages_pb2.Note) -> None:
        what = note.WhichOneof("what")
        if what == "log":
            self._note(b"l", note.log.encode())
        elif what == "captured":
            captured = note.captured
            self._note(b"c", captured.name.encode(), captured.pickled, bytes((captured.raised,)))
        elif what == "sent":
            sent = note.sent
            self._note(b"s", _LENGTH.pack(sent.to), _LENGTH.pack(sent.size), sent.digest)
        elif what == "barrier":
            self._note(b"b", note.barrier.encode())
        else:
            assert what == "outcome", f"a note of {what}"
            outcome = note.outcome
            self._note(
                b"o",
                outcome.digest,
                outcome.exception.encode(),
                outcome.text.encode(),
                bytes((outcome.raised,)),
            )

    def _note(self, what: bytes, *values: bytes) -> None:
        self._notes.update(_NOTE.pack(what, self._request_count))
        for value in values:
            # With its length: ("ab", "c") is not ("a", "bc").
            self._notes.update(_LENGTH.pack(len(value)))
            self._notes.update(value)
        self._note_count += 1

    def digest(self) -> bytes:
        counts = (self._request_count, self._token_count, self._note_count, self._released_count)
        columns = [*self._requests, *self._released, self._tokens, self._notes]
        if self._any_delivered:  # a run without messages has the digest that it had before there were any
            columns.append(self._delivered)
        return _COUNTS.pack(*counts) + b"".join(column.digest() for column in columns)


def digest_of_tape(reader: TapeReader) -> str:
    """The digest of the run on a tape: what its seal should say. Reads the whole tape.

    Raises what `TapeReader.blocks` raises; `reader.end` and `reader.seal` are set afterwards.
    """
    digest = RunDigest(reader.header.workers)
    queues: dict[int, _Queue] = {}
    for block in reader.blocks():
        for run in block.runs():
            if isinstance(run, RequestsRun):
                digest.requests(run.worker, run.columns, run.count, run.first_id)
            elif isinstance(run, CompletionsRun):
                queues.setdefault(run.worker, _Queue()).add(run.columns)
            elif isinstance(run, TokenRun):
                columns = queues.setdefault(run.worker, _Queue()).release(run)
                digest.token(run.worker, run.checkpoint, run.clock_ns, *columns, run.delivered)
            elif isinstance(run, NoteRun):
                digest.note(run.worker, run.note)
    return digest.hexdigest()


class _Queue:
    """One worker's completions that are not yet released, as columns: sequence, result, digest."""

    def __init__(self) -> None:
        self._columns = (bytearray(), bytearray(), bytearray())

    def add(self, columns: Completions) -> None:
        for column, part in zip(
            self._columns, (columns.sequence, columns.result, columns.digest), strict=True
        ):
            column += part

    def release(self, token: TokenRun) -> tuple[bytes, bytes, bytes]:
        sequences, results, digests = (_take(column, token) for column in self._columns)
        return sequences, results, digests


def _take(column: bytearray, token: TokenRun) -> bytes:
    """Takes the released rows out of the column, in the order of release."""
    if token.order is None:
        taken = bytes(column[: 8 * token.released])
        del column[: 8 * token.released]
        return taken
    rows = bytearray()
    if column:  # the column of digests may be absent
        for place in token.order:
            rows += column[8 * place : 8 * place + 8]
            del column[8 * place : 8 * place + 8]
    return bytes(rows)
