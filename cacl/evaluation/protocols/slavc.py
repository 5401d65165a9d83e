"""SLAVC's public evaluator, quirks included: the numbers that papers which use it report.

Axes: `n` clips, `N` clips of the test set, `S` pixels of an image's side.

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

from collections.abc import Set
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.detection import average_precision, f1, max_f1, precision_recall
from cacl.evaluation.protocols import boxes
from cacl.evaluation.protocols.base import Numbers, Protocol, Truths, describe
from cacl.evaluation.rules import Absolute, TopShare
from cacl.evaluation.upsampling import Upsampling, upsample_by_interpolation

QUIRKS = frozenset({"nan-when-nothing", "strict-half", "thinned-ap", "thinned-f1"})


@dataclass(frozen=True)
class Rules:
    """What the evaluator lets one choose, as its public commands choose it."""

    tau: float = 0.03
    relative: bool = True
    rank_fraction: float = 0.5
    absolute_threshold: float = 0.5
    quirks: frozenset[str] = QUIRKS


PUBLISHED = Rules()


def slavc_protocol(name: str, version: int, consensus: bool = False, rules: Rules = PUBLISHED) -> Protocol:
    """Return the evaluator as a protocol; `consensus` as for boxes (Flickr)."""
    top, absolute = TopShare(1 - rules.rank_fraction), Absolute(rules.absolute_threshold)
    return Protocol(
        name,
        version,
        truth=boxes.opinions_truth if consensus else boxes.objects_truth,
        scores=partial(scores, tau=rules.tau),
        measure=partial(measure, rules=rules),
        per_clip=per_clip,
        summarize=partial(summarize, quirks=rules.quirks),
        ceiling=ceiling,
        rules={"*": top if rules.relative else absolute},
        main="precision_at_50",
        upsampling="bicubic-corners",
        has_detection=False,  # the thinned curves have no interval
        quirks=rules.quirks,
        with_quirks=lambda quirks: slavc_protocol(name, version, consensus, replace(rules, quirks=quirks)),
    )


def scores(maps: Tensor, size: int, upsampling: Upsampling, tau: float) -> Tensor:
    """Return maps [n, S, S] of cosine / tau, upsampled by the library's own call and scaled to 0..1."""
    return scaled_scores(upsample_by_interpolation(maps / tau, size, upsampling), tau)


def measure(scores: Tensor, truths: Truths, rules: Rules) -> dict[str, Tensor]:
    """Return CIoU and confidence, to the last bit what the original computes."""
    truth = truths["boxes"]
    if rules.relative:
        predicted = relative_prediction(scores, rules.rank_fraction)
    else:
        predicted = scores >= rules.absolute_threshold
    return {
        **describe(truth),
        "ciou_top50": ciou_with_quirks(predicted, truth, rules.quirks),
        "confidence": metrics.confidence_per_clip(scores),
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return CIoU ≥ 0.5 and AUC of sounding clips under the evaluator's names."""
    ciou = results["ciou_top50"][results.sounding]
    auc = metrics.auc_per_clip(torch.from_numpy(ciou)).numpy()
    return {"Precision-visible@50": ciou >= 0.5, "AUC-visible@50": auc}


def summarize(results: ClipResults, quirks: Set[str]) -> Numbers:
    """Return the evaluator's numbers under its own names."""
    ciou, confidence = results["ciou_top50"], results["confidence"]
    return evaluator_numbers(ciou, confidence, results.boxes, results["area"], quirks)


def ceiling(results: ClipResults) -> Numbers:
    """Return the bounds of the top 50 % under the evaluator's names."""
    best = boxes.ceiling(results)
    return {"precision_at_50": best["ciou"], "AUC-visible@50": best["auc"]}


def scaled_scores(maps: Tensor, tau: float) -> Tensor:
    """Return upsampled `maps` of cosine / tau, scaled from [-1/tau, 1/tau] to 0..1."""
    low, high = -1 / tau, 1 / tau
    return (maps - low) / (high - low)


def relative_prediction(scores: Tensor, rank_fraction: float) -> Tensor:
    """Return bool [n, S, S]: each map min-max normalized, then at or above its value of that rank.

    Normalizing changes no order, but its rounding makes ties, and every pixel that ties is predicted.
    """
    return metrics.top_prediction(metrics.min_max(scores), rank_fraction)


def ciou_with_quirks(prediction: Tensor, truth: Tensor, quirks: Set[str] = QUIRKS) -> Tensor:
    """Return float64 [n], NaN where nothing sounds and nothing is predicted if that quirk is on."""
    ciou = metrics.ciou_per_clip(prediction, truth)
    if "nan-when-nothing" in quirks:
        nothing = ~(prediction.flatten(1).any(1) | (truth.flatten(1) > 0).any(1))
        ciou = torch.where(nothing, torch.nan, ciou)
    return ciou


def evaluator_numbers(
    ciou: np.ndarray, confidence: np.ndarray, boxes: np.ndarray, area: np.ndarray, quirks: Set[str] = QUIRKS
) -> Numbers:
    """Return the evaluator's numbers under its own names.

    `ciou`, `confidence`, `area` (of the ground truth) [N] float, `boxes` [N] how many boxes a clip has; none
    makes it silent. Subsets without a clip have no numbers.
    """
    sounding = boxes > 0
    subsets = {"all": np.ones_like(sounding), "visible": sounding}
    for name, (low, high) in metrics.SIZE_BINS.items():
        subsets[name] = sounding & (area >= low) & (area < high)
    numbers: Numbers = {}
    for level in (0.5, 0.75):
        for name, rows in subsets.items():
            if rows.any():
                part = _subset(ciou[rows], confidence[rows], sounding[rows], level, quirks)
                numbers |= {f"{metric}-{name}@{int(level * 100)}": value for metric, value in part.items()}
    above = ciou[sounding] > 0.5 if "strict-half" in quirks else ciou[sounding] >= 0.5
    numbers["precision_at_50"] = float(above.mean())
    numbers["ap_at_50"] = numbers["AP-all@50"]
    precision, recall = precision_recall(ciou >= 0.5, sounding, confidence, np.array([0.5]))
    numbers["f1_at_50_conf0.5"] = float(f1(precision, recall)[0])
    return numbers


def _subset(
    ciou: np.ndarray, confidence: np.ndarray, sounding: np.ndarray, level: float, quirks: Set[str]
) -> Numbers:
    correct = ciou >= level
    precision, _ = precision_recall(correct, sounding, confidence, np.array([-np.inf]))
    ap = thinned_ap if "thinned-ap" in quirks else average_precision
    best_f1 = _thinned_f1 if "thinned-f1" in quirks else _percent_f1
    return {
        "Precision": float(precision[0]),
        "AP": ap(correct, sounding, confidence),
        "AUC": metrics.auc(torch.from_numpy(ciou[sounding])),
        "F1": best_f1(correct, sounding, confidence),
    }


def thinned_ap(correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray) -> float:
    """Return AP by the quirk `thinned-ap`, of clips [N]."""
    step = max(1, len(confidence) // 200)
    thresholds = np.sort(confidence)[:-1][::-1][::step]
    if len(thresholds) < 2:
        return 0.0
    precision, recall = precision_recall(correct, sounding, confidence, thresholds)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope[:-1] * np.diff(recall)).sum())


def _thinned_f1(correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray) -> float:
    thresholds = np.sort(confidence)[:: max(1, len(confidence) // 10)]
    scores = f1(*precision_recall(correct, sounding, confidence, thresholds))
    return float(f"{float(scores.max()) * 100:.1f}")


def _percent_f1(correct: np.ndarray, sounding: np.ndarray, confidence: np.ndarray) -> float:
    return 100 * max_f1(correct, sounding, confidence)
