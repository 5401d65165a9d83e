"""Objectives: the sums over similarities that a loss needs, and the loss itself.

In the formulas, `s = similarity / temperature` are the logits of a row (or column), `P` its positives, `Q`
its negatives and `A` both; means and sums are weighted by the positives' relation.

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
    """The loss of this rank's clips in one direction, by rows or by columns."""

    per_clip: Tensor
    """[n]"""
    counts: Tensor
    """[n, COUNTS] detached, see `cacl.loss.sums.Counts`."""


class Objective(Options, abc.ABC):
    """Makes the loss of every clip of similarities and positives that it is given."""

    name: str
    heads: ClassVar[int | None] = None
    """How many heads it needs; None is any number."""
    views: ClassVar[int] = 1
    """How many random views of each frame it compares."""
    is_linear: ClassVar[bool] = False
    """Whether it needs only the sums of the logits over positives and over negatives."""

    def scalars(self) -> dict[str, float]:
        """Return the initial values of the scalars that the objective learns."""
        return {}

    def head(self, channels: int) -> nn.Module | None:
        """Return the module that it needs in the model.

        It is called with the embeddings, the maps [n, H, P, D] of each view before they are scaled to unit
        length, and which clips are valid ([n] bool, None for all), and returns embeddings.
        """
        return None

    @abc.abstractmethod
    def directions(self, embeddings: Embeddings, valid: Tensor, sums: SumsOfPairs) -> list[Direction]:
        """Return the loss of this rank's clips in each direction of each view.

        `valid` [n] bool; `sums` sums similarities over the clips of all ranks.
        """


class PairObjective(Objective):
    """An objective by which a clip's loss is a function of sums over its pairs."""

    linear_terms: ClassVar[int]
    exponential_terms: ClassVar[int]
    """How many terms of each kind `terms` returns."""

    def directions(self, embeddings: Embeddings, valid: Tensor, sums: SumsOfPairs) -> list[Direction]:
        """Return the loss in each direction of each view.

        With a target (a moving average of the model) there are two views: online images against the target's
        sounds, and the target's images against online sounds.
        """
        target, views = embeddings.target, [(embeddings.image, embeddings.audio)]
        if target is not None:
            views = [(embeddings.image, target.audio), (target.image, embeddings.audio)]
        parts = [part for maps, audio in views for part in sums(self, maps, audio)]
        return [Direction(self.per_clip(part, valid), part.counts) for part in parts]

    def per_clip(self, part: Partial, valid: Tensor) -> Tensor:
        """Return the loss of each row or column [.] from its whole sums.

        It is 0 without contrast, and for clips that are not `valid` [.].
        """
        sums, contrast = complete(part, valid, self.linear_terms)
        return torch.where(contrast, self.finish(sums), 0)

    @abc.abstractmethod
    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Return the terms of similarities `pair` [b, N] that are to be summed."""

    @abc.abstractmethod
    def finish(self, sums: Sums) -> Tensor:
        """Return the loss of each row or column [.] from its sums, with contrast."""


SumsOfPairs = Callable[[PairObjective, Tensor, Tensor], list[Partial]]
"""From an objective, maps [n, H, P, D] and sounds [n, H, D] of this rank to the sums of its clips.

One `Partial` [n, k] for each direction that is asked for, over the clips of all ranks.
"""


def log1p_exp(x: Tensor) -> Tensor:
    """Return `log(1 + e^x)`, exact in float64: softplus drops the 1 above x = 20."""
    return -F.logsigmoid(-x)


@dataclass(frozen=True, kw_only=True)
class Contrast(PairObjective):
    """The paper's Eq. (2), `log(1 + exp(mean over Q of s - mean over P of s))`.

    Positives and negatives are averaged before the exponential, so only class sums are needed (see
    `cacl.loss.class_sums`). With positives `own-clip` it is the paper's baseline, Eq. (1).

    >>> from cacl.loss.sums import partial
    >>> pair = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])  # [b, N]
    >>> relation = Relation(torch.eye(2, 3), 1 - torch.eye(2, 3))
    >>> terms = Contrast().terms(pair, relation, 1 / 0.5, {})
    >>> Contrast().per_clip(partial(pair, relation, terms, 1, None), torch.tensor([True, True]))
    tensor([0.2204, 0.3133])
    """

    name: Literal["contrast"] = "contrast"

    is_linear: ClassVar[bool] = True
    linear_terms: ClassVar[int] = 2
    exponential_terms: ClassVar[int] = 0

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Return linear terms: the logits of the positives and of the negatives."""
        logits = pair * scale
        return Terms(linear=(relation.positive * logits, relation.negative * logits))

    def finish(self, sums: Sums) -> Tensor:
        """Return `log(1 + exp(negative mean - positive mean))` [.]."""
        return log1p_exp(sums.linear[:, 1] / sums.negative - sums.linear[:, 0] / sums.positive)


@dataclass(frozen=True, kw_only=True)
class InfoNCE(PairObjective):
    """`-log(sum over P of e^s / sum over A of e^s)`: multi-positive InfoNCE.

    With one positive it is the cross-entropy of van den Oord et al. 2018 (arXiv:1807.03748) and, with
    similarity `max` in both directions, EZ-VSL's loss (github.com/stoneMo/EZ-VSL, `max_xmil_loss`).

    >>> from cacl.loss.sums import partial
    >>> pair = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])  # [b, N]
    >>> relation = Relation(torch.eye(2, 3), 1 - torch.eye(2, 3))
    >>> terms = InfoNCE().terms(pair, relation, 1 / 0.5, {})
    >>> InfoNCE().per_clip(partial(pair, relation, terms, 1, None), torch.tensor([True, True]))
    tensor([0.4075, 0.5599])
    """

    name: Literal["infonce"] = "infonce"

    linear_terms: ClassVar[int] = 0
    exponential_terms: ClassVar[int] = 2

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Return exponential terms: of the positives, and of the negatives.

        In one sum of both, rounding would lose negatives beside positives that outweigh them.
        """
        logits = pair * scale
        return Terms(exponential=((logits, relation.positive), (logits, relation.negative)))

    def finish(self, sums: Sums) -> Tensor:
        """Return `log(1 + sum over Q of e^s / sum over P of e^s)` [.]."""
        return log1p_exp(sums.log_exponential[:, 1] - sums.log_exponential[:, 0])


@dataclass(frozen=True, kw_only=True)
class MarginNCE(PairObjective):
    """InfoNCE with `s = (similarity - margin) / temperature` for positives.

    A negative margin raises their logits: a positive need not outdo the negatives by as much, which spares
    noisy pairs. Park et al. 2023, "MarginNCE: Robust Sound Localization with a Negative Margin".

    >>> from cacl.loss.sums import partial
    >>> pair = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])  # [b, N]
    >>> relation = Relation(torch.eye(2, 3), 1 - torch.eye(2, 3))
    >>> terms = MarginNCE(margin=-0.2).terms(pair, relation, 1 / 0.5, {})
    >>> MarginNCE(margin=-0.2).per_clip(partial(pair, relation, terms, 1, None), torch.tensor([True, True]))
    tensor([0.2906, 0.4075])
    """

    name: Literal["margin-nce"] = "margin-nce"
    margin: float = -0.2
    """What is taken off the similarity of positives; a negative margin asks less of them."""

    linear_terms: ClassVar[int] = 0
    exponential_terms: ClassVar[int] = 2

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Return InfoNCE's terms, the margin taken off the positives by their weight."""
        return InfoNCE().terms(pair - self.margin * relation.positive, relation, scale, scalars)

    def finish(self, sums: Sums) -> Tensor:
        """Return InfoNCE's loss [.] of the shifted logits."""
        return InfoNCE().finish(sums)


@dataclass(frozen=True, kw_only=True)
class SupCon(PairObjective):
    """The supervised contrastive loss, averaged outside or inside the logarithm.

    `out` is the mean over P of `-log(e^s / sum over A of e^s)`, and `in` is
    `-log(mean over P of e^s / sum over A of e^s)`: Eq. (2) and (3) of Khosla et al. 2020 (arXiv:2004.11362).
    github.com/HobbitLong/SupContrast computes `out`. With one positive both are InfoNCE.

    >>> from cacl.loss.sums import partial
    >>> pair = torch.tensor([[0.9, 0.7, 0.3]])  # [b, N]
    >>> relation = Relation(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    >>> for average in ("out", "in"):
    ...     objective = SupCon(average=average)
    ...     terms = objective.terms(pair, relation, 1 / 0.5, {})
    ...     objective.per_clip(partial(pair, relation, terms, 1, None), torch.tensor([True]))
    tensor([0.8788])
    tensor([0.8589])
    """

    name: Literal["supcon"] = "supcon"
    average: Literal["out", "in"] = "out"
    """Average over positives outside of the logarithm, or inside."""

    linear_terms: ClassVar[int] = 1
    exponential_terms: ClassVar[int] = 2

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Return the linear term of the positives and InfoNCE's exponential terms."""
        inside = InfoNCE().terms(pair, relation, scale, scalars)
        return Terms((relation.positive * pair * scale,), inside.exponential)

    def finish(self, sums: Sums) -> Tensor:
        """Return the log-sum-exp of A less the mean (or log-mean-exp) of P [.]."""
        beyond = InfoNCE().finish(sums)
        if self.average == "out":
            return beyond + (sums.log_exponential[:, 0] - sums.linear[:, 0] / sums.positive)
        return beyond + sums.positive.log()


@dataclass(frozen=True, kw_only=True)
class Sigmoid(PairObjective):
    """SigLIP: `sum over A of -log sigmoid(±(s + bias))`, + for P and - for Q.

    Every pair is a yes or a no. Zhai et al. 2023 (arXiv:2303.15343;
    github.com/google-research/big_vision, `siglip.py`), with a learned bias. It is one sum over all pairs and
    has no directions: a pair counts once, in its image's row.

    >>> from cacl.loss.sums import partial
    >>> pair = torch.tensor([[0.9, 0.1, 0.3], [0.2, 0.8, 0.4]])  # [b, N]
    >>> relation = Relation(torch.eye(2, 3), 1 - torch.eye(2, 3))
    >>> terms = Sigmoid().terms(pair, relation, 1 / 0.1, {"bias": torch.tensor(-5.0)})
    >>> Sigmoid().per_clip(partial(pair, relation, terms, 1, None), torch.tensor([True, True]))
    tensor([0.1632, 0.4104])
    """

    name: Literal["sigmoid"] = "sigmoid"
    bias: float = -10.0
    """First value of the learned bias."""

    linear_terms: ClassVar[int] = 1
    exponential_terms: ClassVar[int] = 0

    def scalars(self) -> dict[str, float]:
        """Return the first value of the learned bias."""
        return {"bias": self.bias}

    def terms(
        self, pair: Tensor, relation: Relation, scale: Tensor | float, scalars: Mapping[str, Tensor]
    ) -> Terms:
        """Return one linear term, the loss of every pair."""
        logits = pair * scale + scalars["bias"]
        return Terms(linear=(relation.positive * log1p_exp(-logits) + relation.negative * log1p_exp(logits),))

    def finish(self, sums: Sums) -> Tensor:
        """Return the sum over the pairs of each row [.]."""
        return sums.linear[:, 0]
