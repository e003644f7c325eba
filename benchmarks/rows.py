"""The rows of the table: which job on what, who stands beside whom, and what is to be reached."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ringtape.benchmarks import aio, memory, starting
from ringtape.benchmarks.contenders import (
    Case,
    Contender,
    FioContender,
    FioRecord,
    FioReplay,
    Plain,
    Record,
    Replay,
)
from ringtape.benchmarks.errors import Unavailable
from ringtape.benchmarks.findings import Finding, Pair
from ringtape.benchmarks.fio import Fio, ways
from ringtape.benchmarks.jobs import JOBS, Job
from ringtape.benchmarks.made_up import SHAPES, WORKERS, Coordinator, name_of
from ringtape.benchmarks.rounds import Amount, Outcome, measure
from ringtape.benchmarks.targets import TARGETS, Setup, page_cache

COMPLETIONS_PER_SECOND = 3e6
MANY_WORKERS_SHARE = 0.8


@dataclass(frozen=True)
class Plan:
    """What to measure; `insist` says that a target that is not to be had is an error and not left out.

    `real_requests` and `made_up_requests` are those of the runs in which memory is looked at.
    """

    rows: Sequence[str]
    targets: Sequence[str]
    rounds: int
    amount: Amount
    setup: Setup
    insist: bool
    real_requests: int
    made_up_requests: int


@dataclass
class Bench:
    """What a row is measured with, and where what it finds goes: at once, so that an interruption keeps it."""

    plan: Plan
    fio: Fio
    folder: Path
    on_step: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def on_targets(
        self,
        names: Sequence[str],
        job: Job,
        contenders: Callable[[], list[Contender]],
        pairs: tuple[Pair, ...],
        *,
        count: int = 1,
    ) -> None:
        """Measure on each of these targets that is asked for, or on `count` of a kind, which share the size."""
        step = 1 << 20
        setup = self.plan.setup
        size = max(setup.size_bytes // count // step, 1) * step
        for name in names:
            if name not in self.plan.targets:
                continue
            with self._or_skipped(name), ExitStack() as stack:
                self.on_step(f"making {name}")
                made = [
                    stack.enter_context(TARGETS[name](replace(setup, size_bytes=size))) for _ in range(count)
                ]
                self.rounds_of(Case(tuple(made), job, self.folder, "order"), contenders(), pairs)

    def rounds_of(
        self, case: Case, contenders: Sequence[Contender], pairs: tuple[Pair, ...], *, instead: str = ""
    ) -> None:
        """The rounds of one case; `instead` says what it is measured on if it has no targets."""
        outcome = Outcome(case, pairs, instead=instead)
        self.findings.append(outcome)
        place = f"{case.on}, {case.job.title}: " if case.on else f"{instead}: " if instead else ""
        measure(
            outcome,
            contenders,
            rounds=self.plan.rounds,
            amount=self.plan.amount,
            on_step=lambda text: self.on_step(place + text),
        )

    @contextlib.contextmanager
    def _or_skipped(self, name: str) -> Iterator[None]:
        try:
            yield
        except Unavailable as error:
            if self.plan.insist:
                raise
            self.skipped[name] = str(error)


@dataclass(frozen=True)
class Row:
    """A row: what is measured, beside what, and how."""

    name: str
    title: str
    measure: Callable[[Bench], None]


def _volume(bench: Bench, job: Job) -> None:
    """Plain, record and replay, each beside fio doing as much."""
    tried = ways(job)

    def contenders() -> list[Contender]:
        made: list[Contender] = []
        for kind in (FioContender, FioRecord, FioReplay):
            made += [kind(bench.fio, way, options) for way, options in tried.items()]
        return [*made, Plain(), Record(), Replay()]

    pairs = (
        Pair("plain", tuple(tried), 1.0),
        Pair("record", tuple(f"{way} write_iolog" for way in tried), 1.0),
        Pair("replay", tuple(f"{way} read_iolog" for way in tried), 1.0),
    )
    bench.on_targets(list(TARGETS), job, contenders, pairs)


def _depth_1(bench: Bench) -> None:
    pairs = (Pair("record", ("plain",), 0.9), Pair("record strict", ("plain",), 0.5))
    bench.on_targets(
        ("file", "loop"), JOBS["blocking"], lambda: [Plain(), Record(), Record(strict=True)], pairs
    )


def _two_workers(bench: Bench) -> None:
    job = replace(JOBS["volume"], workers=2, title="volume face, reads, depth 64, 2 workers")
    tried = ways(job)

    def contenders() -> list[Contender]:
        fios = [FioRecord(bench.fio, way, options) for way, options in tried.items()]
        for one in fios:
            one.paced_by = fios[0].name
        return [*fios, Record(paced_by="record")]

    pairs = (Pair("record", tuple(f"{way} write_iolog" for way in tried), 0.9),)
    bench.on_targets(list(TARGETS), job, contenders, pairs, count=2)


def _awaited(bench: Bench) -> None:
    aio.check_installed()
    pairs = tuple(
        Pair(of, (library,), reach)
        for of, reach in (("plain", 2.0), ("record", 1.5))
        for library in aio.LIBRARIES
    )
    bench.on_step("making a file in the page cache")
    with page_cache(bench.plan.setup) as target:
        case = Case((target,), JOBS["asyncio"], bench.folder, "order")
        peers = [aio.AioReads(library) for library in aio.LIBRARIES]
        bench.rounds_of(case, [Plain(), Record(), *peers], pairs)


def _coordinator(bench: Bench) -> None:
    for shape in SHAPES:
        names = [name_of(workers) for workers in WORKERS]
        pairs = (
            *(Pair(name, (), COMPLETIONS_PER_SECOND) for name in names),
            Pair(names[-1], (names[0],), MANY_WORKERS_SHARE),
        )
        case = Case((), JOBS["volume"], bench.folder, "order")
        contenders = [Coordinator(shape, workers) for workers in WORKERS]
        bench.rounds_of(case, contenders, pairs, instead=shape.title)


def _memory(bench: Bench) -> None:
    plan = bench.plan
    made_up = memory.Memory("made-up workers", plan.made_up_requests)
    real = memory.Memory("volume face, file on tmpfs", plan.real_requests)
    for finding, on_target in ((made_up, False), (real, True)):
        bench.findings.append(finding)
        bench.on_step(f"{finding.on}: {finding.requests:,} requests")
        begun_s = time.monotonic()
        if on_target:
            with TARGETS["tmpfs"](plan.setup) as target:
                finding.samples = memory.real(target, finding.requests, bench.folder)
        else:
            finding.samples = memory.made_up(finding.requests, bench.folder)
        finding.seconds = time.monotonic() - begun_s


def _start(bench: Bench) -> None:
    pairs = tuple(Pair(of, (starting.PYTHON,), 6.0, times=True) for of in (starting.BEGUN, starting.ENDED))
    contenders = [
        starting.ImportAsyncio(),
        starting.RecordNothing(until_end=False),
        starting.RecordNothing(until_end=True),
    ]
    bench.rounds_of(Case((), JOBS["asyncio"], bench.folder, "order"), contenders, pairs)


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("reads", "volume face, 4 KiB random reads, depth 64", lambda on: _volume(on, JOBS["volume"])),
        Row(
            "writes",
            "volume face, 4 KiB random writes, depth 64",
            lambda on: _volume(on, JOBS["volume-writes"]),
        ),
        Row("depth-1", "blocking face, reads, depth 1", _depth_1),
        Row("two", "volume face, reads, 2 workers on 2 disks", _two_workers),
        Row("awaited", "asyncio face, awaited reads, 32 tasks", _awaited),
        Row("coordinator", "coordinator alone, recording to a tape", _coordinator),
        Row("memory", "memory over a long recording", _memory),
        Row("start", "start of a recording of an empty program", _start),
    )
}
