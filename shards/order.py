"""Which clips make a global batch: a pure function of the shards, the seed, the epoch and the batch's number.

Axes: `B` clips of the global batch, `T` stored clips, `L` lanes.

The deal. All stored clips, shard by shard, are one row of T clips; lane l holds those from ⌊l·T/L⌋ up to
⌊(l+1)·T/L⌋. So lanes are equally long to one clip whatever the number of shards, a lane is a run of whole
shards (but for its two ends, which neighbors share), and ranks, which own runs of lanes, read runs of shards.
Every epoch a lane goes through its shards in a new order and through each shard's clips in a new order, and
every batch takes the next B/L clips of each lane. At most B + L clips are left over, others every epoch.

No number of ranks stands in any of this: `rank_rows` cuts the finished batch. The shuffles sort the raw words
of a counter-based generator (Philox, whose stream NumPy fixes), so neither global state nor a release of
NumPy changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Protocol

import numpy as np
from pydantic import Field, PositiveInt

from cacl.errors import UserError
from cacl.options import Options

Shards = Sequence[np.ndarray]
"""For every shard the sorted indices of its clips, int64."""

AUTO = "--data.order.lanes auto --training.micro-batch-size auto"
"""The options of a training whose sizes follow from the batch."""
_MOST_LANES = 128
"""That `auto` makes: with more, a batch takes the main process longer, and fewer clips are read in runs."""
_SHARDS_OF_LANE, _CLIPS_OF_SHARD, VIEWS, _CLASSES, _CLIPS_OF_CLASS, _ROWS, OFFSCREEN, NOISE = range(8)
"""What is drawn: the part of a generator's key that keeps one purpose apart from another."""


def random_words(count: int, *key: int) -> np.ndarray:
    """Return [count] uint64 that depend on `key` (integers of at least 0) alone."""
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(count)


def permutation(count: int, *key: int) -> np.ndarray:
    """Return 0..count-1 [count] int64 in an order that depends on `key` alone."""
    return np.argsort(random_words(count, *key), kind="stable")


def batches_per_epoch(shards: Shards, global_batch_size: int, lanes: int) -> int:
    """Return how many batches every lane can fill. Raises UserError as `global_batch` does."""
    return int(np.diff(_lane_bounds(shards, global_batch_size, lanes)).min()) // (global_batch_size // lanes)


def global_batch(
    shards: Shards, batch: int, *, global_batch_size: int, lanes: int, seed: int, epoch: int
) -> np.ndarray:
    """Return the clips of one batch, [B] int64, lane by lane.

    Raises UserError if B is no multiple of the lanes or a lane is too short for one batch, and IndexError if
    the epoch has no such batch.
    """
    bounds = _lane_bounds(shards, global_batch_size, lanes)
    share = global_batch_size // lanes
    if not 0 <= batch < int(np.diff(bounds).min()) // share:
        raise IndexError(f"batch {batch} of {int(np.diff(bounds).min()) // share}")
    ends = np.cumsum([len(shard) for shard in shards])
    parts = []
    for start, stop in pairwise(bounds.tolist()):
        parts += lane_clips(shards, ends, (start, stop), batch * share, share, (seed, epoch))
    return np.concatenate(parts)


def check_division(global_batch_size: int, lanes: int, size: int = 1, micro_batch_size: int = 1) -> None:
    """Raise UserError unless lanes, `size` ranks and micro-batches divide a global batch evenly.

    A batch that is cut by single clips has as many lanes as clips. The one place that says what fits.
    """
    if size < 1:
        raise UserError(f"the number of ranks must be at least 1, got {size}")
    if min(global_batch_size, lanes, micro_batch_size) < 1 or global_batch_size % lanes:
        raise UserError(
            f"training.global_batch_size: {global_batch_size} is not a multiple of the {lanes} lanes of "
            f"data.order.lanes; use {_multiple(global_batch_size, max(lanes, 1))}, or other lanes"
        )
    if lanes % size and lanes == global_batch_size:
        raise UserError(
            f"training.global_batch_size: {global_batch_size} clips cannot be dealt to {size} ranks; "
            f"use {_multiple(global_batch_size, size)}"
        )
    if lanes % size:
        raise UserError(
            f"data.order.lanes: {lanes} lanes cannot be dealt to {size} ranks; "
            f"use a multiple of every number of ranks that is to be used, such as {_multiple(lanes, size)}"
        )
    share = global_batch_size // size
    if share % micro_batch_size:
        raise UserError(
            f"training.micro_batch_size: {micro_batch_size} does not divide the {share} clips that each of "
            f"{size} rank(s) has of a batch; choose a divisor of {share}"
        )


def rank_rows(global_batch_size: int, lanes: int, rank: int, size: int) -> slice:
    """Return the rows of a global batch that belong to `rank` of `size`.

    Raises UserError if the lanes cannot be dealt to so many ranks.
    """
    check_division(global_batch_size, lanes, size)
    share = global_batch_size // size
    return slice(rank * share, (rank + 1) * share)


def _lane_bounds(shards: Shards, global_batch_size: int, lanes: int) -> np.ndarray:
    """Return where each lane starts and the last one ends in the row of all clips, [L + 1] int64."""
    check_division(global_batch_size, lanes)
    total = sum(len(shard) for shard in shards)
    if total < global_batch_size:
        raise UserError(too_few_clips(global_batch_size, total))
    return np.arange(lanes + 1) * total // lanes


def too_few_clips(global_batch_size: int, total: int) -> str:
    """Return what is said of a batch that is larger than a data set of `total` clips, and what would do."""
    said = f"global_batch_size: {global_batch_size} is more than the {total} clips that are stored; "
    if total < 2:
        return f"{said}pack more clips"
    smaller = 2 ** max(1, (total // 3).bit_length() - 1)
    options = f"--training.global-batch-size {smaller} {AUTO}"
    return f"{said}use a smaller batch, such as {options}, or pack more clips"


def _divisors(number: int, most: int) -> list[int]:
    """Return the divisors of a number, from 1 up to `most`."""
    return [divisor for divisor in range(1, min(number, most) + 1) if number % divisor == 0]


def _multiple(wanted: int, divisor: int) -> int:
    """Return the least multiple of `divisor` that is at least `wanted`, and at least one."""
    return max(-(-wanted // divisor), 1) * divisor


def lane_clips(
    shards: Shards,
    ends: np.ndarray,
    lane: tuple[int, int],
    skip: int,
    count: int,
    key: tuple[int, int],
) -> list[np.ndarray]:
    """Return `count` clips of a lane's epoch (`key` = seed, epoch) after the first `skip`, as parts.

    `ends` is where each shard ends in the row of all clips; `lane` where this lane starts and ends in it.
    """
    start, stop = lane
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    parts = []
    for number in first + permutation(int(last - first + 1), *key, _SHARDS_OF_LANE, start):
        shard_start = ends[number] - len(shards[number])
        low, high = max(start, shard_start), min(stop, ends[number])
        if skip < high - low:
            order = permutation(int(high - low), *key, _CLIPS_OF_SHARD, int(low))[skip : skip + count]
            parts.append(shards[number][low - shard_start + order])
            count -= len(order)
        if count == 0:
            break
        skip = max(skip - int(high - low), 0)
    return parts


class Order(Protocol):
    """What a loader asks of an order."""

    @property
    def seed(self) -> int:
        """The seed of shuffles and random crops."""

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has."""

    def batch(self, epoch: int, batch: int) -> np.ndarray:
        """Return the clips of a global batch, [B] int64."""

    def rows(self, rank: int, size: int) -> slice:
        """Return the rows of a global batch that belong to `rank` of `size`."""


@dataclass(frozen=True)
class LaneOrder:
    """Every clip once an epoch; a batch takes as many clips from each lane, and a rank owns whole lanes."""

    shards: Shards = field(repr=False)
    global_batch_size: int
    lanes: int
    seed: int

    def __post_init__(self) -> None:
        _lane_bounds(self.shards, self.global_batch_size, self.lanes)

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has."""
        return batches_per_epoch(self.shards, self.global_batch_size, self.lanes)

    def batch(self, epoch: int, batch: int) -> np.ndarray:
        """Return the clips of a global batch, [B] int64."""
        return global_batch(
            self.shards,
            batch,
            global_batch_size=self.global_batch_size,
            lanes=self.lanes,
            seed=self.seed,
            epoch=epoch,
        )

    def rows(self, rank: int, size: int) -> slice:
        """Return the rows of a global batch that belong to `rank` of `size`."""
        return rank_rows(self.global_batch_size, self.lanes, rank, size)


@dataclass(frozen=True)
class ClassOrder:
    """So many clips of so many classes in every batch; other classes and clips every epoch.

    Classes take turns: a round deals all of them, shuffled, to as many batches as they fill, so that no class
    stands twice in a batch. A class gives its clips in shuffled cycles, so rare classes repeat theirs within
    an epoch and common ones do not get through. Every rank reads from all shards.
    """

    shards: Shards = field(repr=False)
    global_batch_size: int
    clips_per_class: int
    seed: int
    labels: np.ndarray = field(repr=False)
    """[T] int64, the class of every stored clip in the order of the shards; -1 is unknown and never drawn."""

    def __post_init__(self) -> None:
        size, each = self.global_batch_size, self.clips_per_class
        if each < 1 or size < 1 or size % each:
            raise UserError(
                f"order.clips_per_class: batches of {size} clips cannot hold {each} of every class; "
                f"use a divisor of {size}"
            )
        if len(self.labels) != sum(len(shard) for shard in self.shards):
            raise UserError(f"order: {len(self.labels)} labels do not fit the stored clips; label them again")
        if len(self._members) < size // each:
            raise UserError(
                f"order.clips_per_class: a batch needs {size // each} classes, and {len(self._members)} have "
                f"{each} clips or more; use more clips of each class, or a smaller batch"
            )

    @cached_property
    def _members(self) -> list[np.ndarray]:
        """For every class that can fill its place the indices of its clips."""
        row = np.concatenate([*self.shards, np.empty(0, np.int64)])
        by_class = np.argsort(self.labels, kind="stable")
        classes, starts = np.unique(self.labels[by_class], return_index=True)
        groups = np.split(row[by_class], starts[1:])
        pairs = zip(classes, groups, strict=True)
        return [group for label, group in pairs if label >= 0 and len(group) >= self.clips_per_class]

    @property
    def batches_per_epoch(self) -> int:
        """How many batches an epoch has: as many as hold the data set's number of clips."""
        return len(self.labels) // self.global_batch_size

    def batch(self, epoch: int, batch: int) -> np.ndarray:
        """Return the clips of a global batch, [B] int64, rows shuffled. Raises IndexError at the end."""
        if not 0 <= batch < self.batches_per_epoch:
            raise IndexError(f"batch {batch} of {self.batches_per_epoch}")
        key, each = (self.seed, epoch), self.clips_per_class
        count = self.global_batch_size // each
        turn, place = divmod(batch, len(self._members) // count)
        dealt = permutation(len(self._members), *key, _CLASSES, turn)[place * count : (place + 1) * count]
        clips = []
        for number in dealt.tolist():
            members = self._members[number]
            cycle, part = divmod(turn, len(members) // each)
            shuffled = permutation(len(members), *key, _CLIPS_OF_CLASS, number, cycle)
            clips.append(members[shuffled[part * each : (part + 1) * each]])
        return np.concatenate(clips)[permutation(self.global_batch_size, *key, _ROWS, batch)]

    def rows(self, rank: int, size: int) -> slice:
        """Return the rows of a global batch that belong to `rank` of `size`."""
        return rank_rows(self.global_batch_size, self.global_batch_size, rank, size)


@dataclass(frozen=True)
class Lanes(Options):
    """Every clip once an epoch; `lanes` is a multiple of every number of ranks that is to be used."""

    name: Literal["lanes"] = "lanes"
    lanes: PositiveInt | Literal["auto"] = 24
    """Equal parts of the data set; a batch takes as many clips from each, and a rank owns some of them.

    `auto` takes of the divisors of the batch up to 128 the one that most numbers of ranks divide; in a
    mixture, of those that leave each data set a clip.
    """

    def possible(self, global_batch_size: int) -> list[int]:
        """Return the numbers of lanes that serve for batches of this size, the best first."""
        if self.lanes != "auto":
            return [self.lanes]
        divisors = _divisors(global_batch_size, _MOST_LANES)
        return sorted(divisors, key=lambda lanes: (len(_divisors(lanes, lanes)), lanes), reverse=True)

    def parts(self, global_batch_size: int) -> int:
        """Return into how many equal parts a batch can be cut for ranks."""
        return self.possible(global_batch_size)[0]

    def order(
        self, shards: Shards, global_batch_size: int, seed: int, labels: np.ndarray | None = None
    ) -> LaneOrder:
        """Return the order of these shards. Raises UserError where batch, lanes and shards do not fit."""
        return LaneOrder(shards, global_batch_size, self.parts(global_batch_size), seed)


@dataclass(frozen=True)
class ClassAware(Options):
    """Batches of `clips_per_class` clips of each of global_batch_size / clips_per_class pseudo-classes."""

    name: Literal["class-aware"] = "class-aware"
    clips_per_class: PositiveInt = 2
    """Clips of each class in a batch, a divisor of the global batch size."""

    def parts(self, global_batch_size: int) -> int:
        """Return into how many equal parts a batch can be cut for ranks: single clips."""
        return global_batch_size

    def order(
        self, shards: Shards, global_batch_size: int, seed: int, labels: np.ndarray | None = None
    ) -> ClassOrder:
        """Return the order of these shards by `labels` [T], one a stored clip. Raises UserError without."""
        if labels is None:
            raise UserError(
                "data.order: class-aware batches need data.labels, a label table; see `cacl label`"
            )
        return ClassOrder(shards, global_batch_size, self.clips_per_class, seed, labels)


OrderOptions = Annotated[Lanes | ClassAware, Field(discriminator="name")]
"""The recipe's `order`."""
