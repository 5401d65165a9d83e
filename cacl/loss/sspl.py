"""SSPL: no negatives; what is heard in one view predicts it in another.

Song et al. 2022, "Self-Supervised Predictive Learning: A Negative-Free Method for Sound Source Localization
in Visual Scenes" (github.com/zjsong/SSPL, `sspl_wo_pcm`), without its predictive coding module. The head is
SimSiam's (Chen and He 2021, arXiv:2011.10566).

Axes: `n` clips on this rank, `V` = 2 views, `H` heads, `P` pixels, `D` channels, `E` channels of a
projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cacl.limits import Channels
from cacl.loss.batch import wide
from cacl.loss.checks import require
from cacl.loss.objectives import Direction, Objective, SumsOfPairs
from cacl.types import Embeddings

_LEAST_RANGE = 1e-10
"""What the public code adds to a map's range before it divides by it."""


def attend(maps: Tensor, audio: Tensor) -> Tensor:
    """Sum the vectors of a map, each weighted by how much it is like the sound.

    `sum over p of (c(p) - min c) / (max c - min c) v(p)` [n, D], c(p) the cosine of the image vector v(p) and
    the sound. `maps` [n, P, D] are of any length, `audio` [n, D] of length 1.
    """
    cosine = (F.normalize(maps, dim=2) @ audio.unsqueeze(2)).squeeze(2)
    low, high = cosine.min(1, keepdim=True).values, cosine.max(1, keepdim=True).values
    weights = (cosine - low) / (high - low + _LEAST_RANGE)
    return (weights.unsqueeze(1) @ maps).squeeze(1)


class MaskedBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the valid rows of a micro-batch; with all of them it is torch's."""

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalize `x` [n, C].

        Rows that are not `valid` [n] bool move no other row and no statistic.
        """
        if not self.training or valid is None:
            return super().forward(x)
        x = wide(x)
        share = valid.to(x.dtype).unsqueeze(1)
        count = share.sum()
        mean = (x * share).sum(0) / count.clamp(min=1)
        centered = x - mean
        variance = (centered.square() * share).sum(0) / count.clamp(min=1)
        self._move(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1), count > 0)
        normalized = centered / (variance + self.eps).sqrt()
        return normalized * self.weight + self.bias if self.affine else normalized

    @torch.no_grad()
    def _move(self, mean: Tensor, variance: Tensor, wanted: Tensor) -> None:
        """Move running statistics to those of a micro-batch, if `wanted` (0-d bool)."""
        assert self.momentum is not None  # as it is by default
        for running, value in (("running_mean", mean), ("running_var", variance)):
            old = self.get_buffer(running)
            old.lerp_(value.to(old.dtype), self.momentum * wanted.to(old.dtype))


class SimSiamHead(nn.Module):
    """Adds each view's projection, and what of it predicts the other's."""

    def __init__(self, channels: int, hidden: int, projection: int, bottleneck: int) -> None:
        super().__init__()
        self.projector = nn.ModuleList(
            [
                *_layer(channels, hidden),
                *_layer(hidden, hidden),
                nn.Linear(hidden, projection, bias=False),
                MaskedBatchNorm(projection, affine=False),
            ]
        )
        self.predictor = nn.ModuleList([*_layer(projection, bottleneck), nn.Linear(bottleneck, projection)])

    def forward(
        self, embeddings: Embeddings, maps: Sequence[Tensor], valid: Tensor | None = None
    ) -> Embeddings:
        """Return the embeddings with what the objective compares in `extra`.

        Adds attended [n, D] (of the first view), and projections and predictions, each [n, V, E]. `maps` [n,
        1, P, D] of each view are not of unit length. One view, as in evaluation, predicts nothing and adds
        nothing. Raises UserError where maps have more heads.
        """
        if len(maps) == 1:
            return embeddings
        require(maps[0].shape[1] == 1, f"loss.objective: sspl needs model.heads 1, got {maps[0].shape[1]}")
        audio = embeddings.audio[:, 0]
        with torch.autocast(audio.device.type, enabled=False):
            attended = [attend(wide(view[:, 0]), audio) for view in maps]
        projections = [_run(self.projector, vectors, valid) for vectors in attended]
        predictions = [_run(self.predictor, vectors, valid) for vectors in projections]
        extra = {
            "attended": attended[0],
            "projections": torch.stack(projections, 1),
            "predictions": torch.stack(predictions, 1),
        }
        return replace(embeddings, extra={**embeddings.extra, **extra})


def _layer(before: int, after: int) -> tuple[nn.Module, ...]:
    return nn.Linear(before, after, bias=False), MaskedBatchNorm(after), nn.ReLU()


def _run(layers: nn.ModuleList, x: Tensor, valid: Tensor | None) -> Tensor:
    """Return what layers, run one after the other, make of `x` [n, C]."""
    for layer in layers:
        x = layer(x, valid) if isinstance(layer, MaskedBatchNorm) else layer(x)
    return x


@dataclass(frozen=True, kw_only=True)
class Sspl(Objective):
    """`-(cos(p1, sg z2) + cos(p2, sg z1)) / 2`, of two views of a frame.

    p is a view's prediction of the other's projection z; sg: what is predicted has no gradient. A view is its
    attended vector (see `attend`). Projector and predictor are SimSiam's, and their BatchNorm normalizes the
    valid clips of a micro-batch.

    >>> maps = [torch.randn(4, 1, 9, 8) for view in range(2)]  # [n, 1, P, D] each
    >>> embeddings = Embeddings(F.normalize(maps[0], dim=3), F.normalize(torch.randn(4, 1, 8), dim=2))
    >>> objective, valid = Sspl(hidden=16, projection=16, bottleneck=4), torch.tensor([True] * 3 + [False])
    >>> embeddings = objective.head(channels=8)(embeddings, maps, valid)
    >>> {name: tuple(value.shape) for name, value in embeddings.extra.items()}
    {'attended': (4, 8), 'projections': (4, 2, 16), 'predictions': (4, 2, 16)}
    >>> (direction,) = objective.directions(embeddings, valid, sums=None)
    >>> direction.per_clip[3].item()
    0.0
    """

    name: Literal["sspl"] = "sspl"
    hidden: Channels = 2048
    """Channels of the projector's two hidden layers."""
    projection: Channels = 2048
    """Channels of a projection, and of what predicts it."""
    bottleneck: Channels = 512
    """Channels of the predictor's hidden layer."""

    heads: ClassVar[int | None] = 1
    views: ClassVar[int] = 2

    def head(self, channels: int) -> nn.Module:
        """Return projector and predictor, which the model owns."""
        return SimSiamHead(channels, self.hidden, self.projection, self.bottleneck)

    def directions(self, embeddings: Embeddings, valid: Tensor, sums: SumsOfPairs) -> list[Direction]:
        """Return the one direction of own pairs.

        Raises UserError if the model lacks the head, or saw one view.
        """
        require(
            "predictions" in embeddings.extra,
            "loss.objective: sspl needs its head in the model, and two views of each frame",
        )
        extra = {name: wide(value) for name, value in embeddings.extra.items()}
        other = extra["projections"].flip(1).detach()
        per_clip = -F.cosine_similarity(extra["predictions"], other, dim=2).mean(1)
        own = F.cosine_similarity(extra["attended"].detach(), embeddings.audio[:, 0].detach(), dim=1)
        nothing = torch.zeros_like(own)
        counts = torch.stack([valid.to(own.dtype), nothing, own.where(valid, 0), nothing], 1)
        return [Direction(per_clip.where(valid, 0), counts)]
