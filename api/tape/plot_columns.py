"""What a page holds of a tape's requests: a few columns, and how they are stored in it.

Responsible for bounds (so many requests and checkpoints and no more) and for few bytes: a column is differences or
plain numbers, cut into planes of one byte a row, deflated. `plot_page/columns.js` reads them.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape.table import Table
from ringtape.proto.messages_pb2 import KIND_READ, KIND_WRITE
from ringtape.settings import UsageError
from ringtape.tape.following import Checkpoints

REQUESTS_MAX = 4_000_000
CHECKPOINTS_MAX = 4_000_000
# What a number of JavaScript holds exactly; what is larger (no time of a run, no offset of a disk) is drawn there.
_EXACT_MAX = (1 << 53) - 1
_LEVEL = 6  # of zlib

# What is kept of a request.
KEPT = np.dtype(
    [
        ("id", "<i8"),
        ("submitted_ns", "<i8"),
        ("kernel_ns", "<i8"),  # 1 more than it took from submission to completion; 0 for none
        ("held_ns", "<i8"),  # 1 more than it took from completion to release; 0 for none
        ("offset", "<i8"),
        ("length", "<i8"),
        ("result", "<i8"),
        ("worker", "<u2"),
        ("disk", "<u2"),
        ("kind", "u1"),
    ]
)
_TOKEN = np.dtype([("at_ns", "<i8"), ("number", "<i8"), ("released", "<i8"), ("worker", "<u2")])
# Their names on the page, and whether they are stored as differences.
_COLUMNS = (
    ("id", "id", True),
    ("submitted", "submitted_ns", True),
    ("kernel", "kernel_ns", False),
    ("held", "held_ns", False),
    ("offset", "offset", False),
    ("length", "length", False),
    ("kind", "kind", False),
)


class Stored(NamedTuple):
    """A column as the page has it."""

    rows: int
    width: int  # planes: bytes of a number
    shift: int  # bits that all numbers end in zeros with, left out
    delta: bool  # differences to the row before
    signed: bool  # 0, -1, 1, -2, ... are stored as 0, 1, 2, 3, ...
    text: str  # base64 of the deflated planes, lowest first


class Lane(NamedTuple):
    """Where requests are drawn."""

    worker: int
    disk: int


class _Rows:
    """Rows of one dtype, added until there are too many. They are taken out by columns: never a copy of all."""

    def __init__(self, dtype: np.dtype[Any], rows_max: int, what: str) -> None:
        self._parts = [np.zeros(0, dtype)]
        self._count, self._max, self._what = 0, rows_max, what

    def __len__(self) -> int:
        return self._count

    def add(self, rows: NDArray[Any]) -> None:
        """UsageError when they are too many."""
        self._count += len(rows)
        if self._count > self._max:
            raise UsageError(
                f"there are more than {self._max:,} {self._what}, which is what a page can hold: "
                "choose a part with --from and --to"
            )
        self._parts.append(rows)

    def column(self, name: str) -> NDArray[Any]:
        """Of all of them, in the order in which they were added."""
        return np.concatenate([part[name] for part in self._parts])

    def order(self, *by: str) -> NDArray[Any]:
        """Of all of them by these columns, the last of which comes first."""
        return np.lexsort([self.column(name) for name in by])


class Gathered:
    """Collects what a page holds."""

    def __init__(self) -> None:
        self._requests = _Rows(KEPT, REQUESTS_MAX, "requests")
        self._tokens = _Rows(_TOKEN, CHECKPOINTS_MAX, "checkpoints")

    @property
    def requests(self) -> int:
        """How many it has."""
        return len(self._requests)

    def add_requests(self, table: Table) -> None:
        """Rows of the tape's table."""
        rows = np.zeros(len(table), KEPT)
        submitted = _bounded(table["submitted_ns"])
        completed = np.maximum(_bounded(table["completed_ns"]), submitted)
        released = np.maximum(_bounded(table["released_ns"]), completed)
        done = table["completed_ns"] >= 0
        free = done & (table["released_at"] > 0)
        rows["id"], rows["submitted_ns"] = _bounded(table["id"]), submitted
        rows["kernel_ns"] = np.where(done, completed - submitted + 1, 0)
        rows["held_ns"] = np.where(free, released - completed + 1, 0)
        for name in ("offset", "length"):
            rows[name] = _bounded(table[name])
        rows["result"] = np.where(done, np.clip(table["result"], -_EXACT_MAX, _EXACT_MAX), 0)
        for name in ("worker", "disk", "kind"):
            rows[name] = table[name]
        self._requests.add(rows)

    def add_checkpoints(self, checkpoints: Checkpoints) -> None:
        """Tokens of the tape."""
        rows = np.zeros(len(checkpoints.at_ns), _TOKEN)
        rows["at_ns"], rows["number"] = _bounded(checkpoints.at_ns), _bounded(checkpoints.number)
        rows["released"], rows["worker"] = checkpoints.released, checkpoints.worker
        self._tokens.add(rows)

    def stored(self) -> tuple[dict[str, Stored], list[Lane]]:
        """The columns by name, and the lanes; requests by submission, checkpoints by worker."""
        requests = self._requests
        order = requests.order("id", "submitted_ns")
        lane_of = (requests.column("worker").astype(np.uint32) << 16 | requests.column("disk"))[order]
        lanes, lane = np.unique(lane_of, return_inverse=True)
        columns = {"lane": _stored(lane)}
        del lane_of, lane
        for name, column, delta in _COLUMNS:
            columns[name] = _stored(requests.column(column)[order], delta=delta)
        columns["result"] = _stored(self._short()[order], signed=True)
        order = self._tokens.order("number", "worker")
        for name, delta in (("worker", True), ("number", True), ("at_ns", True), ("released", False)):
            key = f"token_{name.removesuffix('_ns')}"
            columns[key] = _stored(self._tokens.column(name)[order], delta=delta)
        return columns, [Lane(int(one) >> 16, int(one) & 0xFFFF) for one in lanes]

    def _short(self) -> NDArray[np.int64]:
        """The results, those of reads and writes less what they asked for: nearly all are 0 then."""
        kind, done = self._requests.column("kind"), self._requests.column("kernel_ns") > 0
        moved = np.isin(kind, (KIND_READ, KIND_WRITE)) & done
        return self._requests.column("result") - np.where(moved, self._requests.column("length"), 0)


def _bounded(values: NDArray[Any]) -> NDArray[np.int64]:
    """As numbers that JavaScript has; the largest of these for what is above them, 0 below 0."""
    if values.dtype.kind == "u":
        values = np.minimum(values, np.uint64(_EXACT_MAX))
    return np.clip(values.astype(np.int64), 0, _EXACT_MAX)


def _stored(values: NDArray[Any], *, delta: bool = False, signed: bool = False) -> Stored:
    numbers = values.astype(np.int64)
    if delta:
        numbers = np.diff(numbers, prepend=np.int64(0))
        signed = bool((numbers < 0).any())
    if signed:
        numbers = numbers << 1 ^ numbers >> 63
    unsigned = numbers.view(np.uint64)
    bits = int(np.bitwise_or.reduce(unsigned)) if len(unsigned) else 0
    shift = (bits & -bits).bit_length() - 1 if bits else 0
    width = ((bits >> shift).bit_length() + 7) // 8
    planes = (unsigned >> np.uint64(shift)).view(np.uint8).reshape(len(unsigned), 8)
    deflate = zlib.compressobj(_LEVEL)
    parts = [deflate.compress(planes[:, byte].tobytes()) for byte in range(width)]
    text = base64.b64encode(b"".join([*parts, deflate.flush()])).decode()
    return Stored(len(unsigned), width, shift, delta, signed, text)
