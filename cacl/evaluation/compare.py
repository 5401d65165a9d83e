"""How sure a number is, and whether one model is better than another.

Axes: `N` clips of the test set, `R` seeds (runs that differ in nothing else), `k` resamples.

Intervals are percentile bootstraps over clips, and over seeds where there are several; comparisons are
paired, for both models saw the same clips. A resample is a weight for every clip: how often it was drawn.
With few seeds the interval over seeds is itself rough: say how many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000
LEVEL = 0.95
LOWER_IS_BETTER = ("silent_false_positives", "peak_in_first_box")
"""Numbers that count mistakes."""
_CHUNK = 200
_CURVE_RESAMPLES = 2_000
"""Of numbers that rank all clips anew in every resample; an end of their interval is known to 2 % of it."""


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


@dataclass(frozen=True)
class Statistic:
    """A number as a function of how often each clip counts, of several seeds at once."""

    clips: int
    """N."""
    of: Callable[[np.ndarray], np.ndarray]
    """From weights [k, N] to values [k, R]."""
    resamples: int = RESAMPLES

    def interval(self, seed: int = 0) -> Estimate:
        """Return the mean over seeds with its interval over clips and seeds."""
        value = float(self.of(np.ones((1, self.clips))).mean())
        means = np.concatenate(list(self._resampled(np.random.default_rng(seed))))
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(value, float(low), float(high))

    def less(self, first: Statistic) -> Statistic:
        """Return this number minus that of `first`, of the same clips and seeds: the pairing is kept."""
        return Statistic(self.clips, lambda weights: self.of(weights) - first.of(weights), self.resamples)

    def _resampled(self, random: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield the means [≤ chunk] over drawn seeds of the values of drawn clips."""
        for start in range(0, self.resamples, _CHUNK):
            count = min(_CHUNK, self.resamples - start)
            drawn = random.integers(self.clips, size=(count, self.clips))
            drawn += self.clips * np.arange(count)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
            values = self.of(weights.astype(np.float64))
            seeds = random.integers(values.shape[1], size=values.shape)
            yield np.take_along_axis(values, seeds, axis=1).mean(1)


def mean_over_clips(values: np.ndarray, resamples: int = RESAMPLES) -> Statistic:
    """Return the mean of per-clip `values`, [N] or [R, N] over seeds.

    A clip that any seed has no value for (NaN) is left out of all. Raises ValueError if none is left.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    values = values[:, ~np.isnan(values).any(0)]
    if not values.size:
        raise ValueError("expected at least one clip with a value")
    return Statistic(values.shape[1], lambda weights: weights @ values.T / weights.sum(1)[:, None], resamples)


def curve_number(of_seeds: list[Callable[[np.ndarray], np.ndarray]], clips: int) -> Statistic:
    """Return a number of R seeds that each give as a function from weights [k, N] to values [k]."""
    return Statistic(
        clips, lambda weights: np.stack([of(weights) for of in of_seeds], axis=1), _CURVE_RESAMPLES
    )


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
    higher, lower = (second, first) if difference.value > 0 else (first, second)
    better, worse = (lower, higher) if metric in LOWER_IS_BETTER else (higher, lower)
    points = f"{100 * abs(difference.value):.1f}"
    return f"{metric}: {better} is better than {worse} by {points} points ({second} − {first}: {interval})."
