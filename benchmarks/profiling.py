"""Where the time of a request goes, in the worker and in the coordinator, by part: a run under two samplers.

Pure but for `profile`, which runs it: what a stack counts for is decided here, by module and function.
"""

from __future__ import annotations

import pickle
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.table import Table

import ringtape
from ringtape.benchmarks.contenders import Case, measurement_of
from ringtape.benchmarks.jobs import Measurement
from ringtape.benchmarks.programs import Reads, WorkerProfile
from ringtape.benchmarks.sampling import Frame, Sampler, Samples, Stack

Mode = Literal["plain", "record", "replay"]
MODES: dict[str, Mode] = {"plain": "plain", "record": "record", "replay": "replay"}

SAMPLE_EVERY_S = 0.0005

SUBMIT = "kernel: submit"
BINDING = "binding: ring entries"
WAIT = "kernel: wait for completions"
TOKEN = "waiting for the coordinator"
IDLE = "waiting for the worker"

_RESTARTED = ("ringtape.engine.ring", "_restarted")

# Module and function (empty: every one), from the innermost frame outwards; the first that fits decides.
_WORKER_PARTS = (
    ("ringtape.engine.ring", "Ring.submit", SUBMIT),
    ("ringtape.engine.ring", "Ring.wait", WAIT),
    ("ringtape.engine.ring", "Ring.wait_for_many", WAIT),
    ("ringtape.engine.ring", "Ring._wait_at_most", WAIT),
    ("ringtape.engine.ring", "", BINDING),
    ("ringtape.engine.columns_ring", "", BINDING),
    ("ringtape.engine.completion_ring", "", BINDING),
    ("ringtape.engine.link", "", "message"),
    ("ringtape.engine.outbox", "", "message"),
    ("ringtape.proto", "", "message"),
    ("google.protobuf", "", "message"),
    ("ringtape.engine.loop", "", "event loop"),
    ("ringtape.engine", "", "engine"),
    ("asyncio", "", "event loop"),
    ("ringtape.benchmarks", "", "program"),
)
_COORDINATOR_PARTS = (
    ("selectors", "", IDLE),
    ("ringtape.coordinator.processes", "", "message"),
    ("ringtape.proto", "", "message"),
    ("google.protobuf", "", "message"),
    ("ringtape.coordinator.tape", "", "tape"),
    ("ringtape.coordinator.digest", "", "digest"),
    ("ringtape.coordinator.supervisor", "", "event loop"),
    ("ringtape.coordinator", "", "coordinator"),
)


@dataclass(frozen=True)
class Place:
    """Nanoseconds in one place."""

    name: str
    ns: int


@dataclass(frozen=True)
class ProcessProfile:
    """Where one process was while the programs ran: by part and by function, most first."""

    name: str
    total_ns: int
    parts: list[Place]
    functions: list[Place]
    user_s: float
    system_s: float


@dataclass(frozen=True)
class Profile:
    """A profiled run."""

    measurement: Measurement
    processes: list[ProcessProfile]


def profile(case: Case, mode: Mode, requests: int) -> Profile:
    """Run a case's job under a sampler in each process."""
    tape, worker_file = case.folder / "profile.tape", case.folder / "profile.worker"
    job = case.job
    arguments = Reads(requests, job.depth, job.block_bytes, SAMPLE_EVERY_S, str(worker_file))
    coordinator = _CoordinatorSampler()
    console = ringtape.Console(on_progress=coordinator.on_progress)
    if mode == "plain":
        # It reports no progress, so its coordinator, which does nothing, is not sampled.
        result = ringtape.run(job.profiled, disks=case.disks(), seed=0, arguments=arguments)
    else:
        result = ringtape.record(
            job.profiled,
            disks=case.disks(),
            seed=0,
            arguments=arguments,
            tape=tape,
            data=case.data,
            strict=False,
            console=console if mode == "record" else None,
        )
        if mode == "replay":
            result = ringtape.replay(tape, job.profiled, console=console)
    measured = measurement_of(result, requests)
    worker: WorkerProfile = pickle.loads(worker_file.read_bytes())
    found = [of_process("worker", worker.samples, worker_part, worker.user_s, worker.system_s)]
    if mode != "plain":
        found.append(coordinator.profile())
    return Profile(measured, found)


class _CoordinatorSampler:
    """Samples this process from the moment at which the programs run."""

    def __init__(self) -> None:
        self._sampler = Sampler(SAMPLE_EVERY_S)

    def on_progress(self, _: ringtape.Progress) -> None:
        """Called by the coordinator's event loop; the first call starts the sampler."""
        if not self._sampler.started:
            self._before = resource.getrusage(resource.RUSAGE_SELF)
            self._sampler.start()

    def profile(self) -> ProcessProfile:
        """What was sampled within the coordinator's event loop."""
        self._sampler.stop()
        after = resource.getrusage(resource.RUSAGE_SELF)
        user_s, system_s = after.ru_utime - self._before.ru_utime, after.ru_stime - self._before.ru_stime
        samples = {stack: ns for stack, ns in self._sampler.samples.items() if in_event_loop(stack)}
        return of_process("coordinator", samples, coordinator_part, user_s, system_s)


def of_process(
    name: str, samples: Samples, part_of: Callable[[Stack], str], user_s: float, system_s: float
) -> ProcessProfile:
    """Samples summed up by part and by function."""
    parts: dict[str, int] = {}
    functions: dict[str, int] = {}
    for stack, ns in samples.items():
        part, function = part_of(stack), name_of(stack)
        parts[part] = parts.get(part, 0) + ns
        functions[function] = functions.get(function, 0) + ns
    return ProcessProfile(
        name, sum(samples.values()), _most_first(parts), _most_first(functions), user_s, system_s
    )


def worker_part(stack: Stack) -> str:
    """The part of a worker that a stack counts for."""
    part = _part(_without_helpers(stack), _WORKER_PARTS)
    if part == WAIT and any(frame.function.endswith("._wait_for_answer") for frame in stack):
        return TOKEN
    return part


def coordinator_part(stack: Stack) -> str:
    """The part of the coordinator that a stack counts for."""
    return _part(stack, _COORDINATOR_PARTS)


def in_event_loop(stack: Stack) -> bool:
    """Was the coordinator conducting, and not preparing disks or sealing the tape?"""
    return any(
        frame.module == "ringtape.coordinator.supervisor" and frame.function == "Supervisor._loop"
        for frame in stack
    )


def name_of(stack: Stack) -> str:
    """The innermost function of a stack; calls into C count for the function that makes them."""
    innermost = _without_helpers(stack)[0]
    function = innermost.function.replace("__create_fn__.<locals>.", "a dataclass's ")
    return f"{innermost.module.removeprefix('ringtape.')}: {function}"


def _without_helpers(stack: Stack) -> Stack:
    """From the frame on that says what is called, where the innermost only calls it again after a signal."""
    return stack[1:] if len(stack) > 1 and (stack[0].module, stack[0].function) == _RESTARTED else stack


def _part(stack: Stack, rules: tuple[tuple[str, str, str], ...]) -> str:
    for frame in stack:
        for module, function, part in rules:
            if _within(frame, module) and function in ("", frame.function):
                return part
    return "other"


def _within(frame: Frame, module: str) -> bool:
    return frame.module == module or frame.module.startswith(module + ".")


def _most_first(ns_by_name: dict[str, int]) -> list[Place]:
    return [
        Place(name, ns) for name, ns in sorted(ns_by_name.items(), key=lambda item: item[1], reverse=True)
    ]


def tables(found: Profile, *, top: int) -> list[Table]:
    """A table of parts and one of functions for each process."""
    requests = found.measurement.requests
    shown = []
    for process in found.processes:
        for what, places in (("part", process.parts), ("function", process.functions[:top])):
            table = Table(box=box.SIMPLE_HEAD, title=process.name, title_justify="left", title_style="bold")
            table.add_column(what, min_width=44)
            table.add_column("ns a request", justify="right")
            table.add_column("share", justify="right")
            for place in places:
                share = place.ns / process.total_ns
                table.add_row(place.name, f"{place.ns / requests:.0f}", f"{share:.0%}")
            if what == "part":
                table.add_section()
                table.add_row("all", f"{process.total_ns / requests:.0f}", "")
                table.add_row(
                    "of it in the program's processor time", f"{process.user_s / requests * 1e9:.0f}"
                )
                table.add_row("and in the kernel's", f"{process.system_s / requests * 1e9:.0f}")
            shown.append(table)
    return shown
