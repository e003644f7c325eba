"""Goal: a set of blocks holds what was added. Method: a plain set of numbers says what that is."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ringtape.proto.ranges import BlockSet

# Near the ends of stretches, within one and over several.
PLACES = st.integers(0, 40) | st.integers(4080, 4110) | st.integers(8180, 12300)
RANGES = st.tuples(PLACES, st.integers(1, 40) | st.integers(4000, 9000)).map(lambda r: (r[0], r[0] + r[1]))


@given(st.lists(RANGES, max_size=6), RANGES)
def test_what_is_missing_is_what_was_not_added(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    blocks, model = BlockSet(), set()
    for start, end in added:
        blocks.add(start, end)
        model |= set(range(start, end))
    missing = list(blocks.missing(*asked))
    assert [block for start, end in missing for block in range(start, end)] == sorted(
        set(range(*asked)) - model
    )
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(missing)), "whole ranges"
    assert blocks.has(*asked) == (not missing)


def test_a_set_of_whole_stretches_takes_no_more_than_their_keys() -> None:
    blocks = BlockSet()
    for start in range(0, 1 << 20, 512):
        blocks.add(start, start + 512)
    assert len(set(map(id, blocks._stretches.values()))) == 1
