"""Where the sounding objects are, as the pixels that protocols compare with.

Axes: `n` clips, `S` pixels of an image's side. A ground truth map [n, S, S] is bool, or float32 in 0..1
where annotators differ: the share of them who say that this pixel sounds. It is empty where nothing sounds.

Boxes are `(x0, y0, x1, y1)`, x to the right, y down; pixel x1 and row y1 lie outside, as in the field's
slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from cacl.errors import UserError

Box = Sequence[float]


def pixel_boxes(boxes: Sequence[Box], size: int, clip_id: str) -> list[tuple[int, int, int, int]]:
    """Return normalized boxes as pixels: clipped to the image, then truncated.

    VGG-SS: `int(clip(b, 0, 1) * size)`. A box that is empty once clipped, its corners in the wrong order
    included, covers no pixel, as in the field's slices; the public VGG-SS list holds such boxes. Raises
    UserError for a box that is not four finite numbers.
    """
    result = []
    for box in boxes:
        if len(box) != 4 or not all(math.isfinite(value) for value in box):
            raise UserError(f"clip {clip_id}: boxes: {list(box)} is not a box of four finite numbers in 0..1")
        x0, y0, x1, y1 = (int(min(max(value, 0.0), 1.0) * size) for value in box)
        result.append((x0, y0, max(x1, x0), max(y1, y0)))
    return result


def union_map(boxes: Sequence[tuple[int, int, int, int]], size: int) -> Tensor:
    """Return bool [size, size], true inside any of the pixel boxes (VGG-SS)."""
    truth = torch.zeros(size, size, dtype=torch.bool)
    for x0, y0, x1, y1 in boxes:
        truth[y0:y1, x0:x1] = True
    return truth


def consensus_map(boxes: Sequence[tuple[int, int, int, int]], size: int) -> Tensor:
    """Return [size, size] with half a point for every annotator's pixel box, 1 at most (Flickr-SoundNet)."""
    truth = torch.zeros(size, size)
    for x0, y0, x1, y1 in boxes:
        truth[y0:y1, x0:x1] += 0.5
    return truth.clamp(max=1)


def mask_map(mask: np.ndarray | Tensor, size: int) -> Tensor:
    """Return bool [size, size], true on the pixels of a mask [H, W] (bool, or uint8 with 255 inside).

    A mask of another size is resized by area; a pixel of which half or more is covered counts.
    """
    pixels = torch.tensor(mask) if isinstance(mask, np.ndarray) else mask
    pixels = pixels.float() / (255 if pixels.dtype == torch.uint8 else 1)
    if pixels.shape != (size, size):
        pixels = adaptive_avg_pool2d(pixels[None, None], size)[0, 0]
    return pixels >= 0.5


def box_around(mask: np.ndarray | None) -> tuple[tuple[float, ...], ...]:
    """Return the box in 0..1 around a mask [H, W] bool, none if it is empty or there is none."""
    if mask is None or not mask.any():
        return ()
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    left, right = columns.min() / width, (columns.max() + 1) / width
    return ((float(left), float(rows.min() / height), float(right), float((rows.max() + 1) / height)),)
