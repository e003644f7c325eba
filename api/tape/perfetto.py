"""`ringtape tape export --format perfetto`: a tape as a trace that ui.perfetto.dev opens.

Responsible for the trace: a group of tracks for each worker, in it a track for its checkpoints and one for each disk,
on which every request is a slice from submission to completion and another one, `held`, until its release. Requests
that overlap stand on tracks of the same name, which the interface draws as one.

The packets are those of perfetto/trace/trace_packet.proto. There are four to a request, so they are not made one by
one: those of a table are rows of bytes of one length, whose numbers are varints padded to the width of the largest.
"""

from __future__ import annotations

import contextlib
import heapq
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import BlockView, TapeReader
from ringtape.coordinator.tape.layout import Layout
from ringtape.coordinator.tape.table import Table
from ringtape.coordinator.words import kind_name
from ringtape.proto import messages_pb2, tape_pb2
from ringtape.settings import StrPath
from ringtape.tape.following import Checkpoints, Following, checkpoints_of
from ringtape.tape.output import new_file

_CHUNK_BYTES = 1 << 20  # of packets that are deflated together
_LEVEL = 1  # of zlib: the rows are alike

# Fields of perfetto.protos, by message.
_TRACE_PACKET = 1
_CLOCK_SNAPSHOT, _TIMESTAMP, _SEQUENCE, _TRACK_EVENT, _INTERNED = 6, 8, 10, 11, 12  # of TracePacket
_SEQUENCE_FLAGS, _COMPRESSED, _TRACK = 13, 50, 60
_SNAPSHOT_CLOCKS, _CLOCK_ID, _CLOCK_AT = 1, 1, 2  # of ClockSnapshot and its Clock
_UUID, _TRACK_NAME, _PARENT, _ORDERING, _RANK = 1, 2, 5, 11, 12  # of TrackDescriptor
_CATEGORIES, _ANNOTATION, _TYPE, _NAME, _TRACK_UUID = 3, 4, 9, 10, 11  # of TrackEvent
_ANNOTATION_NAME, _UINT, _INT = 1, 3, 4  # of DebugAnnotation
_INTERNED_CATEGORIES, _INTERNED_NAMES, _INTERNED_ANNOTATIONS = 1, 2, 3  # of InternedData

_BEGIN, _END, _INSTANT = 1, 2, 3  # of TrackEvent.Type
_STATE_CLEARED, _NEEDS_STATE = 1, 2  # of TracePacket.SequenceFlags
_REALTIME, _BOOTTIME = 1, 6  # of BuiltinClock; times of a trace are of the second
_EXPLICIT = 3  # of TrackDescriptor.ChildTracksOrdering

# What is said by its number, from 1. Kinds of requests are names 1 to 5.
_KINDS = [kind for kind in messages_pb2.Kind.values() if kind]
_NAMES = [*map(kind_name, _KINDS), "held", "checkpoint"]
_HELD, _CHECKPOINT = len(_KINDS) + 1, len(_KINDS) + 2
_CATEGORY_NAMES = ["request", "held", "checkpoint"]
_REQUEST_CATEGORY, _HELD_CATEGORY, _CHECKPOINT_CATEGORY = 1, 2, 3
_ARGUMENTS = [
    "id",
    "offset",
    "length",
    "result",
    "made_after_checkpoint",
    "released_at_checkpoint",
    "number",
    "released",
]

Numbers = NDArray[Any]


def write_perfetto(tape: TapeReader | StrPath, output_path: StrPath) -> None:
    """Write the whole tape as a Perfetto trace (protobuf, packets deflated). Times count from the start of the run.

    A trace of a tape that is there is replaced; any other file is not. Raises TapeError, UsageError: a file that cannot
    be written. Raises TapeDamaged after the trace was written of what is whole.
    """
    with (
        contextlib.nullcontext(tape) if isinstance(tape, TapeReader) else TapeReader.open(tape) as reader,
        new_file(output_path, begins_with=_begins_with(), what="a trace of ringtape") as file,
    ):
        file.write(_begins_with())
        writing = _Writing(reader, file.write)
        writing.write_all()
    if writing.damage is not None:
        raise writing.damage


class _Writing(Following):
    """Follows the tape and writes it. It holds a number for each request that is not released, and no more."""

    def __init__(self, reader: TapeReader, write: Callable[[bytes], object]) -> None:
        super().__init__(reader)
        self._header = reader.header
        self._packets = _Packets(write)
        self._places = _Places()
        self._known: set[int] = set()  # tracks that have a name

    def write_all(self) -> None:
        """All of it."""
        self._packets.add(_packet(_field(_CLOCK_SNAPSHOT, _clocks(self._header.started_at_ns))))
        for table in self.tables():
            self._add_requests(table)
        self._packets.finish()

    def on_block(self, block: BlockView) -> None:
        """Its checkpoints go out at once; its requests are given places."""
        checkpoints = checkpoints_of(block)
        self._name_workers(np.unique(checkpoints.worker).tolist())
        self._packets.add(_checkpoint_packets(checkpoints))
        self._places.take(block)

    def _add_requests(self, table: Table) -> None:
        place = self._places.of(table["id"])
        track = _slot_track(table["worker"], table["disk"], place)
        for uuid in np.unique(track).tolist():
            if uuid not in self._known:
                self._name_slot(uuid)
        self._packets.add(_request_packets(table, track))

    def _name_workers(self, workers: Iterable[int]) -> None:
        for worker in workers:
            uuid = worker_track(worker)
            if uuid not in self._known:
                self._known.add(uuid)
                ordered = _number(_ORDERING, _EXPLICIT) + _number(_RANK, worker)
                self._name(uuid, f"worker {worker}", ordered)
                self._name(checkpoint_track(worker), "checkpoints", _number(_PARENT, uuid))

    def _name_slot(self, uuid: int) -> None:
        worker, disk = (uuid >> 42) - 1, (uuid >> 24 & 0x3FFFF) - 1
        self._name_workers([worker])
        self._known.add(uuid)
        inside = _number(_PARENT, worker_track(worker)) + _number(_RANK, disk + 1)
        self._name(uuid, self._header.disks[disk].name, inside)

    def _name(self, uuid: int, name: str, more: bytes) -> None:
        track = _number(_UUID, uuid) + _field(_TRACK_NAME, name.encode(errors="replace")) + more
        self._packets.add(_packet(_field(_TRACK, track)))


# ---- places: requests of a worker on a disk that overlap stand on tracks of their own


def worker_track(worker: int) -> int:
    """The uuid of the track that groups what a worker did."""
    return (worker + 1) << 42


def checkpoint_track(worker: int) -> int:
    """The uuid of the track of its checkpoints."""
    return worker_track(worker) + 1


def _slot_track(worker: Numbers, disk: Numbers, place: Numbers) -> NDArray[np.int64]:
    wide = (column.astype(np.int64) for column in (worker, disk, place))
    of_worker, of_disk, slot = wide
    return (of_worker + 1) << 42 | (of_disk + 1) << 24 | slot


class _Places:
    """The lowest place that is free, from when a request was made until it was released, in each lane.

    This looks at every request: which place is free follows from all before. It does with a few numbers of each.
    """

    def __init__(self) -> None:
        self._taken: dict[int, int] = {}  # by id: its lane, and in the lowest 24 bits its place
        self._free: dict[int, list[int]] = {}  # by lane: a heap
        self._places: dict[int, int] = {}  # by lane: how many there are

    def take(self, block: BlockView) -> None:
        """Gives places to the requests of the block, and takes back those that it releases, in their order."""
        tables = block.tables
        layout = Layout(tables.run_table, tables.run_worker, tables.run_count)
        run = np.arange(len(tables.run_table))
        made = layout.per_row(tape_pb2.TABLE_REQUESTS, run)
        freed = np.repeat(layout.per_row(tape_pb2.TABLE_TOKENS, run), tables.released.astype(np.int64))
        disk = np.frombuffer(tables.disk, dtype="<u2").astype(np.int64)
        worker = layout.workers[layout.worker_of(tape_pb2.TABLE_REQUESTS)].astype(np.int64)
        lanes = np.concatenate((worker << 16 | disk, np.full(len(freed), -1)))
        new = np.arange(block.first_id, block.first_id + len(made))
        ids = np.concatenate((new, block.released_ids.astype(np.int64)))
        order = np.argsort(np.concatenate((made, freed)), kind="stable")
        taken, free = self._taken, self._free
        for id_, lane in zip(ids[order].tolist(), lanes[order].tolist(), strict=True):
            if lane < 0:
                both = taken[id_]
                heapq.heappush(free[both >> 24], both & 0xFFFFFF)
                continue
            places = free.setdefault(lane, [])
            if places:
                place = heapq.heappop(places)
            else:
                place = self._places[lane] = self._places.get(lane, 0) + 1
            taken[id_] = lane << 24 | place

    def of(self, ids: Numbers) -> NDArray[np.int64]:
        """The places of these requests, which are not asked for again."""
        return np.array([self._taken.pop(id_) & 0xFFFFFF for id_ in ids.tolist()], dtype=np.int64)


# ---- packets in rows


def _request_packets(table: Table, track: NDArray[np.int64]) -> bytes:
    """Four packets a request, one after another; those that say nothing are left out."""
    done = table["completed_ns"] >= 0
    held = done & (table["released_at"] > 0) & (table["released_ns"] > table["completed_ns"])
    arguments = [
        _argument("id", table["id"]),
        _argument("offset", table["offset"]),
        _argument("length", table["length"]),
        _argument("result", table["result"], signed=True),
        _argument("made_after_checkpoint", table["checkpoint"]),
        _argument("released_at_checkpoint", table["released_at"]),
    ]
    count = len(table)
    category = np.full(count, _REQUEST_CATEGORY)
    began = _event(_BEGIN, table["submitted_ns"], track, category, table["kind"], arguments)
    ended = _event(_END, table["completed_ns"], track)
    waits = _event(_BEGIN, table["completed_ns"], track, category * 0 + _HELD_CATEGORY, np.full(count, _HELD))
    freed = _event(_END, table["released_ns"], track)
    rows = np.concatenate((began, ended, waits, freed), axis=1)
    widths = [part.shape[1] for part in (began, ended, waits, freed)]
    kept = np.stack((np.ones(count, dtype=bool), done, held, held), axis=1)
    packets: bytes = rows[np.repeat(kept, widths, axis=1)].tobytes()
    return packets


def _checkpoint_packets(checkpoints: Checkpoints) -> bytes:
    count = len(checkpoints.at_ns)
    arguments = [_argument("number", checkpoints.number), _argument("released", checkpoints.released)]
    track = ((checkpoints.worker.astype(np.int64) + 1) << 42) + 1
    category, name = np.full(count, _CHECKPOINT_CATEGORY), np.full(count, _CHECKPOINT)
    return _event(_INSTANT, checkpoints.at_ns, track, category, name, arguments).tobytes()


def _event(
    type_: int,
    at_ns: Numbers,
    track: Numbers,
    category: Numbers | None = None,
    name: Numbers | None = None,
    arguments: Iterable[NDArray[np.uint8]] = (),
) -> NDArray[np.uint8]:
    """A packet in each row."""
    parts = [_column(_TYPE, np.full(len(at_ns), type_)), _column(_TRACK_UUID, track)]
    if category is not None and name is not None:
        parts += [_column(_CATEGORIES, category), _column(_NAME, name)]
    event = np.concatenate([*parts, *arguments], axis=1)
    once = _number(_SEQUENCE, 1) + _number(_SEQUENCE_FLAGS, _NEEDS_STATE)
    packet = [
        _column(_TIMESTAMP, np.maximum(at_ns, 0)),
        _same(once, len(at_ns)),
        _wrapped(_TRACK_EVENT, event),
    ]
    return _wrapped(_TRACE_PACKET, np.concatenate(packet, axis=1))


def _argument(name: str, values: Numbers, *, signed: bool = False) -> NDArray[np.uint8]:
    named = _same(_number(_ANNOTATION_NAME, _ARGUMENTS.index(name) + 1), len(values))
    value = _column(_INT if signed else _UINT, values)
    return _wrapped(_ANNOTATION, np.concatenate((named, value), axis=1))


def _column(field: int, values: Numbers) -> NDArray[np.uint8]:
    """A varint field in each row, all as wide as the widest."""
    unsigned = values.astype(np.uint64)  # negative ones: two's complement, as protobuf has them
    largest = int(unsigned.max(initial=0))
    width = max(1, (largest.bit_length() + 6) // 7)
    shifts = np.arange(width, dtype=np.uint64) * np.uint64(7)
    groups = (unsigned[:, None] >> shifts).astype(np.uint8) & 0x7F
    groups[:, :-1] |= 0x80
    return np.concatenate((_same(_varint(field << 3), len(values)), groups), axis=1)


def _wrapped(field: int, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate((_same(_varint(field << 3 | 2) + _varint(rows.shape[1]), len(rows)), rows), axis=1)


def _same(text: bytes, count: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.frombuffer(text, dtype=np.uint8), (count, len(text)))


# ---- packets one by one


class _Packets:
    """Packets on their way into the file, deflated a chunk at a time."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._waiting = bytearray()

    def add(self, packets: bytes) -> None:
        """Whole packets, as a Trace has them."""
        self._waiting += packets
        if len(self._waiting) >= _CHUNK_BYTES:
            self.finish()

    def finish(self) -> None:
        """Writes what waits."""
        if self._waiting:
            self._write(_packet(_field(_COMPRESSED, zlib.compress(self._waiting, _LEVEL))))
            self._waiting.clear()


def _begins_with() -> bytes:
    """The first packet: what the numbers of names mean. It is the same in all traces."""
    tables = (
        (_INTERNED_CATEGORIES, _CATEGORY_NAMES),
        (_INTERNED_NAMES, _NAMES),
        (_INTERNED_ANNOTATIONS, _ARGUMENTS),
    )
    interned = b"".join(
        _field(field, _number(1, number) + _field(2, name.encode()))
        for field, names in tables
        for number, name in enumerate(names, 1)
    )
    sequence = _number(_SEQUENCE, 1) + _number(_SEQUENCE_FLAGS, _STATE_CLEARED | _NEEDS_STATE)
    return _packet(sequence + _field(_INTERNED, interned))


def _clocks(started_at_ns: int) -> bytes:
    """What the time of day was at 0."""
    pairs = ((_BOOTTIME, 0), (_REALTIME, started_at_ns))
    return b"".join(
        _field(_SNAPSHOT_CLOCKS, _number(_CLOCK_ID, clock) + _number(_CLOCK_AT, at_ns))
        for clock, at_ns in pairs
    )


def _packet(packet: bytes) -> bytes:
    return _field(_TRACE_PACKET, packet)


def _field(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])
