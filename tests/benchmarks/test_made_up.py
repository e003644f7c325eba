"""Goal: made-up workers say what real ones could, and memory is told as it was.

Method: a small run of each shape is recorded, and the tape read back by the reader of tapes; growth on made-up samples.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ringtape.benchmarks.contenders import Case
from ringtape.benchmarks.jobs import JOBS
from ringtape.benchmarks.made_up import FLUSH_EVERY, SHAPES, Coordinator, Shape
from ringtape.benchmarks.memory import MIB, most_and_growth
from ringtape.coordinator.tape import TapeReader, iter_table, verify


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.title)
@pytest.mark.parametrize("workers", [1, 3])
def test_all_that_made_up_workers_say_is_on_a_sound_tape(tmp_path: Path, shape: Shape, workers: int) -> None:
    case = Case((), JOBS["volume"], tmp_path, "order")
    done = Coordinator(shape, workers).measure(case, 2 * shape.rows * workers + 1, 0)
    assert done.requests == 2 * shape.rows * workers
    tape = tmp_path / "made-up.tape"
    assert verify(tape).sound
    with TapeReader.open(tape) as reader:
        assert sum(len(rows) for rows in iter_table(reader)) == done.requests


def test_blocks_are_as_full_as_those_of_a_real_run(tmp_path: Path) -> None:
    shape = Shape(64)
    done = Coordinator(shape, 1).measure(Case((), JOBS["volume"], tmp_path, "order"), 3 * FLUSH_EVERY * 64, 0)
    with TapeReader.open(tmp_path / "made-up.tape") as reader:
        assert [block.request_count for block in reader.blocks()] == [done.requests]


def test_growth_is_from_the_first_quarter_to_the_rest() -> None:
    rows = [(0.1, 10 * MIB), (0.2, 30 * MIB), (0.3, 31 * MIB), (0.9, 33 * MIB), (1.0, 32 * MIB)]
    assert most_and_growth(rows) == (33, 3)
