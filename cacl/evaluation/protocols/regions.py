"""Protocols of regions: masks or boxes that a model outlines itself, compared with boxes.

A region has no order of pixels, so nothing that ranks pixels or clips can be said of it, and no other rule's
figure is called as here. Numbers are those of rule `region`: intersection over union as it is.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols.base import Numbers, Protocol, Truths, describe, no_ceiling
from cacl.evaluation.rules import Region


def region_protocol(of: Protocol) -> Protocol:
    """Return the form for regions of a protocol of boxes: its truth and its clips, and regions' figures."""
    return replace(
        of,
        name=f"{of.name}-region",
        version=1,
        measure=measure,
        per_clip=per_clip,
        summarize=summarize,
        ceiling=no_ceiling,
        main="region_miou",
        rules={"*": Region()},
        judged_by="region_iou",
        ranked_by="region_iou",
        has_detection=False,
    )


def measure(scores: Tensor, truths: Truths) -> dict[str, Tensor]:
    """Return the IoU of each region, `scores` [n, S, S] of 0 and 1, and its share of the picture."""
    region, boxes = scores >= 0.5, truths["boxes"]
    predicted = metrics.area(region)
    return {
        **describe(boxes),
        "region_iou": metrics.ciou_per_clip(region, boxes),
        "region_share": predicted / region[0].numel() if len(region) else predicted,
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return IoU ≥ 0.5, AUC and mean IoU of sounding clips."""
    iou = results.take(results.sounding)["region_iou"]
    return {
        "region_iou_50": iou >= 0.5,
        "region_auc": metrics.auc_per_clip(torch.from_numpy(iou)).numpy(),
        "region_miou": iou,
    }


def summarize(results: ClipResults) -> Numbers:
    """Return the means of `per_clip`, and the region's share of the picture where nothing in view sounds."""
    numbers = {name: float(values.mean()) for name, values in per_clip(results).items()}
    silent = results.take(~results.sounding)
    if len(silent):
        numbers["region_share_of_silent"] = float(silent["region_share"].mean())
    return numbers
