"""What is asked of the similarities: sums over a row (or a column), and the loss made of the sums.

Axes: `n` clips on this rank, `b` images of a block, `N` sounds, `.` rows or columns.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cacl.loss.positives import Relation
from cacl.loss.sums import Partial, Sums, Terms, complete
from cacl.options import Options
from cacl.types import Embeddings


@dataclass(frozen=True)
class Direction:
    """The loss of one direction, of the rows or the columns of this rank's clips."""

    per_clip: Tensor
    """[n]"""
    counts: Tensor
    """[n, COUNTS] detached, see `cacl.loss.sums.Counts`."""


class Objective(Options, abc.ABC):
    """What every objective does."""

    name: str
    heads: ClassVar[int | None] = None
    """Heads that it needs; None is any number."""
    is_linear: ClassVar[bool] = False
    """Whether its sums are those of the logits of the positives and of the negatives."""

    def scalars(self) -> dict[str, float]:
        """Return the initial values of the scalars that the objective learns."""
        return {}

    def head(self, channels: int) -> nn.Module | None:
        """Return the module `Embeddings → Embeddings` that the objective needs in the model."""
        return None

    @abc.abstractmethod
    def directions(self, embeddings: Embeddings, valid: Tensor, sums: SumsOfPairs) -> list[Direction]:
        """Return the loss of this rank's clips, `valid` [n] bool, in each direction of each view."""


class PairObjective(Objective):
    """An objective over pairs of images and sounds, of which every clip's loss is made of sums."""

    linear_terms: ClassVar[int]
    exponential_terms: ClassVar[int]
    """How many of either its `terms` are."""

    def directions(self, embeddings: Embeddings, valid: Tensor, sums: SumsOfPairs) -> list[Direction]:
        """Return the loss in each direction of each view.

        With a target (a moving average of the model) there are two views: online images against the target's
        sounds, and the target's images against online sounds.
        """
        target, views = embeddings.target, [(embeddings.maps, embeddings.audio)]
        if target is not None:
            views = [(embeddings.maps, target.audio), (target.maps, embeddings.audio)]
        parts = [part for maps, audio in views for part in sums(self, maps, audio)]
        return [Direction(self.per_clip(part, valid), part.counts) for part in parts]

    def per_clip(self, part: Partial, valid: Tensor) -> Tensor:
        """Return the loss of each row or column [.] from its whole sums; without contrast it is 0."""
        sums, contrast = complete(part, valid, self.linear_terms)
        return torch.where(contrast, self.finish(sums), 0)

    @abc.abstractmethod
    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Name the sums over similarities `pair` [b, N]."""

    @abc.abstractmethod
    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.] from its sums."""


SumsOfPairs = Callable[[PairObjective, Tensor, Tensor], list[Partial]]
"""From an objective, maps [n, H, P, D] and sounds [n, H, D] of this rank to the sums of its clips.

One `Partial` [n, k] for each direction that is asked for, over the clips of all ranks.
"""


def log1p_exp(x: Tensor) -> Tensor:
    """Return `log(1 + e^x)`; torch's softplus leaves the 1 out above x = 20, which is seen in float64."""
    return -F.logsigmoid(-x)


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

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """One linear sum."""
        logits = pair * scale + scalars["bias"]
        return Terms(linear=(relation.positive * log1p_exp(-logits) + relation.negative * log1p_exp(logits),))

    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row [.]."""
        return sums.linear[:, 0]
