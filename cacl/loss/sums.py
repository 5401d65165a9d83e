"""The algebra of a loss: sums over parts of rows and columns that merge exactly.

An objective names terms of every pair: `linear` ones are summed as they are, `exponential` ones after `exp`,
each sum with a shift of its own so that nothing overflows or vanishes: m and `sum of w e^(s - m)` with the
largest logit m. Sums of parts of a row or column merge exactly, whether the parts are blocks or ranks:

    m = max(m1, m2)
    sum = sum1 e^(m1 - m) + sum2 e^(m2 - m)

>>> from cacl.loss.positives import Relation
>>> pair, own = torch.tensor([[0.9, 0.1, 500.0, 0.3]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]])
>>> def sums_of(columns):
...     relation = Relation(own[:, columns], 1 - own[:, columns])
...     logits = pair[:, columns]
...     return partial(logits, relation, Terms(exponential=((logits, relation.negative),)), dim=1, shift=None)
>>> whole, parts = sums_of(slice(0, 4)), merge(sums_of(slice(0, 2)), sums_of(slice(2, 4)))
>>> torch.equal(whole.shift, parts.shift) and torch.allclose(whole.sums, parts.sums)
True

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
FLOATS_OF_OBJECTIVE = 16
"""Values that relation and objective hold at once for one pair, an upper bound."""


@dataclass(frozen=True)
class Terms:
    """What an objective wants summed over a block of pairs, each [b, N]."""

    linear: tuple[Tensor, ...] = ()
    exponential: tuple[tuple[Tensor, Tensor], ...] = ()
    """(logits, weights), for the sum of `weights * exp(logits)`."""


class Counts(IntEnum):
    """Columns of the sums that every objective has."""

    POSITIVE_WEIGHT = 0
    NEGATIVE_WEIGHT = 1
    POSITIVE_SIMILARITY = 2
    NEGATIVE_SIMILARITY = 3


COUNTS = len(Counts)


@dataclass(frozen=True)
class Partial:
    """Sums over a part of each row or column, of value `sums * exp(shift)`.

    The shift of a linear sum is 0. The first `COUNTS` of the `k` sums are those of `Counts`; the objective's
    linear and then its exponential terms follow.
    """

    sums: Tensor
    """[., k], with gradient."""
    shift: Tensor
    """[., k], without gradient."""

    @property
    def counts(self) -> Tensor:
        """[., COUNTS] the sums that every objective has, without gradient; see `Counts`."""
        return self.sums[:, :COUNTS].detach()

    @classmethod
    def nothing(cls, like: Tensor) -> Partial:
        """Return sums of no rows or columns, for a direction that the options leave out."""
        empty = like.new_zeros(0, 0)
        return cls(empty, empty)

    def rescaled(self, shift: Tensor) -> Tensor:
        """Return the sums [., k] relative to another, larger shift [., k]."""
        return self.sums * (self.shift - shift).exp()


@dataclass(frozen=True)
class Sums:
    """Sums over whole rows or columns, as an objective reads them.

    Those without contrast are 1, which no logarithm or quotient minds.
    """

    positive: Tensor
    """[.], weight of the positives, above 0."""
    negative: Tensor
    """[.], weight of the negatives, above 0."""
    linear: Tensor
    """[., number of linear terms]."""
    log_exponential: Tensor
    """[., number of exponential terms], logarithms of the sums."""


def partial(pair: Tensor, relation: Relation, terms: Terms, dim: int, shift: Tensor | None) -> Partial:
    """Sum similarities `pair` [b, N] over their columns (`dim=1`) or rows (`dim=0`).

    `shift` [., k] is given if it is known already, in the backward's recomputation; None means the largest
    logit of the block.
    """
    exponentials = len(terms.exponential)
    if shift is None:
        linear = [*_counts(pair.detach(), relation, dim), *(term.sum(dim) for term in terms.linear)]
        zeros = [torch.zeros_like(linear[0])] * len(linear)
        counted = [x.detach().masked_fill(weights <= 0, LOWEST) for x, weights in terms.exponential]
        largest = [_largest(logits, dim) for logits in counted]
        shift = torch.stack([*zeros, *largest], -1)
    else:  # counts have no gradient, and need not be counted again
        counts = shift.new_zeros(len(shift))
        linear = [*[counts] * COUNTS, *(term.sum(dim) for term in terms.linear)]
    tops = shift[:, shift.shape[1] - exponentials :].unbind(1)
    sums = [
        (weights * _bounded(logits - top.unsqueeze(dim)).exp()).sum(dim)
        for (logits, weights), top in zip(terms.exponential, tops, strict=True)
    ]
    return Partial(torch.stack([*linear, *sums], -1), shift)


@torch.no_grad()
def _bounded(logits: Tensor) -> Tensor:
    """Bound logits in place: those without weight have finite exponentials too.

    Logits with weight are at most 0, up to rounding; those without have no gradient, bounded or not.
    """
    return logits.clamp_(max=1)


def _counts(pair: Tensor, relation: Relation, dim: int) -> list[Tensor]:
    """Sum what every objective has, in the order of `Counts`."""
    counted = (relation.positive, relation.negative, relation.positive * pair, relation.negative * pair)
    return [term.sum(dim) for term in counted]


def _largest(logits: Tensor, dim: int) -> Tensor:
    """Return `amax` over `dim`, LOWEST if there is nothing: a rank may hold no clips."""
    return logits.amax(dim).clamp(min=LOWEST) if logits.shape[dim] else logits.sum(dim) + LOWEST


def complete(part: Partial, valid: Tensor, linear_terms: int) -> tuple[Sums, Tensor]:
    """Return whole rows or columns as an objective reads them.

    Also returns which of them have contrast, [.] bool. A row without positives, without negatives, or of
    a clip that is not `valid` [.] has none.
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
    """Join the sums of two parts of the same rows or columns, [., k] each."""
    shift = torch.maximum(first.shift, second.shift)
    return Partial(first.rescaled(shift) + second.rescaled(shift), shift)
