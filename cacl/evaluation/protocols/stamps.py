"""Protocol `stamps`: the miniature benchmark with exact masks, and its control with the other sound.

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
from cacl.evaluation.ground_truth import mask_map, pixel_boxes, union_map
from cacl.evaluation.protocols.base import Columns, Protocol, field


@dataclass(frozen=True)
class Stamps(Protocol):
    """The miniature benchmark: exact masks, a silent object of another class in every frame.

    Its Extended form has clips without boxes, in which nothing in view sounds.
    """

    compared: tuple[str, ...] = ("boxes", "mask")
    ranked_by: str = "pixel_ap"
    judged_by: str = "ciou"

    def truths(self, annotation: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return `boxes` and `mask`, both empty where nothing in view sounds."""
        boxes = pixel_boxes(field(annotation, "boxes"), self.size, annotation["id"])
        truth = union_map(boxes, self.size)
        mask = mask_map(field(annotation, "mask"), self.size) if boxes else torch.zeros_like(truth)
        return {"boxes": truth, "mask": mask}

    def measure(self, scores: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return peak, pixels' ranking, CIoU at the mask's area and in the field's way, and confidence."""
        boxes, mask = truths["boxes"], truths["mask"]
        area = metrics.area(mask)
        top50, confidence = metrics.threshold_and_confidence(scores)
        return {
            "peak_in_box": metrics.peak_inside(scores, boxes),
            "pixel_ap": metrics.pixel_ap_per_clip(scores, mask),
            "ciou": metrics.ciou_per_clip(metrics.area_prediction(scores, area), mask),
            "ciou_top50": metrics.ciou_at(scores, top50[None], boxes)[0],
            "confidence": (confidence + 1) / 2,
        }

    def summarize(self, columns: Columns) -> dict[str, float]:
        """Return the means of `per_clip`, and what `Detections` counts."""
        means = {name: float(np.nanmean(values)) for name, values in self.per_clip(columns).items()}
        return {**means, **self.detections(columns).numbers()}

    def per_clip(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return peak_in_box, pixel_ap; ciou, auc, miou at the mask's area; ciou_top50, auc_top50.

        All are of sounding clips.
        """
        peak, pixel_ap, ciou, top50 = (
            columns[name][columns["boxes"] > 0] for name in ("peak_in_box", "pixel_ap", "ciou", "ciou_top50")
        )
        return {
            "peak_in_box": peak,
            "pixel_ap": pixel_ap,
            "ciou": ciou >= 0.5,
            "auc": metrics.auc_per_clip(torch.from_numpy(ciou)).numpy(),
            "miou": ciou,
            "ciou_top50": top50 >= 0.5,
            "auc_top50": metrics.auc_per_clip(torch.from_numpy(top50)).numpy(),
        }

    def statistics(self, seeds: Sequence[Columns]) -> dict[str, Statistic]:
        """Return the means over clips, and what `Detections` counts."""
        detected = detection.statistics([self.detections(columns) for columns in seeds])
        return {**super().statistics(seeds), **detected}

    def ceiling(self, columns: Columns) -> dict[str, float]:
        """Return the bounds of the top 50 %."""
        best = torch.from_numpy(columns["ceiling_ciou_top50"][columns["boxes"] > 0])
        return {"ciou_top50": metrics.success_rate(best), "auc_top50": metrics.auc(best)}


@dataclass(frozen=True)
class OtherSound(Protocol):
    """The control that saliency cannot pass: the same frames with the silent object's sound.

    The peak must leave the first object (`peak_in_first_box`) and go to the other (`peak_in_sounding_box`).
    """

    sound: str = "other.wav"
    compared: tuple[str, ...] = ("sounding", "first")

    def truths(self, annotation: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the boxes of the object that sounds now and of the one that sounded first."""
        sounding = field(field(annotation, "other"), "boxes")
        first = field(annotation, "boxes")
        return {
            name: union_map(pixel_boxes(boxes, self.size, annotation["id"]), self.size)
            for name, boxes in (("sounding", sounding), ("first", first))
        }

    def measure(self, scores: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return where the peak lies."""
        return {
            "peak_in_sounding_box": metrics.peak_inside(scores, truths["sounding"]),
            "peak_in_first_box": metrics.peak_inside(scores, truths["first"]),
        }

    def summarize(self, columns: Columns) -> dict[str, float]:
        """Return the shares of clips."""
        return {name: float(columns[name].mean()) for name in ("peak_in_sounding_box", "peak_in_first_box")}

    def per_clip(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return where each peak lies."""
        return {name: columns[name] for name in ("peak_in_sounding_box", "peak_in_first_box")}
