"""Every combination of parts that has a meaning."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any, get_args

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.loss.objectives import Contrast, InfoNCE, MarginNCE, Sigmoid, SupCon
from cacl.loss.options import Direction, ObjectiveOptions, PositivesOptions, SimilarityOptions
from cacl.loss.positives import (
    ConfidenceWeighted,
    Confident,
    Curriculum,
    FalseNegatives,
    OwnClip,
    SameClass,
    SoftOverlap,
)
from cacl.loss.similarities import (
    AttentionSimilarity,
    LogSumExpSimilarity,
    MaxSimilarity,
    MeanSimilarity,
    TriMapSimilarity,
)

SIMILARITIES: dict[str, SimilarityOptions] = {
    "mean": MeanSimilarity(),
    "max": MaxSimilarity(),
    "log-sum-exp": LogSumExpSimilarity(sharpness=5.0),
    "attention": AttentionSimilarity(),
    "tri-map": TriMapSimilarity(softness=0.2),
    "tri-map with its quirk": TriMapSimilarity(softness=0.2, diagonal="times-minus-99"),
}
POSITIVES: list[PositivesOptions] = [
    OwnClip(),
    SameClass(),
    SameClass(number_of_classes=3),
    SoftOverlap(),
    ConfidenceWeighted(),
    Confident(threshold=0.3),
    Curriculum(start=0.9, end=0.1, steps=4),
    FalseNegatives(top=2, above=-0.1),
    FalseNegatives(top=3, above=-1.0, mode="attract", from_step=1),
]
OBJECTIVES: list[ObjectiveOptions] = [
    Contrast(),
    InfoNCE(),
    MarginNCE(margin=-0.3),
    SupCon(average="out"),
    SupCon(average="in"),
    Sigmoid(bias=-1.0),
]

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


def combinations(similarity: str, every_direction: bool, **common: Any) -> dict[str, LossOptions]:
    """LossOptions with one of the SIMILARITIES, all positives and objectives, in every direction or one each.

    What is refused in its direction stands in direction image-to-audio.
    """
    found = {}
    for (p, positives), (o, objective) in product(enumerate(POSITIVES), enumerate(OBJECTIVES)):
        for direction in DIRECTIONS if every_direction else (DIRECTIONS[(p + o) % 3],):
            parts: dict[str, Any] = {
                "similarity": SIMILARITIES[similarity],
                "positives": positives,
                "objective": objective,
                **common,
            }
            try:
                options = LossOptions(**parts, direction=direction)
            except UserError:
                options = LossOptions(**parts)
            found[f"{positives.name}{p} {objective.name}{o} {options.direction}"] = options
    return found


def every_part(similarity: str, **common: Any) -> dict[str, LossOptions]:
    """Few of the `combinations`, in which all positives, objectives and directions stand."""
    every = list(combinations(similarity, False, **common).items())
    count = len(OBJECTIVES)
    return dict(every[count * p + p % count] for p in range(len(POSITIVES)))


def heads_of(options: LossOptions) -> int:
    """Heads that a loss is tested with."""
    parts = (options.similarity, options.objective, *options.regularizers)
    needed = {part.heads for part in parts if part.heads is not None}
    return needed.pop() if needed else 2


def named(name: str) -> Callable[[str], str]:
    """For `assert_close`: what it says, after the name of the combination."""
    return lambda message: f"{name}: {message}"
