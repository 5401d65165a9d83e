"""Sums over pairs of images and sounds, similarity × positives × objective, in blocks and over ranks.

A row's sums are local; a column's are merged over ranks, and each rank finishes those of its own sounds.

Axes: `n` clips on this rank, `N` of all ranks, `b` rows of a block, `k` sums of an objective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cacl.loss.blocks import sums_in_blocks
from cacl.loss.objectives import PairObjective, Partial, partial
from cacl.loss.options import LossOptions
from cacl.loss.positives import Pairs, Relation
from cacl.loss.similarities import Columns, Scores
from cacl.types import Clips
from cacl.world import World

FLOATS_OF_OBJECTIVE = 16
"""Values that relation and objective hold at once for one pair, an upper bound."""


@dataclass(frozen=True)
class GlobalBatch:
    """This rank's clips among those of all ranks."""

    clips: Clips
    """[n]"""
    columns: Clips
    """[N]"""
    first: int
    """Column of this rank's first clip."""
    world: World
    shares: Sequence[int] | None
    step: int | Tensor

    @classmethod
    def gather(
        cls, clips: Clips, world: World, step: int | Tensor, shares: Sequence[int] | None
    ) -> GlobalBatch:
        """Exchange what is known of clips beside their embeddings."""
        n = len(clips.label)
        first = sum(shares[: world.rank]) if shares else world.rank * n
        return cls(clips, gather_clips(clips, world, shares), first, world, shares, step)

    @property
    def own(self) -> Tensor:
        """[n] int64, the column of each of this rank's clips."""
        return torch.arange(self.first, self.first + len(self.clips.label), device=self.clips.label.device)


def gather_clips(clips: Clips, world: World, shares: Sequence[int] | None = None) -> Clips:
    """Return the clips of all ranks [N], in one exchange (float64 holds every index and label exactly).

    Soft labels, where there are some, take a second one.
    """
    if world.size == 1:
        return clips
    columns = [clips.index, clips.label, clips.confidence, clips.valid]
    packed = world.gather_rows(torch.stack([column.double() for column in columns], 1), shares)
    return Clips(
        index=packed[:, 0].long(),
        label=packed[:, 1].long(),
        confidence=packed[:, 2].to(clips.confidence.dtype),
        valid=packed[:, 3].bool(),
        soft=None if clips.soft is None else world.gather_rows(clips.soft, shares),
    )


def pair_sums(
    maps: Tensor, audio: Tensor, scalars: Mapping[str, Tensor], batch: GlobalBatch, options: LossOptions
) -> tuple[Partial, Partial]:
    """Return the sums [n, k] of this rank's rows and of its columns, over the clips of all ranks.

    `maps` [n, H, P, D] and `audio` [n, H, D] are this rank's.
    """
    own, objective = batch.own, options.objective
    assert isinstance(objective, PairObjective)

    def block(
        where: slice, rows: list[Tensor], shared: list[Tensor], row: Tensor | None, column: Tensor | None
    ) -> tuple[Partial, Partial]:
        values = dict(zip(scalars, shared[1:], strict=True))
        columns = Columns(own[where], batch.columns.valid)
        scores = options.similarity.scores(rows[0], shared[0], columns, options.scale(values))
        pairs = Pairs(cut(batch.clips, where), batch.columns, own[where], scores.pair.detach(), batch.step)
        relation = options.positives.relation(pairs)
        by_row = by_column = Partial.nothing(scores.pair)
        if options.by_row:
            pair, beside = _beside(scores, relation, batch.clips.valid[where])
            by_row = partial(pair, beside, objective.terms(pair, beside, scores.scale, values), 1, row)
        if options.by_column:
            terms = objective.terms(scores.pair, relation, scores.scale, values)
            by_column = partial(scores.pair, relation, terms, 0, column)
        return by_row, by_column

    every = batch.world.gather_rows(audio, batch.shares)
    prepared, shared = options.similarity.prepare(maps), [every, *scalars.values()]
    rows, columns = sums_in_blocks(block, [prepared], shared, block_size(maps, len(every), options))
    if options.by_column:
        columns = merge_over_ranks(columns, batch, objective.exponential_terms)
    return rows, columns


def block_size(maps: Tensor, columns: int, options: LossOptions) -> int:
    """Return how many rows of maps [n, H, P, D] keep a block's scores within the memory budget."""
    floats = options.similarity.floats_per_score * maps.shape[1] * maps.shape[2] + FLOATS_OF_OBJECTIVE
    return max(1, int(options.memory_mib * 2**20 / (columns * floats * maps.itemsize)))


def _beside(scores: Scores, relation: Relation, valid: Tensor) -> tuple[Tensor, Relation]:
    """Append the extra negatives to the rows that are `valid` [b]."""
    extra = scores.extra_negative
    if extra is None:
        return scores.pair, relation
    positive = torch.cat([relation.positive, torch.zeros_like(extra)], 1)
    negative = torch.cat([relation.negative, valid[:, None].to(extra.dtype).expand_as(extra)], 1)
    return torch.cat([scores.pair, extra], 1), Relation(positive, negative)


def merge_over_ranks(columns: Partial, batch: GlobalBatch, exponentials: int) -> Partial:
    """Join the sums [N, k] of all ranks' rows and keep the columns of this rank's sounds.

    The last `exponentials` sums have shifts, of which ranks first find the largest.
    """
    linear = columns.shift.shape[1] - exponentials
    shift = columns.shift
    if exponentials:
        shift = torch.cat([shift[:, :linear], batch.world.max(shift[:, linear:])], 1)
    mine = slice(batch.first, batch.first + len(batch.clips.label))
    return Partial(batch.world.reduce_rows(columns.rescaled(shift), batch.shares), shift[mine])


def cut(clips: Clips, where: slice) -> Clips:
    """Return the rows `where` of `clips`."""
    soft = None if clips.soft is None else clips.soft[where]
    return Clips(clips.index[where], clips.label[where], clips.confidence[where], clips.valid[where], soft)


def wide(x: Tensor) -> Tensor:
    """Half precision becomes float32: every reduction of the loss is at least that wide."""
    return x if x.dtype == torch.float64 else x.float()
