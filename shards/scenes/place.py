"""Sizes and places of pictures in a frame, so that no two boxes meet. Lengths are pixels."""

from __future__ import annotations

import numpy as np

Random = np.random.Generator
Extent = tuple[int, int]
"""Width and height."""
Corner = tuple[int, int]
"""x, y of the upper left pixel."""


def place(
    shapes: list[Extent], sizes: np.ndarray, side: int, random: Random
) -> tuple[list[Extent], list[Corner]]:
    """Return extents and corners of pictures of these shapes; all shrink as long as there is no room.

    A size is the root of a picture's area over the frame's side.
    """
    shrink = 1.0
    while True:
        extents = [scale(shape, size * shrink, side) for shape, size in zip(shapes, sizes, strict=True)]
        corners = free_corners(extents, side, random)
        if corners is not None:
            return extents, corners
        shrink *= 0.95


def scale(shape: Extent, size: float, side: int) -> Extent:
    """Return width and height: area (size · side)², no edge over three quarters of the frame."""
    width, height = shape
    factor = min(size * side / (height * width) ** 0.5, 0.75 * side / max(height, width))
    return max(8, round(width * factor)), max(8, round(height * factor))


def free_corners(extents: list[Extent], side: int, random: Random, tries: int = 20) -> list[Corner] | None:
    """Return a corner of each box so that no two meet, or None when chance found no room."""
    for _ in range(tries):
        corners = [tuple(int(random.integers(side - edge + 1)) for edge in extent) for extent in extents]
        boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, extents, strict=True)]
        if all(_apart(a, b) for k, a in enumerate(boxes) for b in boxes[:k]):
            return [(x, y) for x, y in corners]
    return None


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
