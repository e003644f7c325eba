"""Goal: completions leave the queue in the order that was chosen, and the tape's way to write an order says which.

Method: random queues and choices, beside Python lists.
"""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from ringtape.coordinator.completions import CompletionQueue, Released, order_of_places
from ringtape.proto import messages_pb2

ROWS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)),
    max_size=12,
)
Rows = list[tuple[int, int, int]]


def columns(rows: Rows, *, digests: bool) -> messages_pb2.Completions:
    return messages_pb2.Completions(
        sequence=b"".join(struct.pack("<Q", row[0]) for row in rows),
        result=b"".join(struct.pack("<q", row[1]) for row in rows),
        digest=b"".join(struct.pack("<Q", row[2]) for row in rows) if digests else b"",
    )


def rows_of(released: Released, *, digests: bool) -> Rows:
    sequences = memoryview(released.sequences).cast("Q")
    results = memoryview(released.results).cast("q")
    assert len(sequences) == len(results) == released.count
    told = memoryview(released.digests).cast("Q") if digests else [0] * released.count
    assert digests or released.digests == b""
    return list(zip(sequences, results, told, strict=True))


@settings(max_examples=300)
@given(st.data(), st.booleans())
def test_what_is_chosen_leaves_in_its_order_and_the_rest_stays(data: st.DataObject, digests: bool) -> None:
    queue, model = CompletionQueue(), list[tuple[int, int, int]]()
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(ROWS)
        queue.add(columns(rows, digests=digests))
        model += [row if digests else (row[0], row[1], 0) for row in rows]
        assert len(queue) == len(model)
        assert queue.sequences().tolist() == [row[0] for row in model]
        places = data.draw(st.permutations(range(len(model))))[: data.draw(st.integers(0, len(model)))]
        if data.draw(st.booleans()):
            places = list(range(len(places)))
            released = queue.first(len(places))
        else:
            released = queue.chosen(order_of_places(places))
        assert rows_of(released, digests=digests) == [model[place] for place in places]
        queue.take(released)
        model = [row for place, row in enumerate(model) if place not in places]
    assert rows_of(queue.first(len(queue)), digests=digests) == model


@given(st.permutations(range(9)), st.integers(0, 9))
def test_an_order_is_of_zeros_if_and_only_if_the_oldest_leave_one_after_another(
    permutation: list[int], count: int
) -> None:
    """The tape leaves such an order out."""
    places = permutation[:count]
    assert (not any(order_of_places(places))) == (places == list(range(count)))


@given(st.permutations(range(9)), st.integers(0, 9))
def test_an_order_removes_one_after_the_other(permutation: list[int], count: int) -> None:
    places, left = permutation[:count], list(range(9))
    assert [left.pop(place) for place in order_of_places(places)] == places
