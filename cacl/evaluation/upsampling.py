"""From a model's coarse map to the pixels on which protocols measure.

Axes: `n` clips, `h`, `w` cells of a map, `S` pixels of an image's side.

Upsampling is linear and separable, so the whole batch is two small matrix products with a fixed [S, h]
matrix, the same numbers as `torch.nn.functional.interpolate` to rounding.

| name | who uses it |
| --- | --- |
| `bicubic` | ours: a cell's value stands at the middle of its pixels |
| `bilinear` | LVS (OpenCV's linear) |
| `bicubic-corners` | SLAVC when it tests: the outer cells stand on the image's border |
| `bilinear-corners` | EZ-VSL, FNAC |
| `nearest` | none; a check without interpolation |
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Upsampling = Literal["bicubic", "bilinear", "bicubic-corners", "bilinear-corners", "nearest"]
_INTERPOLATE: dict[str, dict[str, Any]] = {
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bicubic-corners": {"mode": "bicubic", "align_corners": True},
    "bilinear-corners": {"mode": "bilinear", "align_corners": True},
    "nearest": {"mode": "nearest-exact"},
}


def upsample(maps: Tensor, size: int, name: Upsampling) -> Tensor:
    """Return `maps` [n, h, w] at [n, size, size] pixels. Maps that have this size come back as they are."""
    height, width = maps.shape[-2:]
    if (height, width) == (size, size):
        return maps
    rows = axis_weights(height, size, name).to(maps)
    columns = rows if height == width else axis_weights(width, size, name).to(maps)
    return rows @ maps @ columns.T


def upsample_by_interpolation(maps: Tensor, size: int, name: Upsampling) -> Tensor:
    """Return what `upsample` returns, by the library's own call.

    It is the slow form, exact to the last bit of other codebases.
    """
    return interpolate(maps[:, None], size=(size, size), **_INTERPOLATE[name])[:, 0]


@lru_cache
def axis_weights(cells: int, size: int, name: Upsampling) -> Tensor:
    """Return the [size, cells] matrix of one axis: the interpolation of unit vectors."""
    unit = torch.eye(cells, dtype=torch.float64)[None, None]
    return interpolate(unit, size=(size, cells), **_INTERPOLATE[name])[0, 0]
