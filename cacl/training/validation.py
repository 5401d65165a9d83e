"""Choice without boxes: does an image find its own sound among all the sounds of a clean validation split?

Checkpoints and settings are chosen by this and never by a test set. Every rank embeds its share; an image of
this rank is scored against the sounds of all ranks by the similarity that the loss trains. Ranks embed one
batch after the other together: one that is told to stop stops all, and ZeRO 3's can only compute so.

Axes: `n` clips on this rank, `N` on all, `H` heads, `P` pixels, `D` channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.loss.options import LossOptions
from cacl.loss.similarities import Columns
from cacl.processes import closing
from cacl.types import Batch, ClipLabels, Embeddings
from cacl.world import World

_IMAGES_AT_ONCE = 32


@dataclass
class Split:
    """What is kept of this rank's clips."""

    maps: list[Tensor] = field(default_factory=list)
    """[m, ...] a batch, as the similarity prepares them."""
    audio: list[Tensor] = field(default_factory=list)
    """[m, H, D] a batch."""
    labels: list[Tensor] = field(default_factory=list)
    """[m] a batch."""
    scale: Tensor | float = 1.0
    """The loss's factor from similarity to logits."""

    def take(self, batch: Batch, embeddings: Embeddings, clips: ClipLabels, loss: LossOptions) -> None:
        """Keep the clips of a batch that could be decoded."""
        self.maps.append(loss.similarity.prepare(valid_rows(embeddings.image, batch)))
        self.audio.append(valid_rows(embeddings.audio, batch))
        self.labels.append(valid_rows(clips.label, batch))
        self.scale = loss.scale(embeddings.scalars)


def valid_rows(values: Tensor, batch: Batch) -> Tensor:
    """Return the rows of `values` [n, ...] of a batch's valid clips: `values` itself where all are."""
    return values if batch.valid.all() else values[batch.valid.to(values.device)]


@torch.no_grad()
def retrieval(
    embed: Callable[[Batch], Embeddings],
    batches: Iterable[Batch],
    join_labels: Callable[[Tensor, Tensor], ClipLabels],
    loss: LossOptions,
    world: World,
    stop: Callable[[], int] = lambda: False,
) -> dict[str, float] | None:
    """Return image-to-sound retrieval over the clips of all ranks' `batches`, the same on every rank.

    `recall_at_1`, `recall_at_5`: share of images whose own sound is among the 1 or 5 best, ties counted
    against it. `class_recall_at_1`: share whose best sound has the image's label, over the clips with a label
    (absent where none has one). `clips`: N. `not_finite`: share of images whose scores are not all finite,
    which find nothing (absent where all are). `join_labels(index [m], valid [m])` labels clips. The maps of
    this rank's share are kept on its device. `stop` is asked before every batch: once it is true on any rank,
    None is returned on all. Raises UserError for an empty split.
    """
    with closing(batches):
        kept = _embed(embed, batches, join_labels, loss, world, stop)
    if kept is None:
        return None
    rows, audio, labels = torch.cat(kept.maps), torch.cat(kept.audio), torch.cat(kept.labels)
    shares = world.shares(len(audio))
    total = sum(shares)
    if not total:
        raise UserError("the validation split holds no clip that could be decoded")
    all_audio, labels = world.gather_rows(audio, shares), world.gather_rows(labels, shares)
    first = sum(shares[: world.rank])
    hits = torch.zeros(5, dtype=torch.float64, device=world.device)
    for start in range(0, len(rows), _IMAGES_AT_ONCE):
        block = rows[start : start + _IMAGES_AT_ONCE]
        own = torch.arange(first + start, first + start + len(block), device=world.device)
        columns = Columns(own, torch.ones(total, dtype=torch.bool, device=world.device), loss.kernel)
        pair = loss.similarity.scores(block, all_audio, columns, kept.scale).pair
        rank = (pair >= pair.gather(1, own[:, None])).sum(1)
        known = labels[own] >= 0
        same = labels[pair.argmax(1)] == labels[own]
        finite = pair.isfinite().all(1)  # no comparison with NaN is true, and so NaN would be the best
        found = ((rank <= 1) & finite, (rank <= 5) & finite, same & known & finite, known, ~finite)
        hits += torch.stack([one.sum() for one in found])
    at_1, at_5, same_class, labeled, not_finite = world.sum(hits).tolist()
    measured = {"recall_at_1": at_1 / total, "recall_at_5": at_5 / total, "clips": float(total)}
    if not_finite:
        measured["not_finite"] = not_finite / total
    return {**measured, "class_recall_at_1": same_class / labeled} if labeled else measured


def _embed(
    embed: Callable[[Batch], Embeddings],
    batches: Iterable[Batch],
    join_labels: Callable[[Tensor, Tensor], ClipLabels],
    loss: LossOptions,
    world: World,
    stop: Callable[[], int],
) -> Split | None:
    """Embed this rank's batches, all ranks equally often: one that has no more embeds its last again."""
    kept, rest = Split(), iter(batches)
    batch = last = next(rest, None)
    if last is None:
        raise UserError("the validation split is too small: every rank needs at least one clip")
    while True:
        state = torch.tensor([batch is not None, bool(stop())], dtype=torch.float32, device=world.device)
        more, stopped = world.max(state).tolist()
        if stopped:
            return None
        if not more:
            return kept
        embeddings = embed(last)
        if batch is not None:
            kept.take(batch, embeddings, join_labels(batch.index, batch.valid), loss)
            batch = next(rest, None)
            last = batch or last
