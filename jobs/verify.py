"""Data that says what it is, and the check of it when it is read.

A job's disks are divided into units, as long as what all its block sizes are multiples of. A unit that is written
begins with four little-endian 64-bit words: the xxh3-64 of all that follows, the unit's offset on the disk, which write
of which worker it is of (worker * 2**48 + number from 1), and a number of the run. The rest follows from these. Memory
is 8 bytes for each unit of the stretch, as far as it is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ringtape.engine.requests import Kind
from ringtape.jobs.job import Job, Region
from ringtape.jobs.stream import UNTIMED

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

#: So many units that are not what they should be are told of in words.
TOLD_MAX = 16
_WORKER_SHIFT = 48
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Units(NamedTuple):
    """The units of requests, in the order of these: of which disk (its number), where, and of which row."""

    disk: Integers
    offset: Integers
    row: Integers
    #: Which write each should be of; 0 where nobody knows.
    stamp: Words


class Verifier:
    """Of one worker of a job."""

    def __init__(
        self,
        job: Job,
        disks: Sequence[int],
        names: Sequence[str],
        regions: Sequence[Region],
        *,
        worker: int,
        run: int,
    ) -> None:
        """`disks` are those of the rows, with their names and stretches; `run` is the number of this run, 64 bits."""
        self._unit = job.unit
        self._names = dict(zip(disks, names, strict=True))
        self._begins = dict(zip(disks, (region.begin for region in regions), strict=True))
        self._worker, self._run = worker, np.uint64(run)
        # As what has been read must be of a job that verifies, even where this one has not written.
        self._all = not job.writing
        self._written = {
            disk: np.zeros(region.size // self._unit, np.uint64)
            for disk, region in zip(disks, regions, strict=True)
        }
        self._writes = 0
        self.units = 0
        self.bad = 0
        self.told: list[str] = []

    def prepare(self, rows: NDArray[Any]) -> tuple[bytearray, Units]:
        """What these rows are to write, and what of which they are to read; they are carried out in their order."""
        units = self._units_of(rows)
        writes = rows["kind"][units.row] == Kind.WRITE
        numbers = np.cumsum(rows["kind"] == Kind.WRITE) + self._writes
        self._writes = int(numbers[-1])
        own = np.uint64(self._worker << _WORKER_SHIFT)
        units.stamp[writes] = numbers[units.row[writes]].astype(np.uint64) | own
        for disk, written in self._written.items():
            here = np.flatnonzero(units.disk == disk)
            places = (units.offset[here] - self._begins[disk]) // self._unit
            units.stamp[here] = _follow(written, places, units.stamp[here])
        data = self._data(Units(*(column[writes] for column in units)))
        return data, Units(*(column[~writes] for column in units))

    def check(self, units: Units, data: bytearray) -> None:
        """Compare what was read with what should be there."""
        self.units += len(units.row)
        words = np.frombuffer(data, np.uint64).reshape(-1, self._unit // 8)
        view = memoryview(data)
        starts = range(8, len(data), self._unit)
        sums = [xxh3_64_intdigest(view[start : start + self._unit - 8]) for start in starts]
        known = units.stamp != 0
        bad = words[:, 0] != np.array(sums, np.uint64)
        bad |= words[:, 1] != units.offset.astype(np.uint64)
        bad |= known & ((words[:, 2] != units.stamp) | (words[:, 3] != self._run))
        bad &= known | self._all
        self.bad += int(bad.sum())
        for place in np.flatnonzero(bad)[: TOLD_MAX - len(self.told)]:
            self.told.append(self._explain(units, int(place), words[place], sums[place]))

    def rest(self, most: int) -> list[NDArray[Any]]:
        """Reads of all that was written, at most so many in an array."""
        arrays = []
        for disk, written in self._written.items():
            places = np.flatnonzero(written)
            for first in range(0, len(places), most):
                rows = np.zeros(min(most, len(places) - first), UNTIMED)
                rows["kind"], rows["disk"], rows["length"] = Kind.READ, disk, self._unit
                rows["offset"] = places[first : first + most] * self._unit + self._begins[disk]
                arrays.append(rows)
        return arrays

    def _units_of(self, rows: NDArray[Any]) -> Units:
        counts = np.where(rows["kind"] <= Kind.WRITE, rows["length"] // self._unit, 0)
        row = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        offset = rows["offset"][row] + within * self._unit
        return Units(rows["disk"][row].astype(np.int64), offset, row, np.zeros(len(row), np.uint64))

    def _data(self, units: Units) -> bytearray:
        data = bytearray(len(units.row) * self._unit)
        words = np.frombuffer(data, np.uint64).reshape(-1, self._unit // 8)
        words[:, 1], words[:, 2], words[:, 3] = units.offset, units.stamp, self._run
        firsts = units.stamp * _FACTOR + self._run + (units.offset.astype(np.uint64) >> np.uint64(3))
        words[:, 4:] = firsts[:, None] + np.arange(self._unit // 8 - 4, dtype=np.uint64)
        view = memoryview(data)
        starts = range(8, len(data), self._unit)
        words[:, 0] = [xxh3_64_intdigest(view[start : start + self._unit - 8]) for start in starts]
        return data

    def _explain(self, units: Units, place: int, words: Words, checksum: int) -> str:
        offset = int(units.offset[place])
        stamp = int(units.stamp[place])
        disk = self._names[int(units.disk[place])]
        expected = self._of(stamp, int(self._run)) if stamp else "a block that a job with verify has written"
        if int(words[0]) != checksum:
            found = f"data of xxh3 {checksum:016x} under the checksum {int(words[0]):016x}"
            if not words.any():
                found = "zeros"
        elif int(words[1]) != offset:
            found = f"{self._of(int(words[2]), int(words[3]))} at {int(words[1])}"
        else:
            found = self._of(int(words[2]), int(words[3]))
        return f"disk {disk}, {self._unit} bytes at {offset}: expected {expected}, found {found}"

    def _of(self, stamp: int, run: int) -> str:
        worker, number = stamp >> _WORKER_SHIFT, stamp % (1 << _WORKER_SHIFT)
        other = "" if run == int(self._run) else " of another run or worker"
        return f"write {number} of worker {worker}{other}"


def _follow(written: Words, places: Integers, stamps: Words) -> Words:
    """What each place holds when its turn comes, reads being 0 in `stamps`; `written` is brought up to date."""
    order = np.argsort(places, kind="stable")
    sorted_places, sorted_stamps = places[order], stamps[order]
    count = np.arange(len(order))
    starts = np.ones(len(order), np.bool_)
    starts[1:] = sorted_places[1:] != sorted_places[:-1]
    group = np.maximum.accumulate(np.where(starts, count, 0))
    last = np.maximum.accumulate(np.where(sorted_stamps != 0, count, -1))
    held = np.where(last >= group, sorted_stamps[np.maximum(last, 0)], written[sorted_places])
    ends = np.ones(len(order), np.bool_)
    ends[:-1] = starts[1:]
    written[sorted_places[ends]] = held[ends]
    found = np.empty_like(stamps)
    found[order] = held
    return found
