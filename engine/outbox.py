"""What the worker has to tell, gathered in columns until it is sent as one batch.

It keeps the order of the program's own acts (requests and notes) and of the kernel's completions; it never drops one.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from operator import sub
from typing import TYPE_CHECKING, Any

from ringtape.engine.requests import Kind, Request
from ringtape.engine.sent import SentContents
from ringtape.proto import messages_pb2, wire_pb2

if TYPE_CHECKING:  # only where requests go by columns
    from numpy.typing import NDArray

# A batch is sent at the latest when it holds this many requests or completions; bounds a message to some 100 KiB.
BATCH_ROWS_MAX = 4096
# Notes carry captured values and log lines; a batch is sent at the latest when they come to this much.
BATCH_NOTE_BYTES_MAX = 1 << 20

_FSYNC = Kind.FSYNC

assert sys.byteorder == "little", "columns are little-endian and written as the machine has them"


class Outbox:
    """Columns of requests and completions, and the notes between them."""

    #: Is what is put here told to anybody?
    tells = True

    def __init__(self, *, digests: bool, contents: SentContents | None = None) -> None:
        #: Are digests of data told?
        self.digests = digests
        #: Where the data of reads and writes goes; None below data level full.
        self.contents = contents
        self._kind = bytearray()
        self._flags = bytearray()
        self._disk = array("H")
        self._offset = array("Q")
        self._length = array("Q")
        self._digest = array("Q")
        self._fsync_covers = array("Q")
        self._sequence = array("Q")
        self._result = array("q")
        self._completion_digest = array("Q")
        self._request_contents = array("Q")
        self._completion_contents = array("Q")
        # Rows that were made last: columns, the first and the last; not yet among the columns above.
        self._rows: tuple[Sequence[NDArray[Any]], int, int] | None = None
        # The disk of the reads whose offsets and lengths are the last of their columns, and nothing else is told yet.
        self._reads_of = -1
        self._notes: list[messages_pb2.Note] = []
        self._note_bytes = 0
        #: Is there something among it that other workers may wait for?
        self.urgent = False
        # Of each turn: how many requests, notes and completions there were by then, when its requests were handed over
        # and what the clock read (ns), its deadline (ns), its mode, and how much it released and delivered.
        self._turns: list[tuple[int, ...]] = []
        self._handed_over_ns: int | None = None

    def request(self, request: Request, completed: int) -> None:
        """The program made a request when `completed` of the worker's requests had completed."""
        if self._rows is not None or self._reads_of >= 0:
            self._take_rows()
        self._kind.append(request.kind)
        self._flags.append(request.flags)
        self._disk.append(request.disk)
        self._offset.append(request.offset)
        self._length.append(request.length)
        if self.digests:
            self._digest.append(request.digest)
        if self.contents is not None:
            self._request_contents.append(request.contents)
        if request.kind is _FSYNC:
            self._fsync_covers.append(completed)

    def read(self, disk: int, offset: int, length: int) -> None:
        """As `request`, of a read."""
        if disk != self._reads_of:
            self._take_rows()
            self._reads_of = disk
        self._offset.append(offset)
        self._length.append(length)

    def completion(self, request: Request, digest: int, contents: int = 0) -> None:
        """The kernel finished a request; `digest` and `contents` are of the data that a read returned."""
        self._sequence.append(request.sequence)
        self._result.append(request.result)
        if self.digests:
            self._completion_digest.append(digest)
        if self.contents is not None:
            self._completion_contents.append(contents)

    def request_rows(self, told: Sequence[NDArray[Any]], first: int, last: int) -> None:
        """As `request`, of many reads and writes: these rows of columns that do not change any more."""
        if self._reads_of >= 0:
            self._take_rows()
        if self._rows is not None:
            if self._rows[0] is told and self._rows[2] == first:
                first = self._rows[1]
            else:
                self._take_rows()
        self._rows = told, first, last

    def request_digests(self, digests: Sequence[int], contents: Sequence[int]) -> None:
        """The digests of what the rows told last write, and numbers of contents; columns without are of reads."""
        self._digest.extend(digests)
        if self.contents is not None:
            self._request_contents.extend(contents)

    def _take_rows(self) -> None:
        """Let the columns have the rows that were told; they may have their digests already."""
        if self._reads_of >= 0:
            self._take_reads()
        if self._rows is None:
            return
        (told, first, last), self._rows = self._rows, None
        kinds, flags, disks, offsets, lengths = (column[first:last].tobytes() for column in told)
        self._kind += kinds
        self._flags += flags
        self._disk.frombytes(disks)
        self._offset.frombytes(offsets)
        self._length.frombytes(lengths)
        if self.digests and len(self._digest) < len(self._kind):
            zeros = bytes(8 * (last - first))
            self._digest.frombytes(zeros)
            if self.contents is not None:
                self._request_contents.frombytes(zeros)

    def _take_reads(self) -> None:
        """Let the other columns have what the reads that were told last have in common."""
        count = len(self._offset) - len(self._kind)
        self._kind += bytes((Kind.READ,)) * count
        self._flags += bytes(count)
        self._disk.frombytes(self._reads_of.to_bytes(2, "little") * count)
        if self.digests:
            self._digest.frombytes(bytes(8 * count))
            if self.contents is not None:
                self._request_contents.frombytes(bytes(8 * count))
        self._reads_of = -1

    @property
    def made(self) -> int:
        """How many requests it holds."""
        rows = self._rows
        return len(self._offset) if rows is None else len(self._offset) + rows[2] - rows[1]

    def request_bytes(self) -> tuple[bytes, ...]:
        """The columns of the requests that it holds: kinds, flags, disks, offsets, lengths, digests."""
        self._take_rows()
        columns = self._disk, self._offset, self._length, self._digest
        return bytes(self._kind), bytes(self._flags), *(column.tobytes() for column in columns)

    def forget_requests(self) -> None:
        """Nobody has to be told of the requests that it holds."""
        self._rows = None
        self._reads_of = -1
        self._kind.clear()
        self._flags.clear()
        columns = self._disk, self._offset, self._length, self._digest, self._fsync_covers
        for column in (*columns, self._request_contents):
            del column[:]

    @property
    def has_notes(self) -> bool:
        """Does it hold a note?"""
        return bool(self._notes)

    def completion_columns(self, sequences: bytes, results: bytes) -> None:
        """As `completion`, of many; `completion_digests` follows where digests are told."""
        self._sequence.frombytes(sequences)
        self._result.frombytes(results)

    def completion_digests(self, digests: Sequence[int], contents: Sequence[int]) -> None:
        """The digests of what the requests told last have read, and numbers of contents."""
        self._completion_digest.extend(digests)
        if self.contents is not None:
            self._completion_contents.extend(contents)

    def note(self, note: messages_pb2.Note) -> None:
        """The program did something other than a request."""
        note.after_requests = self.made
        self._notes.append(note)
        self._note_bytes += note.ByteSize()
        if note.WhichOneof("what") in ("sent", "barrier"):
            self.urgent = True

    @property
    def empty(self) -> bool:
        """Is there nothing to tell?"""
        return not (self._rows or self._offset or self._sequence or self._notes or self._turns)

    def turn(self, now_ns: int, *, deadline_ns: int, mode: int, released: int, delivered: int) -> int:
        """A leased worker released completions on its own: what comes from now on comes after that.

        Returns how many requests and completions there are.
        """
        handed_over_ns = now_ns if self._handed_over_ns is None else self._handed_over_ns
        self._handed_over_ns = None
        made, notes, completions = self.made, len(self._notes), len(self._sequence)
        self._turns.append(
            (made, notes, completions, handed_over_ns, now_ns, deadline_ns, mode, released, delivered)
        )
        return made + completions

    @property
    def full(self) -> bool:
        """Has it grown to where it should be sent?"""
        return (
            self.made >= BATCH_ROWS_MAX
            or len(self._sequence) >= BATCH_ROWS_MAX
            or self._note_bytes >= BATCH_NOTE_BYTES_MAX
        )

    def stamp(self, now_ns: int) -> None:
        """The requests gathered so far have been handed to the kernel at this moment."""
        self._handed_over_ns = now_ns

    def take(self, now_ns: int) -> wire_pb2.Batch:
        """Everything gathered, as a batch of this moment; the outbox is empty afterwards."""
        batch = wire_pb2.Batch()
        self._take_rows()
        if self._turns:
            _fill_turns(batch.turns, self._turns)
            self._turns.clear()
        if self.contents is not None:
            self.contents.take(batch)
            batch.requests.contents = self._request_contents.tobytes()
            batch.completions.contents = self._completion_contents.tobytes()
            del self._request_contents[:]
            del self._completion_contents[:]
        if self._kind:
            requests = batch.requests
            requests.kind = bytes(self._kind)
            requests.flags = bytes(self._flags)
            requests.disk = self._disk.tobytes()
            requests.offset = self._offset.tobytes()
            requests.length = self._length.tobytes()
            requests.digest = self._digest.tobytes()
            requests.fsync_covers = self._fsync_covers.tobytes()
            batch.requests_ns = now_ns if self._handed_over_ns is None else self._handed_over_ns
            self._kind.clear()
            self._flags.clear()
            for column in (self._disk, self._offset, self._length, self._digest, self._fsync_covers):
                del column[:]
        if self._sequence:
            completions = batch.completions
            completions.sequence = self._sequence.tobytes()
            completions.result = self._result.tobytes()
            completions.digest = self._completion_digest.tobytes()
            batch.completions_ns = now_ns
            for column in (self._sequence, self._result, self._completion_digest):
                del column[:]
        self._handed_over_ns = None
        if self._notes:
            batch.notes.extend(self._notes)
            self._notes = []
            self._note_bytes = 0
            self.urgent = False
        return batch


def _fill_turns(message: wire_pb2.Turns, turns: list[tuple[int, ...]]) -> None:
    requests, notes, completions, requests_ns, now_ns, deadline_ns, mode, released, delivered = zip(
        *turns, strict=True
    )
    message.requests, message.notes, message.completions = map(_growth, (requests, notes, completions))
    message.requests_ns = array("Q", requests_ns).tobytes()
    message.completions_ns = message.clock_ns = array("Q", now_ns).tobytes()
    message.deadline_ns = array("Q", deadline_ns).tobytes()
    message.mode = bytes(mode)
    message.released = array("I", released).tobytes()
    message.delivered = array("I", delivered).tobytes()


def _growth(counts: tuple[int, ...]) -> bytes:
    """By how much each is more than the one before, the first than none: a u32 column."""
    return array("I", map(sub, counts, (0, *counts))).tobytes()


class NoOutbox(Outbox):
    """Of a plain run, which tells nothing."""

    tells = False

    def __init__(self) -> None:
        super().__init__(digests=False)

    def request(self, request: Request, completed: int) -> None:
        """Nobody asks."""

    def completion(self, request: Request, digest: int, contents: int = 0) -> None:
        """Nobody asks."""
