"""What a recipe says of the loss: its parts, temperature, directions and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from cacl.loss.checks import require
from cacl.loss.objective import Contrast, Objective, PairObjective
from cacl.loss.positives import Positives, SameClass
from cacl.loss.regularizers import Regularizer
from cacl.loss.similarity import MeanSimilarity, Similarity
from cacl.options import Options


@dataclass(frozen=True, kw_only=True)
class LossOptions(Options):
    """The parts of a loss, combined freely; a combination without meaning raises UserError."""

    similarity: Similarity = field(default_factory=MeanSimilarity)
    positives: Positives = field(default_factory=SameClass)
    objective: Objective = field(default_factory=Contrast)
    direction: Literal["image", "audio", "both"] = "image"
    """Rows of images against all sounds, columns of sounds against all images, or the sum of the two."""
    temperature: float = 0.07
    """`logits = similarity / temperature`."""
    learn_temperature: bool = False
    """Learn `logit_scale = log(1 / temperature)` (CLIP's form), starting at `temperature`."""
    minimum_temperature: float = 0.01
    """Bound of a learned temperature."""
    regularizers: tuple[Regularizer, ...] = ()
    memory_mib: float = 128
    """Memory for scores of pairs; the batch is worked on in blocks of rows that keep to it."""

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature must be above 0, got {self.temperature}")
        require(self.memory_mib > 0, f"memory_mib must be above 0, got {self.memory_mib}")
        require(
            not self.learn_temperature or 0 < self.minimum_temperature <= self.temperature,
            f"minimum_temperature must lie in 0..temperature, got {self.minimum_temperature}",
        )
        self.objective.check(self.direction)
        self.similarity.check(self.direction)

    def scalars(self) -> dict[str, float]:
        """Return the initial values of the scalars that this loss learns.

        The model owns them as parameters and hands them back in `Embeddings.scalars`.
        """
        learned = {"logit_scale": -math.log(self.temperature)} if self.learn_temperature else {}
        return {**learned, **self.objective.scalars()}

    def scale(self, scalars: Mapping[str, Tensor]) -> Tensor | float:
        """Return the factor from similarity to logits, 0-d where it is learned."""
        if not self.learn_temperature:
            return 1 / self.temperature
        return scalars["logit_scale"].exp().clamp(max=1 / self.minimum_temperature)

    @torch.no_grad()
    def clamp_(self, scalars: dict[str, Tensor]) -> None:
        """Put learned scalars back within their bounds, in place; call it after each update.

        Beyond the bound the clamp of `scale` has no gradient, so that a scalar left there would stay.
        """
        if self.learn_temperature:
            scalars["logit_scale"].clamp_(max=-math.log(self.minimum_temperature))

    @property
    def is_linear(self) -> bool:
        """Whether all that is summed of a row are similarities, so that class sums do."""
        objective = self.objective
        linear = isinstance(objective, PairObjective) and objective.is_linear and self.similarity.is_linear
        return linear and self.positives.has_classes

    def head(self, channels: int) -> nn.Module | None:
        """Return the module `Embeddings → Embeddings` that this loss needs in the model, or None."""
        return self.objective.head(channels)
