"""What is measured is what the results say, the same again in a replay, and nothing of it changes the run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ringtape
from ringtape import Disk
from ringtape.engine.requests import Kind
from ringtape.jobs import side
from ringtape.jobs.histogram import Histogram
from ringtape.jobs.measured import Record
from tests.programs import measuring
from tests.programs.measuring import Work

WORKERS = 2


def disks_in(folder: Path, mode: str) -> list[Disk]:
    """Two of each worker, or one that is shared, whose requests go one by one; with undo all do."""
    undo = mode == "one by one"
    own = [
        Disk(name, folder / f"{name}.img", size="1M", fresh=not undo, undo=undo, workers=[worker])
        for worker, name in enumerate("ab")
    ]
    shared = None if mode in ("plain", "strict") else [0]
    both = [Disk("c", folder / "c.img", size="1M", fresh=True, workers=shared)]
    return own + both + ([Disk("d", folder / "d.img", size="1M", fresh=True, workers=[1])] if shared else [])


Told = list[tuple[side.Live | None, side.Ended | None]]


@pytest.fixture(scope="module", params=["plain", "strict", "leased", "one by one"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Told, str]:
    """A run, what its workers told beside it, and its mode."""
    folder = tmp_path_factory.mktemp(request.param)
    with side.side_file() as file:
        arguments: dict[str, Any] = {
            "disks": disks_in(folder, request.param),
            "workers": WORKERS,
            "arguments": Work(6, 300, file, log_interval_ms=1),
        }
        if request.param == "plain":
            result = ringtape.run(measuring.measured, **arguments)
        else:
            strict = request.param == "strict"
            result = ringtape.record(measuring.measured, tape=folder / "run.tape", strict=strict, **arguments)
        places = [side.place_of(file, 0, worker) for worker in range(WORKERS)]
        told = [(side.read_live(place), side.read_end(place)) for place in places]
    return result, told, request.param


def test_the_record_is_what_the_results_say(run: tuple[Any, Told, str]) -> None:
    result, _, _ = run
    result.raise_for_failures()
    for worker, (record, came) in enumerate(result.returns):
        made = np.concatenate(measuring.rows_of(Work(6, 300), worker, 2))
        latencies_ns = np.concatenate([one["latency_ns"] for one in came])
        assert set(record.tallies) == {
            (int(disk), int(kind)) for disk, kind in zip(made["disk"], made["kind"], strict=True)
        }
        for (disk, kind), tally in record.tallies.items():
            chosen = (made["disk"] == disk) & (made["kind"] == kind)
            latency = Histogram()
            latency.add(latencies_ns[chosen])
            assert tally.latency.histogram == latency
            assert (tally.errors, tally.short) == (0, 0)
            assert tally.bytes == int(made["length"][chosen].sum())
            intervals = tally.latency.intervals
            assert sum(one.requests for one in intervals) == tally.requests
            assert sum(one.sum_ns for one in intervals) == latency.sum
            assert sum(tally.interval_bytes.values()) == tally.bytes
            numbers = [one.number for one in intervals]
            assert numbers == sorted(set(numbers)) == sorted(tally.interval_bytes)
            assert numbers[-1] <= record.elapsed_ns // 1_000_000


def test_submission_and_completion_add_up_to_latency(run: tuple[Any, Told, str]) -> None:
    """For every request, on disks whose requests go by columns and on the one where each asks to be admitted."""
    result, told, _ = run
    for record, _ in result.returns:
        _, ended = told[record.worker]
        assert ended is not None
        assert set(ended.apart) == set(record.tallies)
        for key, apart in ended.apart.items():
            latency = record.tallies[key].latency.histogram
            parts = apart.submission.histogram, apart.completion.histogram
            assert parts[0].count == parts[1].count == latency.count
            assert parts[0].sum + parts[1].sum == latency.sum
            assert 0 < parts[0].max <= latency.max
        assert ended.usage.user_s > 0


def test_live_numbers_end_at_those_of_the_record(run: tuple[Any, Told, str]) -> None:
    result, told, _ = run
    for record, _ in result.returns:
        live, _ = told[record.worker]
        assert live is not None
        assert live.ended
        assert live.clock_ns == record.elapsed_ns
        for disk, shown in enumerate(live.disks):
            tallies = [tally for key, tally in record.tallies.items() if key[0] == disk]
            assert shown.requests == sum(tally.requests for tally in tallies)
            assert shown.bytes == sum(tally.bytes for tally in tallies)


def test_a_replay_measures_the_same_where_nobody_is_told(run: tuple[Any, Told, str]) -> None:
    result, _, mode = run
    if mode == "plain":
        pytest.skip("a plain run has no tape")
    again = ringtape.replay(result.tape)
    assert again.digest == result.digest
    for (one, _), (other, _) in zip(result.returns, again.returns, strict=True):
        assert (one.tallies, one.elapsed_ns) == (other.tallies, other.elapsed_ns)


def test_a_request_counts_when_it_was_released(run: tuple[Any, Told, str]) -> None:
    """To the interval, by the tape; where it came to the program with its array does not count."""
    result, _, mode = run
    if mode == "plain":
        pytest.skip("a plain run has no tape")
    with ringtape.open_tape(result.tape) as tape:
        requests = list(tape.requests())
    for record, _ in result.returns:
        mine = [request for request in requests if request.worker == record.worker]
        began_ns = max(request.released_ns for request in mine) - record.elapsed_ns
        released = Counter((request.released_ns - began_ns) // 1_000_000 for request in mine)
        found: Counter[int] = Counter()
        for tally in record.tallies.values():
            found.update({one.number: one.requests for one in tally.latency.intervals})
        assert found == released


def test_what_fails_counts_apart() -> None:
    """Errors are in no latency and no bytes, and a short read is one."""
    came = np.zeros(4, [("id", "u8"), ("sequence", "u8"), ("result", "i8"), ("latency_ns", "i8")])
    came["result"], came["latency_ns"] = [-5, 4096, 512, -5], [1, 20, 40, 1]
    one = _measured_of([Kind.READ, Kind.READ, Kind.READ, Kind.WRITE], came)
    read, write = one.tallies[0, Kind.READ], one.tallies[0, Kind.WRITE]
    assert (read.requests, read.bytes, read.errors, read.short, read.first_error) == (2, 4608, 1, 1, 5)
    assert read.latency.histogram.mean == 30
    assert (write.requests, write.bytes, write.errors) == (0, 0, 1)


def _measured_of(kinds: list[Kind], came: Any) -> Record:
    from types import SimpleNamespace

    from ringtape.jobs.measured import Measured

    io: Any = SimpleNamespace(_gate=SimpleNamespace(clock=SimpleNamespace(ns=0), handed_over=None), index=0)
    measured = Measured(io, ["a"])
    count = len(kinds)
    measured.add(np.array(kinds, np.uint8), np.zeros(count, np.uint16), np.full(count, 4096, np.uint64), came)
    return measured.finish()
