"""Protocols of the field's public test sets: boxes, and clips without boxes, in which nothing in view sounds.

Axes: `n` clips of a batch, `S` pixels of an image's side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import detection, metrics
from cacl.evaluation.compare import Statistic
from cacl.evaluation.ground_truth import consensus_map, pixel_boxes, union_map
from cacl.evaluation.protocols.base import Columns, Protocol, field


@dataclass(frozen=True)
class Boxes(Protocol):
    """VGG-SS, Flickr-SoundNet and their Extended forms, in which clips without boxes are silent.

    `consensus` says that boxes are several annotators' opinions (Flickr), not several objects.
    """

    consensus: bool = False

    def truths(self, annotation: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return `boxes`: zeros for a silent clip, and for boxes without a pixel (two clips of VGG-SS)."""
        boxes = pixel_boxes(field(annotation, "boxes"), self.size, annotation["id"])
        draw = consensus_map if self.consensus else union_map
        return {"boxes": draw(boxes, self.size)}

    def measure(self, scores: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return CIoU, relative (top 50 %) and absolute ((cos + 1) / 2 ≥ 0.5), confidence and peak."""
        boxes = truths["boxes"]
        top50, confidence = metrics.threshold_and_confidence(scores)
        relative, absolute = metrics.ciou_at(scores, torch.stack([top50, torch.zeros_like(top50)]), boxes)
        return {
            "ciou_top50": relative,
            "ciou_absolute": absolute,
            "confidence": (confidence + 1) / 2,
            "peak_in_box": metrics.peak_inside(scores, boxes),
        }

    def summarize(self, columns: Columns) -> dict[str, float]:
        """Return CIoU and AUC of sounding clips; AP, max-F1 and CIoU of all, the silent ones as mistakes."""
        rows = columns["boxes"] > 0
        top50, absolute = (torch.from_numpy(columns[name][rows]) for name in ("ciou_top50", "ciou_absolute"))
        return {
            "ciou": metrics.success_rate(top50),
            "auc": metrics.auc(top50),
            **self.detections(columns).numbers(),
            "peak_in_box": float(columns["peak_in_box"][rows].mean()),
            "ciou_absolute": metrics.success_rate(absolute),
            "auc_absolute": metrics.auc(absolute),
        }

    def per_clip(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return CIoU ≥ 0.5, AUC and the peak of sounding clips."""
        rows = columns["boxes"] > 0
        top50 = columns["ciou_top50"][rows]
        values = {"ciou": top50 >= 0.5, "auc": metrics.auc_per_clip(torch.from_numpy(top50)).numpy()}
        return values | ({"peak_in_box": columns["peak_in_box"][rows]} if "peak_in_box" in columns else {})

    def statistics(self, seeds: Sequence[Columns]) -> dict[str, Statistic]:
        """Return the means over clips, and what `Detections` counts."""
        detected = detection.statistics([self.detections(columns) for columns in seeds])
        return {**super().statistics(seeds), **detected}

    def ceiling(self, columns: Columns) -> dict[str, float]:
        """Return the bounds of the top 50 %."""
        best = torch.from_numpy(columns["ceiling_ciou_top50"][columns["boxes"] > 0])
        return {"ciou": metrics.success_rate(best), "auc": metrics.auc(best)}
