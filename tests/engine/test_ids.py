"""Goal: a request's id is the one that was told. Method: ranges of random lengths, beside a table of each request."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ringtape.engine.ids import Ids
from ringtape.proto import wire_pb2


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=400), st.data())
def test_ids_are_those_that_were_told(ranges: list[tuple[int, int]], data: st.DataObject) -> None:
    ids, table = Ids(), {}
    sequence, number = 0, 1
    for count, gap in ranges:
        number += gap  # requests of other workers
        ids.add([wire_pb2.IdRange(first_sequence=sequence, first_id=number, count=count)])
        table.update({sequence + i: number + i for i in range(count)})
        sequence, number = sequence + count, number + count
    oldest = data.draw(st.integers(0, sequence - 1))
    ids.forget(oldest)
    known = list(range(oldest, sequence))
    assert [ids.of(one) for one in known] == [table[one] for one in known]
    assert ids.of_many(np.array(known)).tolist() == [table[one] for one in known]


def test_ids_that_nobody_asks_for_any_more_are_forgotten() -> None:
    ids = Ids()
    for number in range(100_000):
        ids.add([wire_pb2.IdRange(first_sequence=number, first_id=2 * number + 1, count=1)])
        ids.forget(number)
    assert len(ids) < 1000
