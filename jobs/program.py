"""What the workers of a run of jobs run: their jobs, one after the other, through the volume face.

All it decides follows from its arguments, `io.random`, `io.now_ns()` and results, so a recording of it replays. What is
measured never changes what is asked for.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# What would be loaded late, and a run would measure.
import numpy.random

import ringtape.engine.volume  # noqa: F401
from ringtape.engine.faces import BlockingWorker
from ringtape.engine.requests import Kind
from ringtape.jobs.job import Job, bounded, region_of
from ringtape.jobs.measured import Measured
from ringtape.jobs.plan import Plan, Seat
from ringtape.jobs.side import place_of
from ringtape.jobs.stream import ROWS_MAX, Stream
from ringtape.jobs.verify import Verifier

# Results come by arrays, and a run ends between two: an array is as long as takes about so long.
_ARRAY_NS = 100_000_000
# The data of an array's writes and reads, where it is made and looked at, unless the depth needs more.
_DATA_BYTES_MAX = 64 << 20
_GROWTH_MAX = 4


@dataclass(frozen=True)
class Worked:
    """What one worker has done of one job.

    Attributes:
        job: the job's index in the plan.
        number: which of the job's workers it is, from 0.
        measured: what `Measured.finish()` gave. Data that is read back at the end is not in it.
        verified: how many units of data were checked.
        bad: how many were not what they should be.
        told: the first of these, a line each.
        failure: the first request that failed; empty if none did.
    """

    job: int
    number: int
    measured: Any
    verified: int = 0
    bad: int = 0
    told: tuple[str, ...] = ()
    failure: str = ""


def work(io: BlockingWorker) -> list[Worked]:
    """Do this worker's share of the plan that is the run's arguments."""
    plan: Plan = io.arguments
    done = []
    for number, group in enumerate(plan.groups):
        if number:
            io.barrier("stonewall")
        seat = plan.seat(group, io.index)
        if seat is not None:
            done.append(_Share(io, plan, seat).carry_out())
    return done


class _Share:
    """What a worker has to do of a job."""

    def __init__(self, io: BlockingWorker, plan: Plan, seat: Seat) -> None:
        self._io, self._plan, self._seat = io, plan, seat
        job = plan.jobs[seat.job]
        at = {disk.name: index for index, disk in enumerate(io.disks)}
        disks = [io.disk(name) for name in job.disks]
        indexes = [at[disk.name] for disk in disks]
        regions = [region_of(job, disk.name, disk.size, disk.block_size, seat=seat.number) for disk in disks]
        self._job: Job = bounded(job, regions)
        random = np.random.default_rng(io.random.getrandbits(128))
        self._stream = Stream(self._job, indexes, regions, random)
        self._verifier: Verifier | None = None
        self._rows_max = ROWS_MAX
        if job.verify:
            run = io.random.getrandbits(64)
            self._verifier = Verifier(job, indexes, job.disks, regions, worker=io.index, run=run)
            self._rows_max = min(ROWS_MAX, max(job.iodepth, _DATA_BYTES_MAX // job.largest))
        #: Of a row's disk: which of the job's it is.
        self._places = np.zeros(len(io.disks), np.uint16)
        self._places[indexes] = np.arange(len(indexes))
        self._measured: Measured | None = None
        self._under_way: deque[Any] = deque()
        self._failure = ""
        self._rows = min(job.iodepth, self._rows_max)
        self._began_ns = self._asked_ns = 0

    def carry_out(self) -> Worked:
        """Do it."""
        io, plan, verifier = self._io, self._plan, self._verifier
        io.checkpoint()
        self._began_ns = self._asked_ns = io.now_ns()
        self._measured = measured = Measured(
            io,
            self._job.disks,
            log_interval_ms=plan.log_interval_ms,
            place=place_of(plan.side_file, self._seat.job, io.index),
        )
        if verifier is None:
            io.submit(self._arrays(), depth=self._job.iodepth, on_results=self._take)
        else:
            self._verify(verifier)
        self._wait_for_end()
        record = measured.finish()
        if verifier is None:
            return Worked(*self._seat, record, failure=self._failure)
        if not self._failure and not verifier.bad:
            self._read_back(verifier)
        return Worked(*self._seat, record, verifier.units, verifier.bad, tuple(verifier.told), self._failure)

    # ---- requests

    def _next(self) -> Any:
        """The next array; None at the end."""
        now_ns = self._io.now_ns()
        wanted_ns = float(_ARRAY_NS)
        if self._job.runtime_s is not None:
            left_ns = self._began_ns + self._job.runtime_s * 1e9 - now_ns
            if left_ns <= 0:
                return None
            wanted_ns = min(wanted_ns, left_ns)
        if now_ns > self._asked_ns:
            fitting = int(self._rows * wanted_ns / (now_ns - self._asked_ns))
            self._rows = min(max(fitting, 1), self._rows * _GROWTH_MAX, self._rows_max)
        self._asked_ns = now_ns
        rows = self._stream.take(self._rows)
        return None if self._failure or not len(rows) else rows

    def _wait_for_end(self) -> None:
        """With a rate all that is due may be made before the runtime is over, which is part of what the rate is."""
        job = self._job
        if job.runtime_s is not None and self._stream.all_due_made and not self._failure:
            left_ns = self._began_ns + math.ceil(job.runtime_s * 1e9) - self._io.now_ns()
            self._io.sleep(max(left_ns, 0) / 1e9)

    def _arrays(self) -> Iterator[Any]:
        while (rows := self._next()) is not None:
            self._under_way.append(rows)
            yield rows

    # ---- results

    def _take(self, results: Any) -> None:
        self._note(self._under_way.popleft(), results)

    def _note(self, rows: Any, results: Any) -> None:
        assert self._measured is not None
        self._measured.add(rows["kind"], self._places[rows["disk"]], rows["length"], results)
        self._look_for_failure(rows, results)

    def _look_for_failure(self, rows: Any, results: Any) -> None:
        result = results["result"]
        bad = (result < 0) | ((rows["kind"] <= Kind.WRITE) & (result != rows["length"]))
        if bad.any() and not self._failure:
            place = int(np.argmax(bad))
            row, number = rows[place], int(result[place])
            kind = Kind(int(row["kind"])).name.lower()
            disk = self._io.disks[int(row["disk"])].name
            what = f"{kind} of {int(row['length'])} bytes at {int(row['offset'])} on disk {disk!r}"
            self._failure = f"{what}: {os.strerror(-number) if number < 0 else f'only {number} bytes'}"

    # ---- data that is checked

    def _verify(self, verifier: Verifier) -> None:
        while not verifier.bad and (rows := self._next()) is not None:
            if "time_ns" in rows.dtype.names:
                since_ns = self._asked_ns - self._began_ns
                rows["time_ns"] = np.maximum(rows["time_ns"] - since_ns, 0)
            self._note(rows, self._submit_checked(verifier, rows))

    def _read_back(self, verifier: Verifier) -> None:
        """Read all that this worker has written; it is not measured."""
        for rows in verifier.rest(max(self._rows_max * self._job.largest // self._job.unit, 1)):
            results = self._submit_checked(verifier, rows)
            self._look_for_failure(rows, results)
            if self._failure or verifier.bad:
                return

    def _submit_checked(self, verifier: Verifier, rows: Any) -> Any:
        data, units = verifier.prepare(rows)
        into = bytearray(int(rows["length"][rows["kind"] == Kind.READ].sum()))
        results = self._io.submit(rows, depth=self._job.iodepth, data=data, into=into)
        if (results["result"] >= 0).all():
            verifier.check(units, into)
        return results
