"""Protocols of boxes, and of clips without boxes, in which nothing in view sounds.

One's own boxes, and the field's public test sets: VGG-SS, Flickr-SoundNet and their Extended forms.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.detection import detections
from cacl.evaluation.ground_truth import consensus_map, pixel_boxes, union_map
from cacl.evaluation.protocols.base import Annotation, Numbers, Protocol, Truths, describe, required


def boxes_protocol(
    name: str, version: int, official_clips: int | None = None, consensus: bool = False
) -> Protocol:
    """Return a protocol of boxes; `consensus`: they are annotators' opinions, not several objects."""
    return Protocol(
        name,
        version,
        truth=opinions_truth if consensus else objects_truth,
        measure=measure,
        per_clip=per_clip,
        summarize=summarize,
        ceiling=ceiling,
        official_clips=official_clips,
    )


def objects_truth(annotation: Annotation, size: int) -> Truths:
    """Return `boxes`, bool: the union of all.

    Empty for a silent clip, and for boxes without a pixel (two clips of VGG-SS).
    """
    return {"boxes": union_map(pixel_boxes(required(annotation, "boxes"), size, annotation.id), size)}


def opinions_truth(annotation: Annotation, size: int) -> Truths:
    """Return `boxes` in 0..1: half a point for every annotator's box (Flickr-SoundNet)."""
    return {"boxes": consensus_map(pixel_boxes(required(annotation, "boxes"), size, annotation.id), size)}


def measure(scores: Tensor, truths: Truths) -> dict[str, Tensor]:
    """Return CIoU, relative (top 50 %) and absolute ((cos + 1) / 2 ≥ 0.5), confidence and peak."""
    boxes = truths["boxes"]
    known = describe(boxes)
    top50, confidence = metrics.threshold_and_confidence(scores)
    limits = torch.stack([top50, torch.zeros_like(top50)])
    relative, absolute = metrics.ciou_at(scores, limits, boxes, known["area"])
    return {
        **known,
        "ciou_top50": relative,
        "ciou_absolute": absolute,
        "confidence": (confidence + 1) / 2,
        "peak_in_box": metrics.peak_inside(scores, boxes),
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return CIoU ≥ 0.5, AUC and the peak of sounding clips."""
    found = results.take(results.sounding)
    auc = metrics.auc_per_clip(torch.from_numpy(found["ciou_top50"])).numpy()
    return {"ciou": found["ciou_top50"] >= 0.5, "auc": auc, "peak_in_box": found["peak_in_box"]}


def summarize(results: ClipResults) -> Numbers:
    """Return CIoU and AUC of sounding clips; AP, max-F1 and CIoU of all, the silent ones as mistakes."""
    found = results.take(results.sounding)
    top50, absolute = (torch.from_numpy(found[name]) for name in ("ciou_top50", "ciou_absolute"))
    return {
        "ciou": metrics.success_rate(top50),
        "auc": metrics.auc(top50),
        **detections(results, "ciou_top50").numbers(),
        "peak_in_box": float(found["peak_in_box"].mean()),
        "ciou_absolute": metrics.success_rate(absolute),
        "auc_absolute": metrics.auc(absolute),
    }


def ceiling(results: ClipResults) -> Numbers:
    """Return the bounds of the top 50 %."""
    best = torch.from_numpy(results["ceiling_ciou_top50"][results.sounding])
    return {"ciou": metrics.success_rate(best), "auc": metrics.auc(best)}
