"""A decoded frame as a player shows it: upright, not mirrored, of square pixels.

Axes: `h`, `w` pixels as stored, `H`, `W` as shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

_NEARLY_SQUARE = 0.01
"""Share of a pixel's side that nobody sees: 448/447 is written by accident."""
_HUGE = 2**24
"""Pixels of a picture that is not made larger still."""
_LONGEST_PIXEL = 4.0
"""Sides of a pixel; what says more is damaged."""


def as_shown(frame: Any, pixel: float) -> np.ndarray:
    """Return a decoded frame, [H, W, 3] uint8, whose pixels are `pixel` times as wide as high."""
    picture = frame.to_ndarray(format="rgb24")
    return upright(_square(picture, pixel), _display_matrix(frame))


def pixel_shape(stream: Any) -> float:
    """Return how many times as wide as high a track's pixels are: 1 where that is not said, or absurd."""
    shape = float(stream.sample_aspect_ratio or 1)
    absurd = not 1 / _LONGEST_PIXEL <= shape <= _LONGEST_PIXEL
    return 1.0 if absurd or abs(shape - 1) < _NEARLY_SQUARE else shape


def upright(picture: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turn and mirror a picture [h, w, 3] by a display matrix [3, 3], to the nearest right angle.

    A pixel at (x, y) is shown at (a·x + c·y, b·x + d·y), where the matrix begins with the rows (a, b, u) and
    (c, d, v) (ISO/IEC 14496-12, 6.2.2).
    """
    if matrix is not None:
        (a, b), (c, d) = matrix[:2, :2].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            picture, a, d = picture.swapaxes(0, 1), c, b
        picture = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(picture)


def _display_matrix(frame: Any) -> np.ndarray | None:
    from av.sidedata.sidedata import Type

    found = frame.side_data.get(Type.DISPLAYMATRIX)
    return None if found is None else np.frombuffer(bytes(found), np.int32, count=9).reshape(3, 3)


def _square(picture: np.ndarray, pixel: float) -> np.ndarray:
    """Stretch the side along which there are too few pixels; of a huge picture shrink the other one."""
    if pixel == 1:
        return picture
    height, width = picture.shape[:2]
    choose = max if height * width < _HUGE else min
    size = (round(width * choose(pixel, 1.0)), round(height * choose(1 / pixel, 1.0)))
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
