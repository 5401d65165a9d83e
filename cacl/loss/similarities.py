"""How alike an image and a sound are: a number for every image of this rank and every sound of all ranks.

A similarity first says what of the maps it works on (`prepare`), then scores a block of images against all
sounds. A block holds whole rows, so a similarity may depend on its row.

Axes: `b` images of a block, `n` on this rank, `N` sounds of all ranks, `H` heads, `P` pixels, `D` channels,
`K` extra negatives.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cacl.loss.checks import require
from cacl.loss.sums import LOWEST
from cacl.options import Options


@dataclass(frozen=True)
class Scores:
    """Similarities of a block of images; `logits = pair * scale`."""

    pair: Tensor
    """[b, N]."""
    scale: Tensor | float
    """0-d, the inverse temperature, or 1 where the similarity has used it already."""
    extra_negative: Tensor | None = None
    """[b, K], negatives beside the row, in the unit of `pair`."""


@dataclass(frozen=True)
class Columns:
    """What a similarity may know of the sounds beside their vectors."""

    own: Tensor
    """[b] int64, the column of each row's own sound."""
    valid: Tensor
    """[N] bool."""


class Similarity(Options, abc.ABC):
    """What every similarity does."""

    heads: ClassVar[int | None] = None
    """Heads that it needs; None is any number."""
    is_linear: ClassVar[bool] = False
    """Whether a score is the product of the prepared image and the sound."""
    floats_per_score: ClassVar[int]
    """Tensors of [b, P, N] that a block holds at once with its gradient, at most; 0 if none is built."""

    def prepare(self, maps: Tensor) -> Tensor:
        """Return what of the maps [n, H, P, D] enters the blocks, [n, ...]."""
        return maps

    @abc.abstractmethod
    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score a block of prepared maps [b, ...] against the sounds [N, H, D]."""


@dataclass(frozen=True, kw_only=True)
class MeanSimilarity(Similarity):
    """Mean over pixels of the cosine (the paper's S_ij); linear, so the maps are pooled once."""

    name: Literal["mean"] = "mean"

    is_linear: ClassVar[bool] = True
    floats_per_score: ClassVar[int] = 0

    def prepare(self, maps: Tensor) -> Tensor:
        """[n, H, P, D] → [n, H, D], sums over pixels of maps / (H P); pixels never meet sounds."""
        _, heads, pixels, _ = maps.shape
        return maps.sum(2) / (heads * pixels)  # mean(2) would divide its gradient after spreading it over P

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Mean over pixels and heads."""
        return Scores(rows.flatten(1) @ audio.flatten(1).T, scale)


@dataclass(frozen=True, kw_only=True)
class MaxSimilarity(Similarity):
    """Maximum over pixels of the cosine (EZ-VSL), mean over heads."""

    name: Literal["max"] = "max"

    floats_per_score: ClassVar[int] = 3

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """`amax` shares the gradient among equal pixels, whichever way the batch is cut."""
        return Scores(_mean([cosine.amax(1) for cosine in cosines(rows, audio)]), scale)


@dataclass(frozen=True, kw_only=True)
class LogSumExpSimilarity(Similarity):
    """`log(mean over pixels of exp(sharpness * cosine)) / sharpness`: mean at 0, maximum at infinity."""

    name: Literal["log-sum-exp"] = "log-sum-exp"
    sharpness: float = 10.0

    floats_per_score: ClassVar[int] = 4

    def __post_init__(self) -> None:
        require(self.sharpness > 0, f"sharpness must be above 0, got {self.sharpness}")

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Mean over heads."""
        peaks = _mean([(cosine * self.sharpness).logsumexp(1) for cosine in cosines(rows, audio)])
        return Scores((peaks - math.log(rows.shape[2])) / self.sharpness, scale)


@dataclass(frozen=True, kw_only=True)
class AttentionSimilarity(Similarity):
    """SLAVC's two heads: the log of the sum over pixels of X · Y.

    X is a softmax over sounds of the first head's logits (which sound is it, at this pixel), Y a softmax over
    pixels of the second head's (where is this sound). X makes a score depend on its whole row, and the score
    is a logit already. Mo and Morgado, "A Closer Look at Weakly-Supervised Audio-Visual Source Localization".
    """

    name: Literal["attention"] = "attention"

    heads: ClassVar[int | None] = 2
    floats_per_score: ClassVar[int] = 3

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score maps of two heads [b, 2, P, D] against sounds [N, 2, D]."""
        first, second = zip(rows.unbind(1), (audio * scale).unbind(1), strict=True)
        ignored = audio.new_zeros(len(audio)).masked_fill(~columns.valid, LOWEST)
        identity, place = _products(*first, ignored), _products(*second)
        return Scores((identity.log_softmax(2) + place).logsumexp(1) - place.logsumexp(1), 1.0)


@dataclass(frozen=True, kw_only=True)
class TriMapSimilarity(Similarity):
    """LVS: the mean cosine of the pixels that a sound lights up, softly chosen, and a hard negative.

    `m = sigmoid((cos - positive_threshold) / softness)` chooses the pixels of a pair; the own pair's pixels
    that are surely not sounding, `1 - sigmoid((cos - negative_threshold) / softness)`, give the hard negative
    beside the row. Chen et al., "Localizing Visual Sounds the Hard Way".
    """

    name: Literal["tri-map"] = "tri-map"
    positive_threshold: float = 0.65
    negative_threshold: float = 0.4
    softness: float = 0.03
    diagonal: Literal["masked", "times-minus-99"] = "masked"
    """LVS means to mask the own pair among the negatives, but multiplies it by -99: the quirk by name."""

    heads: ClassVar[int | None] = 1
    floats_per_score: ClassVar[int] = 6

    def __post_init__(self) -> None:
        require(self.softness > 0, f"softness must be above 0, got {self.softness}")

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score maps of one head [b, 1, P, D] against sounds [N, 1, D]."""
        cosine = cosines(rows, audio)[0]
        pair = _weighted_mean(cosine, (cosine - self.positive_threshold) / self.softness)
        own = (rows[:, 0] @ audio[columns.own, 0].unsqueeze(2)).squeeze(2)
        extra = [_weighted_mean(own, (self.negative_threshold - own) / self.softness)]
        if self.diagonal == "times-minus-99":
            extra.append(-99 * pair.gather(1, columns.own[:, None]).squeeze(1))
        return Scores(pair, scale, torch.stack(extra, 1))


def cosines(maps: Tensor, audio: Tensor) -> list[Tensor]:
    """[b, H, P, D] and [N, H, D] → H times [b, P, N], the cosine of every pixel and every sound."""
    return [_products(*head) for head in zip(maps.unbind(1), audio.unbind(1), strict=True)]


def _products(images: Tensor, sounds: Tensor, offset: Tensor | None = None) -> Tensor:
    """[b, P, D] and [N, D] → [b, P, N]; `offset` [N] is added to every pixel's row."""
    pixels = images.flatten(0, 1)
    found = pixels @ sounds.T if offset is None else torch.addmm(offset, pixels, sounds.T)
    return found.view(*images.shape[:2], len(sounds))


def _weighted_mean(x: Tensor, logits: Tensor) -> Tensor:
    """Mean of `x` over dim 1 by weights `sigmoid(logits)`, right where all are too small for a float."""
    return (F.logsigmoid(logits).softmax(1) * x).sum(1)


def _mean(by_head: list[Tensor]) -> Tensor:
    return by_head[0] if len(by_head) == 1 else torch.stack(by_head).mean(0)
