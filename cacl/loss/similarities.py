"""Similarities: how alike this rank's images and all ranks' sounds are.

A similarity first reduces the maps to what it works on (`prepare`), then scores a block of images against all
sounds. A block holds whole rows, so a similarity may depend on its row. In the formulas, `cos(p)` is the
product of the unit vectors of pixel `p` and of the sound.

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

from cacl.loss.best_pixel import BestPixel
from cacl.loss.checks import require
from cacl.loss.kernel import Kernel
from cacl.loss.precision import Precision, product
from cacl.loss.sums import LOWEST
from cacl.options import Options


@dataclass(frozen=True)
class Scores:
    """Similarities of a block of images; `logits = pair * scale`."""

    pair: Tensor
    """[b, N]."""
    scale: Tensor | float
    """0-d, the inverse temperature, or 1 if the similarity has applied it already."""
    extra_negative: Tensor | None = None
    """[b, K], further negatives of each row, in the unit of `pair`."""
    kept: tuple[Tensor, ...] = ()
    """Without gradient: what makes the block cheap to score again."""


@dataclass(frozen=True)
class Columns:
    """What a similarity may know of a block in addition to its vectors."""

    own: Tensor
    """[b] int64, the column of each row's own sound."""
    valid: Tensor
    """[N] bool."""
    kernel: Kernel = "auto"
    """The loss's."""
    precision: Precision = "float32"
    """The loss's, of scores."""
    kept: tuple[Tensor, ...] = ()
    """`Scores.kept` of the first time, if the same block is scored again."""


class Similarity(Options, abc.ABC):
    """Scores images against sounds."""

    heads: ClassVar[int | None] = None
    """How many heads it needs; None is any number."""
    is_linear: ClassVar[bool] = False
    """Whether a score is the product of the prepared image and the sound."""
    keeps: ClassVar[bool] = False
    """Whether its scores have something to keep."""
    has_triton: ClassVar[bool] = False
    """Whether there is a kernel of Triton for it."""
    floats_per_score: ClassVar[int]
    """Tensors of [b, P, N] that a block holds at once with its gradient, at most; 0 if none is whole."""

    def prepare(self, maps: Tensor) -> Tensor:
        """Reduce the maps [n, H, P, D] to what the blocks need, [n, ...]."""
        return maps

    @abc.abstractmethod
    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score a block of prepared maps [b, ...] against the sounds [N, H, D].

        `scale` is 1 / temperature.
        """


@dataclass(frozen=True, kw_only=True)
class MeanSimilarity(Similarity):
    """Mean over pixels and heads of `cos(p)`: the paper's S_ij.

    It is linear, so the maps are pooled once and pixels never meet sounds.

    >>> maps = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])  # [b, H, P, D]
    >>> audio = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])  # [N, H, D]
    >>> columns = Columns(own=torch.tensor([0]), valid=torch.tensor([True, True]))
    >>> mean = MeanSimilarity()
    >>> mean.scores(mean.prepare(maps), audio, columns, 1.0).pair
    tensor([[0.5000, 0.7000]])
    """

    name: Literal["mean"] = "mean"

    is_linear: ClassVar[bool] = True
    floats_per_score: ClassVar[int] = 0

    def prepare(self, maps: Tensor) -> Tensor:
        """Pool the maps [n, H, P, D] to their sums over pixels / (H P) [n, H, D]."""
        _, heads, pixels, _ = maps.shape
        return maps.sum(2) / (heads * pixels)  # mean(2) would divide its gradient after spreading it over P

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Multiply pooled images [b, H, D] by sounds [N, H, D], heads side by side."""
        return Scores(product(rows.flatten(1), audio.flatten(1), columns.precision), scale)


@dataclass(frozen=True, kw_only=True)
class MaxSimilarity(Similarity):
    """Maximum over pixels of `cos(p)`, mean over heads: EZ-VSL's.

    Mo and Morgado 2022, "Localizing Visual Sounds the Easy Way" (github.com/stoneMo/EZ-VSL).

    >>> maps = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])  # [b, H, P, D]
    >>> audio = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])  # [N, H, D]
    >>> columns = Columns(own=torch.tensor([0]), valid=torch.tensor([True, True]))
    >>> MaxSimilarity().scores(maps, audio, columns, 1.0).pair
    tensor([[1.0000, 0.8000]])
    """

    name: Literal["max"] = "max"

    keeps: ClassVar[bool] = True
    has_triton: ClassVar[bool] = True
    floats_per_score: ClassVar[int] = 0

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score maps [b, H, P, D] against sounds [N, H, D].

        Each head's maxima and their pixels are for keeping.
        """
        heads = zip(_by_head(rows), _by_head(audio), strict=True)
        how, kept = (columns.own, columns.kernel, columns.precision), columns.kept
        found = [BestPixel.apply(*head, *how, *kept[2 * h : 2 * h + 2]) for h, head in enumerate(heads)]
        again = tuple(tensor.detach() for head in found for tensor in head)
        return Scores(_mean([best for best, _ in found]), scale, kept=again)


@dataclass(frozen=True, kw_only=True)
class LogSumExpSimilarity(Similarity):
    """`log(mean over pixels of exp(sharpness cos(p))) / sharpness`, mean over heads.

    A maximum that every pixel has a share in: it tends to the mean as the sharpness falls to 0, and to the
    maximum as it grows. Pinheiro and Collobert 2015, "From Image-Level to Pixel-Level Labeling with
    Convolutional Networks".

    >>> maps = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])  # [b, H, P, D]
    >>> audio = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])  # [N, H, D]
    >>> columns = Columns(own=torch.tensor([0]), valid=torch.tensor([True, True]))
    >>> LogSumExpSimilarity(sharpness=10.0).scores(maps, audio, columns, 1.0).pair
    tensor([[0.9307, 0.7434]])
    """

    name: Literal["log-sum-exp"] = "log-sum-exp"
    sharpness: float = 10.0
    """How close to the maximum: 0 is the mean over pixels, infinity the maximum."""

    floats_per_score: ClassVar[int] = 4

    def __post_init__(self) -> None:
        require(self.sharpness > 0, f"sharpness must be above 0, got {self.sharpness}")

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score maps [b, H, P, D] against sounds [N, H, D], head by head."""
        found = cosines(rows, audio, columns.precision)
        peaks = _mean([(cosine * self.sharpness).logsumexp(1) for cosine in found])
        return Scores((peaks - math.log(rows.shape[2])) / self.sharpness, scale)


@dataclass(frozen=True, kw_only=True)
class AttentionSimilarity(Similarity):
    """`log(sum over pixels of X Y)` of two heads: SLAVC's.

    X is the softmax over sounds of the first head's `cos(p) / temperature` (which sound is it, at this
    pixel?), Y the softmax over pixels of the second head's (where is this sound?). X makes a score depend on
    its whole row. The score is a logit already. Mo and Morgado 2022, "A Closer Look at Weakly-Supervised
    Audio-Visual Source Localization" (github.com/stoneMo/SLAVC).

    >>> maps = torch.eye(2).expand(1, 2, 2, 2)  # [b, 2, P, D]
    >>> audio = torch.tensor([[1.0, 0.0], [0.6, 0.8]])[:, None].expand(2, 2, 2)  # [N, 2, D]
    >>> columns = Columns(own=torch.tensor([0]), valid=torch.tensor([True, True]))
    >>> scores = AttentionSimilarity().scores(maps, audio, columns, 1 / 0.1)
    >>> scores.pair, scores.scale
    (tensor([[-0.0182, -0.1248]]), 1.0)
    """

    name: Literal["attention"] = "attention"

    heads: ClassVar[int | None] = 2
    floats_per_score: ClassVar[int] = 3

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score maps [b, 2, P, D] against sounds [N, 2, D]; X ignores what is not valid."""
        first, second = zip(_by_head(rows), _by_head(audio * scale), strict=True)
        ignored = audio.new_zeros(len(audio)).masked_fill(~columns.valid, LOWEST)
        precision = columns.precision
        identity, place = _products(*first, precision, ignored), _products(*second, precision)
        return Scores((identity.log_softmax(2) + place).logsumexp(1) - place.logsumexp(1), 1.0)


@dataclass(frozen=True, kw_only=True)
class TriMapSimilarity(Similarity):
    """Mean of `cos(p)` over the pixels that a sound lights up: LVS's.

    Pixels are weighted by `sigmoid((cos(p) - positive_threshold) / softness)`. A row also has a hard
    negative: the mean over the own pair's surely silent pixels, weighted by
    `1 - sigmoid((cos(p) - negative_threshold) / softness)`. Chen et al. 2021, "Localizing Visual Sounds the
    Hard Way" (github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way).

    >>> maps = torch.tensor([[[[1.0, 0.0], [0.28, 0.96]]]])  # [b, 1, P, D]
    >>> audio = torch.tensor([[[1.0, 0.0]], [[0.6, 0.8]]])  # [N, 1, D]
    >>> columns = Columns(own=torch.tensor([0]), valid=torch.tensor([True, True]))
    >>> scores = TriMapSimilarity().scores(maps, audio, columns, 1.0)
    >>> scores.pair, scores.extra_negative
    (tensor([[1.0000, 0.8899]]), tensor([[0.2800]]))
    """

    name: Literal["tri-map"] = "tri-map"
    positive_threshold: float = 0.65
    """Cosine above which a pixel counts as lit by the sound."""
    negative_threshold: float = 0.4
    """Cosine below which a pixel of the own pair counts as surely silent."""
    softness: float = 0.03
    """Width in cosine of the transition at both thresholds."""
    diagonal: Literal["masked", "times-minus-99"] = "masked"
    """LVS means to mask the own pair among the negatives, but its code multiplies the pair by -99."""

    heads: ClassVar[int | None] = 1
    floats_per_score: ClassVar[int] = 6

    def __post_init__(self) -> None:
        require(self.softness > 0, f"softness must be above 0, got {self.softness}")

    def scores(self, rows: Tensor, audio: Tensor, columns: Columns, scale: Tensor | float) -> Scores:
        """Score maps [b, 1, P, D] against sounds [N, 1, D] and make the hard negatives."""
        cosine = cosines(rows, audio, columns.precision)[0]
        pair = _weighted_mean(cosine, (cosine - self.positive_threshold) / self.softness)
        own = (rows[:, 0] @ audio[columns.own, 0].unsqueeze(2)).squeeze(2)
        extra = [_weighted_mean(own, (self.negative_threshold - own) / self.softness)]
        if self.diagonal == "times-minus-99":
            extra.append(-99 * pair.gather(1, columns.own[:, None]).squeeze(1))
        return Scores(pair, scale, torch.stack(extra, 1))


def cosines(maps: Tensor, audio: Tensor, precision: Precision = "float32") -> list[Tensor]:
    """Return each head's cosines [b, P, N] of maps [b, H, P, D] and sounds [N, H, D]."""
    return [_products(*head, precision) for head in zip(_by_head(maps), _by_head(audio), strict=True)]


def _by_head(x: Tensor) -> tuple[Tensor, ...]:
    """Return each head's part of x [., H, ...]; a single one's is no copy backward."""
    return (x.squeeze(1),) if x.shape[1] == 1 else x.unbind(1)


def _products(
    images: Tensor, spectrograms: Tensor, precision: Precision, offset: Tensor | None = None
) -> Tensor:
    """Multiply [b, P, D] by [N, D] to [b, P, N]; add `offset` [N] to every row."""
    found = product(images.flatten(0, 1), spectrograms, precision, offset)
    return found.view(*images.shape[:2], len(spectrograms))


def _weighted_mean(x: Tensor, logits: Tensor) -> Tensor:
    """Average `x` over dim 1 by `sigmoid(logits)`, exact even if all underflow."""
    return (F.logsigmoid(logits).softmax(1) * x).sum(1)


def _mean(by_head: list[Tensor]) -> Tensor:
    return by_head[0] if len(by_head) == 1 else torch.stack(by_head).mean(0)
