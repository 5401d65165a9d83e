"""Which prints of two sets are alike: of frames all that are, of sounds those that share a word.

Axes: `N` clips of one set, `M` of the other, `W` words of a sound. Prints are those of `shards.prints`; one
that is all zeros is none, and like no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint64]
Words = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Result = TypeVar("Result")

FRAME_BITS = 64
"""Of 256 by which two frames may differ; unrelated ones differ by half, and seldom by less than 90."""
SOUND_ERRORS = 0.3
"""Share of bits by which two stretches of sound may differ; unrelated ones differ by half. Haitsma and Kalker
take 0.35."""
PAIRS = 100_000
"""Pairs that are kept at least, if there are so many; of the others is known which clips are in any."""

_BESIDE_BITS, _BESIDE_ERRORS = 8, 0.04
"""How far beyond the limit a pair counts as one that just missed it."""
_ROWS, _COLUMNS = 128, 4096
"""Frames of either set that are compared at a time."""
_LOOKED_UP, _INDEXED = 1024, 8192
"""Sounds of either set at a time."""
_STRETCH, _LEAST = 256, 128
"""Words that are compared, three seconds, and how many of them must sound in both."""
_EVERY = 4
"""One word in so many is looked up. All of them are indexed, so that any shift in time is met."""
_PLACES = 64
"""Places of a word in an index that are looked at: a sound that many clips have is found in some of them."""
_VERIFIED = 16_384
"""Stretches that are compared at a time."""


class _Some(NamedTuple):
    """Pairs of a block, [n, 2], and how many just missed the limit."""

    pairs: Ints
    beside: int


@dataclass
class Alike:
    """Pairs of clips, one of each set, whose prints are alike; within one set the later clip is first."""

    left: Bools
    """[N], whether a clip of the first set is in any pair as its first."""
    right: Bools
    """[M], whether a clip of the other set is in any pair as its second."""
    compared: int
    """Pairs of clips that both have a print."""
    count: int = 0
    """Pairs that are alike."""
    beside: int = 0
    """Pairs that just missed the limit."""
    _kept: list[Ints] = field(default_factory=list)

    @property
    def pairs(self) -> Ints:
        """Pairs of indices, [n, 2], sorted: all of them, or `PAIRS` and some."""
        found = np.concatenate([np.empty((0, 2), np.int64), *self._kept])
        return found[np.lexsort((found[:, 1], found[:, 0]))]

    @property
    def false_per_million(self) -> float:
        """Of a million pairs of unrelated clips, about how many at most are alike by chance.

        As many as just missed the limit: unrelated prints grow rarer the nearer they are.
        """
        return 1e6 * self.beside / max(1, self.compared)

    def _add(self, some: _Some) -> None:
        self.left[some.pairs[:, 0]] = True
        self.right[some.pairs[:, 1]] = True
        if self.count < PAIRS:
            self._kept.append(some.pairs)
        self.count += len(some.pairs)
        self.beside += some.beside


def alike_frames(a: Frames, b: Frames | None = None, workers: int = 0) -> Alike:
    """Compare each frame of `a` [N, 4] with each of `b` [M, 4], or with those before it in `a`.

    All pairs are found that differ by `FRAME_BITS` at most. `workers` are threads, by default one a core.
    """
    others = a if b is None else b
    left, right = np.flatnonzero(a.any(1)), np.flatnonzero(others.any(1))
    mine, theirs = np.ascontiguousarray(a[left].T), np.ascontiguousarray(others[right].T)

    def compare(first: int) -> list[_Some]:
        block, found = mine[:, first : first + _ROWS], []
        for start in range(0, first + _ROWS if b is None else len(right), _COLUMNS):
            far = _differences(block, theirs[:, start : start + _COLUMNS])
            some = np.argwhere(far <= FRAME_BITS + _BESIDE_BITS) + np.array([first, start])
            if b is None:
                some = some[some[:, 0] > some[:, 1]]
            near = far[some[:, 0] - first, some[:, 1] - start] <= FRAME_BITS
            pairs = np.stack([left[some[near, 0]], right[some[near, 1]]], axis=1)
            found.append(_Some(pairs, int((~near).sum())))
        return found

    alike = _nothing(a, others, left, right, within=b is None)
    for found in _mapped(compare, range(0, len(left), _ROWS), workers):
        for some in found:
            alike._add(some)
    return alike


def _differences(a: Frames, b: Frames) -> npt.NDArray[np.uint8]:
    """Return by how many bits each column of `a` [4, n] differs from each of `b` [4, m]; 255 for 256."""
    far = np.zeros((a.shape[1], b.shape[1]), np.uint8)
    for word, other in zip(a, b, strict=True):
        # A sum of 256 would be 0, alike; the last bit is only added to what is small.
        far += np.minimum(np.bitwise_count(word[:, None] ^ other), 255 - far)
    return far


def alike_sounds(a: Words, b: Words | None = None, workers: int = 0) -> Alike:
    """Find the sounds of `a` [N, W] that share three seconds with one of `b` [M, W'], or of `a` before it.

    The search is that of Haitsma and Kalker: where a word occurs in both, the stretches around it are
    compared, at whatever time of either it stands. Two sounds that share no whole word are missed.
    """
    others = a if b is None else b
    left, right = sounding(a), sounding(others)
    alike = _nothing(a, others, left, right, within=b is None)
    for start in range(0, len(right), _INDEXED):
        index = _Index.of(others, right[start : start + _INDEXED])
        after = int(np.searchsorted(left, index.rows[0])) if b is None else 0

        def compare(first: int, index: _Index = index) -> _Some:
            return _shared(a, left[first : first + _LOOKED_UP], index, within=b is None)

        for some in _mapped(compare, range(after, len(left), _LOOKED_UP), workers):
            alike._add(some)
    return alike


def sounding(sounds: Words) -> Ints:
    """Return which sounds [N, W] have words enough to be compared, [n] ascending."""
    return np.flatnonzero((sounds != 0).sum(1) >= _LEAST)


class _Index(NamedTuple):
    """Where each word of some sounds stands."""

    sounds: Words
    rows: Ints
    """[m], which of the sounds [M, W'] are indexed, ascending."""
    words: Words
    """[n], sorted."""
    places: Ints
    """[n], the word's place in all the words of these sounds."""
    table: Bools
    """By a word's hash, whether any word has it: most words of others have not."""

    @classmethod
    def of(cls, sounds: Words, rows: Ints) -> _Index:
        words = sounds[rows].ravel()
        order = np.argsort(words, kind="stable")
        order = order[np.searchsorted(words[order], 1) :]
        table = np.zeros(1 << min(26, max(10, len(order).bit_length() + 4)), np.bool_)
        table[_hashed(words[order], table)] = True
        return cls(sounds, rows, words[order], order, table)


def _hashed(words: Words, table: Bools) -> Words:
    """Return where a word stands in a table of a power of two, by Knuth's multiplication."""
    return (words * np.uint32(2654435761)) >> np.uint32(33 - len(table).bit_length())


def _shared(a: Words, rows: Ints, index: _Index, within: bool) -> _Some:
    """Return which sounds `rows` of `a` share a stretch with one of the index."""
    i, j, at, other = _candidates(a, rows, index, within)
    errors = np.empty(len(i))
    for k in range(0, len(i), _VERIFIED):
        some = slice(k, k + _VERIFIED)
        errors[some] = errors_of(a, index.sounds, i[some], j[some], at[some], other[some])
    # Of all stretches of a pair the nearest counts.
    order = np.lexsort((errors, j, i))
    i, j, errors = i[order], j[order], errors[order]
    first = np.ones(len(i), np.bool_)
    first[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
    near = first & (errors <= SOUND_ERRORS)
    beside = first & ~near & (errors <= SOUND_ERRORS + _BESIDE_ERRORS)
    return _Some(np.stack([i[near], j[near]], axis=1), int(beside.sum()))


def _candidates(a: Words, rows: Ints, index: _Index, within: bool) -> tuple[Ints, Ints, Ints, Ints]:
    """Return pairs of sounds that share a word, and where it stands in either: one place for each shift."""
    looked_up = a[rows, ::_EVERY]
    row, column = np.nonzero(index.table[_hashed(looked_up, index.table)] & (looked_up != 0))
    words = looked_up[row, column]
    begin, end = (np.searchsorted(index.words, words, side) for side in ("left", "right"))
    count = np.minimum(end - begin, _PLACES)
    hit = np.repeat(np.arange(len(count)), count)
    place = index.places[np.arange(len(hit)) + np.repeat(begin - (np.cumsum(count) - count), count)]
    width = index.sounds.shape[1]
    row, at = row[hit], column[hit] * _EVERY
    column, other = place // width, place % width
    # One number for row, column and shift: rows of an array would be sorted slowly.
    key = (row * len(index.rows) + column) * (a.shape[1] + width) + at - other + width
    chosen = np.unique(key, return_index=True)[1]
    i, j, at, other = rows[row[chosen]], index.rows[column[chosen]], at[chosen], other[chosen]
    if within:
        i, j, at, other = (some[i > j] for some in (i, j, at, other))
    return i, j, at, other


def errors_of(a: Words, b: Words, i: Ints, j: Ints, at: Ints, other: Ints) -> npt.NDArray[np.float64]:
    """Return the share of bits, [n], by which stretches around `a[i, at]` and `b[j, other]` differ.

    It is 1 where fewer than `_LEAST` words sound in both.
    """
    shift = other - at
    # The stretch lies within both sounds, its middle as near to the word as that allows.
    low, high = np.maximum(0, -shift), np.minimum(a.shape[1], b.shape[1] - shift)
    begin = np.clip(at - _STRETCH // 2, low, np.maximum(low, high - _STRETCH))
    steps = begin[:, None] + np.arange(_STRETCH)
    inside = steps < high[:, None]
    steps = np.where(inside, steps, begin[:, None])
    mine, theirs = a[i[:, None], steps], b[j[:, None], steps + shift[:, None]]
    sounding = inside & (mine != 0) & (theirs != 0)
    wrong = np.where(sounding, np.bitwise_count(mine ^ theirs), 0).sum(1)
    total = sounding.sum(1)
    return np.where(total >= _LEAST, wrong / (32 * np.maximum(1, total)), 1.0)


def _nothing(a: Words | Frames, b: Words | Frames, left: Ints, right: Ints, within: bool) -> Alike:
    compared = len(left) * (len(left) - 1) // 2 if within else len(left) * len(right)
    return Alike(np.zeros(len(a), np.bool_), np.zeros(len(b), np.bool_), compared)


def _mapped(work: Callable[[int], Result], starts: range, workers: int) -> Iterator[Result]:
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(work, starts)
