"""The conditions under which a determinism check replays: which worker is disturbed in what way.

They follow from the tape and a number alone (and from which CPUs there are), so that one replay can be had again. The
first numbers are one disturbance each, the others two or more together.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ringtape.proto import tape_pb2, wire_pb2
from ringtape.settings import UsageError

# How much delay the completions of a worker, or its checkpoints, are given in one replay, about; and one at most.
DELAY_S = 0.1
DELAY_NS_MAX = 5_000_000
DEPTHS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Conditions:
    """What to do to each worker, and the same in words."""

    text: str
    disturbances: Sequence[wire_pb2.Disturbance]


def conditions_of(header: tape_pb2.Header, seal: tape_pb2.Seal | None, number: int) -> Conditions:
    """The conditions of that number, from 1, for replays of a tape."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UsageError(f"conditions {number!r} must be a whole number from 1")
    chance = random.Random(f"{header.seed}/{number}")
    disturbances = [wire_pb2.Disturbance(seed=chance.getrandbits(63)) for _ in range(header.workers)]
    requests, checkpoints = (seal.requests, seal.tokens) if seal is not None else (0, 0)
    cpus = sorted(os.sched_getaffinity(0))
    ways: list[Callable[[], str]] = [
        lambda: _shallow(chance, disturbances, first=number == 1),
        lambda: _delayed(chance, disturbances, requests),
        lambda: _slowed(chance, disturbances, checkpoints),
    ]
    if len(cpus) > 1:
        ways.append(lambda: _confined(chance, disturbances, cpus))
    if number <= len(ways):
        chosen = [ways[number - 1]]
    else:
        picked = set(chance.sample(range(len(ways)), chance.randint(2, len(ways))))
        chosen = [way for index, way in enumerate(ways) if index in picked]
    return Conditions("; ".join(way() for way in chosen), disturbances)


def _shallow(chance: random.Random, disturbances: list[wire_pb2.Disturbance], *, first: bool) -> str:
    depth = 1 if first else chance.choice(DEPTHS)
    for one in disturbances:
        one.kernel_depth_max = depth
    return f"at most {depth} request{'s' * (depth > 1)} in the kernel"


def _delayed(chance: random.Random, disturbances: list[wire_pb2.Disturbance], requests: int) -> str:
    delay_ns = _delay_ns(requests, len(disturbances))
    chosen = _some(chance, len(disturbances))
    for worker in chosen:
        disturbances[worker].completion_delay_ns_max = delay_ns
    return f"completions of {_named(chosen, len(disturbances))} kept back for up to {delay_ns / 1e6:.3g} ms"


def _slowed(chance: random.Random, disturbances: list[wire_pb2.Disturbance], checkpoints: int) -> str:
    delay_ns = _delay_ns(checkpoints, len(disturbances))
    chosen = _some(chance, len(disturbances))
    for worker in chosen:
        disturbances[worker].checkpoint_delay_ns_max = delay_ns
    return f"{_named(chosen, len(disturbances))} held up at checkpoints for up to {delay_ns / 1e6:.3g} ms"


def _confined(chance: random.Random, disturbances: list[wire_pb2.Disturbance], cpus: list[int]) -> str:
    if chance.random() < 0.5 or len(disturbances) == 1:
        cpu = chance.choice(cpus)
        for one in disturbances:
            one.cpus.append(cpu)
        return f"all workers on CPU {cpu}"
    for one in disturbances:
        one.cpus.append(chance.choice(cpus))
    return "each worker on one CPU"


def _delay_ns(count: int, workers: int) -> int:
    """The longest delay, of so many delays in all workers."""
    per_worker = max(count / workers, 1)
    return max(min(int(2 * DELAY_S * 1e9 / per_worker), DELAY_NS_MAX), 1)


def _some(chance: random.Random, workers: int) -> list[int]:
    return sorted(chance.sample(range(workers), chance.randint(1, workers)))


def _named(chosen: list[int], workers: int) -> str:
    if len(chosen) == workers:
        return "all workers"
    if len(chosen) > 8:
        return f"{len(chosen)} of {workers} workers"
    return f"worker{'s' * (len(chosen) > 1)} {', '.join(map(str, chosen))}"
