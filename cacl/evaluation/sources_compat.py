"""What public evaluators of several sources report, quirks included, for numbers beside theirs.

`avgn_*`: AVGN (https://github.com/stoneMo/AVGN, train.py, utils.py), a map for each source. It counts CIoU
strictly above a level, calls average precision with its arguments exchanged (the prediction as truth, the
truth as score), reads x, y, width, height as corners, so that a box narrower than its x is empty, and adds
boxes up where they overlap (`added_boxes`): these two are in the truth that it is given.

`noprior_*`: NoPrior (https://github.com/VisualAIKHU/NoPrior_MultiSSL, train.py), K frames joined vertically.
Every map is cut into frames, each scaled by itself and halved; the frame that fits best is taken, so a map
is never blamed for what it shows elsewhere. A clip without a map adds nothing, one with too many adds more.

Axes: `n` clips, `M` maps of a clip, `K` sources and frames of it, `S` pixels of a frame's side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.detection import f1, precision_recall
from cacl.evaluation.protocols.slavc import relative_prediction, thinned_ap
from cacl.evaluation.rules import TopShare, ranks
from cacl.evaluation.sources import LEVELS


def added_boxes(boxes: Sequence[tuple[int, int, int, int]], size: int) -> Tensor:
    """Return float32 [size, size], how many of the pixel boxes hold each pixel: a quirk."""
    truth = torch.zeros(size, size)
    for x0, y0, x1, y1 in boxes:
        truth[y0:y1, x0:x1] += 1
    return truth


def avgn_measure(cosines: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Return `ciou`, `piap` and `confidence` [n] of maps [n, S, S] of one source and its float truth."""
    predicted = relative_prediction(cosines, 0.5)
    return {
        "ciou": metrics.ciou_per_clip(predicted, truth),
        "piap": metrics.pixel_ap_per_clip(truth, predicted.float()),
        "confidence": metrics.confidence_per_clip((cosines + 1) / 2),
    }


def avgn_numbers(columns: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the numbers of one source over a test set [n]; the public ones are their means over sources."""
    ciou, confidence = columns["ciou"], columns["confidence"]
    right, sounding = ciou >= 0.3, np.ones(len(ciou), dtype=bool)
    precision, recall = precision_recall(right, sounding, confidence, np.array([0.5]))
    return {
        **{f"ciou_at_{level}": float((ciou > level).mean()) for level in LEVELS},
        "piap": metrics.mean(columns["piap"]),
        "auc": metrics.auc(torch.from_numpy(ciou)),
        "f1_at_0.3": float(f1(precision, recall)[0]),
        "ap_at_0.3": thinned_ap(right, sounding, confidence),
    }


def noprior_measure(maps: Tensor, truths: Tensor) -> dict[str, list[float]]:
    """Return `ciou` and `cap` of a clip's entries, and `piap` of the clip.

    `maps` is [M, K, S, S], every map cut into frames; `truths` [K, S, S] bool, the source of each frame. All
    lists are empty without a map.
    """
    found: dict[str, list[float]] = {"ciou": [], "cap": [], "piap": []}
    if not len(maps):
        return found
    free = truths.clone()
    for frames in maps:
        halves = _upper_half(frames)
        ciou = metrics.ciou_per_clip(halves, free)
        best = int(ciou.argmax())
        found["ciou"].append(float(ciou[best]))
        found["cap"].append(_ap(halves[best], free[best]))
        free[best] = False
    missing = [0.0] * (len(truths) - len(maps))
    halves = _upper_half(maps.sum(0))
    return {
        "ciou": found["ciou"] + missing,
        "cap": found["cap"] + missing,
        "piap": [_ap(halves.flatten(0, 1), truths.flatten(0, 1))],
    }


def noprior_numbers(clips: Sequence[dict[str, list[float]]], right: Sequence[bool]) -> dict[str, float]:
    """Return the numbers over all entries; `right` says of which clips the number of maps was right."""
    entries = {name: np.array([value for clip in clips for value in clip[name]]) for name in clips[0]}
    ciou = torch.from_numpy(entries["ciou"])
    return {
        **{f"ciou_at_{level}": metrics.success_rate(ciou, level) for level in LEVELS},
        "auc": metrics.auc(ciou),
        "cap": metrics.mean(entries["cap"]),
        "piap": metrics.mean(entries["piap"]),
        "count_accuracy": sum(right) / len(right),
    }


def _upper_half(frames: Tensor) -> Tensor:
    """Return bool [K, S, S], what is strictly above each frame's own median, the frame scaled to 0..1."""
    scaled = metrics.min_max(frames)
    nothing = torch.zeros_like(scaled, dtype=torch.bool)
    limits = metrics.values_at(scaled, ranks((TopShare(),), scaled, nothing))
    return scaled > limits[0][:, None, None]


def _ap(predicted: Tensor, truth: Tensor) -> float:
    """Return the average precision of a prediction [H, W] of 0 and 1; 0 without truth."""
    return float(metrics.pixel_ap_per_clip(predicted[None].float(), truth[None]).nan_to_num())
