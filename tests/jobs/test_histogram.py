"""A histogram's percentiles are as near as it says, its sums are exact, and merging comes to the same in any order."""

from __future__ import annotations

import math
import pickle
import statistics
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.jobs import histogram
from ringtape.jobs.histogram import ERROR, Histogram

TIMES = st.integers(0, 2**63 - 1) | st.integers(0, 5000) | st.integers(50_000, 80_000)
SOME = st.lists(TIMES, min_size=1, max_size=300)


def of(values: list[int]) -> Histogram:
    made = Histogram()
    made.add(np.array(values, dtype=np.int64))
    return made


def rank_of(share: float, count: int) -> int:
    return max(1, math.ceil(share * count))


@given(values=SOME, share=st.floats(0.001, 1))
def test_percentiles_are_off_by_no_more_than_they_say(values: list[int], share: float) -> None:
    both = of(values[::2])
    both.merge(of(values[1::2]))
    exact = sorted(values)[rank_of(share, len(values)) - 1]
    assert ERROR == 2**-7
    assert abs(both.percentile(share) - exact) <= ERROR * exact
    assert (both.min, both.max, both.count) == (min(values), max(values), len(values))


def test_buckets_follow_one_another() -> None:
    powers = [1 << bits for bits in range(64)]
    values = sorted({*range(5000), *powers, *(power - 1 for power in powers), 2**64 - 1})
    buckets = histogram.buckets_of(np.array(values, dtype=np.uint64)).tolist()
    assert buckets == sorted(buckets)
    for value, bucket in zip(values, buckets, strict=True):
        low, high = histogram.edges_of(bucket)
        assert low <= value <= high
        assert abs(histogram.middle_of(bucket) - value) <= ERROR * value


@given(values=st.lists(TIMES, max_size=300))
def test_mean_and_deviation_are_exact(values: list[int]) -> None:
    """Against Python's own, which are exact as well, also where squares are far beyond 64 bits."""
    made = of(values)
    assert made.sum == sum(values)
    assert made.mean == (sum(values) / len(values) if values else 0)
    expected = statistics.stdev(values) if len(values) > 1 else 0
    assert made.stddev == pytest.approx(expected, rel=1e-12)


@given(parts=st.lists(st.lists(TIMES, max_size=50), min_size=3, max_size=3))
def test_merging_is_the_same_in_any_order_and_grouping(parts: list[list[int]]) -> None:
    whole = of([value for part in parts for value in part])
    for order in permutations(parts):
        left, right, tail = (of(part) for part in order)
        right_first = right.copy()
        right_first.merge(tail)
        grouped = left.copy()
        grouped.merge(right_first)
        left.merge(right)
        left.merge(tail)
        assert left == grouped == whole


@given(before=st.lists(TIMES, max_size=50), after=st.lists(TIMES, max_size=50), share=st.floats(0.001, 1))
def test_what_was_added_since_a_copy(before: list[int], after: list[int], share: float) -> None:
    made = of(before)
    copy = made.copy()
    made.add(np.array(after, dtype=np.int64))
    new = made.since(copy)
    assert (new.count, new.sum) == (len(after), sum(after))
    if after:
        assert new.mean == sum(after) / len(after)
        exact = sorted(after)[rank_of(share, len(after)) - 1]
        assert abs(new.percentile(share) - exact) <= ERROR * exact


@given(values=SOME, cut=st.data())
def test_the_share_up_to_a_value(values: list[int], cut: st.DataObject) -> None:
    """Between what is exact of the value itself and of the far end of its bucket."""
    at = cut.draw(st.sampled_from(values) | TIMES)
    share = float(of(values).share_up_to(np.array([at]))[0])
    far = histogram.edges_of(int(histogram.buckets_of(np.array([at]))[0]))[1]
    low, high = (sum(value <= end for value in values) / len(values) for end in (at, far))
    assert low <= share <= high


@given(values=st.lists(TIMES, max_size=300))
def test_bytes_and_pickles_bring_it_back(values: list[int]) -> None:
    made = of(values)
    assert Histogram.from_bytes(made.to_bytes()) == made
    assert pickle.loads(pickle.dumps(made)) == made
    assert of(values[::-1]).to_bytes() == made.to_bytes()


@pytest.mark.parametrize("cut", [0, 10, 83, 84, 93])
def test_bytes_that_are_cut_are_refused(cut: int) -> None:
    whole = of([5]).to_bytes()
    assert len(whole) > cut
    with pytest.raises(ValueError, match="histogram"):
        Histogram.from_bytes(whole[:cut])


def test_bytes_that_do_not_add_up_are_refused() -> None:
    whole = bytearray(of([5, 6]).to_bytes())
    whole[0] += 1
    with pytest.raises(ValueError, match="add up"):
        Histogram.from_bytes(bytes(whole))


def test_memory_is_bounded() -> None:
    """From 0 to the largest time there is, in as many buckets as there are."""
    made = of([0, 2**63 - 1])
    assert made._counts.nbytes <= 30 << 10
