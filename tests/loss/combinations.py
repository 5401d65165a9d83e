"""Every combination of parts that has a meaning."""

from __future__ import annotations

from itertools import product

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.loss.objective import Contrast, InfoNCE, MarginNCE, Sigmoid, SupCon
from cacl.loss.positives import (
    ConfidenceWeighted,
    Confident,
    Curriculum,
    FalseNegatives,
    OwnClip,
    SameClass,
    SoftOverlap,
)
from cacl.loss.similarity import (
    AttentionSimilarity,
    LogSumExpSimilarity,
    MaxSimilarity,
    MeanSimilarity,
    TriMapSimilarity,
)

SIMILARITIES = [
    MeanSimilarity(),
    MaxSimilarity(),
    LogSumExpSimilarity(sharpness=5.0),
    AttentionSimilarity(),
    TriMapSimilarity(softness=0.2),
]
POSITIVES = [
    OwnClip(),
    SameClass(),
    SameClass(number_of_classes=3),
    SoftOverlap(),
    ConfidenceWeighted(),
    Confident(threshold=0.3),
    Curriculum(start=0.9, end=0.1, steps=4),
    FalseNegatives(top=2, above=0.0),
    FalseNegatives(top=3, above=-1.0, mode="attract"),
]
OBJECTIVES = [
    Contrast(),
    InfoNCE(),
    MarginNCE(margin=-0.3),
    SupCon(average="out"),
    SupCon(average="in"),
    Sigmoid(bias=-1.0),
]


DIRECTIONS = ("image", "audio", "both")


def combinations(similarity_name: str, every_direction: bool, **common: object) -> dict[str, LossOptions]:
    """LossOptions with one similarity, all positives and objectives, in every direction or one each.

    What is refused in its direction stands in direction image.
    """
    found = {}
    similarity = next(s for s in SIMILARITIES if s.name == similarity_name)
    for (p, positives), (o, objective) in product(enumerate(POSITIVES), enumerate(OBJECTIVES)):
        for direction in DIRECTIONS if every_direction else (DIRECTIONS[(p + o) % 3],):
            parts = {"similarity": similarity, "positives": positives, "objective": objective, **common}
            try:
                options = LossOptions(**parts, direction=direction)
            except UserError:
                options = LossOptions(**parts)
            found[f"{positives.name}{p} {objective.name}{o} {options.direction}"] = options
    return found


def heads_of(similarity_name: str) -> int:
    """Heads that a similarity is tested with."""
    return {"attention": 2, "tri-map": 1}.get(similarity_name, 2)
