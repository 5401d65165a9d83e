"""Detection: is the place right where a clip is said to sound, and is silence left alone?

A clip is detected if its confidence reaches a threshold. A true positive is a sounding clip that is detected
in the right place; a false positive is one in the wrong place, or a silent clip that is detected; a false
negative is a sounding clip that is not detected.

Axes: `N` clips of the test set, `T` thresholds, `k` resamples. `correct` and `sounding` are bool [N],
`confidence` is [N].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cacl.evaluation.clip_results import ClipResults, by_name


@dataclass(frozen=True)
class Counts:
    """How many clips are detected at each of T thresholds, [T], or [k, T] of resamples."""

    detected: np.ndarray
    hits: np.ndarray
    """Sounding clips among them whose place is right: true positives."""
    heard: np.ndarray
    """Sounding clips among them."""
    missed: np.ndarray
    """Sounding clips that are not: false negatives."""

    @property
    def precision(self) -> np.ndarray:
        """True positives of the detected, 1 if nothing is detected."""
        return np.divide(self.hits, self.detected, out=np.ones(self.hits.shape), where=self.detected > 0)

    @property
    def recall(self) -> np.ndarray:
        """True positives of these and the missed, 1 if there are neither."""
        wanted = self.hits + self.missed
        return np.divide(self.hits, wanted, out=np.ones(self.hits.shape), where=wanted > 0)


@dataclass(frozen=True)
class Ranking:
    """Clips from the surest down, to be counted at T thresholds under one weighting after another."""

    order: np.ndarray
    """[N], the clips in their order."""
    correct: np.ndarray
    """[N] bool, so ordered; never in a silent clip."""
    sounding: np.ndarray
    """[N] bool, so ordered."""
    last: np.ndarray
    """[T], how many of them are detected."""

    def count(self, weights: np.ndarray) -> Counts:
        """Return the counts where clips count as often as `weights` [N] or [k, N] say."""
        each = np.take(weights, self.order, axis=-1)
        detected = each.cumsum(-1)
        hits = np.cumsum(each * self.correct, axis=-1)
        heard = detected if self.sounding.all() else np.cumsum(each * self.sounding, axis=-1)
        heard_at = self._at_thresholds(heard)
        missed = heard[..., -1:] - heard_at
        return Counts(self._at_thresholds(detected), self._at_thresholds(hits), heard_at, missed)

    def _at_thresholds(self, sums: np.ndarray) -> np.ndarray:
        """Return those of the cumulative `sums` [..., N] that end at a threshold, [..., T]."""
        found = np.take(sums, self.last - 1, axis=-1)
        return found if self.last.all() else found * (self.last > 0)


def rank(
    correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray, thresholds: np.ndarray
) -> Ranking:
    """Rank clips by confidence, for counts at `thresholds` [T]."""
    confidence = np.asarray(confidence)
    order = (-confidence).argsort()
    ranked = confidence[order]
    last = np.searchsorted(-ranked, -np.asarray(thresholds).astype(ranked.dtype), side="right")
    sounding = np.asarray(sounding)[order]
    return Ranking(order, np.asarray(correct)[order] & sounding, sounding, last)


def precision_recall(
    correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray, thresholds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall [T] at `thresholds` [T]; each is 1 where nothing is counted."""
    counts = rank(correct, sounding, confidence, thresholds).count(np.ones(len(confidence)))
    return counts.precision, counts.recall


def f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the harmonic mean, 0 where both are 0."""
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def area_under(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Return the area [...] under curves [..., T] from the highest threshold down, precision non-increasing.

    `Σ_i max(precision[i:]) · (recall[i] − recall[i − 1])`, recall[−1] = 0.
    """
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    return (envelope * np.diff(recall, axis=-1, prepend=0)).sum(-1)


def average_precision(correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray) -> float:
    """Return the area under the precision-recall curve over every threshold."""
    thresholds = np.unique(confidence)[::-1]
    return float(area_under(*precision_recall(correct, sounding, confidence, thresholds)))


def max_f1(correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray) -> float:
    """Return the highest F1 over every threshold.

    On sets where all clips sound it is at least `2p / (1 + p)`.
    """
    return float(f1(*precision_recall(correct, sounding, confidence, np.unique(confidence))).max())


def best_threshold(correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray) -> float:
    """Return the confidence at which F1 is highest, the lowest of those that tie."""
    thresholds = np.unique(confidence)
    return float(thresholds[f1(*precision_recall(correct, sounding, confidence, thresholds)).argmax()])


@dataclass(frozen=True)
class Detections:
    """A model's answers on a whole test set."""

    correct: np.ndarray
    """[N] bool, the place is right (never so in a silent clip)."""
    sounding: np.ndarray
    """[N] bool, something in view sounds."""
    confidence: np.ndarray
    """[N]."""

    def numbers(self) -> dict[str, float]:
        """Return AP and max-F1; with silent clips also CIoU over all, and how many of them are detected."""
        once = np.ones((1, len(self.confidence)))
        return {name: float(values[0]) for name, values in self.resampled(once).items()}

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return the same numbers [k] of resamples in which clips count as often as `weights` [k, N] say."""
        counts = self._ranking.count(weights)
        precision = counts.precision
        # Thresholds above the first clip that was drawn make no point of the curve.
        recall = counts.recall * (counts.detected > 0)
        scores = f1(precision, recall)
        numbers = {"ap": area_under(precision, recall), "max_f1": scores.max(1)}
        if not self.sounding.all():
            silent = counts.detected - counts.heard
            # of several best thresholds the lowest, as `best_threshold` takes it
            best = scores.shape[1] - 1 - scores[:, ::-1].argmax(1)
            taken = np.take_along_axis(silent, best[:, None], axis=1)[:, 0]
            numbers["ciou_all"] = counts.hits[:, -1] / counts.detected[:, -1]
            numbers["silent_false_positives"] = taken / np.maximum(silent[:, -1], 1)
        return numbers

    @cached_property
    def _ranking(self) -> Ranking:
        return rank(self.correct, self.sounding, self.confidence, np.unique(self.confidence)[::-1])

    @property
    def taken(self) -> np.ndarray:
        """[N] bool, the clips that are detected at the threshold of the highest F1."""
        return self.confidence >= best_threshold(self.correct, self.sounding, self.confidence)

    def silent(self, heard: np.ndarray) -> dict[str, dict[str, float]]:
        """Return for every kind of silent clip, by what is `heard` [N] str, how many are detected."""
        silent = ~self.sounding
        return {
            name: {"n": len(taken), "false_positives": float(taken.mean())}
            for name, taken in by_name(heard[silent], self.taken[silent]).items()
        }

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return thresholds [T], each confidence once from the highest down, precision [T] and recall [T]."""
        thresholds = np.unique(self.confidence)[::-1]
        return thresholds, *precision_recall(self.correct, self.sounding, self.confidence, thresholds)

    def summary(self, points: int = 101) -> dict[str, list[float]]:
        """Return precision and recall at up to `points` thresholds, for a record."""
        curve = self.curve()
        rows = np.unique(np.linspace(0, len(curve[0]) - 1, points).round().astype(int))
        names = ("confidence", "precision", "recall")
        return {name: values[rows].tolist() for name, values in zip(names, curve, strict=True)}


def detections(results: ClipResults, judged_by: str) -> Detections:
    """Return which clips are right by the column `judged_by`, which sound, and how sure the model is."""
    correct = (results[judged_by] >= 0.5) & results.sounding
    return Detections(correct, results.sounding, results["confidence"])
