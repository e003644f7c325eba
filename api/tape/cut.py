"""`ringtape tape cut`: a stretch of a tape as a tape of its own.

A cut from the start is the tape as it would be had the recording been cut there: every frame before is taken as it
is, and it replays. Any other cut is a tape for looking into: its ids, sequence numbers, tokens and checkpoints count
anew, what is said of requests before it is left out, and its header says that it cannot be replayed. Neither is
sealed: the digest of a run is not that of a part. It holds a block and what is in flight.
"""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import (
    BlockView,
    CompletionsRun,
    Position,
    RequestsRun,
    TapeReader,
    TapeWriter,
    TokenRun,
    frames,
)
from ringtape.coordinator.tape.blocks import BlockBuilder
from ringtape.coordinator.tape.ledger import Ledger
from ringtape.coordinator.tape.packing import Packer
from ringtape.coordinator.tape.slices import slice_requests
from ringtape.coordinator.tape.tables import Shape, Tables
from ringtape.coordinator.tape.writer import SMALL_BLOCK_BYTES
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.proto.errors import TapeDamaged, TapeError
from ringtape.settings import UsageError
from ringtape.tape.opening import opened
from ringtape.tape.writing import OutputError, new_file

_COPY_BYTES = 1 << 20


def cut(path: str, output: str, *, first_id: int | None, last_id: int | None) -> str:
    """Write the stretch from one request to another, both included, to a new tape; returns what it has, in words.

    Raises TapeError: the tape has no such request, or cannot be read. Raises UsageError, OutputError, and TapeDamaged
    where the stretch goes beyond a damage, once what is before it is written.
    """
    if (first_id is None or first_id == 1) and last_id is None:
        raise UsageError("a cut needs where to begin or where to end: --from ID or --to ID")
    first = 1 if first_id is None else first_id
    if first < 1 or (last_id is not None and last_id < first):
        raise UsageError(f"there are no request ids from {first} to {last_id}")
    with opened(path, "cutting") as reader:
        header = _header(reader, path, first)
        if first == 1:
            count = _prefix(reader, header, output, last_id)
        else:
            count = _middle(reader, header, output, first, last_id)
    what = f"{output}: {count:,} requests, ids {first:,} to {first + count - 1:,} of {path}"
    return what + ("" if first == 1 else f", which are 1 to {count:,} there; it cannot be replayed")


def _header(reader: TapeReader, path: str, first_id: int) -> tape_pb2.Header:
    """The header, saying that it is of a cut; a cut of a cut says what both come to."""
    header = tape_pb2.Header()
    header.CopyFrom(reader.header)
    if not header.HasField("cut"):
        header.cut.of = os.path.abspath(path)
        header.cut.first_id = 1
    header.cut.first_id += first_id - 1
    # What the ranges of a disk held is of the whole run, which went on: part of it would put back part of a disk.
    for disk in header.disks:
        disk.undo = False
    return header


# ---- from the start


def _prefix(reader: TapeReader, header: tape_pb2.Header, output: str, last_id: int | None) -> int:
    """Whole blocks as they are, and the rows of the next up to the first request beyond."""
    assert last_id is not None, "a prefix of everything"
    encoder = frames.FrameEncoder()
    with new_file(output) as file:
        start = encoder.encode(frames.FrameType.HEADER, header.SerializeToString())
        file.write(frames.encode_file_header() + start)
        copied = whole = reader.first_block
        before = Ledger(header.workers)
        try:
            for ledger, view in reader.follow():
                if ledger.totals.requests > last_id:
                    _copy(reader, file, copied, view.offset)
                    file.write(_part(view, before, header, encoder, last_id))
                    return last_id
                before = ledger.copy()
                whole = view.offset + view.frame_bytes
                if whole - copied > _COPY_BYTES:
                    _copy(reader, file, copied, whole)
                    copied = whole
        except TapeDamaged:
            _copy(reader, file, copied, whole)
            raise
        raise TapeError(
            f"there is nothing to cut off: the last request id of the tape is {reader.totals.requests}"
        )


def _copy(reader: TapeReader, file: BinaryIO, start: int, stop: int) -> None:
    """Copies the frames from there to there, but for undo frames."""
    while start < stop:
        found = frames.skip_frame(reader.read, start, reader.file_bytes)
        assert found is not None, "the tape became shorter while it was read"
        type_, end = found[0], start + found[1]
        while type_ != frames.FrameType.UNDO and start < end:
            chunk = reader.read(min(end - start, _COPY_BYTES), start)
            assert chunk, "the tape became shorter while it was read"
            file.write(chunk)
            start += len(chunk)
        start = end


def _part(
    view: BlockView, before: Ledger, header: tape_pb2.Header, encoder: frames.FrameEncoder, last_id: int
) -> bytes:
    """The frame of the rows before the first request beyond; nothing where there are none."""
    shape = Shape.of(header)
    builder = BlockBuilder(view.tables.first_id, view.tables.first_token, shape.digests, shape.contents)
    for run in view.runs():
        if isinstance(run, RequestsRun):
            count = min(run.count, last_id + 1 - run.first_id)
            if count > 0:
                columns = slice_requests(run.columns, 0, count)
                builder.add_requests(run.worker, columns, count, run.at_ns)
            if count < run.count:
                break
        elif isinstance(run, CompletionsRun):
            builder.add_completions(run.worker, run.columns, run.count, run.at_ns)
        elif isinstance(run, TokenRun):
            builder.add_token(
                run.worker,
                run.clock_ns,
                run.deadline_ns,
                run.mode,
                run.released,
                run.order,
                run.at_ns,
                run.delivered,
            )
        else:
            builder.add_note(run.worker, run.note, run.at_ns)
    if not builder.rows:
        return b""
    tables = Tables.of(builder.finish(), shape)
    payload = Packer().pack(tables, before.before(tables.layout))
    return encoder.encode(frames.FrameType.PACKED, payload, compress=len(payload) < SMALL_BLOCK_BYTES)


# ---- from anywhere else


def _middle(
    reader: TapeReader, header: tape_pb2.Header, output: str, first_id: int, last_id: int | None
) -> int:
    """The rows from one request to another, told anew."""
    start = reader.seek(request_id=first_id)
    # The data itself stands in frames of their own before the stretch, by numbers that count from the start.
    header.data = min(header.data, messages_pb2.DATA_LEVEL_DIGEST)
    if os.path.lexists(output):
        raise OutputError(f"cannot write {output}: it exists already")
    try:
        with TapeWriter(output, header) as writer:
            stretch = _Stretch(writer, start, first_id, last_id)
            for view in reader.blocks(start):
                if not stretch.take(view):
                    return writer.request_count
            if last_id is not None and reader.totals.requests < last_id:
                raise TapeError(f"the last request id of the tape is {reader.totals.requests}, not {last_id}")
            return writer.request_count
    except TapeDamaged:
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(output)
        if isinstance(error, TapeError) and isinstance(error.__cause__, OSError):  # from the writer
            raise OutputError(f"cannot write {output}: {error.__cause__.strerror}") from None
        raise


class _Stretch:
    """Follows a tape from a block on and tells a writer what it says from the first request on."""

    def __init__(self, writer: TapeWriter, start: Position, first_id: int, last_id: int | None) -> None:
        self._writer = writer
        self._first_id, self._last_id = first_id, last_id
        self._begun = False
        # Of each worker: requests and completions before the stretch.
        self._requests = [int(count) for count in start.ledger.requests]
        self._completions = [int(count) for count in start.ledger.completions]
        # Of each worker: how many completions it has had by now, and which of those in the stretch are left out.
        self._completed = list(self._completions)
        self._left_out: list[list[int]] = [[] for _ in self._requests]
        # Of each worker: the requests that completed and wait to be released, the oldest first.
        self._waiting: list[list[int]] = [[] for _ in self._requests]

    def take(self, view: BlockView) -> bool:
        """One more block; whether there may be more of the stretch behind it."""
        completed, released = view.completed_ids, view.released_ids
        completions = releases = 0
        for run in view.runs():
            if isinstance(run, RequestsRun):
                if not self._requests_run(run):
                    return False
            elif isinstance(run, CompletionsRun):
                self._completions_run(run, completed[completions : completions + run.count])
                completions += run.count
            elif isinstance(run, TokenRun):
                self._token(run, released[releases : releases + run.released].tolist())
                releases += run.released
            elif self._begun:
                self._writer.note(run.worker, run.note, run.at_ns)
        return True

    def _requests_run(self, run: RequestsRun) -> bool:
        """Whether the stretch goes on after it."""
        skipped = 0
        if not self._begun:
            skipped = min(run.count, self._first_id - run.first_id)
            self._requests[run.worker] += skipped
            self._begun = skipped < run.count
        stop = run.count
        if self._last_id is not None:
            stop = min(stop, self._last_id + 1 - run.first_id)
        if skipped < stop:
            columns = slice_requests(run.columns, skipped, stop)
            columns.contents = b""
            columns.fsync_covers = self._covers(run.worker, columns.fsync_covers)
            self._writer.requests(run.worker, columns, stop - skipped, run.at_ns)
        return stop == run.count

    def _covers(self, worker: int, covers: bytes) -> bytes:
        """How many of the completions that fsyncs cover are in the stretch."""
        if not covers:
            return covers
        # More than has completed is nothing that a recording says, but a tape could.
        of_run = np.frombuffer(covers, dtype="<u8").clip(max=self._completed[worker]).astype(np.int64)
        left_out = np.searchsorted(np.array(self._left_out[worker], dtype=np.int64), of_run)
        in_stretch = np.maximum(of_run - self._completions[worker] - left_out, 0)
        covered: bytes = in_stretch.astype("<u8").tobytes()
        return covered

    def _completions_run(self, run: CompletionsRun, ids: NDArray[np.uint64]) -> None:
        worker, kept = run.worker, ids >= self._first_id
        number = self._completed[worker]
        self._completed[worker] += run.count
        if not self._begun:
            self._completions[worker] += run.count
            return
        self._left_out[worker] += (np.flatnonzero(~kept) + number).tolist()
        if not kept.any():
            return
        columns = run.columns
        sequence = np.frombuffer(columns.sequence, dtype="<u8")[kept] - np.uint64(self._requests[worker])
        wide = {name: np.frombuffer(getattr(columns, name), dtype="<u8") for name in ("result", "digest")}
        shown = messages_pb2.Completions(
            sequence=sequence.tobytes(),
            result=wide["result"][kept].tobytes(),
            digest=wide["digest"][kept].tobytes() if columns.digest else b"",
        )
        self._waiting[worker] += ids[kept].tolist()
        self._writer.completions(worker, shown, len(sequence), run.at_ns)

    def _token(self, run: TokenRun, ids: list[int]) -> None:
        if not self._begun:
            return
        queue = self._waiting[run.worker]
        kept = [id_ for id_ in ids if id_ >= self._first_id]
        order: list[int] | None = None
        if queue[: len(kept)] == kept:
            del queue[: len(kept)]
        else:
            order = []
            for id_ in kept:
                place = queue.index(id_)
                order.append(place)
                del queue[place]
        self._writer.token(
            run.worker,
            run.clock_ns,
            run.deadline_ns,
            run.mode,
            len(kept),
            order,
            run.at_ns,
            run.delivered,
        )
