"""SSPL: no negatives; each side of a clip predicts the other's vector.

Song et al. 2022, "Self-Supervised Predictive Learning: A Negative-Free Method for Sound Source Localization
in Visual Scenes" (github.com/zjsong/SSPL), without its predictive coding module.

Axes: `n` clips on this rank, `P` pixels, `D` channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cacl.loss.checks import require
from cacl.loss.objectives import Direction, Objective, SumsOfPairs
from cacl.types import Embeddings


class Predictor(nn.Module):
    """Adds what the loss compares: the attended image, and both sides' predictions.

    `image = sum over p of softmax over p of (v(p)·a / temperature) v(p)`, for image vectors v and the sound
    a.
    """

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        hidden = max(channels // 4, 1)
        self.temperature = temperature
        self.layers = nn.Sequential(
            nn.Linear(channels, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
        )

    def forward(self, embeddings: Embeddings) -> Embeddings:
        """Return the embeddings with the predictions in `extra`.

        Adds image, image_prediction and sound_prediction, each [n, D]. Raises UserError unless maps are [n,
        1, P, D].
        """
        maps, audio = embeddings.image, embeddings.audio
        require(maps.shape[1] == 1, f"loss.objective: sspl needs model.heads 1, got {maps.shape[1]}")
        maps, audio = maps[:, 0], audio[:, 0]
        attention = (maps @ audio.unsqueeze(2) / self.temperature).softmax(1)
        image = (attention * maps).sum(1)
        extra = {
            "image": image,
            "image_prediction": self.layers(image),
            "sound_prediction": self.layers(audio),
        }
        return replace(embeddings, extra={**embeddings.extra, **extra})


@dataclass(frozen=True, kw_only=True)
class Sspl(Objective):
    """`-(cos(image prediction, sound) + cos(sound prediction, image)) / 2`.

    What is predicted has no gradient.

    >>> embeddings = Embeddings(torch.randn(2, 1, 9, 8), torch.randn(2, 1, 8))  # [n, 1, P, D], [n, 1, D]
    >>> embeddings = Sspl().head(channels=8)(embeddings)
    >>> {name: tuple(value.shape) for name, value in embeddings.extra.items()}
    {'image': (2, 8), 'image_prediction': (2, 8), 'sound_prediction': (2, 8)}
    >>> (direction,) = Sspl().directions(embeddings, torch.tensor([True, False]), sums=None)
    >>> direction.per_clip[1].item()
    0.0
    """

    name: Literal["sspl"] = "sspl"
    attention_temperature: float = 0.07
    """Temperature of the softmax over pixels that pools the image."""

    heads: ClassVar[int | None] = 1

    def head(self, channels: int) -> nn.Module:
        """Return the predictor, which the model owns."""
        return Predictor(channels, self.attention_temperature)

    def directions(self, embeddings: Embeddings, valid: Tensor, sums: SumsOfPairs) -> list[Direction]:
        """Return the one direction of own pairs.

        Raises UserError if the model lacks the predictor.
        """
        require("image" in embeddings.extra, "loss.objective: sspl needs its predictor in the model")
        extra, audio = embeddings.extra, embeddings.audio[:, 0]
        forward = F.cosine_similarity(extra["image_prediction"], audio.detach(), dim=1)
        backward = F.cosine_similarity(extra["sound_prediction"], extra["image"].detach(), dim=1)
        own = F.cosine_similarity(extra["image"].detach(), audio.detach(), dim=1)
        nothing = torch.zeros_like(own)
        counts = torch.stack([valid.to(own.dtype), nothing, own.where(valid, 0), nothing], 1)
        return [Direction((-(forward + backward) / 2).where(valid, 0), counts)]
