"""Goal: a row waits exactly while an earlier row that it conflicts with has not completed. Method: rows at random that
are entered in parts while others complete, beside the rule taken at its word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringtape.engine.row_order import RowOrder, asked
from ringtape.engine.rows import RowDisk, Rows

FIELDS = [("kind", "u1"), ("disk", "u1"), ("offset", "i8"), ("length", "i8")]
DISKS = [RowDisk(number, f"d{number}", 1 << 20, 512, lambda *_: None) for number in range(2)]
SECTOR = 512

requests = st.tuples(
    st.sampled_from([1, 2]), st.integers(0, 1), st.integers(0, 40), st.sampled_from([1, 1, 1, 2, 8, 60])
)


def rows_of(some: list[tuple[int, int, int, int]]) -> Rows:
    array = np.array(some, FIELDS)
    array["offset"] *= SECTOR
    array["length"] *= SECTOR
    rows = Rows(array, DISKS)
    rows.start[:] = np.arange(len(some)) * 4096
    return rows


def conflict(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    apart = one[2] + one[3] <= other[2] or other[2] + other[3] <= one[2]
    return one[1] == other[1] and not apart and 2 in (one[0], other[0])


@given(some=st.lists(requests, min_size=1, max_size=40), parts=st.integers(1, 5), data=st.data())
def test_a_row_waits_while_an_earlier_one_that_it_conflicts_with_is_active(
    some: list[tuple[int, int, int, int]], parts: int, data: Any
) -> None:
    rows, order = rows_of(some), RowOrder()
    entered, active, freed = 0, set[int](), set[int]()
    while entered < len(some) or active:
        free = [one for one in sorted(active) if one not in order.blockers]
        if entered < len(some) and (not free or data.draw(st.booleans(), "enter")):
            last = min(len(some), entered + -(-len(some) // parts))
            before = asked(rows, np.array(sorted(active), np.int64))
            waiting = order.enter(before, asked(rows, np.arange(entered, last)), 1 << 40)
            active.update(range(entered, last))
            entered = last
            assert set(waiting) <= active
        else:
            one = data.draw(st.sampled_from(free), "completes")
            active.remove(one)
            freed = set(order.complete([one]))
            assert not freed & set(order.blockers)
        expected = {
            one for one in active if any(other < one and conflict(some[other], some[one]) for other in active)
        }
        assert set(order.blockers) == expected
    assert not order.waited_for


def test_a_row_that_went_its_own_way_is_still_waited_for() -> None:
    rows, order = rows_of([(2, 0, 0, 4), (2, 0, 2, 4), (1, 0, 5, 1)]), RowOrder()
    assert order.enter(asked(rows, np.arange(0)), asked(rows, np.arange(3)), 1 << 40) == [1, 2]
    order.leave(1)
    assert order.blockers == {2: 1}
    assert order.complete([0]) == []
    assert order.complete([1]) == [2]


def test_rows_too_far_apart_to_be_active_together_are_not_compared() -> None:
    rows, order = rows_of([(2, 0, 0, 1)] * 5), RowOrder()
    assert order.enter(asked(rows, np.arange(0)), asked(rows, np.arange(5)), 4096) == []
    assert order.enter(asked(rows, np.arange(0)), asked(rows, np.arange(5)), 2 * 4096) == [1, 2, 3, 4]
