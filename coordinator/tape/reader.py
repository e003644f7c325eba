"""Reads a tape, block by block, as a stream.

Responsible for the file: what it is, where it ends and why, and where the first thing is that does not hold
together. It never gives out a row that was not checked, never raises anything but TapeError (TapeDamaged for
contents) whatever the file holds, and never keeps more than one block and what is in flight.
"""

import contextlib
import enum
import errno
import fcntl
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from google.protobuf.message import Message

from ringtape.coordinator.tape import frames
from ringtape.coordinator.tape.contents import TapeContents
from ringtape.coordinator.tape.frames import CutShort, FrameType, Problem
from ringtape.coordinator.tape.index import ledger_of
from ringtape.coordinator.tape.layout import Before
from ringtape.coordinator.tape.ledger import Ledger, Totals
from ringtape.coordinator.tape.packing import unpack_block
from ringtape.coordinator.tape.runs import BlockView
from ringtape.coordinator.tape.tables import Shape, Tables, check_header, check_seal, parse
from ringtape.coordinator.tape.undo import UNDO_SINCE, UndoScan, check_undo
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeDamaged, TapeError

SEAL_BYTES_MAX = (
    1 << 16
)  # of a seal that is looked for at the end of the file; a longer one is found the long way
_MAGIC = frames.FRAME_MAGIC.to_bytes(4, "little")
_MessageT = TypeVar("_MessageT", bound=Message)


class TapeEnd(enum.Enum):
    """How a tape ends."""

    SEALED = "sealed"
    UNSEALED = "unsealed"  # after a whole frame, without a seal: the recording was cut
    DAMAGED = "damaged"


class TapeDamagedAt(TapeDamaged):
    """Where a tape stops holding together. What the reader gave out before is whole.

    `problem` is what does not hold, as one clause; `offset` the byte at which the damaged frame begins; `block` the
    number (from 1) of the block that is damaged, or would begin there, 0 being the header; `requests_whole` the id of
    the last whole request.
    """

    def __init__(self, path: str, problem: str, *, offset: int, block: int, requests_whole: int) -> None:
        what = f"block {block}" if block else "the header"
        super().__init__(
            f"{path} is damaged at byte {offset} ({what}): {problem}; its first {requests_whole} requests are whole"
        )
        self.problem = problem
        self.offset = offset
        self.block = block
        self.requests_whole = requests_whole


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read on for a block, and what came before it. From `TapeReader.seek`, for that reader.

    `offset` is the byte after the block before it; `block` is the block's number, from 1; `totals` what is before it.
    """

    offset: int
    block: int
    ledger: Ledger

    @property
    def totals(self) -> Totals:
        """How many rows are before it."""
        return self.ledger.totals


class TapeReader:
    """A tape that is there to be read. `open` makes one; close it, or use it in a `with`.

    A reader keeps runs from writing the tape anew while it is open. `being_written` says that a run was writing it
    when it was opened: its end is then only the end so far.
    """

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Opens a tape and reads its header.

        Raises TapeError: there is no such file, it is something else than a file, permission is denied, it is
        empty, not a tape, or made by a newer ringtape. Raises TapeDamagedAt when its header is cut or damaged.
        """
        return cls(os.fspath(path))

    def __init__(self, path: str) -> None:
        self._path = path
        self._file, self.being_written = _open(path)
        self.seal: tape_pb2.Seal | None = None
        self.end: TapeEnd | None = None  # None until `blocks` has come to the end
        self._snapshots: int | None = None  # of the index, once it has come by
        self._totals = Totals(0, 0, 0)
        #: Should `blocks` look into undo frames? Else it holds their checksums and passes over them.
        self.checks_undo = False
        self._last_undo = 0
        try:
            self.file_bytes = os.fstat(self._file.fileno()).st_size
            self.version = self._read_file_header()
            self.header, self.first_block = self._read_header()
        except BaseException:
            self._file.close()
            raise
        self._shape = Shape.of(self.header)
        #: The data of its reads and writes, at DATA_LEVEL_FULL.
        self.contents = TapeContents(self.read, self.first_block)

    @property
    def totals(self) -> Totals:
        """Rows in the blocks that `blocks` has given out."""
        return self._totals

    def blocks(self, start: Position | None = None) -> Iterator[BlockView]:
        """The blocks, in order, from `start` or the first. May be called again; one iteration at a time.

        When it has come to the end, `end` says how the tape ends and `seal` holds the seal, if there is one.
        Raises TapeDamagedAt at the first damage, after every whole block before it was given out, and TapeError
        when the file cannot be read.
        """
        for _, view in self.follow(start):
            yield view

    def seek(
        self, *, request_id: int | None = None, worker: int | None = None, checkpoint: int | None = None
    ) -> Position:
        """The block that holds the request, or the token for that checkpoint of the worker, for `blocks`.

        Only the end of the file, the index and the few blocks since its last snapshot before are read, however long the
        tape is; all before the block where there is no index. Raises TapeError: the tape has no such request or token.
        Raises what `blocks` raises.
        """
        if request_id is not None:
            assert worker is checkpoint is None, "a request or a checkpoint, not both"
            wanted, what = request_id, f"request {request_id}"
        else:
            assert worker is not None and checkpoint is not None, "a worker and its checkpoint"
            wanted, what = checkpoint, f"checkpoint {checkpoint} of worker {worker}"

        def done(ledger: Ledger) -> int:
            if worker is None:
                return ledger.totals.requests
            return int(ledger.tokens[worker])

        missing = TapeError(f"{self._path} has no {what}")
        if wanted < 1 or (worker is not None and not 0 <= worker < self._shape.workers):
            raise missing
        start = None
        for position in self._positions():
            if done(position.ledger) < wanted:
                start = position
        before = Position(self.first_block, 1, Ledger(self._shape.workers)) if start is None else start
        for ledger, view in self.follow(start):
            if done(ledger) >= wanted:
                return before
            end = view.offset + view.frame_bytes
            before = Position(end, view.number + 1, ledger.copy())
        raise missing

    def find_seal(self) -> tape_pb2.Seal | None:
        """The seal, found without reading the blocks before it; None where there is none or the way is damaged."""
        frame = self._last_seal() or self._find(FrameType.SEAL)
        return None if frame is None else _parsed(frame, tape_pb2.Seal())

    def find_index(self) -> tape_pb2.Index | None:
        """The index, found without reading the blocks before it; None where there is none or the way is damaged."""
        if self.version < 2:
            return None
        last = self._last_seal()
        seal = None if last is None else _parsed(last, tape_pb2.Seal())
        if seal is not None and seal.index_offset:
            frame = self._frame_at(seal.index_offset)
            if frame is not None and frame.type == FrameType.INDEX:
                return _parsed(frame, tape_pb2.Index())
        frame = self._find(FrameType.INDEX)
        return None if frame is None else _parsed(frame, tape_pb2.Index())

    def _last_seal(self) -> frames.Frame | None:
        """The seal by the last bytes of the file, if they have it: the outermost that ends where the file does."""
        start = max(self.first_block, self.file_bytes - SEAL_BYTES_MAX)
        tail = self.read(self.file_bytes - start, start)
        at = tail.find(_MAGIC)
        while at >= 0:
            found = frames.skip_frame(self.read, start + at, self.file_bytes)
            if found == (FrameType.SEAL, len(tail) - at):
                frame = self._frame_at(start + at)
                if frame is not None:
                    return frame
            at = tail.find(_MAGIC, at + 1)
        return None

    def _frame_at(self, offset: int) -> frames.Frame | None:
        try:
            return frames.read_frame(self.read, offset, self.file_bytes)
        except Problem:
            return None

    def _find(self, wanted: FrameType) -> frames.Frame | None:
        """The first frame of that type, by the headers of all before it."""
        offset = self.first_block
        while (found := frames.skip_frame(self.read, offset, self.file_bytes)) is not None:
            type_, frame_bytes = found
            if type_ == wanted:
                return self._frame_at(offset)
            offset += frame_bytes
        return None

    def _positions(self) -> Iterator[Position]:
        """Those of the index, as far as it can be understood."""
        for snapshot in getattr(self.find_index(), "snapshots", ()):
            if not self.first_block < snapshot.offset < self.file_bytes or snapshot.block < 2:
                return
            try:
                yield Position(snapshot.offset, snapshot.block, ledger_of(snapshot, self._shape.workers))
            except Problem:
                return

    def follow(self, start: Position | None = None) -> Iterator[tuple[Ledger, BlockView]]:
        """Like `blocks`, each with the ledger after it, which goes on with the next."""
        self.seal, self.end, self._snapshots = None, None, None
        self.file_bytes = os.fstat(self._file.fileno()).st_size
        ledger, number, offset = Ledger(self._shape.workers), 1, self.first_block
        if start is not None:
            ledger, number, offset = start.ledger.copy(), start.block, start.offset
        self._totals = ledger.totals
        self._last_undo = 0
        while True:
            try:
                frame = frames.read_frame(self.read, offset, self.file_bytes)
                if frame is None:
                    self.end = TapeEnd.UNSEALED
                    return
                view = self._take(frame, ledger, number, offset)
            except Problem as problem:
                if isinstance(problem, CutShort) and self.being_written:
                    # The rest of it is on its way.
                    self.file_bytes, self.end = offset, TapeEnd.UNSEALED
                    return
                self.end = TapeEnd.DAMAGED
                raise self.damaged(problem, offset, number) from None
            offset += frame.frame_bytes
            if view is not None:
                self._totals = ledger.totals
                number += 1
                yield ledger, view
            if self.seal is not None:
                self.end = TapeEnd.SEALED
                return

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._path

    def undo_ranges(self, scan: UndoScan) -> Iterator[tuple[int, tape_pb2.Undo]]:
        """Every undo frame that is whole, after damage too, in their order in the file, and where its frame begins.

        Raises TapeError when the file cannot be read; `scan` says what is damaged and missing.
        """
        if self.version < UNDO_SINCE:
            return
        self.file_bytes = os.fstat(self._file.fileno()).st_size
        yield from scan.ranges(
            self.read, self.first_block, self.file_bytes, self._header_payload, self._shape.undo_blocks
        )

    def undo_at(self, offset: int) -> tape_pb2.Undo:
        """The undo frame that begins there, as `undo_ranges` found it. TapeError when it is not there any more."""
        try:
            frame = frames.read_frame(self.read, offset, self.file_bytes)
            assert frame is not None
            return parse(frames.unpack(frame), tape_pb2.Undo())
        except Problem as problem:
            raise TapeError(f"{self._path} changed while it was read: {problem}") from None

    def close(self) -> None:
        """Closes the file. Blocks given out before stay readable."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take(self, frame: frames.Frame, ledger: Ledger, number: int, offset: int) -> BlockView | None:
        """What the frame holds: a block, or the seal, which is kept, or something to skip."""
        if frame.type == FrameType.BLOCK or (frame.type == FrameType.PACKED and self.version > 1):
            if self._snapshots is not None:
                raise Problem("it is a block after the index")
            tables, before = self.tables_of(frame)
            return BlockView(number, offset, frame.frame_bytes, tables, ledger.take(tables, before))
        if frame.type == FrameType.CONTENTS and self.version > 2:
            if not self._shape.contents:
                raise Problem("it has contents, and its header names a data level that keeps none")
            ledger.contents += self.contents.take(frame, offset, ledger.contents + 1)
        if frame.type == FrameType.INDEX and self.version > 1:
            if self._snapshots is not None:
                raise Problem("it has a second index")
            self._snapshots = len(parse(frames.unpack(frame), tape_pb2.Index()).snapshots)
        if frame.type == FrameType.SEAL:
            seal = parse(frames.unpack(frame), tape_pb2.Seal())
            check_seal(seal, self._shape.disks)
            if (seal.requests, seal.completions, seal.tokens) != ledger.totals:
                raise Problem(
                    f"its seal counts {seal.requests} requests, {seal.completions} completions and {seal.tokens}"
                    f" tokens, and its blocks hold {', '.join(map(str, ledger.totals))}"
                )
            if self.checks_undo and seal.undos != self._last_undo:
                raise Problem(f"its seal counts {seal.undos} undo frames, and it has {self._last_undo}")
            if seal.contents != ledger.contents:
                raise Problem(f"its seal counts {seal.contents} contents, and it holds {ledger.contents}")
            if seal.snapshots and seal.snapshots != self._snapshots:
                raise Problem(f"its index is missing, which should have {seal.snapshots} snapshots")
            if offset + frame.frame_bytes != self.file_bytes:
                raise Problem("there is more after its seal")
            self.seal = seal
        if frame.type == FrameType.HEADER:
            raise Problem("it has a second header")
        if self.checks_undo and frame.type == FrameType.UNDO and self.version >= UNDO_SINCE:
            undo = parse(frames.unpack(frame), tape_pb2.Undo())
            check_undo(undo, self._shape.undo_blocks)
            if undo.number <= self._last_undo:
                raise Problem(f"its undo frame {undo.number} comes after frame {self._last_undo}")
            self._last_undo = undo.number
        return None

    def tables_of(self, frame: frames.Frame) -> tuple[Tables, Before | None]:
        """A block by itself, and what it says of what was before it. Raises Problem."""
        payload = frames.unpack(frame)
        if frame.type == FrameType.BLOCK:
            return Tables.of(parse(payload, tape_pb2.Block()), self._shape), None
        block, before, layout = unpack_block(
            payload, digests=self._shape.digests, contents=self._shape.contents
        )
        return Tables.of(block, self._shape, layout), before

    def _read_file_header(self) -> int:
        """The format version."""
        start = self.read(frames.FILE_HEADER.size, 0)
        if not start:
            raise TapeError(
                f"{self._path} is empty: its recording was killed before it began, or it is no tape"
            )
        magic = start[: len(frames.MAGIC)]
        if not frames.MAGIC.startswith(magic):
            raise TapeError(f"{self._path} is not a tape")
        if len(start) < frames.FILE_HEADER.size:
            raise self.damaged(Problem("the file ends inside its first bytes"), 0, 0)
        _, version, check = frames.FILE_HEADER.unpack(start)
        if version < 1 or check != frames.file_check(version):
            raise self.damaged(Problem(f"its format version {version} does not go with its check"), 0, 0)
        if version > frames.FORMAT_VERSION:
            raise TapeError(
                f"{self._path} is made by a newer ringtape: format {version}, this one reads {frames.FORMAT_VERSION}"
            )
        return int(version)

    def _read_header(self) -> tuple[tape_pb2.Header, int]:
        """The header, and where what follows it begins."""
        offset = frames.FILE_HEADER.size
        try:
            frame = frames.read_frame(self.read, offset, self.file_bytes)
            if frame is None:
                raise Problem("the file ends before its header")
            if frame.type != FrameType.HEADER:
                raise Problem(f"its first frame is of type {frame.type}, not a header")
            self._header_payload = frames.unpack(frame)
            header = parse(self._header_payload, tape_pb2.Header())
            check_header(header)
            if self.version < 3 and Shape.of(header).contents:
                raise Problem(f"format {self.version} has no data level full")
        except Problem as problem:
            raise self.damaged(problem, offset, 0) from None
        return header, offset + frame.frame_bytes

    def read(self, length: int, offset: int) -> bytes:
        """So many bytes of the file, or as many as there are. TapeError when it cannot be read."""
        try:
            return os.pread(self._file.fileno(), length, offset)
        except OSError as error:
            raise TapeError(
                f"cannot read the tape {self._path}: {os.strerror(error.errno or errno.EIO)}"
            ) from None

    def damaged(self, problem: Problem, offset: int, block: int) -> TapeDamagedAt:
        """The error for what does not hold together there."""
        return TapeDamagedAt(
            self._path, str(problem), offset=offset, block=block, requests_whole=self._totals.requests
        )


def _parsed(frame: frames.Frame, message: _MessageT) -> _MessageT | None:
    """What the frame holds; None where that cannot be read."""
    try:
        return parse(frames.unpack(frame), message)
    except Problem:
        return None


def _open(path: str) -> tuple[io.FileIO, bool]:
    """The file, and whether a run is writing it. TapeError says why not."""
    try:
        # Before it is opened: opening a pipe waits for its other end, opening a device may have effects.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise TapeError(f"cannot read the tape {path}: it is a folder")
        if not stat.S_ISREG(mode):
            raise TapeError(f"cannot read the tape {path}: it is a device, a pipe or a socket, not a file")
        file = io.FileIO(path, "r")
    except OSError as error:
        raise TapeError(f"cannot read the tape {path}: {os.strerror(error.errno or errno.EIO)}") from None
    # A file system without locks (any other OSError) cannot keep a run from writing the tape; it can be read.
    with contextlib.suppress(OSError):
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file, True
    return file, False
