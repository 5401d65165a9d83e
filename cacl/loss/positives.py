"""Positives: which images and sounds belong together, and which to tell apart.

In the formulas, `i` is a clip's image and `j` a clip's sound; each example prints the weights of the
positives.

Axes: `b` images of a block, `N` sounds of all ranks, `C` classes, `K` soft classes.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from cacl.loss.checks import require
from cacl.options import Options
from cacl.types import ClipLabels


@dataclass(frozen=True)
class Relation:
    """Weights of pairs; a pair with 0 in both is ignored.

    The column direction reads the same weights, transposed.
    """

    positive: Tensor
    """[b, N] in 0..1."""
    negative: Tensor
    """[b, N] in 0..1."""


@dataclass(frozen=True)
class Pairs:
    """A block of rows against all columns, as the positives see it."""

    rows: ClipLabels
    """[b]"""
    columns: ClipLabels
    """[N]"""
    own: Tensor
    """[b] int64, the column of each row's own clip."""
    similarity: Tensor
    """[b, N], without gradient."""
    step: int | Tensor
    """The training step, for curricula."""

    @cached_property
    def is_own(self) -> Tensor:
        """[b, N] bool: both are of one clip."""
        return self.own[:, None] == torch.arange(len(self.columns.label), device=self.own.device)

    @cached_property
    def is_same_class(self) -> Tensor:
        """[b, N] bool: both have the same known label, or are of one clip.

        A clip labeled -1 is alone in its class.
        """
        label = self.rows.label[:, None]
        return ((label >= 0) & (label == self.columns.label)) | self.is_own

    @cached_property
    def confidence(self) -> Tensor:
        """[b, N], the product of both clips' confidences."""
        return self.rows.confidence[:, None] * self.columns.confidence

    def both_above(self, threshold: float | Tensor) -> Tensor:
        """[b, N] bool: both clips are at least that confident."""
        return (self.rows.confidence >= threshold)[:, None] & (self.columns.confidence >= threshold)


class Positives(Options, abc.ABC):
    """Chooses the positives and negatives of every row."""

    has_classes: ClassVar[bool] = False
    """Whether clips of one class are positives and all others negatives, with weight 1."""
    needs_labels: ClassVar[bool] = False
    """Whether it reads labels; where none are known it chooses as `own-clip` does."""
    needs_soft: ClassVar[bool] = False
    """Whether it reads soft labels; otherwise they do not cross ranks."""

    def check_labels(self, largest: int, soft: bool) -> None:
        """Raise UserError if labels lack what is needed.

        `largest` is the largest label; `soft` says whether there are soft labels.
        """

    def classes(self, clips: ClipLabels) -> tuple[Tensor, int]:
        """Return the classes [N] int64 in 0..C-1, -1 for a clip alone in its, and C."""
        raise NotImplementedError

    @abc.abstractmethod
    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return weights [b, N] of positives and negatives, as if every clip were valid."""

    def relation(self, pairs: Pairs) -> Relation:
        """Return the weights of a block of pairs, 0 for clips that are not valid."""
        valid = pairs.rows.valid[:, None] & pairs.columns.valid
        dtype = pairs.similarity.dtype
        positive, negative = self.weights(pairs)
        return Relation((positive * valid).to(dtype), (negative * valid).to(dtype))


@dataclass(frozen=True, kw_only=True)
class OwnClip(Positives):
    """`j = i`: a clip's own sound is its only positive. The baseline, Eq. (1).

    >>> clips = ClipLabels(torch.arange(3), torch.tensor([4, 4, 7]), torch.ones(3), torch.tensor([True] * 3))
    >>> OwnClip().relation(Pairs(clips, clips, clips.index, torch.zeros(3, 3), step=0)).positive
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """

    name: Literal["own-clip"] = "own-clip"

    has_classes: ClassVar[bool] = True

    def classes(self, clips: ClipLabels) -> tuple[Tensor, int]:
        """Return -1 for every clip: each is alone in its class."""
        return torch.full_like(clips.label, -1), 0

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the own pair and all the rest."""
        return pairs.is_own, ~pairs.is_own


@dataclass(frozen=True, kw_only=True)
class SameClass(Positives):
    """`class(j) = class(i)`: all clips of a pseudo-class are positives. Eq. (3).

    All others are negatives.

    >>> clips = ClipLabels(torch.arange(3), torch.tensor([4, 4, 7]), torch.ones(3), torch.tensor([True] * 3))
    >>> SameClass().relation(Pairs(clips, clips, clips.index, torch.zeros(3, 3), step=0)).positive
    tensor([[1., 1., 0.],
            [1., 1., 0.],
            [0., 0., 1.]])
    """

    name: Literal["same-class"] = "same-class"
    number_of_classes: int | None = None
    """Bound of the labels. If given, ranks may exchange class sums instead of sounds."""

    needs_labels: ClassVar[bool] = True
    has_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        classes = self.number_of_classes
        require(classes is None or classes > 0, f"number_of_classes must be above 0, got {classes}")

    def check_labels(self, largest: int, soft: bool) -> None:
        """Raise UserError if a label is not below `number_of_classes`, if that is given."""
        classes = self.number_of_classes
        require(
            classes is None or largest < classes,
            f"loss.positives.number_of_classes: there is the label {largest}, not below {classes}; "
            f"set {largest + 1} or more",
        )

    def classes(self, clips: ClipLabels) -> tuple[Tensor, int]:
        """Return the labels if they are bounded, else their places in sorted order."""
        if self.number_of_classes is not None:
            return clips.label, self.number_of_classes
        places = torch.searchsorted(clips.label.sort().values, clips.label)
        return torch.where(clips.label < 0, -1, places), len(clips.label)

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the pairs of one class and all the rest."""
        return pairs.is_same_class, ~pairs.is_same_class


@dataclass(frozen=True, kw_only=True)
class SoftOverlap(Positives):
    """`sum over k of p_i(k) p_j(k)`: positive as far as soft labels overlap.

    For the rest of 1 it is negative.

    >>> soft = torch.tensor([[1.0, 0.0], [0.5, 0.5]])  # [N, K]
    >>> label, valid = torch.tensor([0, 0]), torch.tensor([True] * 2)
    >>> clips = ClipLabels(torch.arange(2), label, torch.ones(2), valid, soft)
    >>> SoftOverlap().relation(Pairs(clips, clips, clips.index, torch.zeros(2, 2), step=0)).positive
    tensor([[1.0000, 0.5000],
            [0.5000, 1.0000]])
    """

    name: Literal["soft-overlap"] = "soft-overlap"

    needs_soft: ClassVar[bool] = True

    def check_labels(self, largest: int, soft: bool) -> None:
        """Raise UserError if there are no soft labels."""
        require(soft, "loss.positives: soft-overlap needs soft labels, and there are none")

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the overlap, 1 for the own pair, and what it lacks to 1."""
        rows, columns = pairs.rows.soft, pairs.columns.soft
        self.check_labels(0, rows is not None)
        assert rows is not None and columns is not None
        overlap = (rows @ columns.T).clamp(0, 1).masked_fill(pairs.is_own, 1)
        return overlap, 1 - overlap


@dataclass(frozen=True, kw_only=True)
class ConfidenceWeighted(Positives):
    """`confidence(i) confidence(j)` for pairs of a pseudo-class, 1 for the own pair.

    >>> confidence = torch.tensor([0.5, 0.8])
    >>> clips = ClipLabels(torch.arange(2), torch.tensor([4, 4]), confidence, torch.tensor([True] * 2))
    >>> ConfidenceWeighted().relation(Pairs(clips, clips, clips.index, torch.zeros(2, 2), step=0)).positive
    tensor([[1.0000, 0.4000],
            [0.4000, 1.0000]])
    """

    name: Literal["confidence-weighted"] = "confidence-weighted"

    needs_labels: ClassVar[bool] = True

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the weights; what a pair lacks as a positive makes it no negative."""
        weight = (pairs.is_same_class * pairs.confidence).masked_fill(pairs.is_own, 1)
        return weight, ~pairs.is_same_class


@dataclass(frozen=True, kw_only=True)
class Confident(Positives):
    """Pairs of one pseudo-class if both clips are confident.

    Unsure pairs of one class are ignored.

    >>> confidence = torch.tensor([0.9, 0.6, 0.4])
    >>> clips = ClipLabels(torch.arange(3), torch.tensor([4, 4, 4]), confidence, torch.tensor([True] * 3))
    >>> pairs = Pairs(clips, clips, clips.index, torch.zeros(3, 3), step=0)
    >>> Confident(threshold=0.5).relation(pairs).positive
    tensor([[1., 1., 0.],
            [1., 1., 0.],
            [0., 0., 1.]])
    """

    name: Literal["confident"] = "confident"
    threshold: float = 0.5
    """Least confidence of both clips; the own pair needs none."""

    needs_labels: ClassVar[bool] = True

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the confident pairs of one class, and the pairs of different classes."""
        return _confident(pairs, self.threshold)


@dataclass(frozen=True, kw_only=True)
class Curriculum(Positives):
    """As `confident`, with a threshold that moves: confident pairs come first.

    `threshold = start + (end - start) min(step / steps, 1)`.

    >>> confidence = torch.tensor([0.9, 0.6])
    >>> clips = ClipLabels(torch.arange(2), torch.tensor([4, 4]), confidence, torch.tensor([True] * 2))
    >>> for step in (0, 50):
    ...     pairs = Pairs(clips, clips, clips.index, torch.zeros(2, 2), step)
    ...     Curriculum(start=0.9, end=0.1, steps=100).relation(pairs).positive
    tensor([[1., 0.],
            [0., 1.]])
    tensor([[1., 1.],
            [1., 1.]])
    """

    name: Literal["curriculum"] = "curriculum"
    start: float = 0.9
    """Least confidence of both clips of a pair at step 0."""
    end: float = 0.0
    """Least confidence from step `steps` on."""
    steps: int = 10_000
    """Training steps until the threshold stays at `end`."""

    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.steps > 0, f"steps must be above 0, got {self.steps}")

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return what `confident` does at the step's threshold."""
        progress = pairs.step / self.steps
        progress = progress.clamp(max=1) if isinstance(progress, Tensor) else min(progress, 1.0)
        return _confident(pairs, self.start + (self.end - self.start) * progress)


@dataclass(frozen=True, kw_only=True)
class FalseNegatives(Positives):
    """`j = i`, and suspected false negatives, which are no negatives.

    Suspects are among an image's `top` most similar sounds, with a similarity above `above`. `eliminate`
    ignores suspects, `attract` makes them positives. Huynh et al. 2022, "Boosting Contrastive Self-Supervised
    Learning with False Negative Cancellation" (arXiv:2011.11765). An image suspects a sound, not the other
    way around: the column direction reads the transposed relation.

    >>> clips = ClipLabels(torch.arange(3), torch.tensor([-1] * 3), torch.ones(3), torch.tensor([True] * 3))
    >>> similarity = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.9, 0.1], [0.6, 0.7, 0.9]])  # [b, N]
    >>> pairs = Pairs(clips, clips, clips.index, similarity, step=0)
    >>> FalseNegatives(mode="attract", top=1, above=0.5).relation(pairs).positive
    tensor([[1., 1., 0.],
            [0., 1., 0.],
            [0., 1., 1.]])
    """

    name: Literal["false-negatives"] = "false-negatives"
    mode: Literal["eliminate", "attract"] = "eliminate"
    """What suspects are: neither positive nor negative (`eliminate`), or positives (`attract`)."""
    top: int = 8
    """How many sounds of other clips an image may suspect; ties may add some."""
    above: float = 0.5
    """Similarity that a suspect exceeds."""
    from_step: int = 0
    """First step in which there are suspects: similarities mean little at the start."""

    def __post_init__(self) -> None:
        require(self.top > 0, f"top must be above 0, got {self.top}")

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return the own pair, with suspects if they attract, and all but those two."""
        others = ~pairs.is_own & pairs.columns.valid
        similarity = pairs.similarity.masked_fill(~others, -torch.inf)
        last = similarity.topk(min(self.top, similarity.shape[1]), 1).values[:, -1:]
        suspected = others & (similarity >= last) & (similarity > self.above) & (pairs.step >= self.from_step)
        negative = ~pairs.is_own & ~suspected
        return (pairs.is_own | suspected if self.mode == "attract" else pairs.is_own), negative


def _confident(pairs: Pairs, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    positive = (pairs.is_same_class & pairs.both_above(threshold)) | pairs.is_own
    return positive, ~pairs.is_same_class
