"""What a recipe says of the loss: its parts, temperature, directions and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from cacl.loss.checks import require
from cacl.loss.kernel import Kernel
from cacl.loss.objectives import Contrast, InfoNCE, MarginNCE, Sigmoid, SupCon
from cacl.loss.positives import (
    ConfidenceWeighted,
    Confident,
    Curriculum,
    FalseNegatives,
    OwnClip,
    SameClass,
    SoftOverlap,
)
from cacl.loss.precision import Precision
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import (
    AttentionSimilarity,
    LogSumExpSimilarity,
    MaxSimilarity,
    MeanSimilarity,
    TriMapSimilarity,
)
from cacl.loss.sspl import Sspl
from cacl.options import Options

SimilarityOptions = Annotated[
    MeanSimilarity | MaxSimilarity | LogSumExpSimilarity | AttentionSimilarity | TriMapSimilarity,
    Field(discriminator="name"),
]
PositivesOptions = Annotated[
    OwnClip | SameClass | SoftOverlap | ConfidenceWeighted | Confident | Curriculum | FalseNegatives,
    Field(discriminator="name"),
]
ObjectiveOptions = Annotated[
    Contrast | InfoNCE | MarginNCE | SupCon | Sigmoid | Sspl, Field(discriminator="name")
]
RegularizerOptions = Fnac
Direction = Literal["image-to-audio", "audio-to-image", "both"]


@dataclass(frozen=True, kw_only=True)
class LossOptions(Options):
    """A loss: similarity × positives × objective, combined freely.

    The default is the paper's Eq. (2) with the positives of Eq. (3). A combination without meaning raises
    UserError.

    >>> from cacl.options import parse
    >>> recipe = {"similarity": {"name": "max"}, "objective": {"name": "infonce"}, "direction": "both"}
    >>> options = parse(LossOptions, recipe, "my.yaml")
    >>> options == LossOptions(similarity=MaxSimilarity(), objective=InfoNCE(), direction="both")
    True
    >>> LossOptions(objective=Sigmoid(), direction="both")
    Traceback (most recent call last):
    cacl.loss.checks.Meaningless: objective sigmoid has no directions: leave out both
    """

    similarity: SimilarityOptions = field(default_factory=MeanSimilarity)
    positives: PositivesOptions = field(default_factory=SameClass)
    objective: ObjectiveOptions = field(default_factory=Contrast)
    direction: Direction = "image-to-audio"
    """Rows (an image against all sounds), columns (a sound against all images), or the sum of the two."""
    temperature: float = 0.07
    """`logits = similarity / temperature`."""
    learn_temperature: bool = False
    """Learn `logit_scale = log(1 / temperature)` as CLIP does, starting at `temperature`."""
    minimum_temperature: float = 0.01
    """Lower bound of a learned temperature."""
    regularizers: tuple[RegularizerOptions, ...] = ()
    """Terms to add to each clip's loss."""
    memory_mib: float | None = None
    """Memory for the scores of pairs, in MiB; the batch is processed in blocks of rows that fit.

    Unless given, 128 on a processor, whose cache such blocks suit, and 1,024 on a GPU, for few launches.
    """
    kernel: Kernel = "auto"
    """What computes similarity max in float32; `auto` is Triton on a GPU that can run it, else torch."""
    scores: Precision = "float32"
    """Precision in which pairs are scored: vectors are rounded to it, sums stay float32.

    `tf32` is float32 where there is no NVIDIA GPU from Ampere on.
    """

    def __post_init__(self) -> None:
        require(self.temperature > 0, f"temperature must be above 0, got {self.temperature}")
        require(
            self.direction in get_args(Direction),
            f"direction: there is no {self.direction!r}; choose one of {', '.join(get_args(Direction))}",
        )
        require(
            self.scores in get_args(Precision),
            f"scores: there is no {self.scores!r}; choose one of {', '.join(get_args(Precision))}",
        )
        require(
            self.memory_mib is None or self.memory_mib > 0,
            f"memory_mib must be above 0, got {self.memory_mib}",
        )
        require(
            self.kernel != "triton" or self.similarity.has_triton,
            f"kernel triton computes similarity max alone, got {self.similarity.name}; leave kernel out",
        )
        require(
            not self.learn_temperature or 0 < self.minimum_temperature <= self.temperature,
            f"minimum_temperature must lie in 0..temperature, got {self.minimum_temperature}",
        )
        for rule in RULES:
            rule(self)
        parts = (self.objective, self.similarity, *self.regularizers)
        needed = {part.heads: part.name for part in parts if part.heads is not None}
        require(
            len(needed) <= 1, f"{' and '.join(needed.values())} need different numbers of heads: {needed}"
        )

    def scalars(self) -> dict[str, float]:
        """Return the initial values of the scalars that this loss learns.

        The model owns them as parameters and hands them back in `Embeddings.scalars`.
        """
        learned = {"logit_scale": -math.log(self.temperature)} if self.learn_temperature else {}
        return {**learned, **self.objective.scalars()}

    def scale(self, scalars: Mapping[str, Tensor]) -> Tensor | float:
        """Return the factor from similarity to logits, a 0-d tensor if it is learned."""
        if not self.learn_temperature:
            return 1 / self.temperature
        learned = scalars["logit_scale"]
        largest = learned.new_full((), self._largest_logit_scale)
        return torch.where(learned <= largest, learned, largest).exp()

    @torch.no_grad()
    def clamp_(self, scalars: dict[str, Tensor]) -> None:
        """Put learned scalars back within their bounds, in place.

        Call it after each update. Beyond the bound `scale` has no gradient, so a scalar left there would stay
        there. At the bound itself it has one: both compare logarithms of one precision, since exp(log(x)) may
        be rounded above x.
        """
        if self.learn_temperature:
            scalars["logit_scale"].clamp_(max=self._largest_logit_scale)

    @property
    def _largest_logit_scale(self) -> float:
        return -math.log(self.minimum_temperature)

    def check_heads(self, heads: int) -> None:
        """Raise UserError if a part needs another number of heads than the model's."""
        for part in (self.objective, self.similarity, *self.regularizers):
            require(
                part.heads in (None, heads),
                f"loss: {part.name} needs {part.heads} head(s) (model.heads), got {heads}",
            )

    @property
    def by_row(self) -> bool:
        """Whether each image is compared with all sounds, a row each."""
        return self.direction != "audio-to-image"

    @property
    def by_column(self) -> bool:
        """Whether each sound is compared with all images, a column each."""
        return self.direction != "image-to-audio"

    @property
    def is_linear(self) -> bool:
        """Whether only similarities are summed, so that class sums suffice."""
        return self.objective.is_linear and self.similarity.is_linear and self.positives.has_classes

    def head(self, channels: int) -> nn.Module | None:
        """Return the module that the model must have (see `Objective.head`), or None."""
        return self.objective.head(channels)


def sigmoid_has_rows_only(loss: LossOptions) -> None:
    """Refuse columns with sigmoid: each pair counts once, in its image's row."""
    require(
        loss.objective.name != "sigmoid" or loss.direction == "image-to-audio",
        f"objective sigmoid has no directions: leave out {loss.direction}",
    )


def tri_map_has_rows_only(loss: LossOptions) -> None:
    """Refuse columns with tri-map: its hard negative is in an image, thus a row."""
    require(
        loss.similarity.name != "tri-map" or loss.direction == "image-to-audio",
        f"similarity tri-map has only direction image-to-audio, got {loss.direction}",
    )


def attention_has_log_probabilities(loss: LossOptions) -> None:
    """Refuse suspects above 0 with attention, whose scores are log-probabilities."""
    positives = loss.positives
    require(
        loss.similarity.name != "attention"
        or not isinstance(positives, FalseNegatives)
        or positives.above < 0,
        "positives.above must be below 0 with similarity attention, whose scores are log-probabilities",
    )


def sspl_has_own_pairs_only(loss: LossOptions) -> None:
    """Refuse with sspl everything that compares different clips."""
    others = {
        "similarity": loss.similarity.name != "mean",
        "positives": loss.positives.name != "own-clip",
        "direction": loss.direction != "image-to-audio",
        "learn_temperature": loss.learn_temperature,
        "regularizers": bool(loss.regularizers),
        "scores": loss.scores != "float32",
    }
    for key, is_set in others.items():
        require(
            loss.objective.name != "sspl" or not is_set,
            f"objective sspl compares own pairs only: {key} has no meaning (positives own-clip)",
        )


def class_sums_have_no_scores(loss: LossOptions) -> None:
    """Refuse a precision of scores where no pair is scored."""
    require(
        loss.scores == "float32" or not loss.is_linear or bool(loss.regularizers),
        f"scores {loss.scores} has no meaning with similarity mean and objective contrast, whose sums of "
        "classes are float32; leave scores out",
    )


RULES = (
    sigmoid_has_rows_only,
    sspl_has_own_pairs_only,
    tri_map_has_rows_only,
    attention_has_log_probabilities,
    class_sums_have_no_scores,
)
"""Rules of combination. Each raises UserError for a loss that has no meaning."""
