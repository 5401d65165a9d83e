"""The loss of the global batch, the same on any number of ranks.

Image maps never cross ranks: rows are this rank's images, columns the sounds of all ranks.

Axes: `n` clips on this rank, `N` of all ranks, `H` heads, `P` pixels, `D` channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.loss.agreement import agreement
from cacl.loss.class_sums import class_sums
from cacl.loss.objective import COUNTS, finish
from cacl.loss.options import LossOptions
from cacl.loss.pairs import GlobalBatch, pair_sums, wide
from cacl.loss.sspl import Sspl
from cacl.types import Clips, Embeddings
from cacl.world import World


@dataclass(frozen=True)
class Direction:
    """The loss of one direction, of the rows or the columns of this rank's clips."""

    per_clip: Tensor
    """[n]"""
    weights: Tensor
    """[n, 4] detached: weight of the positives and of the negatives, and their summed similarities."""


@dataclass(frozen=True)
class LossTerms:
    """What a loss gives: unreduced terms of this rank's clips, and what to do with them."""

    per_clip: Tensor
    """[n]; 0 for clips without contrast and for those that are not valid."""
    mean: Tensor
    """0-d, detached, over the valid clips of all ranks, equal on every rank."""
    backward_scalar: Tensor
    """0-d, for backward on every rank where gradients are then *averaged* over ranks (DDP): this rank's sum ×
    world size / valid clips of all ranks. The one factor of world size."""
    counts: dict[str, Tensor]
    """0-d each, over all ranks: valid, same_class_pairs, rows_without_negatives, rows_without_positives,
    positive_similarity and negative_similarity (means); and the temperature."""


def global_loss(
    embeddings: Embeddings,
    clips: Clips,
    options: LossOptions,
    world: World,
    step: int | Tensor = 0,
    shares: Sequence[int] | None = None,
) -> LossTerms:
    """Compute the loss of the global batch from this rank's `n` clips. All ranks call it together.

    `shares` names how many clips each rank holds; None promises equal shares. Nothing here waits for
    the device. Raises UserError where shapes do not fit together.
    """
    _check_shapes(embeddings, clips)
    options.check_heads(embeddings.maps.shape[1])
    if not options.positives.needs_soft:
        clips = replace(clips, soft=None)
    batch = GlobalBatch.gather(clips, world, step, shares)
    with torch.autocast(embeddings.audio.device.type, enabled=False):
        directions = _directions(embeddings, batch, options)
        per_clip = torch.stack([direction.per_clip for direction in directions]).sum(0)
        for regularizer in options.regularizers:
            per_clip = per_clip + agreement(embeddings, batch, regularizer, options)
        return _collect(per_clip, directions, batch, 1 / options.scale(embeddings.scalars))


def _directions(embeddings: Embeddings, batch: GlobalBatch, options: LossOptions) -> list[Direction]:
    """Return the loss of each direction that the options ask for, of each view.

    With a target (a moving average of the model) there are two views: online images against the target's
    sounds, and the target's images against online sounds.
    """
    objective, target, valid = options.objective, embeddings.target, batch.clips.valid
    if isinstance(objective, Sspl):
        loss, own = objective.per_clip(embeddings)
        nothing = torch.zeros_like(own)
        weights = torch.stack([valid.to(own.dtype), nothing, own.where(valid, 0), nothing], 1)
        return [Direction(loss.where(valid, 0), weights)]
    views = [(embeddings.maps, embeddings.audio)]
    if target is not None:
        views = [(embeddings.maps, target.audio), (target.maps, embeddings.audio)]
    sums, found = class_sums if options.is_linear else pair_sums, []
    for maps, audio in views:
        rows, columns = sums(wide(maps), wide(audio), embeddings.scalars, batch, options)
        wanted = {"image": [rows], "audio": [columns], "both": [rows, columns]}[options.direction]
        found += [
            Direction(finish(part, valid, objective), part.sums[:, :COUNTS].detach()) for part in wanted
        ]
    return found


def _collect(
    per_clip: Tensor, directions: list[Direction], batch: GlobalBatch, temperature: Tensor | float
) -> LossTerms:
    """Reduce over ranks what is logged, in one exchange, and apply the factor of world size."""
    weights = torch.stack([direction.weights for direction in directions]).double()
    without = ((weights[:, :, :2] == 0) & batch.clips.valid[:, None]).any(0)
    local = torch.cat([per_clip.detach().double().sum()[None], without.sum(0), weights.sum((0, 1))])
    total, no_positives, no_negatives, positive, negative, near, far = batch.world.sum(local).unbind()
    valid = batch.columns.valid.sum()
    divisor = valid.clamp(min=1).to(per_clip.dtype)
    return LossTerms(
        per_clip=per_clip,
        mean=(total / divisor).to(per_clip.dtype),
        backward_scalar=per_clip.sum() * (batch.world.size / divisor),
        counts={
            "valid": valid,
            "same_class_pairs": same_class_pairs(batch.columns),
            "rows_without_negatives": no_negatives,
            "rows_without_positives": no_positives,
            "positive_similarity": near / positive.clamp(min=1e-12),
            "negative_similarity": far / negative.clamp(min=1e-12),
            "temperature": (torch.zeros_like(total) + temperature).detach(),
        },
    )


def same_class_pairs(clips: Clips) -> Tensor:
    """Return how many pairs of different valid clips share a known label, 0-d int64, in linear memory."""
    counted = clips.valid & (clips.label >= 0)
    label = torch.where(counted, clips.label, -1).sort().values
    starts = torch.searchsorted(label, label)
    earlier = torch.arange(len(label), device=label.device) - starts
    return torch.where(label >= 0, earlier, 0).sum()


def _check_shapes(embeddings: Embeddings, clips: Clips) -> None:
    n, heads, _, channels = embeddings.maps.shape
    expected = {"audio": (embeddings.audio, (n, heads, channels)), "label": (clips.label, (n,))}
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise UserError(f"loss: {name} has shape {tuple(value.shape)}, expected {shape} to fit the maps")
