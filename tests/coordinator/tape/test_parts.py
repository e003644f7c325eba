"""Goal: the parts of a block say what its runs say, whichever place of it is asked about.

Method: runs of all that a tape can hold, in blocks of a few rows; each part beside its worker's runs, one by one.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.tape import CompletionsRun, NoteRun, RequestsRun, TapeReader, TokenRun
from ringtape.coordinator.tape.parts import REQUEST_COLUMNS, Done, Part, Parts
from ringtape.coordinator.tape.runs import Cursor, Place, Run
from tests.coordinator.tape.making import make_header, make_run, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parts")


def placed(parts: Parts) -> list[tuple[Place, Run]]:
    """The runs of the block, a token or note each, and where each begins."""
    cursor = Cursor(parts.block)
    found = []
    while (run := cursor.next()) is not None:
        found.append((cursor.place, run))
    return found


def check_rows(part: Part, start: Done, stop: Done, runs: list[Run]) -> None:
    """The part's rows between are those of these runs of its worker."""
    made = [run for run in runs if isinstance(run, RequestsRun)]
    columns = part.requests(start.requests, stop.requests)
    for name, _ in REQUEST_COLUMNS:
        assert getattr(columns, name) == b"".join(getattr(run.columns, name) for run in made)
    ids = [run.first_id + row for run in made for row in range(run.count)]
    assert part.ids[start.requests : stop.requests].tolist() == ids
    came = part.completions(start.completions, stop.completions)
    for name in ("sequence", "result", "digest", "contents"):
        columns_of = (run.columns for run in runs if isinstance(run, CompletionsRun))
        assert getattr(came, name) == b"".join(getattr(one, name) for one in columns_of)
    tokens = [run for run in runs if isinstance(run, TokenRun)]
    turns = part.between(start, stop)
    for name in ("clock_ns", "deadline_ns", "mode", "released", "delivered"):
        assert getattr(turns, name).tolist() == [getattr(run, name) for run in tokens]
    counts, count = [], 0
    for run in runs:
        if isinstance(run, RequestsRun):
            count += run.count
        elif isinstance(run, TokenRun):
            counts.append(count)
            count = 0
    assert turns.requests.tolist() == counts
    orders = part.orders(start.tokens, stop.tokens) or [None] * len(tokens)
    assert orders == [run.order for run in tokens]


def check_part(part: Part, runs: list[tuple[Place, Run]]) -> None:
    """The whole part."""
    own = [run for _, run in runs if run.worker == part.worker]
    noted, pending = [], False
    for run in own:
        pending |= isinstance(run, NoteRun)
        if isinstance(run, TokenRun):
            noted.append(pending)
            pending = False
    assert part.noted().tolist() == [*noted, pending]
    check_rows(part, *part.all, own)
    found = [
        (first + row, first_id + row) for first, first_id, count in part.id_ranges() for row in range(count)
    ]
    assert found == [
        (run.first_sequence + row, run.first_id + row)
        for run in own
        if isinstance(run, RequestsRun)
        for row in range(run.count)
    ]


def passed_until(runs: list[tuple[Place, Run]], start: int, passed: list[int]) -> int:
    """The first of the runs from `start` on that some worker has not passed, one by one."""
    left = list(passed)
    for at in range(start, len(runs)):
        run = runs[at][1]
        if isinstance(run, CompletionsRun):
            continue
        if isinstance(run, NoteRun) or not left[run.worker]:
            return at
        left[run.worker] -= isinstance(run, TokenRun)
    return len(runs)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 60),
    workers=st.integers(1, 4),
    flush_every=st.sampled_from([0, 3, 9, 30]),
)
def test_parts_say_what_runs_say(folder: Path, seed: int, steps: int, workers: int, flush_every: int) -> None:
    rng = random.Random(seed)
    calls = make_run(seed, steps=steps, workers=workers)
    write(folder / "tape", make_header(workers=workers), calls, flush_every=flush_every)
    with TapeReader.open(folder / "tape") as reader:
        for block in reader.blocks():
            parts = Parts(block)
            runs = placed(parts)
            places = [place for place, _ in runs] + [parts.end]
            assert [run for _, run in runs] == list(block.runs())
            for part in parts.of:
                check_part(part, runs)
            for _ in range(5):
                start = rng.randrange(len(runs))
                passed = [rng.choice((0, 1, 2, 5, 100)) for _ in range(workers)]
                stop = passed_until(runs, start, passed)
                assert parts.end_of(places[start], passed) == places[stop]
                for part in parts.of:
                    own = [run for _, run in runs[start:stop] if run.worker == part.worker]
                    check_rows(part, part.done(places[start]), part.done(places[stop]), own)
                if stop > start:
                    assert parts.latest_ns(places[start], places[stop]) == max(
                        run.at_ns for _, run in runs[start:stop]
                    )
