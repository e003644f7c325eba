"""What a program gives to the volume face, checked: an array of requests, the data of its writes, room for its reads.

Everything is checked before anything is submitted. Nothing here knows how requests are carried out.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from ringtape.engine.columns_ring import PLACES_MAX
from ringtape.engine.requests import FLAG_DATA_ONLY, FLAG_FUA, REQUEST_BYTES_MAX, InvalidRequest, Kind

if TYPE_CHECKING:
    from ringtape.engine.block import Block

#: What an array of requests needs; `_OPTIONAL` is what it may have. Fields may be of any integer type.
REQUEST = np.dtype([("kind", "u1"), ("disk", "u2"), ("offset", "u8"), ("length", "u8")])
#: What comes back: a row for each request, in the order given. `id` is 0 in a plain run.
RESULT = np.dtype([("id", "u8"), ("sequence", "u8"), ("result", "i8"), ("latency_ns", "i8")])

#: Status of a row that keeps none from going by columns: it has been released, or never could; and of one that goes
#: alone although it could. 0 is any other.
RELEASED, ALONE = 1, 2

_OPTIONAL = ("time_ns", "flags", "depth")
_LARGEST = np.iinfo(np.int64).max


class RowDisk(NamedTuple):
    """A disk of the program, as its rows are checked against it."""

    number: int  # among the disks of the run
    name: str
    size: int
    block_size: int
    #: Raises `InvalidRequest` for a range (kind, offset, length) that the disk refuses.
    check_range: Callable[[Kind, int, int], None]


class Rows:
    """One array, as columns, and what comes of it."""

    def __init__(
        self,
        requests: Any,
        disks: Sequence[RowDisk],
        *,
        number: int = 0,
        base: int = 0,
        data: Any = None,
        into: Any = None,
    ) -> None:
        """Raise `InvalidRequest` for a bad array, naming the row.

        `number` is that of the array in its volume, and `base` that of its first row, over all arrays.
        """
        columns = _columns_of(requests)
        if len(requests) > PLACES_MAX:
            _refuse(f"{len(requests)} requests are too many for one array; give an iterator of smaller ones")
        self.number, self.base = number, base
        self.count = len(requests)
        wide = {name: _as_int64(name, column) for name, column in columns.items()}
        _check(wide, disks)
        self.kind = wide["kind"].astype(np.uint8)
        self.flags = wide["flags"].astype(np.uint8)
        kinds = distinct(self.kind)
        #: The kind of all of them, if it is one; else -1.
        self.only = kinds[0] if len(kinds) == 1 else -1
        numbers = np.array([disk.number for disk in disks], np.int64)
        self.disk = numbers[wide["disk"]] if self.count else wide["disk"]
        self.offset, self.length = wide["offset"], wide["length"]
        alike = self.count > 0 and (self.length == self.length[0]).all()
        #: The length of all of them, if it is one; else 0.
        self.only_length = int(self.length[0]) if alike else 0
        # A row that has to wait keeps those behind it waiting.
        self.time_ns = np.maximum.accumulate(wide["time_ns"]) if "time_ns" in wide else None
        #: Of each row with a depth of its own: that, less the number of rows before it in the array.
        self.room = wide["depth"] - np.arange(self.count) if "depth" in wide else None
        self.results = np.zeros(self.count, RESULT)
        #: The columns of the results. Until they are given to the program, `released_ns` is what the clock read then.
        words: NDArray[np.int64] = self.results.view(np.int64).reshape(self.count, 4)
        self.id, self.sequence, self.result, self.released_ns = words.T
        self.left = self.count
        self.status = np.zeros(self.count, np.uint8)
        #: Where in the memory of the columns each is that goes by columns, once that is known.
        self.start = np.zeros(self.count, np.int64)
        #: What the clock read when each was made.
        self.issued_ns = np.zeros(self.count, np.int64)
        self.data, data_place = self._laid_out(Kind.WRITE, data, "data", writable=False)
        self.into, into_place = self._laid_out(Kind.READ, into, "into", writable=True)
        self.place = data_place + into_place

    def take_reads(self, places: NDArray[np.int64], block: Block) -> None:
        """Copy what these rows have read, if they are reads, from their memory to the caller's."""
        assert self.into is not None
        results = self.result[places]
        reads = (self.kind[places] == Kind.READ) & (results > 0)
        if not reads.all():
            places, results = places[reads], results[reads]
        if not len(places):
            return
        starts, targets = self.start[places] & block.mask, self.place[places]
        target = np.frombuffer(self.into, np.uint8)
        length = int(self.length[places[0]])
        alike = (results == length).all() and len(target) % length == 0
        if alike and not (targets % length).any() and not (starts % length).any():
            whole = block.bytes[: block.size - block.size % length].reshape(-1, length)
            target.reshape(-1, length)[targets // length] = whole[starts // length]
            return
        for place, result, start in zip(targets.tolist(), results.tolist(), starts.tolist(), strict=True):
            target[place : place + result] = block.bytes[start : start + result]

    def finish(self, ids: NDArray[np.int64] | None) -> None:
        """All rows have been released: the results can be given to the program. `ids` is None in a plain run."""
        self.released_ns -= self.issued_ns
        if ids is not None:
            self.id[:] = ids

    def _laid_out(
        self, kind: Kind, buffer: Any, name: str, *, writable: bool
    ) -> tuple[memoryview | None, NDArray[np.int64]]:
        """The buffer's bytes, and where in it the data of each row of this kind is: one behind the other."""
        if buffer is None:
            return None, np.zeros(self.count, np.int64)
        view = _bytes_of(buffer, name)
        if writable and view.readonly:
            _refuse(f"the buffer {name!r} is read-only")
        lengths = np.where(self.kind == kind, self.length, 0)
        ends = np.cumsum(lengths)
        needed = int(ends[-1]) if self.count else 0
        if len(view) != needed:
            word = f"{kind.name.lower()}s"
            _refuse(
                f"the buffer {name!r} has {len(view)} bytes, but the {word} of the array come to {needed}"
            )
        return view, np.where(self.kind == kind, ends - lengths, 0)


def distinct(column: NDArray[Any]) -> list[int]:
    """The different values, in ascending order; `np.unique` would load a good part of NumPy first."""
    if not len(column) or (column == column[0]).all():
        return [int(value) for value in column[:1]]
    ascending = np.sort(column)
    values: list[int] = ascending[1:][ascending[1:] != ascending[:-1]].tolist()
    return [int(ascending[0]), *values]


def _columns_of(requests: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(requests, np.ndarray) or requests.dtype.names is None or requests.ndim != 1:
        what = (
            f"{requests.ndim}-dimensional array of {requests.dtype}"
            if isinstance(requests, np.ndarray)
            else type(requests).__name__
        )
        _refuse(
            f"requests are a one-dimensional NumPy array with fields kind, disk, offset, length, not {what}"
        )
    names = requests.dtype.names
    for name in ("kind", "disk", "offset", "length"):
        if name not in names:
            _refuse(f"the array of requests has no field {name!r}; its fields are {', '.join(names)}")
    for name in names:
        if name not in ("kind", "disk", "offset", "length", *_OPTIONAL):
            _refuse(f"the array of requests has a field {name!r} that nobody knows")
        if requests.dtype[name].kind not in "iu":
            _refuse(
                f"field {name!r} of the array of requests holds {requests.dtype[name]}, not whole numbers"
            )
    columns = {name: requests[name] for name in names}
    columns.setdefault("flags", np.zeros(len(requests), np.uint8))
    return columns


def _as_int64(name: str, column: NDArray[Any]) -> NDArray[np.int64]:
    if column.dtype.kind == "u" and column.dtype.itemsize == 8 and len(column) and column.max() > _LARGEST:
        row = int(np.argmax(column > _LARGEST))
        _refuse(f"row {row}: {name} {int(column[row])} is out of range")
    return column.astype(np.int64)


def _check(columns: dict[str, NDArray[np.int64]], disks: Sequence[RowDisk]) -> None:
    """Raise for the first row that is wrong. All rows at once; the words are those of single requests."""
    kind, disk, flags = columns["kind"], columns["disk"], columns["flags"]
    offset, length = columns["offset"], columns["length"]
    if not len(kind):
        return
    bad = (kind < Kind.READ) | (kind > Kind.FSYNC) | (disk < 0) | (disk >= len(disks))
    bad |= (
        flags & ~np.where(kind == Kind.WRITE, FLAG_FUA, np.where(kind == Kind.FSYNC, FLAG_DATA_ONLY, 0)) != 0
    )
    if "time_ns" in columns:
        bad |= columns["time_ns"] < 0
    if "depth" in columns:
        bad |= columns["depth"] < 1
    if disks:
        known = np.clip(disk, 0, len(disks) - 1)
        block = np.array([one.block_size for one in disks], np.int64)[known]
        size = np.array([one.size for one in disks], np.int64)[known]
        is_fsync = kind == Kind.FSYNC
        transfers = kind <= Kind.WRITE
        ranged = (offset % block != 0) | (length % block != 0) | (length <= 0)
        ranged |= (offset < 0) | (length > size) | (offset > size - length)
        ranged |= transfers & (length > REQUEST_BYTES_MAX)
        bad |= np.where(is_fsync, (offset != 0) | (length != 0), ranged)
    if not bad.any():
        return
    row = int(np.argmax(bad))
    _explain(row, {name: int(column[row]) for name, column in columns.items()}, disks)


def _explain(row: int, one: dict[str, int], disks: Sequence[RowDisk]) -> NoReturn:
    kinds = ", ".join(f"{kind.value} {kind.name.lower()}" for kind in Kind)
    if not Kind.READ <= one["kind"] <= Kind.FSYNC:
        _refuse(f"row {row}: kind {one['kind']} is none of {kinds}")
    kind = Kind(one["kind"])
    if not 0 <= one["disk"] < len(disks):
        names = ", ".join(f"{number} {disk.name!r}" for number, disk in enumerate(disks)) or "none"
        _refuse(f"row {row}: there is no disk {one['disk']} in io.disks; there are {names}")
    if one.get("time_ns", 0) < 0:
        _refuse(f"row {row}: time_ns {one['time_ns']} is before the call")
    if one.get("depth", 1) < 1:
        _refuse(f"row {row}: depth {one['depth']} lets no request be made; it is 1 or more")
    if kind is Kind.FSYNC and (one["offset"] or one["length"]):
        _refuse(f"row {row}: an fsync has offset 0 and length 0, not {one['offset']} and {one['length']}")
    if kind is not Kind.FSYNC:
        try:
            disks[one["disk"]].check_range(kind, one["offset"], one["length"])
        except InvalidRequest as error:
            _refuse(f"row {row}: {error.strerror}")
    _refuse(f"row {row}: flags {one['flags']} do not go with a {kind.name.lower()}")


def _bytes_of(buffer: Any, name: str) -> memoryview:
    try:
        view = memoryview(buffer)
    except TypeError:
        _refuse(f"{name!r} must be a contiguous buffer, not {type(buffer).__name__}")
    if not view.contiguous:
        _refuse(f"{name!r} must be a contiguous buffer")
    return view.cast("B") if view.nbytes else memoryview(bytearray() if not view.readonly else b"")


def _refuse(text: str) -> NoReturn:
    raise InvalidRequest(errno.EINVAL, text)
