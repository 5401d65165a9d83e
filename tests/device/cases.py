"""Losses that flow on the device: all combinations of parts, and few in which any two parts meet."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import combinations, product
from typing import Any

import torch

from cacl.errors import UserError
from cacl.loss import LossOptions
from cacl.loss.options import Direction
from cacl.loss.pairs import FLOATS_OF_OBJECTIVE
from tests.loss.combinations import DIRECTIONS, OBJECTIVES, POSITIVES, SIMILARITIES, heads_of

CLIPS, PIXELS = 12, 6


@dataclass(frozen=True)
class Case:
    """A combination of parts, positives and objective by their place in the lists of the loss's tests."""

    similarity: str
    positives: int
    objective: int
    direction: Direction
    in_blocks: bool
    """Whether rows are worked on in blocks of 5, 5 and 2."""
    target: bool
    """Whether there are a moving average's targets."""

    def options(self) -> LossOptions:
        """Return the loss. Raises UserError for a combination without meaning."""
        loss = LossOptions(
            similarity=SIMILARITIES[self.similarity],
            positives=POSITIVES[self.positives],
            objective=OBJECTIVES[self.objective],
            direction=self.direction,
            temperature=0.2,
            learn_temperature=True,
        )
        pixels = loss.similarity.floats_per_score * heads_of(loss) * PIXELS
        row = CLIPS * (pixels + FLOATS_OF_OBJECTIVE) * torch.float64.itemsize
        return replace(loss, memory_mib=5.5 * row / 2**20) if self.in_blocks else loss

    def pairs(self) -> frozenset[Any]:
        """Return any two of its choices."""
        return frozenset(combinations([(field.name, getattr(self, field.name)) for field in fields(self)], 2))


def has_meaning(case: Case) -> bool:
    """Say whether there is such a loss."""
    try:
        case.options()
    except UserError:
        return False
    return True


def every_case() -> list[Case]:
    """Return all combinations with a meaning."""
    numbers = range(len(POSITIVES)), range(len(OBJECTIVES))
    every = product(SIMILARITIES, *numbers, DIRECTIONS, (False, True), (False, True))
    return [case for case in (Case(*choices) for choices in every) if has_meaning(case)]


def pairwise_cases() -> list[Case]:
    """Return few of them, in which any two choices meet that meet in any: greedily, the most useful one next."""
    left = {case: case.pairs() for case in every_case()}
    missing, chosen = frozenset().union(*left.values()), []
    while missing:
        case = max(left, key=lambda one: len(left[one] & missing))
        missing -= left.pop(case)
        chosen.append(case)
    return chosen
