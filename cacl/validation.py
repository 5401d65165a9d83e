"""Choice without boxes: does an image find its own sound among all the sounds of a clean validation split?

Checkpoints and settings are chosen by this and never by a test set. Every rank embeds its share; an image of
this rank is scored against the sounds of all ranks by the similarity that the loss trains.

Axes: `n` clips on this rank, `N` on all, `H` heads, `P` pixels, `D` channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.loss.options import LossOptions
from cacl.loss.similarity import Columns
from cacl.model import Localizer
from cacl.types import Batch, Clips
from cacl.world import World

_IMAGES_AT_ONCE = 32


@torch.no_grad()
def retrieval(
    model: Localizer,
    batches: Iterable[Batch],
    clips_of: Callable[[Tensor, Tensor], Clips],
    loss: LossOptions,
    world: World,
) -> dict[str, float]:
    """Return image-to-sound retrieval over the clips of all ranks' `batches`, the same on every rank.

    `recall_at_1`, `recall_at_5`: share of images whose own sound is among the 1 or 5 best, ties counted
    against it. `class_recall_at_1`: share whose best sound has the image's label, over the clips with a label
    (absent where none has one). `clips`: N. `clips_of(index [n], valid [n])` joins the labels. The maps of
    this rank's share are kept on its device. Raises UserError for an empty split.
    """
    was_training = model.training
    model.eval()
    try:
        rows, audio, clips, scale = _embed(model, batches, clips_of, loss, world)
    finally:
        model.train(was_training)
    shares = world.shares(len(audio))
    total = sum(shares)
    if not total:
        raise UserError("the validation split holds no clip that could be decoded")
    sounds, labels = world.gather_rows(audio, shares), world.gather_rows(clips, shares)
    first = sum(shares[: world.rank])
    hits = torch.zeros(4, dtype=torch.float64, device=world.device)
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        block = rows[start : start + _IMAGES_AT_ONCE]
        own = torch.arange(first + start, first + start + len(block), device=world.device)
        columns = Columns(own, torch.ones(total, dtype=torch.bool, device=world.device))
        pair = loss.similarity.scores(block, sounds, columns, scale).pair
        rank = (pair >= pair.gather(1, own[:, None])).sum(1)
        known = labels[own] >= 0
        same = labels[pair.argmax(1)] == labels[own]
        hits += torch.stack([(rank <= 1).sum(), (rank <= 5).sum(), (same & known).sum(), known.sum()])
    at_1, at_5, same_class, labeled = world.sum(hits).tolist()
    measured = {"recall_at_1": at_1 / total, "recall_at_5": at_5 / total, "clips": float(total)}
    return {**measured, "class_recall_at_1": same_class / labeled} if labeled else measured


def _embed(
    model: Localizer,
    batches: Iterable[Batch],
    clips_of: Callable[[Tensor, Tensor], Clips],
    loss: LossOptions,
    world: World,
) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
    """Return this rank's prepared maps [n, ...], sounds [n, H, D] and labels [n], and the loss's scale."""
    rows, audio, labels = [], [], []
    scale: Tensor | float = 1.0
    for batch in batches:
        good = batch.valid
        embeddings = model(*model.prepare(batch.images.to(world.device), batch.waveforms.to(world.device)))
        rows.append(loss.similarity.prepare(embeddings.maps)[good.to(world.device)])
        audio.append(embeddings.audio[good.to(world.device)])
        labels.append(clips_of(batch.index[good], good[good]).label.to(world.device))
        scale = loss.scale(embeddings.scalars)
    if not rows:
        raise UserError("the validation split is too small: every rank needs at least one clip")
    return torch.cat(rows), torch.cat(audio), torch.cat(labels), scale
