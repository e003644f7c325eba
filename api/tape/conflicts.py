"""Requests that met one in flight which they overlap, at least one of the two changing the disk.

Responsible for counting the later ones of such pairs, exactly, by the order of the tape: the earlier one was made
before and completed after the later one was made. A row is compared with others by arrays only, and not at all where
nothing overlaps. It keeps what is in flight.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ringtape.coordinator.tape import Joined, Table
from ringtape.coordinator.tape.ledger import COMPLETIONS, REQUESTS
from ringtape.proto.messages_pb2 import KIND_FSYNC, KIND_READ

_NOT_YET = np.int64(1 << 62)
_CELLS_MAX = 1 << 20  # that a part of a block is spread over at a time
_ROWS = np.dtype(
    [
        ("id", "<u8"),
        ("disk", "<u2"),
        ("start", "<u8"),
        ("end", "<u8"),
        ("changes", "?"),
        ("made", "<i8"),  # the run of the block in which it was made; -1 before the block
        ("completed", "<i8"),  # the run in which it completed
    ]
)


class Conflicts:
    """Follows a tape, block by block."""

    def __init__(self) -> None:
        self._flying = np.zeros(0, dtype=_ROWS)

    def take(self, joined: Joined) -> NDArray[np.bool_]:
        """Which of the requests that the block made met one in flight."""
        tables = joined.block.tables
        layout = tables.layout
        runs = np.arange(len(tables.run_table), dtype=np.int64)
        rows = np.concatenate((self._flying, _rows_of(joined.made, layout.per_row(REQUESTS, runs))))
        place = np.searchsorted(rows["id"], joined.block.completed_ids)
        known = np.zeros(len(place), dtype=bool)
        if len(rows):  # fsyncs are not among them
            known = rows["id"][np.minimum(place, len(rows) - 1)] == joined.block.completed_ids
        rows["completed"][place[known]] = layout.per_row(COMPLETIONS, runs)[known]
        met = rows["id"][_met(_overlapping(rows))]
        self._flying = rows[rows["completed"] == _NOT_YET]
        self._flying["made"] = -1
        return np.isin(joined.made["id"], met)


def _rows_of(made: Table, run: NDArray[np.int64]) -> NDArray[Any]:
    data = (made["kind"] != KIND_FSYNC) & (made["length"] != 0)
    made, run = made[data], run[data]
    rows = np.zeros(len(made), dtype=_ROWS)
    rows["id"], rows["disk"], rows["start"] = made["id"], made["disk"], made["offset"]
    end = made["offset"] + made["length"]
    rows["end"] = np.where(end < made["offset"], np.uint64(2**64 - 1), end)
    rows["changes"] = made["kind"] != KIND_READ
    rows["made"], rows["completed"] = run, _NOT_YET
    return rows


def _overlapping(rows: NDArray[Any]) -> NDArray[Any]:
    """The rows, by id, that stand in a heap of overlapping ones of which one changes the disk, with their index."""
    index = np.arange(len(rows))
    if not rows["changes"].any():
        return _with_index(rows[:0], index[:0])
    order = np.lexsort((rows["start"], rows["disk"]))
    by_place = rows[order]
    # A heap begins where nothing before it on the disk reaches. Disks follow one another, so ends of one must not
    # count for the next.
    begins = np.ones(len(rows), dtype=bool)
    disks = np.flatnonzero(np.diff(by_place["disk"], prepend=-1))
    for first, last in zip(disks.tolist(), [*disks[1:].tolist(), len(rows)], strict=True):
        reach = np.maximum.accumulate(by_place["end"][first:last])
        begins[first + 1 : last] = by_place["start"][first + 1 : last] >= reach[:-1]
    heap = np.cumsum(begins) - 1
    size = np.bincount(heap)
    changed = np.bincount(heap, weights=by_place["changes"]) > 0
    kept = np.sort(order[(size[heap] > 1) & changed[heap]])
    return _with_index(rows[kept], kept)


def _with_index(rows: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    result = np.zeros(len(rows), dtype=[*_ROWS.descr, ("index", "<i8")])
    for name in _ROWS.names or ():
        result[name] = rows[name]
    result["index"] = index
    return result


def _met(rows: NDArray[Any]) -> NDArray[np.int64]:
    """The index of each row that met an earlier one. In parts that are small enough to be spread over cells."""
    found: list[NDArray[np.int64]] = []
    waiting = [rows]
    while waiting:
        part = waiting.pop()
        new = np.flatnonzero(part["made"] >= 0)
        if not len(new) or len(part) < 2:
            continue
        cells = _cells(part)
        if cells is None and len(new) > 1:
            middle = part[new[len(new) // 2]]
            first, second = part[part["id"] < middle["id"]], part.copy()
            # For the second half the first is what was in flight.
            second["made"][second["id"] < middle["id"]] = -1
            waiting += [first, second[(second["made"] >= 0) | (second["completed"] > middle["made"])]]
            continue
        hit = _hit_one_by_one(part, new) if cells is None else _hit(part, *cells)
        found.append(part["index"][hit])
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _cells(rows: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Each row once for every stretch that it covers, between any two ends: rows and stretches. None if too many."""
    disk = rows["disk"]
    cell = np.zeros(0, dtype=np.int64)
    first, last = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    base = 0
    for one in np.unique(disk).tolist():
        of_disk = disk == one
        edges = np.unique(np.concatenate((rows["start"][of_disk], rows["end"][of_disk])))
        first[of_disk] = base + np.searchsorted(edges, rows["start"][of_disk])
        last[of_disk] = base + np.searchsorted(edges, rows["end"][of_disk])
        base += len(edges)
    counts = last - first
    if int(counts.sum()) > _CELLS_MAX:
        return None
    row = np.repeat(np.arange(len(rows)), counts)
    cell = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    return row, cell


def _hit(rows: NDArray[Any], row: NDArray[np.int64], cell: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of which a cell was covered, when they were made, by one in flight that it conflicts with."""
    order = np.lexsort((row, cell))  # in each cell by id
    row, cell = row[order], cell[order]
    made, completed, changes = (rows[name][row] for name in ("made", "completed", "changes"))
    latest_any = _latest_before(cell, completed)
    latest_change = _latest_before(cell, np.where(changes, completed, -1))
    hit = np.where(changes, latest_any, latest_change) > made
    found: NDArray[np.int64] = np.unique(row[hit & (made >= 0)])
    return found


def _latest_before(cell: NDArray[np.int64], completed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each row: the largest value of those before it in its cell; -1 where there are none."""
    # Ranks keep the values small, so that cells can be told apart by adding to them.
    values, rank = np.unique(completed, return_inverse=True)
    width = len(values) + 1
    running = np.maximum.accumulate(cell * width + rank + 1)
    before = np.concatenate((np.zeros(1, dtype=np.int64), running[:-1])) - cell * width
    result = np.full(len(cell), -1, dtype=np.int64)
    there = before > 0
    there[:1] = False
    result[there] = values[before[there] - 1]
    return result


def _hit_one_by_one(rows: NDArray[Any], new: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same for few new rows: each against all."""
    found = []
    for place in new.tolist():
        row, before = rows[place], rows[:place]
        meets = (
            (before["disk"] == row["disk"])
            & (before["start"] < row["end"])
            & (before["end"] > row["start"])
            & (before["completed"] > row["made"])
            & (before["changes"] | row["changes"])
        )
        if meets.any():
            found.append(place)
    return np.array(found, dtype=np.int64)
