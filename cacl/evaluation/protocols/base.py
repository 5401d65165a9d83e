"""What a protocol is: data, and the functions that make it one.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.

A protocol turns annotations into maps of the ground truth (`truth`), a model's score maps and those into
per-clip columns (`measure`), and the columns of a whole test set into named floats (`summarize`). Each of
its modules says what its functions return. Whoever changes what a number means raises the `version`.

What is known of a clip is an `Annotation`: its sources, and of those that are heard `boxes` and `mask`. No
boxes: nothing in view sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from torch import Tensor

from cacl.annotation import Annotation
from cacl.errors import UserError
from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.rules import Rule
from cacl.evaluation.upsampling import Upsampling, upsample

Truths = Mapping[str, Tensor]
"""Maps of the ground truth by name: [S, S] of a clip, [n, S, S] of a batch."""
Numbers = dict[str, float]


def no_ceiling(results: ClipResults) -> Numbers:
    """Return nothing: every number can reach its best."""
    return {}


def no_sweep(results: ClipResults) -> dict[str, list[float]]:
    """Return nothing: no threshold is swept."""
    return {}


def no_pictures(results: ClipResults) -> dict[str, np.ndarray]:
    """Return nothing: no number is a mean over pictures."""
    return {}


@dataclass(frozen=True)
class Protocol:
    """One way to measure. The functions are plain ones of the protocol's module."""

    name: str
    version: int
    truth: Callable[[Annotation, int], Truths]
    """From an annotation and S to the maps [S, S] that a clip is compared with, always of the same names.

    Raises UserError naming the clip and the field.
    """
    measure: Callable[[Tensor, Truths], dict[str, Tensor]]
    """From score maps [n, S, S] and truths [n, S, S] to a column [n] a name, or [n, T] at T thresholds."""
    per_clip: Callable[[ClipResults], dict[str, np.ndarray]]
    """A value for every clip that counts, for each number that is a mean over clips and has an interval."""
    summarize: Callable[[ClipResults], Numbers]
    """The named numbers of a whole test set."""
    per_picture: Callable[[ClipResults], dict[str, np.ndarray]] = no_pictures
    """A value for every picture, for each number that is a mean over pictures; its interval is over them."""
    ceiling: Callable[[ClipResults], Numbers] = no_ceiling
    """The best that any model can reach, for the numbers that have such a bound below 1."""
    sweep: Callable[[ClipResults], dict[str, list[float]]] = no_sweep
    """Curves over thresholds by name, those of one kind as long as their thresholds, for the record."""
    scores: Callable[[Tensor, int, Upsampling], Tensor] = upsample
    """From a model's maps [n, h, w], S and the upsampling to score maps [n, S, S]."""
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """Which pixels a number takes for predicted, by the number's name; `*` is every number."""
    main: str = "ciou_adaptive"
    """The one number by which a model is judged at first sight."""
    upsampling: Upsampling = "bicubic"
    size: int = 224
    """S."""
    official_clips: int | None = None
    """How many clips the public test set has, if there is one."""
    needs_masks: bool = False
    """Whether `truth` reads the mask of a clip that has boxes."""
    audio: str = "wav"
    """The member of a packed clip that is played to the model."""
    judged_by: str = "ciou_top50"
    """The column that is 0.5 or more if the place is right."""
    ranked_by: str = "ciou_top50"
    """The column that is higher for clips that are localized better."""
    has_detection: bool = True
    """Whether AP and max-F1 (`cacl.evaluation.detection`) are among its numbers, with intervals."""
    quirks: frozenset[str] = frozenset()
    """What of a public evaluator's peculiarities is on."""
    with_quirks: Callable[[frozenset[str]], Protocol] | None = None
    """The same protocol with other quirks, if it has any."""

    def alter(self, upsampling: Upsampling | None, without_quirks: Collection[str] = ()) -> Protocol:
        """Return the protocol with another upsampling, and with quirks switched off.

        Raises UserError for an upsampling that there is not, or a quirk that it does not have.
        """
        if upsampling not in (None, *get_args(Upsampling)):
            known = ", ".join(get_args(Upsampling))
            raise UserError(f"upsampling: there is no {upsampling!r}; choose one of {known}")
        altered = self._without(without_quirks) if without_quirks else self
        return replace(altered, upsampling=upsampling or self.upsampling)

    def options(self) -> dict[str, str]:
        """Return what may be set next to name and version, for records."""
        quirks = {} if self.with_quirks is None else {"quirks": " ".join(sorted(self.quirks)) or "none"}
        return {"upsampling": self.upsampling, **quirks}

    def rule_of(self, number: str) -> str:
        """Return the rule by which a number takes pixels for predicted, in words; of a peak, that."""
        if number.startswith("peak"):
            return "highest pixel"
        if number == "pixel_ap":
            return "order of pixels"
        # What ranks clips by confidence calls a place right as the protocol's plain number does.
        for name in (number, "*", self.judged_by, "ciou"):
            if name in self.rules:
                return str(self.rules[name])
        return "none"

    def _without(self, quirks: Collection[str]) -> Protocol:
        if self.with_quirks is None:
            raise UserError(f"protocol {self.name}: has no quirk {min(quirks)!r}; leave it out")
        if unknown := set(quirks) - self.quirks:
            listed = ", ".join(sorted(self.quirks))
            raise UserError(f"{self.name}: there is no quirk {min(unknown)!r}; its quirks are {listed}")
        return self.with_quirks(self.quirks - set(quirks))

    def score_maps(self, maps: Tensor) -> Tensor:
        """Bring a model's maps [n, h, w] to [n, S, S], as this protocol does."""
        return self.scores(maps.float(), self.size, self.upsampling)


def describe(boxes: Tensor) -> dict[str, Tensor]:
    """Return the columns [n] that depend on no model: `area` of the boxes' map, and `ceiling_ciou_top50`."""
    area = metrics.area(boxes)
    return {"area": area, "ceiling_ciou_top50": metrics.ceiling_ciou(boxes, total=area)}


def required(annotation: Annotation, name: str) -> Any:
    """Return `boxes` or `mask` of what is heard. Raises UserError naming clip and field if unknown."""
    return known(annotation, name, getattr(annotation, name))


def known(annotation: Annotation, name: str, value: Any) -> Any:
    """Return the value of a field. Raises UserError naming clip and field if it is None."""
    if value is None:
        raise UserError(
            f"clip {annotation.id}: the annotation has no {name!r}, which this protocol needs; "
            "write a file for cacl pack --boxes (docs/data.md) and pack again"
        )
    return value
