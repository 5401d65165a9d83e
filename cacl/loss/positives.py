"""Which pairs of image and sound belong together, and which are told apart.

Axes: `b` images of a block, `N` sounds of all ranks, `C` soft classes.
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
from cacl.types import Clips


@dataclass(frozen=True)
class Relation:
    """Weights of pairs; a pair with 0 in both is ignored. The column direction reads the same weights."""

    positive: Tensor
    """[b, N] in 0..1."""
    negative: Tensor
    """[b, N] in 0..1."""


@dataclass(frozen=True)
class Pairs:
    """A block of rows against all columns, as the positives see it."""

    rows: Clips
    """[b]"""
    columns: Clips
    """[N]"""
    own: Tensor
    """[b] int64, the column of each row's own clip."""
    similarity: Tensor
    """[b, N], without gradient."""
    step: int | Tensor
    """The training step, for curricula."""

    @cached_property
    def is_own(self) -> Tensor:
        """[b, N] bool: the pair is one clip."""
        return self.own[:, None] == torch.arange(len(self.columns.label), device=self.own.device)

    @cached_property
    def is_same_class(self) -> Tensor:
        """[b, N] bool: same known label, or one clip; label -1 is a class of its own for every clip."""
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
    """What every choice of positives does."""

    has_classes: ClassVar[bool] = False
    """Whether clips of a class are positives and all others negatives, with weight 1."""
    needs_soft: ClassVar[bool] = False
    """Whether soft labels are looked at; else they do not cross ranks."""

    def check_labels(self, largest: int, soft: bool) -> None:
        """Raise UserError where a label table will not do.

        `largest` is its largest label; `soft` says whether it holds soft labels.
        """

    def classes(self, clips: Clips) -> tuple[Tensor, int]:
        """Return the classes [N] int64 in 0..C-1, -1 for a clip alone in its class, and C."""
        raise NotImplementedError

    @abc.abstractmethod
    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return masks or weights [b, N] of positives and of negatives, as if every clip were valid."""

    def relation(self, pairs: Pairs) -> Relation:
        """Return the weights of a block of pairs; clips that are not valid take no part."""
        valid = pairs.rows.valid[:, None] & pairs.columns.valid
        dtype = pairs.similarity.dtype
        positive, negative = self.weights(pairs)
        return Relation((positive * valid).to(dtype), (negative * valid).to(dtype))


@dataclass(frozen=True, kw_only=True)
class OwnClip(Positives):
    """The clip's own sound is its only positive (Eq. 1)."""

    name: Literal["own-clip"] = "own-clip"

    has_classes: ClassVar[bool] = True

    def classes(self, clips: Clips) -> tuple[Tensor, int]:
        """Every clip is alone in its class."""
        return torch.full_like(clips.label, -1), 0

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Own pair against the rest."""
        return pairs.is_own, ~pairs.is_own


@dataclass(frozen=True, kw_only=True)
class SameClass(Positives):
    """All clips of the same pseudo-class are positives, all others negatives (Eq. 3)."""

    name: Literal["same-class"] = "same-class"
    number_of_classes: int | None = None
    """Labels are below it. Where it is given, ranks may exchange class sums instead of sounds."""

    has_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        classes = self.number_of_classes
        require(classes is None or classes > 0, f"number_of_classes must be above 0, got {classes}")

    def check_labels(self, largest: int, soft: bool) -> None:
        """Labels must be below the number of classes."""
        classes = self.number_of_classes
        require(
            classes is None or largest < classes,
            f"loss.positives.number_of_classes: the label table holds label {largest}, not below {classes}; "
            f"set {largest + 1} or more",
        )

    def classes(self, clips: Clips) -> tuple[Tensor, int]:
        """The labels themselves, or else a label's first place among the sorted labels."""
        if self.number_of_classes is not None:
            return clips.label, self.number_of_classes
        places = torch.searchsorted(clips.label.sort().values, clips.label)
        return torch.where(clips.label < 0, -1, places), len(clips.label)

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Same class against the rest."""
        return pairs.is_same_class, ~pairs.is_same_class


@dataclass(frozen=True, kw_only=True)
class SoftOverlap(Positives):
    """A pair is positive as far as its soft labels overlap, `sum over classes of p_i p_j`."""

    name: Literal["soft-overlap"] = "soft-overlap"

    needs_soft: ClassVar[bool] = True

    def check_labels(self, largest: int, soft: bool) -> None:
        """Soft labels are needed."""
        require(soft, "loss.positives: soft-overlap needs soft labels, the label table has none")

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Needs a label table with soft labels."""
        rows, columns = pairs.rows.soft, pairs.columns.soft
        self.check_labels(0, rows is not None)
        assert rows is not None and columns is not None
        overlap = (rows @ columns.T).clamp(0, 1).masked_fill(pairs.is_own, 1)
        return overlap, 1 - overlap


@dataclass(frozen=True, kw_only=True)
class ConfidenceWeighted(Positives):
    """Pairs of one pseudo-class are positive by the product of their confidences; the own pair wholly."""

    name: Literal["confidence-weighted"] = "confidence-weighted"

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """What an unsure pair lacks as a positive it does not become as a negative."""
        weight = (pairs.is_same_class * pairs.confidence).masked_fill(pairs.is_own, 1)
        return weight, ~pairs.is_same_class


@dataclass(frozen=True, kw_only=True)
class Confident(Positives):
    """Same pseudo-class where both clips are confident; unsure pairs of one class are ignored."""

    name: Literal["confident"] = "confident"
    threshold: float = 0.5

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """The own pair needs no confidence."""
        return _confident(pairs, self.threshold)


@dataclass(frozen=True, kw_only=True)
class Curriculum(Positives):
    """Confident pairs first: the threshold moves from `start` to `end` over `steps` training steps."""

    name: Literal["curriculum"] = "curriculum"
    start: float = 0.9
    end: float = 0.0
    steps: int = 10_000

    def __post_init__(self) -> None:
        require(self.steps > 0, f"steps must be above 0, got {self.steps}")

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """As `confident`, at the step's threshold."""
        progress = pairs.step / self.steps
        progress = progress.clamp(max=1) if isinstance(progress, Tensor) else min(progress, 1.0)
        return _confident(pairs, self.start + (self.end - self.start) * progress)


@dataclass(frozen=True, kw_only=True)
class FalseNegatives(Positives):
    """Suspected false negatives of an image: among its `top` most similar sounds, and above a similarity.

    `eliminate` ignores them, `attract` makes them positives (Huynh et al., "Boosting Contrastive
    Self-Supervised Learning with False Negative Cancellation"). An image suspects a sound, not the other way:
    the column direction reads the transposed relation.
    """

    name: Literal["false-negatives"] = "false-negatives"
    mode: Literal["eliminate", "attract"] = "eliminate"
    top: int = 8
    above: float = 0.5
    from_step: int = 0
    """Before it nothing is suspected: similarities mean little at the start."""

    def __post_init__(self) -> None:
        require(self.top > 0, f"top must be above 0, got {self.top}")

    def weights(self, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Own pair, suspects, and the rest."""
        others = ~pairs.is_own & pairs.columns.valid
        similarity = pairs.similarity.masked_fill(~others, -torch.inf)
        last = similarity.topk(min(self.top, similarity.shape[1]), 1).values[:, -1:]
        suspected = others & (similarity >= last) & (similarity > self.above) & (pairs.step >= self.from_step)
        negative = ~pairs.is_own & ~suspected
        return (pairs.is_own | suspected if self.mode == "attract" else pairs.is_own), negative


def _confident(pairs: Pairs, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    positive = (pairs.is_same_class & pairs.both_above(threshold)) | pairs.is_own
    return positive, ~pairs.is_same_class
