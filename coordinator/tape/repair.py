"""What is left of a damaged tape: `verify` says, `repair` keeps it.

Responsible for naming every damage (where, which block, how many requests it takes away) and for keeping what stands
before the first. A replay needs a prefix: blocks after a damage are counted and never used, since what their
completions and tokens are about is lost. Neither holds more than a block, the index and what is in flight.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ringtape.coordinator.tape import frames
from ringtape.coordinator.tape.faults import FaultScan
from ringtape.coordinator.tape.frames import FrameType, Problem
from ringtape.coordinator.tape.index import snapshot_of
from ringtape.coordinator.tape.ledger import Totals
from ringtape.coordinator.tape.reader import TapeDamagedAt, TapeEnd, TapeReader
from ringtape.coordinator.tape.tables import parse
from ringtape.coordinator.tape.undo import UndoScan
from ringtape.proto import tape_pb2
from ringtape.proto.errors import TapeError
from ringtape.proto.messages_pb2 import DATA_LEVEL_FULL

DAMAGES_LIMIT = 1000  # that a report names
_CHUNK_BYTES = 1 << 20
_BLOCKS = (FrameType.BLOCK, FrameType.PACKED)


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are no whole frame, or a frame that does not hold together with what is before it.

    `block` is the number of the block that is damaged or would begin there. `requests_lost` counts the requests
    between the last that is whole before it and the first whole block after it, or the end of the run if there is a
    seal; None where nothing after it tells.
    """

    offset: int
    end: int
    block: int
    problem: str
    requests_lost: int | None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What is on a tape.

    `end` is DAMAGED if there is any damage. `whole` counts the rows before the first damage, which is what a replay
    can use, and `blocks` the blocks; `stranded_requests` those in whole blocks after it, which it cannot.
    `whole_bytes` is where the first damage begins. `requests_lost` is all that the run had and a replay cannot use;
    None if that is not known.
    """

    path: str
    version: int
    file_bytes: int
    end: TapeEnd
    whole: Totals
    whole_bytes: int
    blocks: int
    indexed_blocks: int
    seal: tape_pb2.Seal | None
    being_written: bool
    damages: tuple[Damage, ...] = ()
    stranded_requests: int = 0
    requests_lost: int | None = 0

    @property
    def sound(self) -> bool:
        """Nothing is damaged; a recording that was cut is sound."""
        return not self.damages


@dataclass(slots=True)
class _Whole:
    blocks: int = 0
    bytes: int = 0
    checked: int = 0
    snapshots: dict[int, tape_pb2.Snapshot] = field(default_factory=dict)


def verify(
    path: str | os.PathLike[str], *, on_bytes: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Reads the whole tape, past any damage, and checks all there is to check.

    `on_bytes` is told after every block how many bytes are read, and of how many. Raises what `TapeReader.open`
    raises: without a header nothing on the tape has a meaning.
    """
    with TapeReader.open(path) as reader:
        reader.checks_undo = True
        index = reader.find_index()
        whole = _Whole(bytes=reader.first_block)
        whole.snapshots = {one.offset: one for one in index.snapshots} if index else {}
        damages: list[Damage] = []
        stranded = 0
        try:
            _read(reader, whole, on_bytes)
            seal = reader.seal
            lost: int | None = 0
        except TapeDamagedAt as error:
            damages, stranded, seal = _after(reader, error)
            lost = None if seal is None else max(0, seal.requests - reader.totals.requests)
        end = TapeEnd.DAMAGED if damages else reader.end
        assert end is not None
        return VerifyReport(
            path=os.fspath(path),
            version=reader.version,
            file_bytes=reader.file_bytes,
            end=end,
            whole=reader.totals,
            whole_bytes=damages[0].offset if damages else reader.file_bytes,
            blocks=whole.blocks,
            indexed_blocks=whole.checked,
            seal=seal,
            being_written=reader.being_written,
            damages=tuple(damages),
            stranded_requests=stranded,
            requests_lost=lost,
        )


def repair(
    bad: str | os.PathLike[str],
    good: str | os.PathLike[str],
    *,
    on_bytes: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Writes what `bad` has before its first damage to `good`, a new file, byte for byte.

    After that come the undo frames that are whole behind the damage, in order: a disk can still be put back by them.
    Returns what `verify` says of `bad`. `good` then ends like a recording that was cut, or is a copy if there is no
    damage. Raises TapeError: `bad` has no whole header, or `good` exists already or cannot be written; nothing is left
    of it then.
    """
    report = verify(bad, on_bytes=on_bytes)
    source, target = os.fspath(bad), os.fspath(good)
    try:
        with open(source, "rb") as reads, open(target, "xb") as writes:
            try:
                left = report.whole_bytes
                while left and (chunk := reads.read(min(left, _CHUNK_BYTES))):
                    writes.write(chunk)
                    left -= len(chunk)
                if report.damages:
                    for frame in _undo_frames_after(source, report.whole_bytes):
                        writes.write(frame)
                writes.flush()
                os.fsync(writes.fileno())
            except BaseException:
                os.unlink(target)
                raise
    except FileExistsError:
        raise TapeError(f"cannot write the tape {target}: it exists already") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise TapeError(f"cannot write the tape {target}: {reason}") from None
    return report


def _read(reader: TapeReader, whole: _Whole, on_bytes: Callable[[int, int], None] | None) -> None:
    """All blocks, up to the end or the first damage, each held against the index."""
    faults = FaultScan()
    for ledger, view in reader.follow():
        whole.blocks += 1
        if reader.header.data == DATA_LEVEL_FULL:
            try:
                reader.contents.check_block(view.tables)
            except Problem as found:
                raise reader.damaged(found, view.offset, view.number) from None
        whole.bytes = view.offset + view.frame_bytes
        faults.take(view.tables, view.completed_ids)
        if on_bytes is not None:
            on_bytes(whole.bytes, reader.file_bytes)
        end = (
            view.offset + view.frame_bytes
        )  # a reader that begins at a snapshot passes over what is between blocks
        snapshot = whole.snapshots.get(end)
        if snapshot is not None:
            whole.checked += 1
            if snapshot != snapshot_of(end, view.number + 1, ledger):
                problem = Problem("the index says something else about what is before it")
                raise reader.damaged(problem, whole.bytes, view.number + 1)
    if whole.checked != len(whole.snapshots):
        problem = Problem("the index names a block that does not begin where it says")
        raise reader.damaged(problem, whole.bytes, whole.blocks + 1)
    seal = reader.seal
    if seal is not None and seal.HasField("faults") and seal.faults != faults.count:
        problem = Problem(f"its seal counts {seal.faults} faults, and its blocks hold {faults.count}")
        raise reader.damaged(problem, whole.bytes, whole.blocks + 1)


def _undo_frames_after(path: str, start: int) -> Iterator[bytes]:
    """Those that are whole behind the damage. One that stands out of order, or twice, gets the next number."""
    encoder, last = frames.FrameEncoder(), 0
    with TapeReader.open(path) as reader:
        for offset, undo in reader.undo_ranges(UndoScan()):
            is_in_order = undo.number > last
            last = undo.number if is_in_order else last + 1
            if offset < start:
                continue
            if is_in_order:
                found = frames.skip_frame(reader.read, offset, reader.file_bytes)
                assert found is not None, "the tape became shorter while it was read"
                yield reader.read(found[1], offset)
            else:
                undo.number = last
                yield encoder.encode(FrameType.UNDO, undo.SerializeToString())


def _after(reader: TapeReader, first: TapeDamagedAt) -> tuple[list[Damage], int, tape_pb2.Seal | None]:
    """All damages, how many requests stand in whole blocks after the first, and the seal if that is whole."""
    damages: list[Damage] = []
    problem, start, block, next_id = first.problem, first.offset, first.block, first.requests_whole + 1
    stranded, seal = 0, None
    end = start
    for offset, frame in frames.frames_after(reader.read, start + 1, reader.file_bytes):
        first_id, requests, found = _meaning(reader, frame)
        if offset > end or not damages:
            # What is lost is known from where the next whole frame goes on.
            lost = None if first_id is None else max(0, first_id - next_id)
            if len(damages) < DAMAGES_LIMIT:
                damages.append(Damage(start, offset, block, problem, lost))
        elif first_id is not None and damages[-1].requests_lost is None:
            # After it came a frame that does not tell.
            damages[-1] = replace(damages[-1], requests_lost=max(0, first_id - next_id))
        end = start = offset + frame.frame_bytes
        problem = "no whole frame begins there"
        if requests is not None and first_id is not None:
            stranded += requests
            next_id, block = first_id + requests, block + 1
        seal = found or seal
    if not damages or (end < reader.file_bytes and len(damages) < DAMAGES_LIMIT):
        damages.append(Damage(start, reader.file_bytes, block, problem, None))
    return damages, stranded, seal


def _meaning(reader: TapeReader, frame: frames.Frame) -> tuple[int | None, int | None, tape_pb2.Seal | None]:
    """By itself: the id at which it goes on, how many requests it holds, and the seal, if it is one."""
    try:
        if frame.type in _BLOCKS:
            tables, _ = reader.tables_of(frame)
            return tables.first_id, len(tables.kind), None
        if frame.type == FrameType.SEAL:
            seal = parse(frames.unpack(frame), tape_pb2.Seal())
            return seal.requests + 1, None, seal
    except Problem:
        pass
    return None, None, None
