"""Regularizers: how the rows of whole similarity matrices agree.

Axes: `b` images of a block, `n` on this rank, `N` of all ranks, `P` pixels, `D` channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import NonNegativeInt
from torch import Tensor

from cacl.loss.batch import GlobalBatch
from cacl.loss.blocks import BlockSums, Known, sums_in_blocks
from cacl.loss.kernel import Kernel
from cacl.loss.precision import Precision
from cacl.loss.similarities import Columns, Similarity
from cacl.loss.sums import Partial
from cacl.options import Options
from cacl.types import Embeddings

Scale = Callable[[Mapping[str, Tensor]], Tensor | float]
"""Returns the factor from similarity to logits, given the learned scalars."""


@dataclass(frozen=True)
class Views:
    """Vectors that compare clips within a modality, all [., D]."""

    audio: Tensor
    foreground: Tensor
    """Mean over all pixels of the image vectors, with zeros for faint pixels."""
    image: Tensor
    """Mean over pixels of the image vectors."""


@dataclass(frozen=True, kw_only=True)
class Fnac(Options):
    """FNAC's three terms, mean absolute differences of softmaxes over sounds.

    With logits S, sounds A, images V and their foregrounds F, at temperature τ: suppression of false
    negatives `|softmax(A Aᵀ/τ) - softmax(S)|` and `|softmax(V Vᵀ/τ) - softmax(S)|`, and enhancement of true
    negatives `|softmax(A Aᵀ/τ) - softmax(F Fᵀ/τ)|`. Sun et al. 2023, "Learning Audio-Visual Source
    Localization via False Negative Aware Contrastive Learning" (github.com/OpenNLPLab/FNAC_AVL).

    >>> import torch
    >>> fnac = Fnac(suppression_by_sound=1.0, suppression_by_image=1.0, enhancement=1.0)
    >>> maps = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]], [[[0.0, 1.0], [0.0, 1.0]]]])  # [n, 1, P, D]
    >>> audio = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])  # [n, 1, D]
    >>> views = fnac.views(maps, audio, scale=1.0)
    >>> views.foreground
    tensor([[0.5000, 0.0000],
            [0.0000, 0.0000]])
    >>> logits = torch.tensor([[1.0, 0.2], [0.3, 0.9]])  # [b, N]
    >>> fnac.rows(logits, views, views, valid=torch.tensor([True, True]), scale=1.0)
    tensor([0.3999, 0.3397])
    """

    name: Literal["fnac"] = "fnac"
    suppression_by_sound: float = 100.0
    """Weight of the first term."""
    suppression_by_image: float = 100.0
    """Weight of the second term."""
    enhancement: float = 100.0
    """Weight of the third term."""
    foreground_threshold: float = 0.6
    """Value above which a pixel of the own map, scaled to 0..1, is foreground."""
    first_epoch: NonNegativeInt = 0
    """Epoch, counted from 0, from which the terms are added; before it the loss is without them."""

    heads: ClassVar[int | None] = 1

    def views(self, maps: Tensor, audio: Tensor, scale: Tensor | float) -> Views:
        """Return the clips' vectors, from maps [n, 1, P, D] and sounds [n, 1, D]."""
        maps, audio = maps[:, 0], audio[:, 0]
        own = (maps @ audio.unsqueeze(2)).squeeze(2).detach() * scale
        low, high = own.amin(1, keepdim=True), own.amax(1, keepdim=True)
        bright = (own - low) / (high - low + 1e-5) > self.foreground_threshold
        return Views(audio, (maps * bright.unsqueeze(2)).mean(1), maps.mean(1))

    def rows(self, logits: Tensor, mine: Views, every: Views, valid: Tensor, scale: Tensor | float) -> Tensor:
        """Return the weighted terms of each row [b].

        `logits` [b, N]; `valid` [N] says which columns are.
        """

        def softmax(x: Tensor) -> Tensor:
            return x.masked_fill(~valid, -1e30).softmax(1)

        pair = softmax(logits)
        audio = softmax(mine.audio @ every.audio.T * scale)
        foreground = softmax(mine.foreground @ every.foreground.T * scale)
        image = softmax(mine.image @ every.image.T * scale)
        terms = (
            self.suppression_by_sound * (audio - pair).abs()
            + self.suppression_by_image * (image - pair).abs()
            + self.enhancement * (audio - foreground).abs()
        )
        return (terms * valid).sum(1) / valid.sum().clamp(min=1).to(terms.dtype)


def agreement(
    regularizer: Fnac,
    embeddings: Embeddings,
    batch: GlobalBatch,
    similarity: Similarity,
    scale: Scale,
    rows_per_block: int,
    room: float,
    kernel: Kernel,
    precision: Precision,
) -> Tensor:
    """Return a regularizer's weighted terms for each clip of this rank [n].

    They are 0 for clips that are not valid. Views of the clips of all ranks are gathered; rows are worked on
    in blocks.
    """
    maps, audio, names = embeddings.image, embeddings.audio, list(embeddings.scalars)
    own, valid = batch.own, batch.columns.valid
    mine = regularizer.views(maps, audio, scale(embeddings.scalars))
    views = [mine.audio, mine.foreground, mine.image]
    every = [batch.world.gather_rows(view, batch.shares) for view in views]

    def block(where: slice, rows: Sequence[Tensor], shared: Sequence[Tensor], known: Known) -> BlockSums:
        images, *row_views = rows
        all_audio, foregrounds, pooled, *learned = shared
        factor = scale(dict(zip(names, learned, strict=True)))
        columns = Columns(own[where], valid, kernel, precision, known.kept)
        scores = similarity.scores(images, all_audio[:, None], columns, factor)
        logits, every_view = scores.pair * scores.scale, Views(all_audio, foregrounds, pooled)
        sums = regularizer.rows(logits, Views(*row_views), every_view, valid, factor)[:, None]
        return BlockSums(Partial(sums, sums.new_zeros(sums.shape)), Partial.nothing(sums), scores.kept)

    shared = [*every, *embeddings.scalars.values()]
    terms, _ = sums_in_blocks(block, [similarity.prepare(maps), *views], shared, rows_per_block, room)
    return terms.sums[:, 0].where(batch.clips.valid, 0)
