"""Writes a tape, block by block, as a stream.

Responsible for the file: that no other file is overwritten, that no second run writes it, that each block reaches
it whole or not at all, and that an error of the file system leaves everything before it readable. It never holds
more than one block, what is in flight and an index of bounded size, and never reads what it wrote.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, NoReturn, Self, TypeAlias

from ringtape.coordinator.tape import frames
from ringtape.coordinator.tape.blocks import BlockBuilder
from ringtape.coordinator.tape.contents import ContentsBuilder
from ringtape.coordinator.tape.faults import FaultScan
from ringtape.coordinator.tape.index import IndexBuilder
from ringtape.coordinator.tape.ledger import Ledger
from ringtape.coordinator.tape.opening import open_to_write
from ringtape.coordinator.tape.packing import Packer
from ringtape.coordinator.tape.slices import (
    CompletionColumns,
    Completions,
    RequestColumns,
    Requests,
    completion_columns,
    request_columns,
)
from ringtape.coordinator.tape.tables import Shape, Tables, check_header, check_seal
from ringtape.coordinator.tape.turns import Turns
from ringtape.coordinator.tape.undo import UndoFrames
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeError

BLOCK_ROWS_MAX = 16384  # a block takes the coordinator some milliseconds
BLOCK_BYTES_MAX = 4 << 20  # before compression; a single note or token may be longer
FLUSH_AFTER_NS = 100_000_000  # how much of the run a kill may take away
# Below, the lengths and headers within a packed block are worth another compression.
SMALL_BLOCK_BYTES = 8192
_PARTS_MAX = 1024  # of one call, by the kernel
NOTE_BYTES_MAX = frames.RAW_BYTES_MAX - 4096  # it has to fit a frame, with the block around it

Sync: TypeAlias = Literal["none", "block", "checkpoint"]

_NOTE_WORDS = {
    "log": "a log line",
    "captured": "a captured value",
    "outcome": "an exception",
    "barrier": "a barrier",
}


class TapeWriter:
    """A TapeSink on a file.

    Ends with `seal`, `close`, or the TapeError of a write that failed; after that error the file is closed,
    holds whole frames only, and every call but `close` raises the same error again. One thread uses it.
    """

    def __init__(self, path: str | os.PathLike[str], header: tape_pb2.Header, *, sync: Sync = "none") -> None:
        """Opens the file, or makes it, and leaves what is in it until `begin` or the first write.

        `sync` says what survives a power failure. "none": what the kernel has written by then, and all of a sealed
        tape. "block": every block, once it is written. "checkpoint": every token, before `token` returns.

        Raises TapeError: the path is something other than a file or a tape, its folder is missing, permission is
        denied, or another process writes or reads the tape.
        """
        assert sync in ("none", "block", "checkpoint"), f"a sync of {sync!r}"
        self._path = os.fspath(path)
        self._sync = sync
        with _ours(f"the header for {self._path}"):
            check_header(header)
        self._shape = Shape.of(header)
        self._encoder = frames.FrameEncoder()
        self._packer = Packer()
        self._ledger = Ledger(self._shape.workers)
        self._contents = ContentsBuilder()
        self._block_end = 0  # where the last block ends in the file
        self._index = IndexBuilder()
        self._faults = FaultScan()
        self._blocks = 0
        self._failure: TapeError | None = None
        self._whole_bytes = 0
        self._whole_requests = 0
        self._requests_before = 0  # of the block that grows
        self._tokens_before = 0
        self.completion_count = 0
        self._block = self._next_block()
        payload = header.SerializeToString()
        self._undo = UndoFrames(self._encoder, payload, self._shape.undo_blocks)
        first_frame = self._encoder.encode(frames.FrameType.HEADER, payload)
        self._begins_with = frames.encode_file_header() + first_frame
        self._made = not os.path.lexists(self._path)
        self._file = open_to_write(self._path)

    def begin(self) -> None:
        """Starts the file anew with the header, unless that has happened. From here on the old tape is gone."""
        if self._begins_with:
            begins_with, self._begins_with = self._begins_with, b""
            with contextlib.suppress(OSError):  # what is not a file cannot be cut
                os.ftruncate(self._file.fileno(), 0)
            self._write(begins_with)

    def abandon(self) -> None:
        """The run has not begun and will not: leaves the file as it is, or removes it if it was made here."""
        if self._failure is not None:
            return  # it could not even take the header, and is closed
        if self._made:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._file.close()

    @property
    def request_count(self) -> int:
        """Requests so far, written to the file or not."""
        return self._requests_before + self._block.requests

    @property
    def token_count(self) -> int:
        """Tokens so far, written to the file or not."""
        return self._tokens_before + self._block.tokens

    def content(self, data: bytes | memoryview) -> int:
        """See TapeSink."""
        self._check_open()
        assert self._shape.contents, "contents at a level that keeps none"
        number = self._contents.add(data)
        if self._contents.full:
            self._write_contents()
        return number

    def requests(self, worker: int, columns: Requests, count: int, at_ns: int) -> None:
        """See TapeSink."""
        self._check_open()
        block = self._block
        if 0 < count < BLOCK_ROWS_MAX - block.rows:  # nearly always: it fits and does not fill the block
            block.add_requests(worker, columns, count, at_ns)
            if block.raw_bytes >= BLOCK_BYTES_MAX:
                self.flush()
            return
        start = 0
        while start < count:
            stop = min(count, start + BLOCK_ROWS_MAX - self._block.rows)
            part = request_columns(columns).between(start, stop)
            self._block.add_requests(worker, part, stop - start, at_ns)
            self._close_full_block()
            start = stop

    def completions(self, worker: int, columns: Completions, count: int, at_ns: int) -> None:
        """See TapeSink."""
        self._check_open()
        block = self._block
        if 0 < count < BLOCK_ROWS_MAX - block.rows:  # nearly always: it fits and does not fill the block
            block.add_completions(worker, columns, count, at_ns)
            self.completion_count += count
            if block.raw_bytes >= BLOCK_BYTES_MAX:
                self.flush()
            return
        start = 0
        while start < count:
            stop = min(count, start + BLOCK_ROWS_MAX - self._block.rows)
            part = completion_columns(columns).between(start, stop)
            self._block.add_completions(worker, part, stop - start, at_ns)
            self.completion_count += stop - start
            self._close_full_block()
            start = stop

    def token(
        self,
        worker: int,
        clock_ns: int,
        deadline_ns: int,
        mode: int,
        released: int,
        order: Sequence[int] | None,
        at_ns: int,
        delivered: int = 0,
    ) -> None:
        """See TapeSink."""
        self._check_open()
        self._make_room(self._block.token_bytes(released, order is not None and any(order)))
        self._block.add_token(worker, clock_ns, deadline_ns, mode, released, order, at_ns, delivered)
        if self._sync == "checkpoint":
            self.flush()
        else:
            self._close_full_block()

    def turns(self, worker: int, turns: Turns, requests: Requests, completions: Completions) -> None:
        """See TapeSink."""
        self._check_open()
        requests, completions = request_columns(requests), completion_columns(completions)
        while len(turns):
            fit = self._turns_that_fit(turns)
            some = turns.between(0, fit or 1)
            made, came, _, _ = some.totals
            if fit:
                self._block.add_turns(worker, some, requests.between(0, made), completions.between(0, came))
                self.completion_count += came
            else:
                self._turn_by_itself(worker, some, requests.between(0, made), completions.between(0, came))
            if len(some) == len(turns):
                return
            turns = turns.between(len(some), len(turns))
            requests = requests.between(made, len(requests.kind))
            completions = completions.between(came, len(completions.sequence) // 8)

    def _turns_that_fit(self, turns: Turns) -> int:
        """How many of the turns, the first, do not fill the block."""
        if self._sync == "checkpoint":
            return 0
        return self._block.turns_that_fit(turns, rows_max=BLOCK_ROWS_MAX, bytes_max=BLOCK_BYTES_MAX)

    def _turn_by_itself(
        self, worker: int, turn: Turns, requests: RequestColumns, completions: CompletionColumns
    ) -> None:
        made, came, released, delivered = turn.totals
        requests_ns, completions_ns, clock_ns, deadline_ns = turn.times[:, 0].tolist()
        self.requests(worker, requests, made, requests_ns)
        self.completions(worker, completions, came, completions_ns)
        self.token(worker, clock_ns, deadline_ns, int(turn.mode[0]), released, None, clock_ns, delivered)

    def note(self, worker: int, note: messages_pb2.Note, at_ns: int) -> None:
        """See TapeSink. A note that is too long raises TapeError and is not kept; the tape can go on."""
        self._check_open()
        note_bytes = self._block.note_bytes(note)
        if note_bytes > NOTE_BYTES_MAX:
            what = _NOTE_WORDS[note.WhichOneof("what") or "log"]
            raise TapeError(
                f"worker {worker} made {what} of {note_bytes} bytes;"
                f" the tape {self._path} takes at most {NOTE_BYTES_MAX} in one piece"
            )
        self._make_room(note_bytes)
        self._block.add_note(worker, note, at_ns)
        self._close_full_block()

    def undo(self, disk: int, offset: int, data: bytes) -> None:
        """See TapeSink. It does not wait for the block that grows: it is in the file, ahead of that."""
        self._check_open()
        with _ours(f"what disk {disk} held, for {self._path}"):
            frame = self._undo.encode(disk, offset, data)
        self._write(frame)
        if self._sync != "none":
            self._synced(os.fdatasync, "what it has so far may not survive a power failure")

    def flush_due(self, now_ns: int) -> None:
        """Writes the block that grows if its first row is FLUSH_AFTER_NS old."""
        if self._block.rows and now_ns >= self._block.first_row_ns + FLUSH_AFTER_NS:
            self.flush()

    def next_flush_ns(self) -> int | None:
        """When the block that grows is to be written, since the start of the run; None when it has no rows."""
        return self._block.first_row_ns + FLUSH_AFTER_NS if self._block.rows else None

    def flush(self) -> None:
        """Writes the block that grows, if it has rows. TapeError when the file system refuses."""
        self._check_open()
        builder = self._block
        if not self._contents.empty:
            self._write_contents()
        if not builder.rows:
            return
        frame = self._encode(builder.finish())
        self._requests_before += builder.requests
        self._tokens_before += builder.tokens
        self._block = self._next_block()
        self._write(frame)
        self._block_end = self._whole_bytes
        if self._sync != "none":
            self._synced(os.fdatasync, "what it has so far may not survive a power failure")
        self._whole_requests = self._requests_before

    def seal(self, seal: tape_pb2.Seal) -> None:
        """Writes what waits and the seal, with the counts filled in, waits for the device and closes the file."""
        with _ours(f"the seal for {self._path}"):
            check_seal(seal, self._shape.disks)
        self.flush()
        sealed = tape_pb2.Seal()
        sealed.CopyFrom(seal)
        sealed.requests, sealed.completions, sealed.tokens = (
            self.request_count,
            self.completion_count,
            self.token_count,
        )
        sealed.faults, sealed.undos = self._faults.count, self._undo.count
        sealed.contents = self._contents.count
        index = self._index.finish()
        if index is not None:
            sealed.snapshots, sealed.index_offset = len(index.snapshots), self._whole_bytes
            self._write(self._encoder.encode(frames.FrameType.INDEX, index.SerializeToString()))
        self._write(self._encoder.encode(frames.FrameType.SEAL, sealed.SerializeToString()))
        self._synced(os.fsync, "it may not survive a power failure")
        try:
            self._file.close()
        except OSError as error:
            self._fail(error, "it may not survive a power failure")

    def close(self) -> None:
        """Writes what waits, without a seal, and closes the file. Does nothing where that has happened."""
        if self._file.closed:
            return
        try:
            self.begin()
            self.flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_block(self) -> BlockBuilder:
        shape = self._shape
        return BlockBuilder(self._requests_before + 1, self._tokens_before + 1, shape.digests, shape.contents)

    def _encode(self, block: tape_pb2.Block) -> bytes:
        """The block's frame. Written once and read for years: what the reader would refuse ends the tape here."""
        try:
            with _ours(f"the block for {self._path}"):
                tables = Tables.of(block, self._shape)
                before = self._ledger.before(tables.layout)
                self._blocks += 1
                self.begin()
                # Up to here the ledger knows of the contents before the end of the last block.
                self._index.block(self._block_end, self._blocks, self._ledger)
                self._ledger.contents = self._contents.count
                self._faults.take(tables, self._ledger.take(tables).completed_ids)
                payload = self._packer.pack(tables, before)
            return self._encoder.encode(
                frames.FrameType.PACKED, payload, compress=len(payload) < SMALL_BLOCK_BYTES
            )
        except AssertionError:
            self._file.close()
            raise
        except TapeError as error:
            self._file.close()
            self._failure = error
            raise

    def _write_contents(self) -> None:
        self._write(*self._contents.take(self._encoder))

    def _make_room(self, bytes_: int) -> None:
        if self._block.raw_bytes + bytes_ > BLOCK_BYTES_MAX:
            self.flush()

    def _close_full_block(self) -> None:
        if self._block.rows >= BLOCK_ROWS_MAX or self._block.raw_bytes >= BLOCK_BYTES_MAX:
            self.flush()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        assert not self._file.closed, f"the tape {self._path} has ended"

    def _write(self, *parts: bytes | memoryview) -> None:
        """One write for the whole frame; more only where the file system takes a part of it."""
        self.begin()
        if len(parts) > _PARTS_MAX:
            parts = (b"".join(parts),)
        frame_bytes = sum(map(len, parts))
        try:
            written = os.writev(self._file.fileno(), parts)
            if written < frame_bytes:
                frame = b"".join(parts)
                while written < frame_bytes:
                    written += self._file.write(frame[written:])
        except OSError as error:
            self._fail(error, f"its first {self._whole_requests} requests are whole")
        self._whole_bytes += frame_bytes

    def _synced(self, sync: Callable[[int], None], consequence: str) -> None:
        try:
            sync(self._file.fileno())
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # what is not a file cannot be synced
                self._fail(error, consequence)

    def _fail(self, error: OSError, consequence: str) -> NoReturn:
        # A part of a frame at the end would only be reported as damage, and takes room on a full disk.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file.fileno(), self._whole_bytes)
        with contextlib.suppress(OSError):
            self._file.close()
        reason = os.strerror(error.errno or errno.EIO)
        self._failure = TapeError(
            f"{reason[0].lower()}{reason[1:]} while writing {self._path}; {consequence}"
        )
        raise self._failure from error


@contextlib.contextmanager
def _ours(what: str) -> Iterator[None]:
    """A Problem in what we are about to write is a mistake of ours, not of the file's."""
    try:
        yield
    except frames.Limit as problem:
        raise TapeError(f"{what} would be more than a tape may hold: {problem}") from None
    except frames.Problem as problem:
        raise AssertionError(f"{what} does not hold together: {problem}") from problem
