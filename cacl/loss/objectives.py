"""What is asked of the similarities: sums over a row (or a column), and what is made of the sums.

An objective names terms of every pair: `linear` ones are summed, `exponential` ones are summed after `exp`,
each with a shift of its own so that nothing overflows or vanishes. Sums of parts of a row or column merge
exactly, whether the parts are blocks or ranks; `finish` makes the loss of a row or column of the whole sums.

Axes: `b` images of a block, `N` sounds, `.` rows or columns, `k` sums of an objective.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from cacl.loss.checks import require
from cacl.loss.positives import Relation
from cacl.loss.sspl import Sspl
from cacl.options import Options

if TYPE_CHECKING:
    from cacl.loss.options import LossOptions

LOWEST = -1e30
"""Shift of a sum of exponentials without terms; finite, so that differences of two such are not NaN."""


@dataclass(frozen=True)
class Terms:
    """What an objective sums of a block of pairs, each [b, N]."""

    linear: tuple[Tensor, ...] = ()
    exponential: tuple[tuple[Tensor, Tensor], ...] = ()
    """Pairs (logits, weights), for the sum of `weights * exp(logits)`."""


@dataclass(frozen=True)
class Partial:
    """Sums over a part of each row or column: `sums * exp(shift)`; the shift of a linear sum is 0.

    Order of the `k` sums: weight of the positives, weight of the negatives, similarity of the positives, of
    the negatives, then the objective's linear and its exponential terms.
    """

    sums: Tensor
    """[., k], with gradient."""
    shift: Tensor
    """[., k], without."""

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
    """A whole row's or column's sums, as `finish` reads them; harmless where there is no contrast."""

    positive: Tensor
    """[.], weight of the positives, above 0."""
    negative: Tensor
    """[.], weight of the negatives, above 0."""
    linear: Tensor
    """[., number of linear terms]."""
    log_exponential: Tensor
    """[., number of exponential terms], logarithms of the sums."""


COUNTS = 4
"""Sums that every objective has, before its own."""


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


def log1p_exp(x: Tensor) -> Tensor:
    """`log(1 + e^x)`; torch's softplus leaves the 1 out above x = 20, which is seen in float64."""
    return -F.logsigmoid(-x)


def merge(first: Partial, second: Partial) -> Partial:
    """Join the sums of two parts of the same rows or columns."""
    shift = torch.maximum(first.shift, second.shift)
    return Partial(first.rescaled(shift) + second.rescaled(shift), shift)


def finish(part: Partial, valid: Tensor, objective: PairObjective) -> Tensor:
    """Make the loss of each clip [n] from its whole sums; without positives or without negatives it is 0."""
    contrast = (part.sums[:, 0] > 0) & (part.sums[:, 1] > 0) & valid
    safe = torch.where(contrast[:, None], part.sums, 1)
    first_exponential = COUNTS + objective.linear_terms
    sums = Sums(
        positive=safe[:, 0].detach(),
        negative=safe[:, 1].detach(),
        linear=safe[:, COUNTS:first_exponential],
        log_exponential=part.shift[:, first_exponential:] + safe[:, first_exponential:].log(),
    )
    return torch.where(contrast, objective.finish(sums), 0)


class PairObjective(Options, abc.ABC):
    """What every objective does."""

    heads: ClassVar[int | None] = None
    """Heads that it needs; None is any number."""
    is_linear: ClassVar[bool] = False
    """Whether its sums are those of the logits of the positives and of the negatives."""
    linear_terms: ClassVar[int]
    exponential_terms: ClassVar[int]
    """How many of either its `terms` are."""

    def scalars(self) -> dict[str, float]:
        """Return the initial values of the scalars that the objective learns."""
        return {}

    def head(self, channels: int) -> nn.Module | None:
        """Return the module `Embeddings → Embeddings` that the objective needs in the model."""
        return None

    def check(self, options: LossOptions) -> None:
        """Raise UserError where the objective has no meaning beside the other parts."""

    @abc.abstractmethod
    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Name the sums over similarities `pair` [b, N]."""

    @abc.abstractmethod
    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.] from its sums."""


@dataclass(frozen=True, kw_only=True)
class Contrast(PairObjective):
    """Eq. (2): positives and negatives are averaged first, `log(1 + exp(negative mean - positive mean))`."""

    name: Literal["contrast"] = "contrast"

    is_linear: ClassVar[bool] = True
    linear_terms: ClassVar[int] = 2
    exponential_terms: ClassVar[int] = 0

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Two linear sums."""
        logits = pair * scale
        return Terms(linear=(relation.positive * logits, relation.negative * logits))

    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.]."""
        return log1p_exp(sums.linear[:, 1] / sums.negative - sums.linear[:, 0] / sums.positive)


@dataclass(frozen=True, kw_only=True)
class InfoNCE(PairObjective):
    """`-log(sum over positives of e^s / sum over all of e^s)`; one positive makes it the usual InfoNCE."""

    name: Literal["infonce"] = "infonce"

    linear_terms: ClassVar[int] = 0
    exponential_terms: ClassVar[int] = 2

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Sums of exponentials over the positives and over all."""
        logits = pair * scale
        everything = relation.positive + relation.negative
        return Terms(exponential=((logits, relation.positive), (logits, everything)))

    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.]."""
        return sums.log_exponential[:, 1] - sums.log_exponential[:, 0]


@dataclass(frozen=True, kw_only=True)
class MarginNCE(PairObjective):
    """InfoNCE whose positives are first lowered by `margin` (raised, as it is usually below 0).

    Park et al., "MarginNCE: Robust Sound Localization with a Negative Margin".
    """

    name: Literal["margin"] = "margin"
    margin: float = -0.2

    linear_terms: ClassVar[int] = 0
    exponential_terms: ClassVar[int] = 2

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Sums of exponentials over the positives and over all."""
        return InfoNCE().terms(pair - self.margin * relation.positive, relation, scale, scalars)

    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.]."""
        return InfoNCE().finish(sums)


@dataclass(frozen=True, kw_only=True)
class SupCon(PairObjective):
    """Supervised contrastive loss (Khosla et al. 2020), with positives averaged outside or inside the log.

    out: mean over positives of `-log(e^s / sum over all of e^s)`; in: `-log(mean over positives of e^s / sum
    over all of e^s)`.
    """

    name: Literal["supcon"] = "supcon"
    average: Literal["out", "in"] = "out"

    linear_terms: ClassVar[int] = 1
    exponential_terms: ClassVar[int] = 2

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """The linear sum over positives, and InfoNCE's two."""
        inside = InfoNCE().terms(pair, relation, scale, scalars)
        return Terms((relation.positive * pair * scale,), inside.exponential)

    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.]."""
        positives, everything = sums.log_exponential.unbind(1)
        if self.average == "out":
            return everything - sums.linear[:, 0] / sums.positive
        return everything - positives + sums.positive.log()


@dataclass(frozen=True, kw_only=True)
class Sigmoid(PairObjective):
    """SigLIP (Zhai et al. 2023): every pair is a yes or no, `-log sigmoid(±(logits + bias))`, summed.

    One sum over all pairs, so there are no directions: a pair counts once, in its image's row.
    """

    name: Literal["sigmoid"] = "sigmoid"
    bias: float = -10.0
    """First value of the learned bias."""

    linear_terms: ClassVar[int] = 1
    exponential_terms: ClassVar[int] = 0

    def scalars(self) -> dict[str, float]:
        """Return the first value of the bias."""
        return {"bias": self.bias}

    def check(self, options: LossOptions) -> None:
        """Raise UserError for anything but rows."""
        require(
            options.direction == "image",
            f"objective sigmoid has no directions: leave out {options.direction}",
        )

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """One linear sum."""
        logits = pair * scale + scalars["bias"]
        return Terms(linear=(relation.positive * log1p_exp(-logits) + relation.negative * log1p_exp(logits),))

    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row [.]."""
        return sums.linear[:, 0]


Objective = Annotated[Contrast | InfoNCE | MarginNCE | SupCon | Sigmoid | Sspl, Field(discriminator="name")]
