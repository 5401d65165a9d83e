"""The loss of the global batch, the same on any number of ranks.

Image maps never cross ranks: rows are this rank's images, columns the sounds of all ranks.

Axes: `n` clips on this rank, `N` of all ranks, `H` heads, `P` pixels, `D` channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.loss.batch import GlobalBatch, upcast
from cacl.loss.class_sums import class_sums
from cacl.loss.objectives import Direction, PairObjective
from cacl.loss.options import LossOptions
from cacl.loss.pairs import block_size, pair_sums, room_to_keep
from cacl.loss.regularizers import agreement
from cacl.loss.sums import Counts, Partial
from cacl.types import ClipLabels, Embeddings
from cacl.world import World


@dataclass(frozen=True)
class LossTerms:
    """Unreduced terms of this rank's clips, their scalar for backward, and figures."""

    per_clip: Tensor
    """[n], 0 for clips without contrast and for those that are not valid."""
    mean: Tensor
    """0-d, detached, over the valid clips of all ranks, equal on every rank."""
    loss: Tensor
    """0-d, for backward on every rank if gradients are then *averaged* over ranks, as DDP does.

    This rank's sum × world size / valid clips of all ranks: the one factor of world size.
    """
    logged: dict[str, Tensor]
    """0-d each, over all ranks, for logs.

    Numbers of valid, same_class_pairs, rows_without_negatives and rows_without_positives; means of
    positive_similarity and negative_similarity; and the temperature.
    """


def global_loss(
    embeddings: Embeddings,
    clips: ClipLabels,
    options: LossOptions,
    world: World,
    step: int | Tensor = 0,
    shares: Sequence[int] | None = None,
    epoch: int = 0,
) -> LossTerms:
    """Compute the loss of the global batch from this rank's `n` clips.

    All ranks call it together. `embeddings` are of images [n, H, P, D] and audio [n, H, D], unit vectors
    along D. `step` is the training step, for curricula, and `epoch` the epoch, for terms that come in later,
    both from 0. `shares` names how many clips each rank holds; None promises equal shares. Nothing here waits
    for the device. Raises UserError if shapes do not fit together, or the loss needs other heads.

    >>> import torch.nn.functional as F
    >>> maps = F.normalize(torch.randn(4, 1, 49, 16), dim=-1).requires_grad_()
    >>> audio = F.normalize(torch.randn(4, 1, 16), dim=-1).requires_grad_()
    >>> label = torch.tensor([0, 0, 1, 2])
    >>> valid = torch.tensor([True, True, True, False])
    >>> clips = ClipLabels(torch.arange(4), label, torch.ones(4), valid)
    >>> terms = global_loss(Embeddings(maps, audio), clips, LossOptions(temperature=0.07), World())
    >>> terms.loss.backward()
    >>> terms.per_clip.shape, int(terms.logged["same_class_pairs"]), maps.grad[3].any().item()
    (torch.Size([4]), 1, False)
    """
    _check_shapes(embeddings, clips)
    options.check_heads(embeddings.image.shape[1])
    if not options.positives.needs_soft:
        clips = replace(clips, soft=None)
    batch = GlobalBatch.gather(clips, world, step, shares)
    with torch.autocast(embeddings.audio.device.type, enabled=False):
        embeddings = upcast(embeddings)
        sums = partial(_sums, scalars=embeddings.scalars, batch=batch, options=options)
        directions = options.objective.directions(embeddings, clips.valid, sums)
        per_clip = torch.stack([direction.per_clip for direction in directions]).sum(0)
        for regularizer in (term for term in options.regularizers if epoch >= term.first_epoch):
            rows = block_size(embeddings.image, len(batch.columns.label), options)
            similarity, room = options.similarity, room_to_keep(embeddings.image, options)
            how = options.kernel, options.scores
            terms = agreement(regularizer, embeddings, batch, similarity, options.scale, rows, room, *how)
            per_clip = per_clip + terms
        return _collect(per_clip, directions, batch, 1 / options.scale(embeddings.scalars))


def _sums(
    objective: PairObjective,
    maps: Tensor,
    audio: Tensor,
    scalars: Mapping[str, Tensor],
    batch: GlobalBatch,
    options: LossOptions,
) -> list[Partial]:
    """Return the sums [n, k] of this rank's clips, one `Partial` a direction."""
    if options.is_linear:
        rows, columns = class_sums(maps, audio, scalars, batch, options)
    else:
        rows, columns = pair_sums(objective, maps, audio, scalars, batch, options)
    return [rows] * options.by_row + [columns] * options.by_column


def _collect(
    per_clip: Tensor, directions: list[Direction], batch: GlobalBatch, temperature: Tensor | float
) -> LossTerms:
    """Reduce over ranks what is logged, and apply the factor of world size.

    One exchange; `per_clip` is [n].
    """
    counts = torch.stack([direction.counts for direction in directions]).double()
    weights = counts[:, :, : Counts.POSITIVE_SIMILARITY]  # of the positives and of the negatives
    without = ((weights == 0) & batch.clips.valid[:, None]).any(0)
    local = torch.cat([per_clip.detach().double().sum()[None], without.sum(0), counts.sum((0, 1))])
    total, no_positives, no_negatives, positive, negative, near, far = batch.world.sum(local).unbind()
    valid = batch.columns.valid.sum()
    divisor = valid.clamp(min=1).to(per_clip.dtype)
    return LossTerms(
        per_clip=per_clip,
        mean=(total / divisor).to(per_clip.dtype),
        loss=per_clip.sum() * (batch.world.size / divisor),
        logged={
            "valid": valid,
            "same_class_pairs": same_class_pairs(batch.columns),
            "rows_without_negatives": no_negatives,
            "rows_without_positives": no_positives,
            "positive_similarity": near / positive.clamp(min=1e-12),
            "negative_similarity": far / negative.clamp(min=1e-12),
            "temperature": (torch.zeros_like(total) + temperature).detach(),
        },
    )


def same_class_pairs(clips: ClipLabels) -> Tensor:
    """Count the pairs of valid clips that share a known label, 0-d int64.

    A clip makes no pair with itself. Memory is linear in the clips.
    """
    counted = clips.valid & (clips.label >= 0)
    label = torch.where(counted, clips.label, -1).sort().values
    starts = torch.searchsorted(label, label)
    earlier = torch.arange(len(label), device=label.device) - starts
    return torch.where(label >= 0, earlier, 0).sum()


def _check_shapes(embeddings: Embeddings, clips: ClipLabels) -> None:
    """Raise UserError, with expected and received, unless shapes fit the maps."""
    maps, target = embeddings.image, embeddings.target
    if maps.ndim != 4:
        raise UserError(
            f"loss: maps has shape {tuple(maps.shape)}, expected [clips, heads, pixels, channels]"
        )
    n, heads, _, channels = maps.shape
    expected: dict[str, tuple[Tensor, tuple[int, ...]]]
    expected = {"audio": (embeddings.audio, (n, heads, channels))}
    expected |= {name: (getattr(clips, name), (n,)) for name in ("index", "label", "confidence", "valid")}
    if target is not None:
        expected |= {"target.image": (target.image, tuple(maps.shape))}
        expected |= {"target.audio": (target.audio, (n, heads, channels))}
    for name, (value, shape) in expected.items():
        if tuple(value.shape) != shape:
            raise UserError(f"loss: {name} has shape {tuple(value.shape)}, expected {shape} to fit the maps")
