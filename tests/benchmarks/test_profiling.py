"""Goal: a profile counts each nanosecond once, for the part that spent it.

Method: stacks made up here, by the names that the engine and the coordinator have; and one real sampler.
"""

from __future__ import annotations

import importlib
import signal

import pytest

from ringtape.benchmarks import profiling, splitting
from ringtape.benchmarks.jobs import Measurement
from ringtape.benchmarks.sampling import Frame, Sampler, Stack


def stack(*frames: tuple[str, str]) -> Stack:
    return tuple(Frame(module, function, 0) for module, function in frames)


GATE = ("ringtape.engine.gate", "CoordinatedGate.checkpoint")


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ([("ringtape.engine.ring", "Ring.submit"), GATE], profiling.SUBMIT),
        ([("ringtape.engine.ring", "_restarted"), ("ringtape.engine.ring", "Ring.submit")], profiling.SUBMIT),
        ([("ringtape.engine.ring", "Ring.wait"), GATE], profiling.WAIT),
        (
            [
                ("ringtape.engine.ring", "Ring.wait"),
                ("ringtape.engine.gate", "CoordinatedGate._wait_for_answer"),
            ],
            profiling.TOKEN,
        ),
        ([("ringtape.engine.ring", "Ring.put_transfer")], "binding: ring entries"),
        ([("ringtape.engine.outbox", "Outbox.take"), GATE], "message"),
        ([("enum", "EnumType.__call__"), GATE], "engine"),
        ([("asyncio.events", "Handle._run"), ("ringtape.engine.loop", "run")], "event loop"),
        ([("ringtape.benchmarks.programs", "blocking_reads")], "program"),
        ([("somewhere", "else")], "other"),
        ([], "other"),
    ],
)
def test_a_stack_of_the_worker_counts_for_its_part(frames: list[tuple[str, str]], part: str) -> None:
    assert profiling.worker_part(stack(*frames)) == part


def test_parts_and_functions_add_up_to_the_whole() -> None:
    samples = {
        stack(("ringtape.coordinator.tape.writer", "TapeWriter.flush")): 30,
        stack(("ringtape.coordinator.tapes", "not_the_tape")): 5,
        stack(
            ("selectors", "EpollSelector.select"), ("ringtape.coordinator.supervisor", "Supervisor._loop")
        ): 50,
        stack(("selectors", "EpollSelector.select"), ("other", "caller")): 15,
    }
    found = profiling.of_process("coordinator", samples, profiling.coordinator_part, 0.0, 0.0)
    assert found.total_ns == 100
    assert [(place.name, place.ns) for place in found.parts] == [
        (profiling.IDLE, 65),
        ("tape", 30),
        ("coordinator", 5),
    ]
    assert sum(place.ns for place in found.functions) == 100


def test_a_split_takes_the_parts_of_each_process_together_and_adds_up() -> None:
    worker = profiling.of_process(
        "worker",
        {
            stack(("ringtape.engine.ring", "Ring.submit")): 30,
            stack(("ringtape.engine.ring", "Ring.wait")): 50,
            stack(("ringtape.engine.columns_ring", "ColumnsRing.put")): 12,
            stack(("ringtape.engine.columns", "Columns.release")): 8,
        },
        profiling.worker_part,
        4e-8,
        2e-8,
    )
    coordinator = profiling.of_process(
        "coordinator",
        {
            stack(("ringtape.coordinator.recorder", "Recorder.batch")): 20,
            stack(("ringtape.coordinator.digest", "RunDigest.token")): 10,
            stack(("ringtape.coordinator.tape.writer", "TapeWriter.flush")): 6,
        },
        profiling.coordinator_part,
        0.0,
        0.0,
    )
    measured = Measurement(2, 1.0)
    columns = splitting.split({"record": profiling.Profile(measured, [worker, coordinator])})
    found = {name: {group: ns for group, ns in column.items() if ns} for name, column in columns.items()}
    assert found["record, worker"] == {
        "kernel": 40,
        "binding": 6,
        "engine": 4,
        "all": 50,
        splitting.USER: pytest.approx(20),
        splitting.SYSTEM: pytest.approx(10),
    }
    assert found["record, coordinator"] == {"coordinator": 15, "tape": 3, "all": 18}
    text = splitting.markdown(columns)
    assert "| kernel | 40 |  |" in text and "| all | 50 | 18 |" in text and "program" not in text


def test_every_part_is_in_a_group() -> None:
    parts = {
        part for rules in (profiling._WORKER_PARTS, profiling._COORDINATOR_PARTS) for _, _, part in rules
    }
    grouped = [part for members in splitting.GROUPS.values() for part in members]
    assert parts <= set(grouped)
    assert len(grouped) == len(set(grouped))


def test_a_sampler_sees_where_the_time_goes_and_leaves_nothing_behind() -> None:
    # The limit on a test's time is kept by the same timer: it stands still meanwhile, so this loop has one of its own.
    handler, timer_s = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]

    def spin() -> None:
        for _ in range(1_000_000):
            if sampler.samples:
                return
            sum(range(1000))

    with Sampler(0.0001) as sampler:
        spin()
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(timer_s, abs=10)
    assert any(frame.function.endswith("spin") for found in sampler.samples for frame in found)


def test_the_functions_that_decide_are_where_the_rules_say() -> None:
    # Renamed, they would silently count for another part.
    for module, function in (
        ("ringtape.engine.ring", "Ring.submit"),
        ("ringtape.engine.ring", "Ring.wait"),
        ("ringtape.engine.ring", "_restarted"),
        ("ringtape.engine.gate", "CoordinatedGate._wait_for_answer"),
        ("ringtape.coordinator.supervisor", "Supervisor._loop"),
    ):
        found = importlib.import_module(module)
        for name in function.split("."):
            found = getattr(found, name)
        assert found.__qualname__ == function
