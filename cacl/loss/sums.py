"""The algebra of a loss: sums over parts of rows and columns, which merge exactly.

An objective names terms of every pair: `linear` ones are summed, `exponential` ones are summed after `exp`,
each with a shift of its own so that nothing overflows or vanishes. Sums of parts of a row or column merge
exactly, whether the parts are blocks or ranks.

Axes: `b` images of a block, `N` sounds, `.` rows or columns, `k` sums of an objective.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from cacl.loss.positives import Relation

LOWEST = -1e30
"""Shift of a sum of exponentials without terms; finite, so that differences of two such are not NaN."""


@dataclass(frozen=True)
class Terms:
    """What an objective sums of a block of pairs, each [b, N]."""

    linear: tuple[Tensor, ...] = ()
    exponential: tuple[tuple[Tensor, Tensor], ...] = ()
    """Pairs (logits, weights), for the sum of `weights * exp(logits)`."""


class Counts(IntEnum):
    """Columns of the sums that every objective has."""

    POSITIVE_WEIGHT = 0
    NEGATIVE_WEIGHT = 1
    POSITIVE_SIMILARITY = 2
    NEGATIVE_SIMILARITY = 3


COUNTS = len(Counts)


@dataclass(frozen=True)
class Partial:
    """Sums over a part of each row or column: `sums * exp(shift)`; the shift of a linear sum is 0.

    The first `COUNTS` of the `k` sums are those of `Counts`; the objective's linear and its exponential terms
    follow.
    """

    sums: Tensor
    """[., k], with gradient."""
    shift: Tensor
    """[., k], without."""

    @property
    def counts(self) -> Tensor:
        """[., COUNTS], what every objective sums, without gradient: see `Counts`."""
        return self.sums[:, :COUNTS].detach()

    @classmethod
    def nothing(cls, like: Tensor) -> Partial:
        """Return sums of no rows or columns, for a direction that is not asked for."""
        empty = like.new_zeros(0, 0)
        return cls(empty, empty)

    def rescaled(self, shift: Tensor) -> Tensor:
        """Return the sums [., k] with regard to another, larger shift."""
        return self.sums * (self.shift - shift).exp()


@dataclass(frozen=True)
class Sums:
    """A whole row's or column's sums, as an objective reads them; harmless if there is no contrast."""

    positive: Tensor
    """[.], weight of the positives, above 0."""
    negative: Tensor
    """[.], weight of the negatives, above 0."""
    linear: Tensor
    """[., number of linear terms]."""
    log_exponential: Tensor
    """[., number of exponential terms], logarithms of the sums."""


def partial(pair: Tensor, relation: Relation, terms: Terms, dim: int, shift: Tensor | None) -> Partial:
    """Sum a block over its columns (`dim=1`) or its rows (`dim=0`).

    `shift` [., k] is given where it is known already (recomputation); else the block's own maximum is used.
    """
    pair = pair.detach()
    counted = (relation.positive, relation.negative, relation.positive * pair, relation.negative * pair)
    sums = [term.sum(dim) for term in (*counted, *terms.linear)]
    shifts = [torch.zeros_like(sums[0])] * len(sums)
    for number, (logits, weights) in enumerate(terms.exponential, start=len(sums)):
        logits = logits.masked_fill(weights <= 0, -torch.inf)
        top = _largest(logits.detach(), dim) if shift is None else shift[:, number]
        sums.append((weights * (logits - top.unsqueeze(dim)).exp()).sum(dim))
        shifts.append(top)
    return Partial(torch.stack(sums, -1), torch.stack(shifts, -1) if shift is None else shift)


def _largest(logits: Tensor, dim: int) -> Tensor:
    """`amax`, and LOWEST of nothing: a rank may hold no clips."""
    return logits.amax(dim).clamp(min=LOWEST) if logits.shape[dim] else logits.sum(dim) + LOWEST


def complete(part: Partial, valid: Tensor, linear_terms: int) -> tuple[Sums, Tensor]:
    """Return whole rows or columns as an objective reads them, and which of them [.] bool have contrast.

    Without positives, without negatives, or of a clip that is not `valid` there is none.
    """
    has_positives = part.sums[:, Counts.POSITIVE_WEIGHT] > 0
    has_negatives = part.sums[:, Counts.NEGATIVE_WEIGHT] > 0
    contrast = has_positives & has_negatives & valid
    safe = torch.where(contrast[:, None], part.sums, 1)
    exponential = COUNTS + linear_terms
    sums = Sums(
        positive=safe[:, Counts.POSITIVE_WEIGHT].detach(),
        negative=safe[:, Counts.NEGATIVE_WEIGHT].detach(),
        linear=safe[:, COUNTS:exponential],
        log_exponential=part.shift[:, exponential:] + safe[:, exponential:].log(),
    )
    return sums, contrast


def merge(first: Partial, second: Partial) -> Partial:
    """Join the sums of two parts of the same rows or columns."""
    shift = torch.maximum(first.shift, second.shift)
    return Partial(first.rescaled(shift) + second.rescaled(shift), shift)
