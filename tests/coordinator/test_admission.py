"""Goal: on shared disks conflicting requests are never admitted together, the lower id goes first, and all go at last.

Method: random requests of several workers, told and completed in any order a worker could tell them, beside a model
that compares ranges pair by pair.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.admission import Admissions
from ringtape.proto import messages_pb2
from tests.coordinator.test_columns import Row, packed, requests

SHARED = [True, False, True]
WORKERS = 3


class Model:
    """Requests by id: worker, sequence number, row, and whether it was admitted or has completed."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, Row]] = []
        self.admitted: set[tuple[int, int]] = set()
        self.completed: set[tuple[int, int]] = set()

    def ordered(self, row: Row) -> bool:
        return SHARED[row[2]] and row[0] != messages_pb2.KIND_FSYNC

    def may_go(self) -> set[tuple[int, int]]:
        """What has nothing before it that conflicts and has not completed."""
        free = set()
        for place, (worker, sequence, row) in enumerate(self.rows):
            before = (one for one in self.rows[:place] if one[:2] not in self.completed)
            if self.ordered(row) and not any(conflict(row, one[2]) for one in before):
                free.add((worker, sequence))
        return free


def conflict(one: Row, other: Row) -> bool:
    if one[2] != other[2] or messages_pb2.KIND_FSYNC in (one[0], other[0]):
        return False
    overlap = one[3] < other[3] + other[4] and other[3] < one[3] + one[4]
    return overlap and not one[0] == other[0] == messages_pb2.KIND_READ


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32))
def test_what_conflicts_goes_one_after_another_in_the_order_of_ids(seed: int) -> None:
    rng = random.Random(seed)
    admissions, model = Admissions(SHARED, WORKERS), Model()
    made = [0] * WORKERS
    for _ in range(60):
        if rng.random() < 0.5:
            worker = rng.randrange(WORKERS)
            rows: list[Row] = []
            for _ in range(rng.randint(1, 4)):
                kind = rng.randint(1, 5)
                place = 0 if kind == 5 else 512 * rng.randrange(8)
                length = 0 if kind == 5 else 512 * rng.randint(1, 4)
                rows.append((kind, 0, rng.randrange(len(SHARED)), place, length, 0, 0))
            admissions.requests(worker, made[worker], requests(rows), len(rows))
            model.rows += [(worker, made[worker] + i, row) for i, row in enumerate(rows)]
            made[worker] += len(rows)
        else:
            complete_some(rng, admissions, model)
        take(admissions, model)
    while any(model.ordered(row) and (w, s) not in model.completed for w, s, row in model.rows):
        assert model.admitted - model.completed, "nothing can go on"
        complete_some(rng, admissions, model)
        take(admissions, model)


def complete_some(rng: random.Random, admissions: Admissions, model: Model) -> None:
    worker = rng.randrange(WORKERS)
    ordered = sorted(one for one in model.admitted - model.completed if one[0] == worker)
    free = [(w, s) for w, s, row in model.rows if w == worker and not model.ordered(row)]
    done = [one for one in ordered if rng.random() < 0.7] + rng.sample(free, rng.randint(0, len(free)))
    model.completed |= set(done)
    admissions.completed(worker, packed("Q", [sequence for _, sequence in done]))


def take(admissions: Admissions, model: Model) -> None:
    taken = admissions.take()
    assert len({worker for worker, _ in taken}) == len(taken), "one message a worker"
    new = {(worker, sequence) for worker, column in taken for sequence in memoryview(column).cast("Q")}
    assert not new & model.admitted, "admitted twice"
    model.admitted |= new
    assert model.may_go() - model.completed == model.admitted - model.completed


def test_without_shared_disks_nothing_is_kept() -> None:
    admissions = Admissions([False, False], 1)
    admissions.requests(0, 0, requests([(2, 0, 0, 0, 512, 0, 0)]), 1)
    admissions.completed(0, packed("Q", [0]))
    assert not admissions.any and admissions.take() == []
