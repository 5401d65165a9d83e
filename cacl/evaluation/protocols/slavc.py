"""SLAVC's public evaluator, quirks included: the numbers that papers which use it report.

Axes: `n` clips, `S` pixels of an image's side.

Read off https://github.com/stoneMo/SLAVC (test.py, utils.py). Its quirks are here by name; with one switched
off the number is the sane one of `cacl.evaluation.metrics`.

| quirk | what it does |
| --- | --- |
| `nan-when-nothing` | the CIoU of an empty prediction on a silent clip is 0/0, not a number; sane: 0 |
| `strict-half` | `precision_at_50` counts CIoU > 0.5, everything else ≥ 0.5 |
| `thinned-ap` | AP looks at about 200 thresholds, drops the highest confidence and the first step of recall |
| `thinned-f1` | max-F1 looks at 10 or 11 thresholds and is rounded to a tenth of a percent |

Quirks of its loaders and trainer (broken files replaced by random ones, the test set padded over ranks, the
model chosen on the test set) change which clips are measured, and are not offered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation import metrics
from cacl.evaluation.compare import Statistic
from cacl.evaluation.protocols.base import Columns, Protocol
from cacl.evaluation.protocols.boxes import Boxes
from cacl.evaluation.upsampling import Upsampling, upsample_by_interpolation

QUIRKS = frozenset({"nan-when-nothing", "strict-half", "thinned-ap", "thinned-f1"})


def scaled_scores(maps: Tensor, tau: float) -> Tensor:
    """Return upsampled `maps` of cosine / tau, scaled from [-1/tau, 1/tau] to 0..1."""
    low, high = -1 / tau, 1 / tau
    return (maps - low) / (high - low)


def relative_prediction(scores: Tensor, rank_fraction: float) -> Tensor:
    """Return bool [n, S, S]: each map min-max normalized, then at or above its value of that rank.

    Normalizing changes no order, but its rounding makes ties, and every pixel that ties is predicted.
    """
    low, high = scores.amin((1, 2), keepdim=True), scores.amax((1, 2), keepdim=True)
    span = torch.where(high > low, high - low, 1)
    normalized = torch.where(high > low, (scores - low) / span, scores)
    return metrics.top_prediction(normalized, rank_fraction)


def ciou_per_clip(prediction: Tensor, truth: Tensor, quirks: Set[str] = QUIRKS) -> Tensor:
    """Return float64 [n], NaN where nothing sounds and nothing is predicted if that quirk is on."""
    ciou = metrics.ciou_per_clip(prediction, truth)
    if "nan-when-nothing" in quirks:
        nothing = ~(prediction.flatten(1).any(1) | (truth.flatten(1) > 0).any(1))
        ciou = torch.where(nothing, torch.nan, ciou)
    return ciou


def summarize(
    ciou: Tensor, confidence: Tensor, boxes: Tensor, area: Tensor, quirks: Set[str] = QUIRKS
) -> dict[str, float]:
    """Return the evaluator's numbers under its own names.

    `ciou`, `confidence`, `area` (of the ground truth) [n] float, `boxes` [n] how many boxes a clip has; none
    makes it silent. Subsets without a clip have no numbers.
    """
    subsets = {"all": torch.ones_like(boxes, dtype=torch.bool), "visible": boxes > 0}
    for name, (low, high) in metrics.SIZE_BINS.items():
        subsets[name] = (boxes > 0) & (area >= low) & (area < high)
    numbers: dict[str, float] = {}
    for level in (0.5, 0.75):
        for name, rows in subsets.items():
            if rows.any():
                part = _subset(ciou[rows], confidence[rows], boxes[rows] > 0, level, quirks)
                numbers |= {f"{metric}-{name}@{int(level * 100)}": value for metric, value in part.items()}
    visible = ciou[boxes > 0]
    above = visible > 0.5 if "strict-half" in quirks else visible >= 0.5
    numbers["precision_at_50"] = float(above.double().mean())
    numbers["ap_at_50"] = numbers["AP-all@50"]
    half = torch.tensor([0.5], device=confidence.device)
    precision, recall = metrics.precision_recall(ciou >= 0.5, boxes > 0, confidence, half)
    numbers["f1_at_50_conf0.5"] = float(metrics.f1(precision, recall))
    return numbers


def _subset(
    ciou: Tensor, confidence: Tensor, sounding: Tensor, level: float, quirks: Set[str]
) -> dict[str, float]:
    correct = ciou >= level
    thinned_ap, thinned_f1 = "thinned-ap" in quirks, "thinned-f1" in quirks
    everything = torch.tensor([-torch.inf], device=confidence.device)
    precision, _ = metrics.precision_recall(correct, sounding, confidence, everything)
    ap = _thinned_ap if thinned_ap else metrics.average_precision
    best_f1 = _thinned_f1 if thinned_f1 else _percent_f1
    return {
        "Precision": float(precision),
        "AP": ap(correct, sounding, confidence),
        "AUC": metrics.auc(ciou[sounding]),
        "F1": best_f1(correct, sounding, confidence),
    }


def _thinned_ap(correct: Tensor, sounding: Tensor, confidence: Tensor) -> float:
    step = max(1, len(confidence) // 200)
    thresholds = confidence.sort().values[:-1].flip(0)[::step]
    precision, recall = metrics.precision_recall(correct, sounding, confidence, thresholds)
    if len(thresholds) < 2:
        return 0.0
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((envelope[:-1] * recall.diff()).sum())


def _thinned_f1(correct: Tensor, sounding: Tensor, confidence: Tensor) -> float:
    thresholds = confidence.sort().values[:: max(1, len(confidence) // 10)]
    scores = metrics.f1(*metrics.precision_recall(correct, sounding, confidence, thresholds))
    return float(f"{float(scores.max()) * 100:.1f}")


def _percent_f1(correct: Tensor, sounding: Tensor, confidence: Tensor) -> float:
    return 100 * metrics.max_f1(correct, sounding, confidence)


@dataclass(frozen=True)
class SlavcCompat(Boxes):
    """The same clips as SLAVC's own evaluator measures them."""

    upsampling: Upsampling = "bicubic-corners"
    tau: float = 0.03
    relative: bool = True
    rank_fraction: float = 0.5
    absolute_threshold: float = 0.5
    quirks: frozenset[str] = QUIRKS

    def altered(self, upsampling: Upsampling | None, without_quirks: Sequence[str]) -> SlavcCompat:
        """Return the protocol with another upsampling and without some quirks."""
        for name in without_quirks:
            if name not in QUIRKS:
                raise UserError(
                    f"{self.name}: there is no quirk {name!r}; its quirks are {', '.join(sorted(QUIRKS))}"
                )
        return replace(super().altered(upsampling, []), quirks=self.quirks - set(without_quirks))

    def options(self) -> dict[str, str]:
        """Return the upsampling and the quirks that are on."""
        return {**super().options(), "quirks": " ".join(sorted(self.quirks)) or "none"}

    def scores(self, maps: Tensor) -> Tensor:
        """Return maps of cosine / tau, upsampled by the library's own call and scaled to 0..1."""
        pixels = upsample_by_interpolation(maps.float() / self.tau, self.size, self.upsampling)
        return scaled_scores(pixels, self.tau)

    def measure(self, scores: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return CIoU and confidence, to the last bit what the original computes."""
        boxes = truths["boxes"]
        if self.relative:
            predicted = relative_prediction(scores, self.rank_fraction)
        else:
            predicted = scores >= self.absolute_threshold
        return {
            "ciou_top50": ciou_per_clip(predicted, boxes, self.quirks),
            "confidence": metrics.confidence_per_clip(scores),
        }

    def summarize(self, columns: Columns) -> dict[str, float]:
        """Return the evaluator's numbers under its own names."""
        names = ("ciou_top50", "confidence", "boxes", "area")
        ciou, confidence, boxes, area = (torch.from_numpy(columns[name]) for name in names)
        return summarize(ciou, confidence, boxes, area, self.quirks)

    def per_clip(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return CIoU ≥ 0.5 and AUC of sounding clips under the evaluator's names."""
        values = super().per_clip(columns)
        return {"Precision-visible@50": values["ciou"], "AUC-visible@50": values["auc"]}

    def statistics(self, seeds: Sequence[Columns]) -> dict[str, Statistic]:
        """Return the means over clips; the thinned curves have no interval."""
        return Protocol.statistics(self, seeds)

    def ceiling(self, columns: Columns) -> dict[str, float]:
        """Return the bounds of the top 50 % under the evaluator's names."""
        best = super().ceiling(columns)
        return {"precision_at_50": best["ciou"], "AUC-visible@50": best["auc"]}
