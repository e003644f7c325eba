"""Cost over size: nanoseconds a request of fio, plain and record against depth, block size, workers, disks and length.

One axis is varied at a time, from one job: random reads of 4 KiB by the volume face, 64 under way, one worker, one
disk. It ends in time: what the minutes leave no room for is left out, and said.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ringtape.benchmarks import machine
from ringtape.benchmarks.contenders import Case, Contender, FioContender, Plain, Record
from ringtape.benchmarks.findings import Round, Spread
from ringtape.benchmarks.fio import Fio, ways
from ringtape.benchmarks.jobs import JOBS, Job, Measurement
from ringtape.benchmarks.rounds import Amount, requests_for, rotated
from ringtape.benchmarks.targets import TARGETS, Setup, Target
from ringtape.engine.disks import probe

JSON_VERSION = 1
NAMES = ("fio", "plain", "record")
LENGTH = "length"
# Of the budget, for all axes but the length of the run, which gets what is left.
SHARE_BEFORE_LENGTH = 0.6
# What a measurement takes beside the job: processes that start, a disk that is fingerprinted.
OVERHEAD_S = 0.7
SECONDS_MIN, SECONDS_MAX = 0.1, 1.0
TURNS_MIN = 20  # a measurement is of so many times the requests that are under way at least

AXES: Mapping[str, tuple[int, ...]] = {
    "depth": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "block": (512, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20),
    "workers": (1, 2, 4, 8, 16),
    "disks": (1, 2, 4, 8, 16),
    LENGTH: (10_000, 100_000, 1_000_000, 10_000_000),
}
TITLES = {
    "depth": "requests under way",
    "block": "bytes a request",
    "workers": "workers, each on a disk of its own",
    "disks": "disks of one worker",
    LENGTH: "requests of the run",
}
FILES_MAX = max(*AXES["workers"], *AXES["disks"])


@dataclass(frozen=True)
class Survey:
    """What to measure, in how many minutes; `requests` instead of what fits, for a look."""

    axes: Sequence[str]
    target: str
    rounds: int
    minutes: float
    setup: Setup
    requests: int | None = None


@dataclass
class Point:
    """One place on an axis, and what was measured there."""

    axis: str
    value: int
    rounds: list[Round] = field(default_factory=list)

    def ns(self, name: str) -> Spread | None:
        """Nanoseconds a request, round by round; None for one that was not measured here."""
        if not self.rounds or name not in self.rounds[0]:
            return None
        return Spread(tuple(1e9 / each[name].rate for each in self.rounds))

    def as_json(self) -> dict[str, Any]:
        """For JSON."""
        found = {name: self.ns(name) for name in NAMES}
        return {
            "axis": self.axis,
            "value": self.value,
            "rounds": [
                [
                    {"contender": name, "requests": one.requests, "elapsed_s": one.elapsed_s}
                    for name, one in each.items()
                ]
                for each in self.rounds
            ],
            "ns": {name: spread.as_json() for name, spread in found.items() if spread is not None},
        }


@dataclass
class Sizes:
    """What came of a survey, so far."""

    survey: Survey
    fio: Fio
    facts: dict[str, Any] = field(default_factory=machine.facts)
    points: list[Point] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    complete: bool = False

    @property
    def measured(self) -> list[Point]:
        """The points of which there is something to show."""
        return [point for point in self.points if point.rounds]

    def run(self, on_step: Callable[[str], None]) -> None:
        """Measure; see `table.Table.run`."""
        survey = self.survey
        self._rates: dict[str, float] = {}
        begun_s = time.monotonic()
        self._ends_s = begun_s + 60 * survey.minutes
        with tempfile.TemporaryDirectory(prefix="ringtape-bench-") as folder, ExitStack() as stack:
            on_step(f"making {survey.target}")
            make = TARGETS[survey.target]
            one = stack.enter_context(make(survey.setup))
            many: list[Target] = []
            if {"workers", "disks"} & set(survey.axes):
                size = max(survey.setup.size_bytes // FILES_MAX >> 20, 1) << 20
                small = replace(survey.setup, size_bytes=size)
                many = [stack.enter_context(make(small)) for _ in range(FILES_MAX)]
            self._block_bytes_min = probe(one.path, "").block_size
            places = [(axis, value) for axis in survey.axes for value in AXES[axis]]
            wide = [place for place in places if place[0] != LENGTH]
            budget_s = SHARE_BEFORE_LENGTH if len(wide) < len(places) else 1.0
            until_s = begun_s + 60 * survey.minutes * budget_s
            for index, (axis, value) in enumerate(wide):
                on_step(f"{axis} {value}")
                case = Case(targets_of(axis, value, one, many), job_of(axis, value), Path(folder), "order")
                self._point(axis, value, case, (until_s - time.monotonic()) / (len(wide) - index))
            for axis, value in places[len(wide) :] if LENGTH in survey.axes else []:
                on_step(f"{axis} {value}")
                self._length(value, Case((one,), JOBS["volume"], Path(folder), "order"))
        self.complete = True

    def _point(self, axis: str, value: int, case: Case, share_s: float) -> None:
        """Measure one, within about its share of the time."""
        survey, job = self.survey, case.job
        contenders = contenders_of(self.fio, job)
        if job.block_bytes < self._block_bytes_min:
            self.left_out.append(f"{axis} {value}: the target has blocks of {self._block_bytes_min}")
            return
        if time.monotonic() > self._ends_s:
            self.left_out.append(f"{axis} {value}: no time was left")
            return
        seconds = share_s / (len(contenders) * survey.rounds) - OVERHEAD_S
        seconds = min(max(seconds, SECONDS_MIN), SECONDS_MAX)
        if value == AXES[axis][0]:
            amount = Amount(seconds, survey.requests)
            for one in contenders:
                self._rates[one.name] = requests_for(one, case, amount) / seconds
        counts = {one.name: self._count(one.name, job, seconds) for one in contenders}
        until_s = time.monotonic() + share_s
        self._measure(Point(axis, value), case, contenders, counts, survey.rounds, until_s)

    def _count(self, name: str, job: Job, seconds: float) -> int:
        requests = self.survey.requests or int(self._rates[name] * seconds)
        return max(requests // job.workers, TURNS_MIN * job.depth) * job.workers

    def _length(self, value: int, case: Case) -> None:
        """Measure a run of this length, plain and record, if there is time for it."""
        contenders: list[Contender] = [Plain(), Record()]
        survey = self.survey
        if survey.requests is not None and value > max(survey.requests, AXES[LENGTH][0]):
            self.left_out.append(f"{LENGTH} {value}: only a look")
            return
        if not {one.name for one in contenders} <= set(self._rates):
            for one in contenders:
                self._rates[one.name] = requests_for(one, case, Amount(SECONDS_MAX, survey.requests))
        round_s = sum(value / self._rates[one.name] + OVERHEAD_S for one in contenders)
        left_s = self._ends_s - time.monotonic()
        rounds = min(int(left_s / round_s), survey.rounds)
        if rounds < 1:
            self.left_out.append(
                f"{LENGTH} {value}: it takes {round_s:.0f} s, and {max(left_s, 0):.0f} are left"
            )
            return
        counts = {one.name: value for one in contenders}
        self._measure(Point(LENGTH, value), case, contenders, counts, rounds, self._ends_s)

    def _measure(
        self,
        point: Point,
        case: Case,
        contenders: Sequence[Contender],
        counts: Mapping[str, int],
        rounds: int,
        until_s: float,
    ) -> None:
        """So many rounds, or as many as there is time for; one at least."""
        self.points.append(point)
        for number in range(rounds):
            if number and time.monotonic() > until_s:
                return
            this_round: dict[str, Measurement] = {}
            for one in rotated(contenders, number):
                measured = one.measure(case, counts[one.name], seed=number)
                this_round[one.name] = measured
                self._rates[one.name] = measured.rate
            point.rounds.append(this_round)

    def growth(self, axis: str, name: str) -> float | None:
        """Cost at the far end of an axis, as a multiple of the least on it."""
        found = [spread.median for spread in self.line(axis, name).values()]
        return found[-1] / min(found) if len(found) > 1 else None

    def line(self, axis: str, name: str) -> dict[int, Spread]:
        """Nanoseconds a request by value."""
        found = {point.value: point.ns(name) for point in self.measured if point.axis == axis}
        return {value: spread for value, spread in found.items() if spread is not None}

    def as_json(self) -> str:
        """Raw numbers, what is made of them, and where they come from."""
        survey = self.survey
        whole = {
            "version": JSON_VERSION,
            "complete": self.complete,
            "machine": {**self.facts, "fio": self.fio.version},
            "settings": {
                "target": survey.target,
                "rounds": survey.rounds,
                "minutes": survey.minutes,
                "requests": survey.requests,
                "size_bytes": survey.setup.size_bytes,
            },
            "points": [point.as_json() for point in self.measured],
            "left_out": self.left_out,
        }
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def job_of(axis: str, value: int) -> Job:
    """The job at a place on an axis."""
    job = JOBS["volume"]
    if axis == "depth":
        return replace(job, depth=value)
    if axis == "block":
        return replace(job, block_bytes=value)
    return replace(job, workers=value) if axis == "workers" else job


def targets_of(axis: str, value: int, one: Target, many: Sequence[Target]) -> tuple[Target, ...]:
    """What it runs on."""
    return tuple(many[:value]) if axis in ("workers", "disks") else (one,)


def contenders_of(fio: Fio, job: Job) -> list[Contender]:
    """Fio in the way that is best for the job, plain and record."""
    return [FioContender(fio, "fio", ways(job)["fio-registered"]), Plain(), Record()]
