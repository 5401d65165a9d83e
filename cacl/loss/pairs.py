"""Sums over pairs of images and sounds, in blocks and over ranks.

A row's sums are local; a column's are merged over ranks, and each rank finishes those of its own sounds.

Axes: `n` clips on this rank, `N` of all ranks, `b` rows of a block, `k` sums of an objective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cacl.loss.batch import GlobalBatch, take_rows
from cacl.loss.blocks import BlockSums, Known, sums_in_blocks
from cacl.loss.objectives import PairObjective
from cacl.loss.options import LossOptions
from cacl.loss.positives import Pairs, Relation
from cacl.loss.similarities import Columns, Scores
from cacl.loss.sums import FLOATS_OF_OBJECTIVE, Partial, partial

CPU_MEMORY_MIB, GPU_MEMORY_MIB = 128, 1024
"""What `memory_mib` is where it is not said; docs/gpu.md has what a GPU made of each."""


def pair_sums(
    objective: PairObjective,
    maps: Tensor,
    audio: Tensor,
    scalars: Mapping[str, Tensor],
    batch: GlobalBatch,
    options: LossOptions,
) -> tuple[Partial, Partial]:
    """Return the sums [n, k] of this rank's rows and of its columns.

    They are over the clips of all ranks. `maps` [n, H, P, D] and `audio` [n, H, D] are this rank's.
    """
    own = batch.own

    def block(where: slice, rows: Sequence[Tensor], shared: Sequence[Tensor], known: Known) -> BlockSums:
        (images,), (all_audio, *learned) = rows, shared
        values = dict(zip(scalars, learned, strict=True))
        columns = Columns(own[where], batch.columns.valid, options.kernel, options.scores, known.kept)
        scores = options.similarity.scores(images, all_audio, columns, options.scale(values))
        pairs = Pairs(
            take_rows(batch.clips, where), batch.columns, own[where], scores.pair.detach(), batch.step
        )
        relation = options.positives.relation(pairs)
        by_row = by_column = Partial.nothing(scores.pair)
        terms = objective.terms(scores.pair, relation, scores.scale, values)
        if options.by_row:
            row = (scores.pair, relation, terms)
            if scores.extra_negative is not None:
                pair, extended = _append_extra(scores, relation, batch.clips.valid[where])
                row = (pair, extended, objective.terms(pair, extended, scores.scale, values))
            by_row = partial(*row, 1, known.row_shift)
        if options.by_column:
            by_column = partial(scores.pair, relation, terms, 0, known.column_shift)
        return BlockSums(by_row, by_column, scores.kept)

    all_audio = batch.world.gather_rows(audio, batch.shares)
    prepared, shared = options.similarity.prepare(maps), [all_audio, *scalars.values()]
    rows_per_block = block_size(maps, len(all_audio), options)
    rows, columns = sums_in_blocks(block, [prepared], shared, rows_per_block, room_to_keep(maps, options))
    if options.by_column:
        columns = merge_over_ranks(columns, batch, objective.exponential_terms)
    return rows, columns


def block_size(maps: Tensor, columns: int, options: LossOptions) -> int:
    """Return how many rows of maps [n, H, P, D] fit the memory of a block's scores."""
    products = options.similarity.floats_per_score * maps.shape[1] * maps.shape[2]
    memory = memory_of(maps, options) - room_to_keep(maps, options)
    return max(1, int(memory / (columns * (products + FLOATS_OF_OBJECTIVE) * maps.itemsize)))


def room_to_keep(maps: Tensor, options: LossOptions) -> float:
    """Return the bytes for what blocks keep: half the memory, if they keep anything."""
    return memory_of(maps, options) / 2 if options.similarity.keeps else 0


def memory_of(maps: Tensor, options: LossOptions) -> float:
    """Return the bytes that the scores of pairs may take where the maps lie."""
    by_device = GPU_MEMORY_MIB if maps.is_cuda else CPU_MEMORY_MIB
    return (by_device if options.memory_mib is None else options.memory_mib) * 2**20


def _append_extra(scores: Scores, relation: Relation, valid: Tensor) -> tuple[Tensor, Relation]:
    """Append the extra negatives to the rows that are `valid` [b]."""
    extra = scores.extra_negative
    if extra is None:
        return scores.pair, relation
    positive = torch.cat([relation.positive, torch.zeros_like(extra)], 1)
    negative = torch.cat([relation.negative, valid[:, None].to(extra.dtype).expand_as(extra)], 1)
    return torch.cat([scores.pair, extra], 1), Relation(positive, negative)


def merge_over_ranks(columns: Partial, batch: GlobalBatch, exponentials: int) -> Partial:
    """Join the sums [N, k] of all ranks' rows; keep this rank's columns.

    The last `exponentials` sums have shifts, of which ranks first find the largest.
    """
    linear = columns.shift.shape[1] - exponentials
    shift = columns.shift
    if exponentials:
        shift = torch.cat([shift[:, :linear], batch.world.max(shift[:, linear:])], 1)
    mine = slice(batch.first, batch.first + len(batch.clips.label))
    return Partial(batch.world.reduce_rows(columns.rescaled(shift), batch.shares), shift[mine])
