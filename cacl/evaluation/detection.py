"""Detection: is the place right where a clip is said to sound, and is silence left alone?

A clip counts as detected from a threshold of its confidence on; the definitions are those of
`cacl.evaluation.metrics.precision_recall`.

Axes: `N` clips of the test set, `t` thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cacl.evaluation import metrics


@dataclass(frozen=True)
class Detections:
    """A model's answers on a whole test set."""

    correct: Tensor
    """[N] bool, the place is right (never so in a silent clip)."""
    sounding: Tensor
    """[N] bool, something in view sounds."""
    confidence: Tensor
    """[N]."""

    def numbers(self) -> dict[str, float]:
        """Return AP and max-F1; with silent clips also CIoU over all, and how many of them are detected."""
        found = {
            "ap": metrics.average_precision(self.correct, self.sounding, self.confidence),
            "max_f1": metrics.max_f1(self.correct, self.sounding, self.confidence),
        }
        if not self.sounding.all():
            found["ciou_all"] = float(self.correct.double().mean())
            found["silent_false_positives"] = float(self.taken[~self.sounding].double().mean())
        return found

    @property
    def taken(self) -> Tensor:
        """[N] bool, the clips that are detected at the threshold of the highest F1."""
        return self.confidence >= metrics.best_threshold(self.correct, self.sounding, self.confidence)

    def silent(self, heard: np.ndarray) -> dict[str, dict[str, float]]:
        """Return for every kind of silent clip, by what is `heard` [N] str, how many are detected."""
        silent, taken = ~self.sounding.numpy(), self.taken.numpy()
        kinds = {str(name): silent & (heard == name) for name in np.unique(heard[silent])}
        return {
            name: {"n": int(rows.sum()), "false_positives": float(taken[rows].mean())}
            for name, rows in kinds.items()
        }

    def curve(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return thresholds [t], each confidence once from the highest down, precision [t] and recall [t]."""
        thresholds = self.confidence.unique().flip(0)
        return thresholds, *metrics.precision_recall(self.correct, self.sounding, self.confidence, thresholds)
