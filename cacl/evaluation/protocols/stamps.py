"""Protocols `scenes` and `stamps`: clips with exact masks, silent objects beside those that are heard.

In the Extended form, and in scenes on request, nothing in view sounds in some clips; they have no boxes.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics, rules
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.detection import detections
from cacl.evaluation.ground_truth import mask_map, pixel_boxes, union_map
from cacl.evaluation.protocols.base import Annotation, Numbers, Protocol, Truths, describe, required


def stamps_protocol(name: str, version: int, judged_by: str = "ciou") -> Protocol:
    """Return the protocol; detections are right by the column `judged_by`."""
    return Protocol(
        name,
        version,
        truth=truth,
        measure=measure,
        per_clip=per_clip,
        summarize=partial(summarize, judged_by=judged_by),
        ceiling=ceiling,
        needs_masks=True,
        main="peak_in_box",
        ranked_by="pixel_ap",
        judged_by=judged_by,
        rules=dict.fromkeys(("ciou", "auc", "miou"), rules.Adaptive())
        | dict.fromkeys(("ciou_top50", "auc_top50"), rules.TopShare()),
    )


def truth(annotation: Annotation, size: int) -> Truths:
    """Return `boxes` and `mask`, bool, both empty where nothing in view sounds."""
    boxes = pixel_boxes(required(annotation, "boxes"), size, annotation.id)
    union = union_map(boxes, size)
    mask = mask_map(required(annotation, "mask"), size) if boxes else torch.zeros_like(union)
    return {"boxes": union, "mask": mask}


def measure(scores: Tensor, truths: Truths) -> dict[str, Tensor]:
    """Return peak, pixels' ranking, CIoU at the mask's area and in the field's way, and confidence."""
    boxes, mask = truths["boxes"], truths["mask"]
    area = metrics.area(mask)
    ranks = rules.ranks((rules.TopShare(),), scores, boxes)
    top50, confidence = metrics.thresholds_and_confidence(scores, ranks)
    return {
        **describe(boxes),
        "peak_in_box": metrics.peak_inside(scores, boxes),
        "pixel_ap": metrics.pixel_ap_per_clip(scores, mask),
        "ciou": metrics.ciou_per_clip(metrics.area_prediction(scores, area), mask),
        "ciou_top50": metrics.ciou_at(scores, top50, boxes)[0],
        "confidence": (confidence + 1) / 2,
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return peak_in_box, pixel_ap; ciou, auc, miou at the mask's area; ciou_top50, auc_top50.

    All are of sounding clips.
    """
    found = results.take(results.sounding)
    ciou, top50 = found["ciou"], found["ciou_top50"]
    return {
        "peak_in_box": found["peak_in_box"],
        "pixel_ap": found["pixel_ap"],
        "ciou": ciou >= 0.5,
        "auc": metrics.auc_per_clip(torch.from_numpy(ciou)).numpy(),
        "miou": ciou,
        "ciou_top50": top50 >= 0.5,
        "auc_top50": metrics.auc_per_clip(torch.from_numpy(top50)).numpy(),
    }


def summarize(results: ClipResults, judged_by: str) -> Numbers:
    """Return the means of `per_clip`, and what `Detections` counts."""
    means = {name: metrics.mean(values) for name, values in per_clip(results).items()}
    return {**means, **detections(results, judged_by).numbers()}


def ceiling(results: ClipResults) -> Numbers:
    """Return the bounds of the top 50 %."""
    best = torch.from_numpy(results["ceiling_ciou_top50"][results.sounding])
    return {"ciou_top50": metrics.success_rate(best), "auc_top50": metrics.auc(best)}
