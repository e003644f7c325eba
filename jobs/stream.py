"""The requests of one worker of a job, as arrays for the volume face: their kinds, disks, places, lengths and times.

They follow from the job, its stretches of the disks and a generator of random numbers, and from nothing that the disks
answer, but for where they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from ringtape.engine.requests import FLAG_DATA_ONLY, FLAG_FUA, Kind
from ringtape.jobs import offsets
from ringtape.jobs.job import Job, Region

#: As the volume face takes it. `time_ns` is left out where there is no rate.
REQUEST = np.dtype(
    [
        ("kind", "u1"),
        ("flags", "u1"),
        ("disk", "u2"),
        ("offset", "i8"),
        ("length", "i8"),
        ("time_ns", "i8"),
    ],
    align=True,
)
UNTIMED = np.dtype([(name, REQUEST[name]) for name in REQUEST.names or () if name != "time_ns"], align=True)

Requests = NDArray[Any]

#: However many are taken at once, so many are drawn at once: what is drawn does not hang on how fast the disks are.
ROWS_MAX = 1 << 14


class Stream:
    """Gives requests until the job ends by counts or bytes; time is not known here, but for what a rate makes of it."""

    def __init__(
        self, job: Job, disks: Sequence[int], regions: Sequence[Region], random: np.random.Generator
    ) -> None:
        """`disks` are the rows' indexes of the disks that the job names, each with a region; the job has an end."""
        self._job, self._disks, self._random = job, disks, random
        self._begins = [region.begin for region in regions]
        # Wanted places are the same ones for all workers of a job, and in every run of it.
        self._offsets = [
            offsets_of(job, region.size, random, xxh3_64_intdigest(f"{job.name}/{name}".encode()))
            for name, region in zip(job.disks, regions, strict=True)
        ]
        self._dtype = UNTIMED if job.rate_iops is None else REQUEST
        self._made = 0
        self._bytes_left = job.io_size
        self._fsync_after = job.fsync or job.fdatasync
        self._since_fsync = [0] * len(disks)
        # Before the job begins, so that its time has none of it.
        self._ready = self._make(ROWS_MAX)

    def take(self, count: int) -> Requests:
        """At most so many requests, in a row, fsyncs among them; none at the end."""
        if not len(self._ready):
            self._ready = self._make(ROWS_MAX)
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    @property
    def all_due_made(self) -> bool:
        """Are all made that a rate has for the runtime, and could there be more in more time?"""
        return self._due_left == 0 and self._bytes_left != 0 and self._made != self._job.number_ios

    def _make(self, count: int) -> Requests:
        """At most so many more, fsyncs apart; none at the end."""
        count = self._allowed(count)
        rows = np.zeros(count, self._dtype)
        rows["kind"] = self._kinds(count)
        rows["length"] = self._lengths(rows["kind"])
        turn = (self._made + np.arange(count)) % len(self._disks)
        for number, disk in enumerate(self._disks):
            own = np.flatnonzero(turn == number) if len(self._disks) > 1 else slice(None)
            placed, lengths = self._offsets[number].place(rows["length"][own])
            rows["disk"][own], rows["length"][own] = disk, lengths
            rows["offset"][own] = placed + self._begins[number]
        rows = self._cut(rows)
        if self._job.fua:
            rows["flags"][rows["kind"] == Kind.WRITE] = FLAG_FUA
        if self._job.rate_iops is not None:
            made = self._made + np.arange(len(rows), dtype=np.int64)
            rows["time_ns"] = _times(made, self._job.rate_iops)
        self._made += len(rows)
        return self._with_fsyncs(rows) if self._fsync_after else rows

    def _allowed(self, count: int) -> int:
        job = self._job
        if self._bytes_left == 0:
            return 0
        if job.number_ios is not None:
            count = min(count, job.number_ios - self._made)
        if self._due_left is not None:
            count = min(count, self._due_left)
        return max(count, 0)

    @property
    def _due_left(self) -> int | None:
        """How many more a rate has for the runtime; None without either."""
        job = self._job
        if job.rate_iops is None or job.runtime_s is None:
            return None
        return max(int(np.ceil(job.runtime_s * job.rate_iops)), 1) - self._made

    def _kinds(self, count: int) -> NDArray[np.uint8]:
        kinds = self._job.kinds
        if len(kinds) == 1:
            return np.full(count, kinds[0], np.uint8)
        reads = self._random.random(count) * 100 < self._job.rwmixread
        return np.where(reads, np.uint8(kinds[0]), np.uint8(kinds[1]))

    def _lengths(self, kinds: NDArray[np.uint8]) -> NDArray[np.int64]:
        blocks = self._job.blocks
        drawn = blocks[0].draw(self._random, len(kinds))
        if len(blocks) > 1:
            drawn = np.where(kinds == Kind.WRITE, blocks[1].draw(self._random, len(kinds)), drawn)
        return drawn

    def _cut(self, rows: Requests) -> Requests:
        """Without what is beyond the bytes that are left."""
        if self._bytes_left is None or not len(rows):
            return rows
        ends = np.cumsum(rows["length"])
        last = int(np.searchsorted(ends, self._bytes_left))
        if last >= len(rows):
            self._bytes_left -= int(ends[-1])
            return rows
        left = self._bytes_left - int(ends[last] - rows["length"][last])
        rows["length"][last] = -(-left // self._job.unit) * self._job.unit
        self._bytes_left = 0
        return rows[: last + 1]

    def _with_fsyncs(self, rows: Requests) -> Requests:
        behind = []
        for number, disk in enumerate(self._disks):
            writes = np.flatnonzero((rows["kind"] == Kind.WRITE) & (rows["disk"] == disk))
            counts = self._since_fsync[number] + np.arange(1, len(writes) + 1)
            behind.append(writes[counts % self._fsync_after == 0])
            self._since_fsync[number] = (self._since_fsync[number] + len(writes)) % self._fsync_after
        places = np.sort(np.concatenate(behind))
        # Each of these twice; the second becomes the fsync.
        rows = rows[np.insert(np.arange(len(rows)), places + 1, places)]
        fsyncs = places + 1 + np.arange(len(places))
        for name in ("offset", "length"):
            rows[name][fsyncs] = 0
        rows["flags"][fsyncs] = FLAG_DATA_ONLY if self._job.fdatasync else 0
        rows["kind"][fsyncs] = Kind.FSYNC
        return rows


def _times(made: NDArray[np.int64], rate: int) -> NDArray[np.int64]:
    """When each is due: exact, without what a product of large numbers would lose."""
    times: NDArray[np.int64] = made // rate * 1_000_000_000 + made % rate * 1_000_000_000 // rate
    return times


def offsets_of(job: Job, size: int, random: np.random.Generator, key: int) -> offsets.Offsets:
    """Where the job goes in a stretch of so many bytes."""
    if not job.random:
        return offsets.Sequential(size)
    places = (size - job.largest) // job.unit + 1
    parameter = job.random_distribution.parameter
    shape = job.random_distribution.shape
    if shape == "zipf":
        draw = offsets.zipf(places, parameter, random, key)
    elif shape == "pareto":
        draw = offsets.pareto(places, parameter, random, key)
    elif shape == "normal":
        draw = offsets.normal(places, parameter, random)
    else:
        draw = (offsets.covering if job.covers else offsets.uniform)(places, random)
    return offsets.Drawn(draw, job.unit)
