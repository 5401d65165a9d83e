"""Pseudo-labels of frames from a frozen image classifier: which views it sees, and a label table's columns.

Axes: `n` clips, `S` pixels of a side, `K` classes, `k` best classes kept, `D` channels of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cacl.labels.classifier import Classifier
from cacl.labels.regions import Region, crop_boxes
from cacl.resumable import Arrays, require_finite
from cacl.types import Batch

KEPT = 5
"""Best classes that a table keeps for every clip."""

Views = Literal["whole", "mirrored", "crops"]


@dataclass(frozen=True)
class ClassifyFrames:
    """Work for `resumable_map`: labels of the frames of a batch."""

    classifier: Classifier
    views: Views = "whole"
    region: Region | None = None
    soft: bool = False
    embeddings: bool = False

    def __call__(self, batch: Batch) -> Arrays:
        """Return "label", "confidence", "top", "top_probability", and "soft", "embedding" where asked.

        Both kinds of vectors are means over the views. Raises UserError where a prediction is not finite.
        """
        pixels = batch.images.float() / 255
        if self.region is not None:
            maps, _, _ = self.classifier(pixels)
            pixels = crop_boxes(pixels, self.region(maps, batch))
        seen = [self.classifier(view) for view in look(pixels, self.views)]
        embedding = torch.stack([embedding for _, embedding, _ in seen]).mean(0)
        probability = torch.stack([probability for _, _, probability in seen]).mean(0)
        arrays = predictions(probability, self.soft)
        arrays |= {"embedding": embedding.cpu().numpy()} if self.embeddings else {}
        require_finite(arrays, batch, f"the classifier {self.classifier.name}")
        return arrays


def predictions(probability: Tensor, soft: bool) -> Arrays:
    """Return a label table's columns from probabilities [n, K]; of equal ones the lower class is the better.

    "label" [n], "confidence" [n], "top" and "top_probability" [n, k], and "soft" [n, K] where asked.
    """
    order = probability.sort(dim=1, descending=True, stable=True)
    top, best = order.indices[:, :KEPT], order.values[:, :KEPT]
    columns = {"label": top[:, 0], "confidence": best[:, 0], "top": top, "top_probability": best}
    columns |= {"soft": probability} if soft else {}
    return {name: column.cpu().numpy() for name, column in columns.items()}


def look(pixels: Tensor, views: Views) -> list[Tensor]:
    """Return views of frames [n, 3, S, S]: whole, mirrored, and four crops of three quarters' side."""
    if views == "whole":
        return [pixels]
    seen = [pixels, pixels.flip(-1)]
    if views == "crops":
        side = pixels.shape[-1]
        cut_side = round(0.75 * side)
        ends = (slice(None, cut_side), slice(side - cut_side, None))
        crops = [pixels[..., rows, columns] for rows in ends for columns in ends]
        seen += [functional.interpolate(crop, (side, side), mode="bicubic").clamp(0, 1) for crop in crops]
    return seen
