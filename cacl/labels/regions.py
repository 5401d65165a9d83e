"""Which part of a frame a classifier looks at: where it sees an object itself, or where a model hears one.

Axes: `n` clips, `S` pixels of a side, `h` × `w` places of the last feature map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor

from cacl.model.image import object_map
from cacl.model.localizer import Localizer, localization_map
from cacl.types import Batch

Region = Callable[[Tensor, Batch], Tensor]
"""From last feature maps [n, C, h, w] of frames and their batch to boxes [n, 4] in 0..1 (x0, y0, x1, y1)."""


def object_region(maps: Tensor, batch: Batch) -> Tensor:
    """Return boxes [n, 4] around what the classifier sees as an object (OGL, EZ-VSL).

    The box holds the upper half of the object map.
    """
    return upper_half_box(object_map(maps))


def upper_half_box(heat: Tensor) -> Tensor:
    """Return boxes [n, 4] in 0..1 around the places of `heat` [n, h, w] above the middle of its range."""
    n, h, w = heat.shape
    low, high = heat.amin((1, 2), keepdim=True), heat.amax((1, 2), keepdim=True)
    above = heat >= (low + high) / 2
    boxes = []
    for present, length in ((above.any(1), w), (above.any(2), h)):
        place = torch.arange(length, device=heat.device).expand(n, length)
        first = torch.where(present, place, length).amin(1)
        last = torch.where(present, place, -1).amax(1) + 1
        boxes.append((first / length, last / length))
    (x0, x1), (y0, y1) = boxes
    return torch.stack([x0, y0, x1, y1], dim=1).to(heat.dtype)


@dataclass(frozen=True)
class ModelRegion:
    """The region that a trained model localizes, as a `Region`."""

    model: Localizer

    @torch.no_grad()
    def __call__(self, maps: Tensor, batch: Batch) -> Tensor:
        """Return boxes [n, 4] around the upper half of the model's own maps."""
        embeddings = self.model(*self.model.prepare(batch.images, batch.waveforms))
        return upper_half_box(localization_map(embeddings.maps, embeddings.audio))


def crop_boxes(pixels: Tensor, boxes: Tensor) -> Tensor:
    """Return the boxes [n, 4] (0..1) of frames [n, 3, S, S], each stretched to the whole S × S."""
    side = pixels.shape[-1]
    rows = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype).unsqueeze(1)
    rois = torch.cat([rows, boxes * side], dim=1)
    return torchvision.ops.roi_align(pixels, rois, (side, side), sampling_ratio=2, aligned=True)
