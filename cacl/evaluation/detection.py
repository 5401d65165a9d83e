"""Detection: is the place right where a clip is said to sound, and is silence left alone?

A clip counts as detected from a threshold of its confidence on; the definitions are those of
`cacl.evaluation.metrics.precision_recall`.

Axes: `N` clips of the test set, `t` thresholds, `k` resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.compare import Statistic, curve_number


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
        once = np.ones((1, len(self.confidence)))
        return {name: float(values[0]) for name, values in self.resampled(once).items()}

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the same numbers [k] of resamples in which clips count as often as `weights` [k, N] say."""
        order = self.confidence.argsort(descending=True).numpy()
        confidence, weights = self.confidence.numpy()[order], weights[:, order]
        sounding, correct = self.sounding.numpy()[order], (self.correct & self.sounding).numpy()[order]
        last = np.append(confidence[1:] != confidence[:-1], True)  # clips of equal confidence go together
        detected, hits, heard = (
            (weights * rows).cumsum(1)[:, last] for rows in (np.ones(len(order)), correct, sounding)
        )
        missed = heard[:, -1:] - heard
        precision = np.divide(hits, detected, out=np.ones(hits.shape), where=detected > 0)
        # Clips before the first that was drawn make no point of the curve.
        recall = np.divide(hits, hits + missed, out=(detected > 0) * 1.0, where=hits + missed > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        found = {
            "ap": (envelope * np.diff(recall, axis=1, prepend=0)).sum(1),
            "max_f1": f1.max(1),
        }
        if not sounding.all():
            silent = detected - heard
            # of several best thresholds the lowest, as `metrics.best_threshold` takes it
            best = f1.shape[1] - 1 - f1[:, ::-1].argmax(1)
            taken = np.take_along_axis(silent, best[:, None], axis=1)[:, 0]
            found["ciou_all"] = hits[:, -1] / detected[:, -1]
            found["silent_false_positives"] = taken / np.maximum(silent[:, -1], 1)
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

    def summary(self, points: int = 101) -> dict[str, list[float]]:
        """Return precision and recall at up to `points` thresholds, for a record."""
        curve = self.curve()
        rows = np.unique(np.linspace(0, len(curve[0]) - 1, points).round().astype(int))
        names = ("confidence", "precision", "recall")
        return {name: values[rows].tolist() for name, values in zip(names, curve, strict=True)}

    def curve(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return thresholds [t], each confidence once from the highest down, precision [t] and recall [t]."""
        thresholds = self.confidence.unique().flip(0)
        return thresholds, *metrics.precision_recall(self.correct, self.sounding, self.confidence, thresholds)


def statistics(seeds: Sequence[Detections]) -> dict[str, Statistic]:
    """Return the numbers of several seeds, each measured on the same clips, as functions of weights."""

    def one(seed: Detections, name: str) -> Callable[[np.ndarray], np.ndarray]:
        return lambda weights: seed.resampled(weights)[name]

    clips = len(seeds[0].confidence)
    return {name: curve_number([one(seed, name) for seed in seeds], clips) for name in seeds[0].numbers()}
