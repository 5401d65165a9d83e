"""Exact order statistics of one map on the processor, by partitions: a rank needs no sort.

Axes: `P` pixels of a map.
"""

from __future__ import annotations

import numpy as np


def value_of_rank(values: np.ndarray, rank: int) -> np.floating:
    """Return the value [] of `rank` (0 the smallest) among `values` [P]."""
    return np.partition(values, rank)[rank]


def mean_of_highest(values: np.ndarray, count: int) -> float:
    """Return the mean of the `count` highest of `values` [P], summed in float64."""
    first = values.size - count
    return float(np.partition(values, first)[first:].mean(dtype=np.float64))


def rank_and_mean(values: np.ndarray, rank: int, count: int) -> tuple[np.floating, float]:
    """Return `value_of_rank` and `mean_of_highest` together, for `rank` ≤ P − `count`.

    All that the mean needs lies above the rank, so the second partition is of that part alone.
    """
    upper = np.partition(values, rank)[rank:]
    return upper[0], mean_of_highest(upper, count)


def count(rows: np.ndarray) -> np.ndarray:
    """Return int64 [n], how many are true in each of `rows` [n, ...] bool."""
    return np.array([np.count_nonzero(row) for row in rows], dtype=np.int64)
