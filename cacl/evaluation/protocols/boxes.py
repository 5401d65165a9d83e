"""Protocols of boxes, and of clips without boxes, in which nothing in view sounds.

One's own boxes, and the field's public test sets: VGG-SS, Flickr-SoundNet and their Extended forms.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.detection import detections
from cacl.evaluation.ground_truth import consensus_map, pixel_boxes, union_map
from cacl.evaluation.protocols.base import Annotation, Numbers, Protocol, Truths, describe, required
from cacl.evaluation.rules import Absolute, Adaptive, Rule, TopShare, ranks

RULES: dict[str, TopShare | Adaptive] = {"": TopShare(), "_adaptive": Adaptive()}
"""The rules that need no scale, by what the names of their numbers end in."""
COSINE_0 = Absolute(0.0)


def boxes_protocol(
    name: str,
    version: int,
    official_clips: int | None = None,
    consensus: bool = False,
    absolute: Absolute = COSINE_0,
    main: str = "ciou_adaptive",
) -> Protocol:
    """Return a protocol of boxes; `consensus`: they are annotators' opinions, not several objects.

    `absolute` is the rule of `ciou_absolute` and `auc_absolute`; `main` is the number at first sight.
    """
    every: dict[str, Rule] = {**RULES, "_absolute": absolute}
    return Protocol(
        name,
        version,
        truth=opinions_truth if consensus else objects_truth,
        measure=partial(measure, theta=absolute.theta),
        per_clip=per_clip,
        summarize=summarize,
        ceiling=ceiling,
        official_clips=official_clips,
        main=main,
        rules={f"{kind}{end}": rule for end, rule in every.items() for kind in ("ciou", "auc")},
    )


def objects_truth(annotation: Annotation, size: int) -> Truths:
    """Return `boxes`, bool: the union of all.

    Empty for a silent clip, and for boxes without a pixel (two clips of VGG-SS).
    """
    return {"boxes": union_map(pixel_boxes(required(annotation, "boxes"), size, annotation.id), size)}


def opinions_truth(annotation: Annotation, size: int) -> Truths:
    """Return `boxes` in 0..1: half a point for every annotator's box (Flickr-SoundNet)."""
    return {"boxes": consensus_map(pixel_boxes(required(annotation, "boxes"), size, annotation.id), size)}


def measure(scores: Tensor, truths: Truths, theta: float = COSINE_0.theta) -> dict[str, Tensor]:
    """Return CIoU at the top 50 %, as many pixels as the truth and from `theta` up, confidence and peak."""
    boxes = truths["boxes"]
    known = describe(boxes)
    cuts = ranks(tuple(RULES.values()), scores, boxes, known["area"])
    limits, confidence = metrics.thresholds_and_confidence(scores, cuts)
    limits = torch.cat([limits, torch.full_like(limits[:1], theta)])
    top50, adaptive, absolute = metrics.ciou_at(scores, limits, boxes, known["area"])
    return {
        **known,
        "ciou_top50": top50,
        "ciou_adaptive": adaptive,
        "ciou_absolute": absolute,
        "confidence": (confidence + 1) / 2,
        "peak_in_box": metrics.peak_inside(scores, boxes),
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return CIoU ≥ 0.5 and AUC by both rules, and the peak of sounding clips."""
    found = results.take(results.sounding)
    return {
        **right_and_auc("ciou", "auc", found["ciou_top50"]),
        **right_and_auc("ciou_adaptive", "auc_adaptive", found["ciou_adaptive"]),
        "peak_in_box": found["peak_in_box"],
    }


def right_and_auc(right: str, area: str, ciou: np.ndarray) -> dict[str, np.ndarray]:
    """Return by these names whether each CIoU [n] is 0.5 or more, and what it adds to the area."""
    return {right: ciou >= 0.5, area: metrics.auc_per_clip(torch.from_numpy(ciou)).numpy()}


def share_and_auc(share: str, area: str, ciou: np.ndarray) -> Numbers:
    """Return by these names the share of CIoU [n] that is 0.5 or more, and the area under such shares."""
    values = torch.from_numpy(ciou)
    return {share: metrics.success_rate(values), area: metrics.auc(values)}


def summarize(results: ClipResults) -> Numbers:
    """Return CIoU and AUC of sounding clips; AP, max-F1 and CIoU of all, the silent ones as mistakes."""
    found = results.take(results.sounding)
    return {
        **share_and_auc("ciou", "auc", found["ciou_top50"]),
        **share_and_auc("ciou_adaptive", "auc_adaptive", found["ciou_adaptive"]),
        **detections(results, "ciou_top50").numbers(),
        "peak_in_box": float(found["peak_in_box"].mean()),
        **share_and_auc("ciou_absolute", "auc_absolute", found["ciou_absolute"]),
    }


def ceiling(results: ClipResults) -> Numbers:
    """Return the bounds of the top 50 %; and of the adaptive rule, which boxes without a pixel miss alone.

    Where no clip can be right by the top 50 %, nor can one be found by its confidence.
    """
    found = results.take(results.sounding)
    top = share_and_auc("ciou", "auc", found["ceiling_ciou_top50"])
    return {
        **top,
        **({"ap": 0.0, "max_f1": 0.0} if top["ciou"] == 0 else {}),
        **share_and_auc("ciou_adaptive", "auc_adaptive", (found["area"] > 0).astype(np.float64)),
    }
