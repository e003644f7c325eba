"""Goal: random places are distributed as their definitions say. Method: many draws with a seed, held against them.

The bounds are five standard errors or more, so that only another distribution fails; the seed is always the same.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringtape.jobs import offsets
from ringtape.jobs.blocks import Blocks
from ringtape.jobs.errors import JobError

DRAWS = 200_000


def generator() -> np.random.Generator:
    return np.random.default_rng(20)


def check_counts(counts: np.ndarray, expected: np.ndarray) -> None:
    """Each count within five standard deviations of what is expected."""
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected) + 1).all()


@given(count=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_a_permutation_has_each_number_once(count: int, key: int) -> None:
    order = offsets.Permutation(count, key)(np.arange(count, dtype=np.uint64))
    assert sorted(order.tolist()) == list(range(count))


def test_a_permutation_looks_random_and_another_key_gives_another() -> None:
    numbers = np.arange(10_000, dtype=np.uint64)
    first, other = (offsets.Permutation(10_000, key)(numbers) for key in (1, 2))
    for order in (first, other):
        assert abs(np.corrcoef(numbers, order)[0, 1]) < 0.05
        assert (np.diff(order) == 1).sum() < 20
    assert (first == other).sum() < 20


def test_covering_comes_to_each_place_once_and_then_in_another_order() -> None:
    draw = offsets.covering(1000, generator())
    drawn = np.concatenate([draw(count) for count in (1, 499, 700, 800)])
    first, second = drawn[:1000], drawn[1000:2000]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(1000))
    assert (first == second).sum() < 20


def test_uniform_comes_to_all_places_alike() -> None:
    drawn = offsets.uniform(64, generator())(DRAWS)
    check_counts(np.bincount(drawn, minlength=64), np.full(64, DRAWS / 64))


@pytest.mark.parametrize("theta", [0.5, 0.99, 1.0, 1.2, 3.0])
def test_zipf_ranks_have_their_shares(theta: float) -> None:
    places, key = 500, 77
    drawn = offsets.zipf(places, theta, generator(), key)(DRAWS)
    ranked = offsets.Permutation(places, key)(np.arange(places, dtype=np.uint64))
    shares = np.arange(1, places + 1) ** -theta
    check_counts(np.bincount(drawn, minlength=places)[ranked], DRAWS * shares / shares.sum())


def test_zipf_has_a_share_for_one_place_and_for_very_many() -> None:
    assert set(offsets.zipf(1, 1.1, generator(), 1)(100).tolist()) == {0}
    many = offsets.zipf(1 << 40, 1.1, generator(), 1)(10_000)
    assert many.min() >= 0
    assert many.max() < 1 << 40
    # The sum over all is by the integral, which is exact to the last digit that matters here.
    total = sum(k**-1.1 for k in range(1, 1000)) + (999.5**-0.1 - (1 << 40) ** -0.1) / 0.1
    wanted = int(np.bincount(np.unique(many, return_inverse=True)[1]).max())
    assert abs(wanted - 10_000 / total) < 5 * math.sqrt(10_000 / total)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_pareto_is_self_similar(share: float) -> None:
    places, key = 10_000, 5
    drawn = offsets.pareto(places, share, generator(), key)(DRAWS)
    ranked = offsets.Permutation(places, key)(np.arange(places, dtype=np.uint64))
    counts = np.bincount(drawn, minlength=places)[ranked]
    for times in (1, 2, 3):
        inside = counts[: round(places * share**times)].sum()
        expected = DRAWS * (1 - share) ** times
        assert abs(inside - expected) < 5 * math.sqrt(expected), (times, inside, expected)


def test_normal_is_about_the_middle() -> None:
    places = 100_000
    drawn = offsets.normal(places, 10, generator())(DRAWS)
    assert abs(drawn.mean() - places / 2) < 5 * places / 10 / math.sqrt(DRAWS)
    assert abs(drawn.std() - places / 10) < 100
    within = (np.abs(drawn - places / 2) < places / 10).mean()
    assert abs(within - math.erf(1 / math.sqrt(2))) < 0.006
    wide = offsets.normal(64, 100, generator())(DRAWS)
    assert (wide.min(), wide.max()) == (0, 63)


def test_sequential_goes_round_and_cuts_what_does_not_fit() -> None:
    places, lengths = offsets.Sequential(10).place(np.array([4, 4, 4, 4, 4, 4]))
    assert places.tolist() == [0, 4, 8, 0, 4, 8]
    assert lengths.tolist() == [4, 4, 2, 4, 4, 2]
    even = offsets.Sequential(12)
    assert even.place(np.array([4, 4]))[0].tolist() == [0, 4]
    assert even.place(np.array([4, 4]))[0].tolist() == [8, 0]
    assert even.place(np.array([2, 12]))[0].tolist() == [4, 6]


@given(
    size=st.integers(1, 40),
    parts=st.lists(st.lists(st.integers(1, 9), min_size=0, max_size=30), min_size=1, max_size=4),
)
def test_sequential_is_one_step_after_the_other(size: int, parts: list[list[int]]) -> None:
    sequence = offsets.Sequential(size)
    at = 0
    for part in parts:
        places, lengths = sequence.place(np.array(part, np.int64))
        for wanted, place, length in zip(part, places.tolist(), lengths.tolist(), strict=True):
            assert (place, length) == (at, min(wanted, size - at))
            at = (at + length) % size


def test_sizes_are_drawn_as_asked() -> None:
    assert set(Blocks.parse("4k").draw(generator(), 10).tolist()) == {4096}
    ranged = Blocks.parse("4k-16k").draw(generator(), DRAWS)
    check_counts(np.bincount(ranged // 4096)[1:], np.full(4, DRAWS / 4))
    split = Blocks.parse("4k/60:64k/10:8k")
    assert split == Blocks((4096, 65536, 8192), (60, 10, 30))
    drawn = split.draw(generator(), DRAWS)
    counts = np.array([(drawn == size).sum() for size in split.sizes])
    check_counts(counts, DRAWS * np.array([0.6, 0.1, 0.3]))
    assert (split.unit, split.largest) == (4096, 65536)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("4", "4 must be a multiple of 512"),
        ("x", "'x' is not a size"),
        ("4k-", "'' is not a size"),
        ("64k-4k", "the upper end of a range"),
        ("4k-10k", "the upper end of a range"),
        ("4k/60:8k/50", "the shares come to 110 %"),
        ("4k/60:8k/20", "the shares come to 80 %"),
        ("4k/x:8k", "the share 'x' is not a number"),
        ("2g", "1G at most"),
    ],
)
def test_sizes_that_cannot_be(text: str, problem: str) -> None:
    with pytest.raises(JobError, match=problem) as caught:
        Blocks.parse(text)
    assert str(caught.value).startswith(f"bs {text}")
