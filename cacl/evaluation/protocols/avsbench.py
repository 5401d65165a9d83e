"""Masks of what sounds, frame by frame (AVSBench, S4 and MS3): mean IoU and F.

The map is a sigmoid of logits: of cosines, what is above 0 is above 0.5. A frame in which nothing in view
sounds has an empty mask, whose IoU is the share of pixels that are not predicted; F leaves it out.

Definitions of https://github.com/OpenNLPLab/AVSBench (utility.py) over the whole set. Its own loop averages
over batches, and so does ACL's (https://github.com/swimmiing/ACL-SSL, AVSBench/eval_utils.py); `Batches` is
how, for numbers beside theirs:

| quirk of | what it does |
| --- | --- |
| both | mIoU is the mean of the batches' means, so that frames of a short last batch weigh more |
| the official code | F is the mean of the batches' highest F, higher for small batches; without truth 0 |

Axes: `n` frames of a batch, `N` of the test set, `S` pixels of an image's side, `T` thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.ground_truth import mask_map
from cacl.evaluation.protocols.base import Annotation, Numbers, Protocol, Truths, required
from cacl.evaluation.rules import Absolute, BestOf, TopShare, ranks
from cacl.evaluation.upsampling import Upsampling, upsample

BETA_SQUARED = 0.3
LEVEL = 0.5
LEVELS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Thresholds of the sweep of mean IoU, besides `LEVEL`."""
F_THRESHOLDS = 255
"""Evenly from 0 to 1."""


@dataclass(frozen=True)
class Batches:
    """How a public loop sums up: batches of so many consecutive frames, and F from each batch's maximum."""

    frames: int
    maxima: bool


def avsbench_protocol(name: str, version: int, batches: Batches | None = None) -> Protocol:
    """Return the protocol; `batches`: the means of a public loop in place of those over the set."""
    return Protocol(
        name,
        version,
        truth=truth,
        scores=scores,
        measure=measure,
        per_clip=per_clip if batches is None else no_intervals,
        summarize=summarize if batches is None else partial(summarize_batches, batches=batches),
        sweep=partial(sweep, batches=batches),
        rules={
            "miou": Absolute(LEVEL),
            "miou_median": TopShare(),
            "f": BestOf(tuple(f_thresholds().tolist())),
        },
        main="miou",
        needs_masks=True,
        has_detection=False,
        judged_by="iou",
        ranked_by="iou",
    )


def truth(annotation: Annotation, size: int) -> Truths:
    """Return `mask`, bool: all that is heard and in view; empty where nothing is."""
    seen = annotation.sources is None or any(source.visible for source in annotation.heard)
    if not seen:
        return {"mask": torch.zeros(size, size, dtype=torch.bool)}
    return {"mask": mask_map(required(annotation, "mask"), size)}


def scores(maps: Tensor, size: int, upsampling: Upsampling) -> Tensor:
    """Return maps [n, S, S] in 0..1 of logits [n, h, w]."""
    return upsample(maps, size, upsampling).sigmoid()


def f_thresholds() -> Tensor:
    """Return float32 [T], the thresholds of F."""
    return torch.linspace(0, 1, F_THRESHOLDS)


def measure(scores: Tensor, truths: Truths) -> dict[str, Tensor]:
    """Return IoU above 0.5, `iou_sweep` [n, T] and above the median; `f_curve` [n, T], NaN without truth."""
    mask = truths["mask"]
    area = metrics.area(mask)
    levels = torch.tensor([LEVEL, *LEVELS], dtype=scores.dtype, device=scores.device)[:, None]
    medians = metrics.values_at(scores, ranks((TopShare(),), scores, mask, area))
    above = _above(scores, mask, torch.cat([levels.expand(-1, len(scores)), medians]))
    iou = _iou(*above, area, mask[0].numel() if len(mask) else 1)
    return {
        "area": area,
        "iou": iou[0],
        "iou_sweep": iou[1:-1].T.contiguous(),
        "iou_median": iou[-1],
        "f_curve": f_curves(scores, mask, f_thresholds().to(scores)).float(),
        "confidence": metrics.confidence_per_clip(scores),
    }


def _above(scores: Tensor, mask: Tensor, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Return int64 [k, n] twice: pixels strictly above `limits` [k, n], and those of them in the mask."""
    predictions = [scores > limit[:, None, None] for limit in limits]
    predicted = torch.stack([one.sum((1, 2)) for one in predictions])
    return predicted, torch.stack([(one & mask).sum((1, 2)) for one in predictions])


def _iou(predicted: Tensor, inside: Tensor, area: Tensor, pixels: int) -> Tensor:
    """Return float64 [k, n]; where the mask is empty, of what is not predicted with the whole image."""
    union = (predicted + area - inside).clamp(min=1)
    return torch.where(area > 0, inside.double() / union, (pixels - predicted).double() / pixels)


def f_curves(scores: Tensor, mask: Tensor, thresholds: Tensor) -> Tensor:
    """Return float64 [n, T], F of the pixels at or above each of ascending `thresholds` [T].

    `(1 + β²)·p·r / (β²·p + r)` of precision and recall, 0 where that is 0/0; NaN without truth.
    """
    values = scores.flatten(1).contiguous()
    passed = torch.bucketize(values, thresholds, right=True)  # how many thresholds each pixel reaches
    ones = torch.ones_like(passed)
    room = passed.new_zeros(len(scores), len(thresholds) + 1)
    predicted = _reaching(room.scatter_add(1, passed, ones))
    inside = _reaching(room.scatter_add(1, passed, mask.flatten(1).long()))
    area = metrics.area(mask)[:, None]
    precision, recall = inside / predicted.clamp(min=1), inside / area.clamp(min=1)
    weighed = BETA_SQUARED * precision + recall
    curve = (1 + BETA_SQUARED) * precision * recall / torch.where(weighed > 0, weighed, 1)
    return torch.where(area > 0, curve, torch.nan)


def _reaching(counts: Tensor) -> Tensor:
    """Return float64 [n, T]: of pixels that reach 0 … T thresholds [n, T + 1], how many reach each."""
    return counts.flip(1).cumsum(1).flip(1)[:, 1:].double()


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return the IoU of every frame, those in which nothing sounds too."""
    return {"miou": results["iou"], "miou_median": results["iou_median"]}


def no_intervals(results: ClipResults) -> dict[str, np.ndarray]:
    """Return nothing: means of batches are no means over frames."""
    return {}


def summarize(results: ClipResults) -> Numbers:
    """Return mIoU over frames, and the maximum of the mean F over frames with truth."""
    curve = mean_curve(results["f_curve"])
    return {
        "miou": metrics.mean(results["iou"]),
        "f": float(curve.max()),
        "f_threshold": float(f_thresholds()[int(curve.argmax())]),
        "miou_median": metrics.mean(results["iou_median"]),
    }


def summarize_batches(results: ClipResults, batches: Batches) -> Numbers:
    """Return mIoU and F as a public loop over frames in order makes them."""
    results = results.take(np.argsort(results.index, kind="stable"))
    curves = _cut(results["f_curve"], batches) if batches.maxima else [results["f_curve"]]
    return {
        "miou": _mean(results["iou"], batches),
        "f": metrics.mean(np.array([mean_curve(part).max() for part in curves])),
        "miou_median": _mean(results["iou_median"], batches),
    }


def _cut(values: np.ndarray, batches: Batches) -> list[np.ndarray]:
    return np.split(values, range(batches.frames, len(values), batches.frames))


def _mean(values: np.ndarray, batches: Batches | None) -> float:
    """Return the mean over frames [N], or over batches of the means over theirs."""
    parts = [values] if batches is None else _cut(values, batches)
    return metrics.mean(np.array([metrics.mean(part) for part in parts]))


def mean_curve(curves: np.ndarray) -> np.ndarray:
    """Return float64 [T], the mean of curves [N, T] of frames with truth, 0 without any.

    The same bits in any order of frames.
    """
    known = np.sort(curves[~np.isnan(curves).any(1)].astype(np.float64), axis=0)
    return known.mean(0) if len(known) else np.zeros(curves.shape[1])


def sweep(results: ClipResults, batches: Batches | None = None) -> dict[str, list[float]]:
    """Return mIoU at each threshold, and at its own thresholds the mean F over all frames with truth."""
    results = results.take(np.argsort(results.index, kind="stable"))
    return {
        "threshold": list(LEVELS),
        "miou": [_mean(column, batches) for column in results["iou_sweep"].T],
        "f_threshold": f_thresholds().tolist(),
        "f": mean_curve(results["f_curve"]).tolist(),
    }
