"""Batches of several data sets in given shares: the order of a mixture.

Axes: `B` clips of the global batch, `S` data sets, `L` lanes, `E` batches of an epoch.

Every data set is dealt into the same L lanes, each as `shards.order` deals one, and a batch takes B / L clips
from each lane. An epoch has as many batches as all clips fill, E = ⌊clips / B⌋. Of its E·B places each data
set gets its share, rounded to whole clips; lanes have those in equal parts, spread evenly over the epoch.
Each lane begins at another place of that spread, so that batches, and the ranks that own lanes, see nearly
the same mix. A data set that has fewer clips than places goes round again in the same order, so that no batch
has a clip twice; one that has more shows others in another epoch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from cacl.errors import UserError
from shards.order import Lanes, Shards, check_division, lane_clips, rank_rows, too_few_clips

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class MixedOrder:
    """So many clips of each data set in an epoch; a rank owns whole lanes, each of which has all of them."""

    sources: Sequence[Shards] = field(repr=False)
    """For every data set its shards, as indices of the mixture."""
    names: Sequence[str]
    """What messages call them."""
    weights: Sequence[float]
    """Their shares, as multiples of each other."""
    global_batch_size: int
    lanes: int
    seed: int

    def __post_init__(self) -> None:
        check_division(self.global_batch_size, self.lanes)
        if self.batches_per_epoch < 1:
            raise UserError(too_few_clips(self.global_batch_size, int(self._clips.sum())))
        least, most = self._counts.sum(1).min(0), self._counts.max((0, 1))
        for name, clips, share, needed in zip(self.names, self._clips, least, most, strict=True):
            if not share:
                raise UserError(
                    f"data.train: {name}: its weight gives it less than a clip of an epoch in each of the "
                    f"{self.lanes} lanes; give it more, or leave it out"
                )
            if clips // self.lanes < needed:
                raise UserError(
                    f"data.train: {name}: a batch takes up to {needed * self.lanes} of its clips and it has "
                    f"{clips}; give it less weight, use a smaller batch, or pack more clips"
                )

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has: as many as all clips fill."""
        return int(self._clips.sum()) // self.global_batch_size

    def counts(self, batch: int) -> Counts:
        """Return how many clips of each data set a batch of any epoch has, [S] int64."""
        return np.sum([self._counts[lane, self._window(lane, batch)] for lane in range(self.lanes)], axis=0)

    def batch(self, epoch: int, batch: int) -> np.ndarray:
        """Return the clips of a global batch, [B] int64, lane by lane. Raises IndexError at the end."""
        if not 0 <= batch < self.batches_per_epoch:
            raise IndexError(f"batch {batch} of {self.batches_per_epoch}")
        parts = []
        for lane in range(self.lanes):
            skips, counts = self._skips(lane, batch), self._counts[lane, self._window(lane, batch)]
            for source, (skip, count) in enumerate(zip(skips.tolist(), counts.tolist(), strict=True)):
                parts += self._taken(source, lane, skip, count, (self.seed, epoch))
        return np.concatenate(parts)

    def describe(self) -> str:
        """Return a few words on each data set: its share, and how often each of its clips comes."""
        taken = self._counts.sum((0, 1))
        parts = zip(
            self.names, self._clips.tolist(), (taken / taken.sum()).tolist(), taken.tolist(), strict=True
        )
        return "; ".join(
            f"{share:.1%} from {name} ({clips} clips, each {count / clips:.2f} times)"
            for name, clips, share, count in parts
        )

    def rows(self, rank: int, size: int) -> slice:
        """Return the rows of a global batch that belong to `rank` of `size`."""
        return rank_rows(self.global_batch_size, self.lanes, rank, size)

    @cached_property
    def _clips(self) -> Counts:
        """[S] stored clips."""
        return np.array([sum(len(shard) for shard in shards) for shards in self.sources])

    @cached_property
    def _counts(self) -> Counts:
        """[L, E, S] clips of each data set in each window of a lane, one window a batch."""
        places = self.batches_per_epoch * (self.global_batch_size // self.lanes)
        everyone = np.arange(len(self.weights))
        least = np.floor(places * np.array(self.weights) / np.sum(self.weights)).astype(np.int64)
        more = apportion(self.lanes * places, self.weights) - self.lanes * least
        counts = np.empty((self.lanes, self.batches_per_epoch, len(everyone)), np.int64)
        for lane, turns in enumerate(spread(more).reshape(self.lanes, -1)):
            of_lane = least + np.bincount(turns, minlength=len(everyone))
            windows = spread(of_lane).reshape(self.batches_per_epoch, -1)
            counts[lane] = (windows[:, :, None] == everyone).sum(1)
        return counts

    @cached_property
    def _ends(self) -> Counts:
        """[L, E + 1, S] clips of each data set before each window of a lane."""
        ends = np.zeros((self.lanes, self.batches_per_epoch + 1, len(self.weights)), np.int64)
        np.cumsum(self._counts, axis=1, out=ends[:, 1:])
        return ends

    def _window(self, lane: int, batch: int) -> int:
        return (lane + batch) % self.batches_per_epoch

    def _skips(self, lane: int, batch: int) -> Counts:
        """Return how many clips of each data set a lane has given before a batch, [S] int64."""
        ends, first, last = self._ends[lane], self._window(lane, 0), self._window(lane, batch)
        skips = ends[last] - ends[first]
        return skips + ends[-1] if last < first else skips

    @cached_property
    def _row(self) -> tuple[Shards, Counts, list[Counts]]:
        """All shards as one row, where each ends in it, and the [L + 1] bounds of each data set's lanes."""
        shards = [shard for source in self.sources for shard in source]
        starts = np.cumsum([0, *self._clips])
        bounds = [
            start + np.arange(self.lanes + 1) * clips // self.lanes
            for start, clips in zip(starts, self._clips, strict=False)
        ]
        return shards, np.cumsum([len(shard) for shard in shards]), bounds

    def _taken(self, source: int, lane: int, skip: int, count: int, key: tuple[int, int]) -> list[np.ndarray]:
        """Return the next `count` clips of a data set in a lane, after the last one the first again."""
        shards, ends, bounds = self._row
        start, stop = bounds[source][lane : lane + 2].tolist()
        skip %= stop - start
        rest = min(count, stop - start - skip)
        pieces = [(skip, rest), (0, count - rest)]
        taken = [lane_clips(shards, ends, (start, stop), *piece, key) for piece in pieces if piece[1]]
        return [part for parts in taken for part in parts]


def mixed_order(
    sources: Sequence[Shards],
    names: Sequence[str],
    weights: Sequence[float],
    size: int,
    lanes: Lanes,
    seed: int,
) -> MixedOrder:
    """Return the order of a mixture in batches of `size` clips.

    With `auto` its lanes are as many as a batch can have in which each data set has a clip. Raises UserError
    as `MixedOrder` does.
    """
    *more, least = lanes.possible(size)
    for number in more:
        with contextlib.suppress(UserError):
            return MixedOrder(sources, names, weights, size, number, seed)
    return MixedOrder(sources, names, weights, size, least, seed)


def apportion(places: int, weights: Sequence[float]) -> Counts:
    """Return how many of `places` each weight gets, [S] int64: its share up to less than one.

    The largest remainders get the places that rounding down leaves over.
    """
    quotas = places * np.array(weights) / np.sum(weights)
    counts = np.floor(quotas).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: places - counts.sum()]] += 1
    return counts


def spread(counts: Counts) -> Counts:
    """Return whose turn each place is, [sum(counts)] int64, each of S evenly over all places."""
    times = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    return np.repeat(np.arange(len(counts)), counts)[np.argsort(times, kind="stable")]
