"""What blktrace writes: binary events, one file a processor, merged by time.

An event has 48 bytes, in the byte order of the machine it was traced on, and behind it as many as its last field says
(include/uapi/linux/blktrace_api.h). One action is the request: `Q` or `D`, as in `blkparse`. Files are read side by
side; what was read is kept until no file can bring anything earlier, for which each is taken to be in order up to
`_DISORDER_NS`: what a pipe of all processors mixes up, and what interrupts do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ringtape.proto.errors import TraceError
from ringtape.traces.columns import DISCARD, FSYNC, FUA, READ, SECTOR, WRITE, Array, Bools, Ints
from ringtape.traces.devices import Devices
from ringtape.traces.formats.base import SECTOR_MAX, Head, Options
from ringtape.traces.source import Source
from ringtape.traces.under_way import ByCompletion

NAME = "blktrace"
_MAGIC = 0x65617400
_MAGICS = {order: (_MAGIC >> 8).to_bytes(3, order) for order in ("little", "big")}
_VERSION = 7
_EVENT = np.dtype(
    [
        ("magic", "<u4"),
        ("sequence", "<u4"),
        ("time", "<u8"),
        ("sector", "<u8"),
        ("bytes", "<u4"),
        ("action", "<u4"),
        ("pid", "<u4"),
        ("device", "<u4"),
        ("cpu", "<u4"),
        ("error", "<u2"),
        ("pdu_len", "<u2"),
    ]
)
assert _EVENT.itemsize == 48
# Of the action: what happened, whether a cgroup's number comes with it, and what it is about.
_ACTION_MASK = 0xFF
_ACTIONS = {"Q": 1, "D": 7}
_COMPLETED = 8
_WRITE, _FLUSH, _PC, _NOTIFY, _DISCARD, _FUA = (1 << (16 + bit) for bit in (1, 2, 9, 10, 13, 15))

_READ_BYTES = 1 << 20
_DISORDER_NS = 10**9
# Beyond this, in rows, the older half goes out whatever may still come.
_HELD_MAX = 1 << 22
_HELD_MIN = 1 << 14


def matches(head: Head) -> bool:
    """Whether a trace that begins so is one of blktrace."""
    return _order(head.data) is not None


def _order(data: bytes) -> str | None:
    """The byte order of events that begin so."""
    if data[1:4] == _MAGICS["little"]:
        return "little"
    return "big" if data[:3] == _MAGICS["big"] else None


class Merged(NamedTuple):
    """Requests of all processors, in order of time; a column each."""

    time_ns: Ints
    columns: Array
    kind: Array
    flags: Array
    device: Array
    under_way: Array | int


@dataclass
class _File:
    """One processor's file while it is read."""

    source: Source
    order: str
    rest: bytes = b""
    at: int = 0
    latest: int = -1
    ended: bool = False
    # Inside what is no event, which was complained about.
    lost: bool = False


class Blktrace:
    """One trace of blktrace while it is read.

    `on_bad(source's name, where, what)` is called for events that are none: it raises, or counts and goes on.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        devices: Devices,
        options: Options,
        on_bad: Callable[[str, str, str], None],
    ) -> None:
        self._devices = devices
        self._action = _ACTIONS[options.action]
        self.under_way = ByCompletion() if options.under_way else None
        self._on_bad = on_bad
        self._files = []
        for source in sources:
            begin = source.head(_EVENT.itemsize)
            if not begin and len(sources) > 1:
                continue
            order = _order(begin)
            if order is None:
                raise TraceError(
                    f"{source.name} is no trace of blktrace: it begins with {begin[:4].hex(' ')}"
                )
            version = begin[0 if order == "little" else 3]
            if version != _VERSION:
                raise TraceError(
                    f"{source.name} is of version {version} of blktrace; version {_VERSION} is known"
                )
            self._files.append(_File(source, order))

    def batches(self) -> Iterator[Merged]:
        """The requests, in order of time."""
        held: list[Array] = []
        rows, limit = 0, _HELD_MIN
        failure: TraceError | None = None
        while going := [file for file in self._files if not file.ended]:
            behind = min(going, key=lambda file: file.latest)
            try:
                found = self._read(behind)
            except TraceError as error:
                failure = error
                break
            if len(found):
                held.append(found)
                rows += len(found)
            if rows == 0 or rows < limit:
                continue
            events = _sorted(held)
            left = [file.latest for file in self._files if not file.ended]
            ready = len(events)
            if left:
                until = max(min(left) - _DISORDER_NS, 0)
                ready = int(np.searchsorted(events["time"], np.uint64(until), side="right"))
            if len(events) - ready > _HELD_MAX:
                ready = len(events) // 2
            if ready:
                yield self._merged(events[:ready])
            held, rows = [events[ready:]], len(events) - ready
            # What is kept is sorted again and again: only when as much has come.
            limit = max(_HELD_MIN, 2 * rows)
        if rows:
            yield self._merged(_sorted(held))
        if failure is not None:
            raise failure

    def _read(self, file: _File) -> Array:
        """The wanted events in the next stretch of a file."""
        data = file.source.read(_READ_BYTES)
        file.ended = not data
        data = file.rest + data
        starts, used = self._starts(file, data)
        begin, file.at = file.at, file.at + used
        file.rest = data[used:]
        if file.ended and file.rest and not file.lost:
            what = f"the last {len(file.rest)} bytes are no whole event: the trace is cut short"
            self._on_bad(file.source.name, f"byte {file.at}", what)
        if len(starts) == 0:
            return np.zeros(0, dtype=_EVENT)
        events = _events_at(data, starts, file.order)
        file.latest = max(file.latest, int(events["time"].max()))
        wanted = self._wanted(events)
        impossible = wanted & (events["bytes"] > 0) & (events["sector"] > SECTOR_MAX - (1 << 23))
        impossible |= wanted & (events["time"] >= 1 << 63)
        for row in np.flatnonzero(impossible).tolist():
            where = f"byte {begin + int(starts[row])}"
            self._on_bad(file.source.name, where, "its sector or its time is larger than there can be")
        return events[wanted & ~impossible]

    def _starts(self, file: _File, data: bytes) -> tuple[Ints, int]:
        """Where the whole events begin, and where what is left begins."""
        candidates = _magics(data, file.order)
        sizes = _EVENT.itemsize + _pdu_lengths(data, candidates, file.order)
        ends = candidates + sizes
        if len(candidates) and candidates[0] == 0 and (candidates[1:] == ends[:-1]).all():
            whole = int(np.searchsorted(ends, len(data), side="right"))
            used = int(ends[whole - 1]) if whole else 0
            if len(data) - used < 4 or whole < len(candidates):
                file.lost = False
                return candidates[:whole], used
        return self._walked(file, data, candidates, ends)

    def _walked(self, file: _File, data: bytes, candidates: Ints, ends: Ints) -> tuple[Ints, int]:
        """The same one by one: a magic number inside what follows an event, or something that is no event."""
        end_of = dict(zip(candidates.tolist(), ends.tolist(), strict=True))
        starts: list[int] = []
        at = 0
        while len(data) - at >= _EVENT.itemsize:
            end = end_of.get(at)
            if end is None:
                if not file.lost:
                    name, where = file.source.name, f"byte {file.at + at}"
                    self._on_bad(name, where, f"no event begins here: {data[at : at + 4].hex(' ')}")
                following = candidates[np.searchsorted(candidates, at, side="right") :]
                file.lost = len(following) == 0
                at = max(len(data) - _EVENT.itemsize + 1, at + 1) if file.lost else int(following[0])
                continue
            file.lost = False
            if end > len(data):
                break
            starts.append(at)
            at = end
        return np.array(starts, dtype=np.int64), at

    def _wanted(self, events: Array) -> Bools:
        action = events["action"]
        is_request: Bools = (action & _ACTION_MASK) == self._action
        is_request &= (events["bytes"] > 0) | ((action & _FLUSH) != 0)
        wanted = is_request if self.under_way is None else is_request | _completed(events)
        wanted &= (action & (_PC | _NOTIFY)) == 0
        return wanted

    def _merged(self, events: Array) -> Merged:
        under_way: Array | int = 0
        if self.under_way is not None:
            completed = _completed(events)
            offset = events["sector"] * np.uint64(SECTOR)
            time, device, length = (events[name].astype(np.int64) for name in ("time", "device", "bytes"))
            under_way = self.under_way.count(completed, time, device, offset, length.view(np.uint64))
            events = events[~completed]
        action, moved = events["action"], events["bytes"] > 0
        kind = np.where(action & _WRITE, np.uint8(WRITE), np.uint8(READ))
        kind[(action & _DISCARD) != 0] = DISCARD
        kind[~moved] = FSYNC
        flags = np.where((kind == WRITE) & ((action & _FUA) != 0), np.uint8(FUA), np.uint8(0))
        columns = np.zeros((2, len(events)), dtype=np.uint64)
        columns[0][moved] = events["sector"][moved] * np.uint64(SECTOR)
        columns[1] = events["bytes"]
        device = self._devices.of_numbers(events["device"].astype(np.uint64), _device_name)
        return Merged(events["time"].astype(np.int64), columns, kind, flags, device, under_way)


def _completed(events: Array) -> Bools:
    completed: Bools = (events["action"] & _ACTION_MASK) == _COMPLETED
    return completed


def _device_name(number: int) -> str:
    """As blkparse shows it."""
    return f"{number >> 20},{number & 0xFFFFF}"


def _sorted(held: Sequence[Array]) -> Array:
    """In blkparse's order."""
    events = np.concatenate(held)
    return events[np.lexsort((events["sequence"], events["device"], events["time"]))]


def _magics(data: bytes, order: str) -> Ints:
    """Where events can begin."""
    one = np.frombuffer(data, dtype=np.uint8)
    magic = bytes([_VERSION]) + _MAGICS["little"] if order == "little" else _MAGICS["big"] + bytes([_VERSION])
    # First by the byte that is rarest in what traces hold.
    at = magic.index(b"a")
    found: Ints = np.flatnonzero(one[at : max(len(one) - 3 + at, at)] == magic[at])
    for byte in range(4):
        found = found[one[found + byte] == magic[byte]]
    return found


def _pdu_lengths(data: bytes, starts: Ints, order: str) -> Ints:
    """How much follows each event; 0 for one that is not all there."""
    lengths = np.zeros(len(starts), dtype=np.int64)
    whole = starts + _EVENT.itemsize <= len(data)
    if whole.any():
        ends = starts[whole] + _EVENT.itemsize
        one = np.frombuffer(data, dtype=np.uint8)[np.stack((ends - 2, ends - 1))].astype(np.int64)
        low, high = one if order == "little" else one[::-1]
        lengths[whole] = low | high << 8
    return lengths


def _events_at(data: bytes, starts: Ints, order: str) -> Array:
    size = _EVENT.itemsize
    dtype = _EVENT if order == "little" else _EVENT.newbyteorder(">")
    if starts[-1] == (len(starts) - 1) * size:
        events = np.frombuffer(data, dtype=dtype, count=len(starts))
    else:
        everywhere = np.ndarray((len(data) - size + 1,), dtype=f"V{size}", buffer=data, strides=(1,))
        events = everywhere[starts].view(dtype)
    return events.astype(_EVENT)
