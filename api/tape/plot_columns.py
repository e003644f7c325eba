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
        ("kernel_ns", "<i8"),  # from submission to completion; -1 for none
        ("held_ns", "<i8"),  # from completion to release; -1 for none
        ("offset", "<i8"),
        ("length", "<i8"),
        ("result", "<i8"),
        ("worker", "<u2"),
        ("disk", "<u2"),
        ("kind", "u1"),
    ]
)
_TOKEN = np.dtype([("at_ns", "<i8"), ("number", "<i8"), ("released", "<i8"), ("worker", "<u2")])


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
    """Rows of one dtype, added until there are too many."""

    def __init__(self, dtype: np.dtype[Any], rows_max: int, what: str) -> None:
        self._rows = np.zeros(1024, dtype)
        self._count, self._max, self._what = 0, rows_max, what

    def __len__(self) -> int:
        return self._count

    def add(self, rows: NDArray[Any]) -> None:
        """UsageError when they are too many."""
        count = self._count + len(rows)
        if count > self._max:
            raise UsageError(
                f"there are more than {self._max:,} {self._what}, which is what a page can hold: "
                "choose a part with --from and --to"
            )
        if count > len(self._rows):
            bigger = np.zeros(min(self._max, max(count, 2 * len(self._rows))), self._rows.dtype)
            bigger[: self._count] = self._rows[: self._count]
            self._rows = bigger
        self._rows[self._count : count] = rows
        self._count = count

    def sorted(self, *by: str) -> NDArray[Any]:
        """All of them, by the last column first; there are none left here."""
        rows, self._rows = self._rows[: self._count], self._rows[:0]
        return rows[np.lexsort([rows[name] for name in by])]


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
        rows["kernel_ns"] = np.where(done, completed - submitted, -1)
        rows["held_ns"] = np.where(free, released - completed, -1)
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
        """The columns by name, and the lanes; requests by submission, checkpoints by worker. It is empty then."""
        rows = self._requests.sorted("id", "submitted_ns")
        both = rows["worker"].astype(np.uint32) << 16 | rows["disk"]
        lanes, lane = np.unique(both, return_inverse=True)
        moved = np.isin(rows["kind"], (KIND_READ, KIND_WRITE)) & (rows["kernel_ns"] >= 0)
        columns = {
            "id": _stored(rows["id"], delta=True),
            "submitted": _stored(rows["submitted_ns"], delta=True),
            "kernel": _stored(rows["kernel_ns"] + 1),
            "held": _stored(rows["held_ns"] + 1),
            "offset": _stored(rows["offset"]),
            "length": _stored(rows["length"]),
            # Less what was asked for, which is nearly always 0.
            "result": _stored(rows["result"] - np.where(moved, rows["length"], 0), signed=True),
            "lane": _stored(lane),
            "kind": _stored(rows["kind"]),
        }
        del rows
        tokens = self._tokens.sorted("number", "worker")
        columns |= {
            "token_worker": _stored(tokens["worker"], delta=True),
            "token_number": _stored(tokens["number"], delta=True),
            "token_at": _stored(tokens["at_ns"], delta=True),
            "token_released": _stored(tokens["released"]),
        }
        return columns, [Lane(int(one) >> 16, int(one) & 0xFFFF) for one in lanes]


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
