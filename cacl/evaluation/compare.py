"""How sure a number is, and whether one model is better than another.

Axes: `N` clips of the test set, `R` seeds (runs that differ in nothing else), `k` resamples.

Intervals are percentile bootstraps over clips, and over seeds where there are several; comparisons are
paired, for both models saw the same clips. A resample is a weight for every clip: how often it was drawn.
With few seeds the interval over seeds is itself rough: say how many there were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000
LEVEL = 0.95
_LOWER_IS_BETTER = re.compile(
    r"silent_false_positives|peak_in_first_box|pia_\w+|iou_positive_(silence|noise|offscreen)"
    r"|(class_)?mean_rank_\w+"
)
"""Numbers that count mistakes, and those of maps that should have nothing, or nothing of the own one."""
_CHUNK = 200
_BLOCK = 2**17
"""Weights that are held at once: a megabyte, which stays near the processor while numbers are made of it."""
_CURVE_RESAMPLES = 2_000
"""Of numbers that rank all clips anew in every resample; an end of their interval is known to 2 % of it."""


Name = TypeVar("Name", bound=Hashable)
Value = TypeVar("Value")
Weighted = Callable[[np.ndarray], np.ndarray]
"""From weights [k, N] to values, [k] or [k, R]."""


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
    of: Weighted
    """From weights [k, N] to values [k, R]."""
    resamples: int = RESAMPLES
    unit: str = "clips"
    """What is drawn: `pictures` where clips of one picture make one value."""

    def interval(self, seed: int = 0) -> Estimate:
        """Return the mean over seeds with its interval over clips and seeds."""
        return intervals({None: self}, seed)[None]

    def less(self, first: Statistic) -> Statistic:
        """Return this number minus that of `first`, of the same clips and seeds: the pairing is kept."""
        return replace(self, of=lambda weights: self.of(weights) - first.of(weights))


def intervals(numbers: Mapping[Name, Statistic], seed: int = 0) -> dict[Name, Estimate]:
    """Return the mean over seeds of each number with its interval over clips and seeds.

    Each is the number's own `interval`; together they are cheaper, for a resample is drawn once for all that
    have the same clips.
    """
    whole = {name: number.of(np.ones((1, number.clips))) for name, number in numbers.items()}
    alike: dict[tuple[int, ...], list[Name]] = {}
    for name, number in numbers.items():
        alike.setdefault((number.clips, number.resamples, whole[name].shape[1]), []).append(name)
    means: dict[Name, np.ndarray] = {}
    for (clips, resamples, seeds), names in alike.items():
        functions = [numbers[name].of for name in names]
        drawn = list(_resampled(functions, clips, resamples, seeds, np.random.default_rng(seed)))
        means |= zip(names, np.concatenate(drawn, axis=1), strict=True)
    found = {}
    for name in numbers:
        low, high = np.quantile(means[name], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Estimate(float(whole[name].mean()), float(low), float(high))
    return found


def _resampled(
    functions: list[Weighted], clips: int, resamples: int, seeds: int, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the means [functions, ≤ chunk] over drawn seeds of the values of drawn clips."""
    for start in range(0, resamples, _CHUNK):
        count = min(_CHUNK, resamples - start)
        parts = [[of(weights) for of in functions] for weights in _weights(clips, count, random)]
        values = [np.concatenate(blocks) for blocks in zip(*parts, strict=True)]
        drawn = random.integers(seeds, size=(count, seeds))
        yield np.stack([np.take_along_axis(one, drawn, axis=1).mean(1) for one in values])


def _weights(clips: int, resamples: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield how often each clip is drawn, float64 [k, clips], in blocks that are `resamples` together."""
    rows = max(1, _BLOCK // clips)
    for start in range(0, resamples, rows):
        drawn = random.integers(clips, size=(min(rows, resamples - start), clips))
        drawn += clips * np.arange(len(drawn))[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def once(function: Callable[[np.ndarray], Value]) -> Callable[[np.ndarray], Value]:
    """Return `function` with a memory of the newest weights, for numbers that are made of the same values."""
    newest: tuple[np.ndarray, Value] | None = None

    def remembered(weights: np.ndarray) -> Value:
        nonlocal newest
        if newest is None or newest[0] is not weights:
            newest = weights, function(weights)
        return newest[1]

    return remembered


def mean_over_clips(values: np.ndarray, resamples: int = RESAMPLES) -> Statistic:
    """Return the mean of per-clip `values`, [N] or [R, N] over seeds.

    A clip that any seed has no value for (NaN) is left out of all. Raises ValueError if none is left.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    values = values[:, ~np.isnan(values).any(0)]
    if not values.size:
        raise ValueError("expected at least one clip with a value")
    of = once(lambda weights: weights @ values.T / weights.sum(1)[:, None])
    return Statistic(values.shape[1], of, resamples)


def curve_number(of_seeds: list[Weighted], clips: int) -> Statistic:
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


def lower_is_better(metric: str) -> bool:
    """Say whether a number counts what should not be."""
    return _LOWER_IS_BETTER.fullmatch(metric) is not None


def verdict(
    first: str, second: str, metric: str, difference: Estimate, clips: int, seeds: int, unit: str = "clips"
) -> str:
    """Return the comparison as one plain sentence; `clips` of a `unit` were drawn."""
    over = f"{clips} {unit}, {seeds} seeds" if seeds > 1 else f"{clips} {unit}, one seed"
    interval = f"95 % interval {100 * difference.low:+.1f} to {100 * difference.high:+.1f}, {over}"
    if not difference.excludes_zero:
        points = f"{100 * difference.value:+.1f}"
        return f"{metric}: these {unit} cannot tell {first} and {second} apart ({points} points; {interval})."
    higher, lower = (second, first) if difference.value > 0 else (first, second)
    better, worse = (lower, higher) if lower_is_better(metric) else (higher, lower)
    points = f"{100 * abs(difference.value):.1f}"
    return f"{metric}: {better} is better than {worse} by {points} points ({second} − {first}: {interval})."
