"""Passes over the pixels of each map on the processor: compiled, and without Python's lock.

A rank needs neither a sort nor a partition: only how many pixels lie below a threshold, which a processor
counts many at a time. A sample of the pixels says roughly where it lies, and one pass marks each pixel by
a byte: below, near or above. Words of eight marks are counted; counts among the few near pixels find it.

Axes: `n` maps, `P` pixels of a map.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

_STRIDE, _MARGIN = 29, 0.006
"""Every so many pixels one is in the sample; the share of it that is allowed for its error."""
_WORD, _BLOCK = 8, 128
"""Pixels whose marks, a byte each, are looked at together; words whose marks a byte can count."""
_ONES, _EVEN, _SUM = (
    np.uint64(word) for word in (0x0101010101010101, 0x00FF00FF00FF00FF, 0x0001000100010001)
)
"""Of a word the lowest bit of each byte, every other byte, and the factor that adds four of these up."""


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function when it is first called, and keep the result on disk where a folder allows it."""
    try:
        return njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # no such folder
        return njit(function, nogil=True, **options)


@compiled
def thresholds(maps: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return thresholds [k, n]: numbers below which exactly `ranks` [k, n] pixels of each map lie.

    If pixels tie with the value of that rank (0 is the smallest), it is this value. `maps` is [n, P].
    """
    found, (near, marks, words) = np.empty(ranks.shape, maps.dtype), _room(maps)
    for row in range(len(maps)):
        values, sample = maps[row], _sample(maps[row])
        for k in range(len(ranks)):
            found[k, row] = _threshold(values, sample, ranks[k, row], near, marks, words)
    return found


@compiled
def thresholds_and_means(maps: np.ndarray, ranks: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `thresholds` [k, n], and float64 [n], the mean of the `count` highest pixels of each map."""
    found, means = np.empty(ranks.shape, maps.dtype), np.empty(len(maps))
    near, marks, words = _room(maps)
    for row in range(len(maps)):
        values, sample = maps[row], _sample(maps[row])
        for k in range(len(ranks)):
            found[k, row] = _threshold(values, sample, ranks[k, row], near, marks, words)
        lowest = _threshold(values, sample, len(values) - count, near, marks, words)
        means[row] = lowest + _excess(values, lowest) / count
    return found, means


@compiled
def overlaps(maps: np.ndarray, limits: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the pixels of `maps` [n, P] that are at least `limits` [k, n], and the true ones among them.

    Returns int64 [k, n] twice; `truth` is [n, P] bool.
    """
    predicted, inside = np.empty(limits.shape, np.int64), np.empty(limits.shape, np.int64)
    for row in range(len(maps)):
        for k in range(len(limits)):
            predicted[k, row], inside[k, row] = _overlap(maps[row], limits[k, row], truth[row])
    return predicted, inside


@compiled
def count(truth: np.ndarray) -> np.ndarray:
    """Return int64 [n], how many are true in each of `truth` [n, P] bool."""
    found, marks = np.empty(len(truth), np.int64), _marks(truth)
    for row in range(len(truth)):
        for pixel in range(truth.shape[1]):
            marks[pixel] = truth[row, pixel]
        found[row] = _count(marks.view(np.uint64), np.uint64(0))
    return found


@compiled
def _sample(values: np.ndarray) -> np.ndarray:
    return values[::_STRIDE].copy()


@compiled
def _room(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return room for the pixels of a map that are near, for marks, and for the words that hold near ones."""
    marks = _marks(maps)
    return np.empty(len(marks), maps.dtype), marks, np.empty(len(marks) // _WORD, np.int64)


@compiled
def _marks(maps: np.ndarray) -> np.ndarray:
    """Return room for a mark a pixel of a map, in whole words; those beyond the map stay 0."""
    return np.zeros(-(-maps.shape[1] // _WORD) * _WORD, np.uint8)


@compiled
def _threshold(
    values: np.ndarray, sample: np.ndarray, rank: int, near: np.ndarray, marks: np.ndarray, words: np.ndarray
) -> float:
    """Bracket the threshold with the sample, then search inside the bracket."""
    low, high = _span(sample[::_STRIDE])
    middle, margin = rank // _STRIDE, int(_MARGIN * len(sample)) + 1
    first = _search(sample, max(middle - margin, 0), low, high)
    last = _search(sample, min(middle + margin, len(sample) - 1), first, high)
    for pixel in range(len(values)):  # 2 is below, 1 near, 0 above
        marks[pixel] = (values[pixel] < first) + (values[pixel] < last)
    below, kept = _count(marks.view(np.uint64), np.uint64(1)), _take(values, near, marks, words)
    if below <= rank < below + kept:
        return _search(near[:kept], rank - below, first, last)
    return _search(values, rank, first, last)


@compiled
def _count(words: np.ndarray, bit: np.uint64) -> int:
    """Return how many bytes of words have a bit, many bytes at a time."""
    found = 0
    for first in range(0, len(words), _BLOCK):
        counts = np.uint64(0)
        for word in words[first : first + _BLOCK]:
            counts += (word >> bit) & _ONES
        found += _total(counts)
    return found


@compiled
def _total(counts: np.uint64) -> int:
    """Return the sum of a word's bytes."""
    pairs = (counts & _EVEN) + ((counts >> np.uint64(8)) & _EVEN)
    return int((pairs * _SUM) >> np.uint64(48))


@compiled
def _take(values: np.ndarray, near: np.ndarray, marks: np.ndarray, places: np.ndarray) -> int:
    """Write the values that are marked by 1 to `near`, and return how many there are."""
    words, some, kept = marks.view(np.uint64), 0, 0
    for word in range(len(words)):  # few have any, as neighbors are alike
        places[some] = word  # where there is none, the next is written over it
        some += (words[word] & _ONES) != np.uint64(0)
    for place in places[:some]:
        for pixel in range(_WORD * place, min(_WORD * (place + 1), len(values))):
            near[kept] = values[pixel]
            kept += marks[pixel] & 1
    return kept


@compiled
def _search(values: np.ndarray, rank: int, low: float, high: float) -> float:
    """Return the threshold of one map, faster if it lies between `low` and `high`."""
    below_low, below_high, steps = _below(values, low), _below(values, high), 0
    if below_low > rank or below_high <= rank:
        (low, high), below_low, below_high = _span(values), 0, len(values)
    while below_low < rank:  # at most `rank` values are below `low`, and more are below `high`
        steps += 1  # every fourth one halves: interpolation alone may creep along
        share = 0.5 if steps % 4 == 0 else (rank - below_low) / (below_high - below_low)
        middle = values.dtype.type((1 - share) * low + share * high)
        if not low < middle < high:
            middle = values.dtype.type(0.5 * low + 0.5 * high)
            if not low < middle < high:
                break  # no number lies between: all that are left tie with `low`
        below = _below(values, middle)
        if below <= rank:
            low, below_low = middle, below
        else:
            high, below_high = middle, below
    return low


@compiled
def _below(values: np.ndarray, threshold: float) -> int:
    found = 0
    for pixel in range(len(values)):  # with `for value in values` it would be done one at a time
        found += values[pixel] < threshold
    return found


@compiled
def _span(values: np.ndarray) -> tuple[float, float]:
    """Return the smallest value, and the number next above the largest."""
    return values.min(), np.nextafter(values.max(), values.dtype.type(np.inf))


@partial(compiled, fastmath={"reassoc", "nsz"})
def _excess(values: np.ndarray, threshold: float) -> float:
    """Return the sum in float64 of what values are above the threshold."""
    total = 0.0
    for pixel in range(len(values)):
        total += np.float64(values[pixel]) - threshold if values[pixel] > threshold else 0.0
    return total


@compiled
def _overlap(values: np.ndarray, limit: float, truth: np.ndarray) -> tuple[int, int]:
    predicted, inside = 0, 0
    for pixel in range(len(values)):
        predicted += values[pixel] >= limit
        inside += (values[pixel] >= limit) & truth[pixel]
    return predicted, inside
