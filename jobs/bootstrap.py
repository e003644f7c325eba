"""Confidence intervals of differences, by resampling what was measured.

They are the bootstrap's percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993), with one
fixed seed, so that the same reports always give the same intervals. Runs are resampled whole. Intervals of one run are
not independent of those beside them, so blocks of neighbours are resampled (the moving-block bootstrap: Künsch, The
Annals of Statistics 17(3), 1989).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SEED = 1
RESAMPLES = 4000
CONFIDENCE = 0.95
#: Fewer runs a report, or fewer intervals a run, are too few to say anything of.
RUNS_MIN = 3
INTERVALS_MIN = 20

Column = NDArray[np.float64]


class Range(NamedTuple):
    """Where a ratio lies, with a confidence of `CONFIDENCE`."""

    low: float
    high: float


def ratio_of_means(before: Column, after: Column) -> Range | None:
    """Of the mean of some runs to that of others; None where runs are too few, or the ratio has no bounds."""
    if min(len(before), len(after)) < RUNS_MIN:
        return None
    rng = np.random.default_rng(SEED)
    return _range(
        *(
            values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
            for values in (before, after)
        )
    )


def ratio_of_rates(before: tuple[Column, Column], after: tuple[Column, Column]) -> Range | None:
    """Of sums over sums (as the time of all requests over their number), a row for each interval of a run.

    None where intervals are too few, or the ratio has no bounds.
    """
    if min(len(before[0]), len(after[0])) < INTERVALS_MIN:
        return None
    rng = np.random.default_rng(SEED)
    rates = []
    for above, below in (before, after):
        rows = _blocks(rng, len(above))
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(above[rows].sum(1) / below[rows].sum(1))
    return _range(*rates)


def _blocks(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Rows of resamples: blocks of neighbours, as long as the cube root of how many there are asks for."""
    length = math.ceil(count ** (1 / 3))
    starts = rng.integers(0, count - length + 1, (RESAMPLES, math.ceil(count / length)))
    rows = (starts[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)
    cut: NDArray[np.int64] = rows[:, :count]
    return cut


def _range(before: Column, after: Column) -> Range | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = after / before
    if not np.isfinite(ratios).all():
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return Range(float(low), float(high))
