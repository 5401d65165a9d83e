"""How sure a number is, and whether one model is better than another.

Axes: `N` clips of the test set, `R` seeds (runs that differ in nothing else), `k` resamples.

Intervals are percentile bootstraps over clips, and over seeds where there are several; comparisons are
paired, for both models saw the same clips. With few seeds the interval over seeds is itself rough: say how
many there were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000
LEVEL = 0.95
_CHUNK = 200


@dataclass(frozen=True)
class Estimate:
    """A mean and the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Say whether all of the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class McNemar:
    """Clips that only one of two models gets right, and how likely so uneven a split is if they are equal."""

    only_first: int
    only_second: int
    p_value: float


def bootstrap(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return the mean of per-clip `values`, [N] or [R, N] over seeds, with its interval. NaN values are left
    out.

    A clip that any seed has no value for is left out of all.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    values = values[:, ~np.isnan(values).any(0)]
    if not values.size:
        raise ValueError("expected at least one clip with a value")
    means = np.concatenate(list(_resampled_means(values, resamples, np.random.default_rng(seed))))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def paired_difference(
    first: np.ndarray, second: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Return mean(second − first) with its interval; both [N] or [R, N], rows and clips in one order."""
    if np.shape(first) != np.shape(second):
        raise ValueError(f"expected values of one shape, got {np.shape(first)} and {np.shape(second)}")
    return bootstrap(np.asarray(second, float) - np.asarray(first, float), resamples, seed)


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """Return the exact two-sided McNemar test of two models' right and wrong clips, bool [N]."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    decided = only_first + only_second
    p_value = float(binomtest(only_first, decided).pvalue) if decided else 1.0
    return McNemar(only_first, only_second, p_value)


def verdict(first: str, second: str, metric: str, difference: Estimate, clips: int, seeds: int) -> str:
    """Return the comparison as one plain sentence."""
    over = f"{clips} clips, {seeds} seeds" if seeds > 1 else f"{clips} clips, one seed"
    interval = f"95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}, {over}"
    if not difference.excludes_zero:
        points = f"{100 * difference.value:+.1f}"
        return f"{metric}: these clips cannot tell {first} and {second} apart ({points} points; {interval})."
    better, worse = (second, first) if difference.value > 0 else (first, second)
    points = f"{100 * abs(difference.value):.1f}"
    return f"{metric}: {better} is better than {worse} by {points} points ({second} − {first}: {interval})."


def _resampled_means(values: np.ndarray, resamples: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the means [≤ chunk] of resampled seeds and clips of `values` [R, N]."""
    seeds, clips = values.shape
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        mean_over_seeds = values[random.integers(seeds, size=(count, seeds))].mean(1)
        drawn = random.integers(clips, size=(count, clips))
        yield np.take_along_axis(mean_over_seeds, drawn, axis=1).mean(1)
