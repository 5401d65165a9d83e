"""The frame of a scene and the truth of it: which pixels show which object.

Axes: `S` pixels of the frame's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cacl.annotation import Box
from shards.clip import Array
from shards.scenes.paste import NATURAL, Style, blend, compress, fit
from shards.scenes.place import Corner, Extent, place, scale

Random = np.random.Generator
SIZES = (0.28, 0.5)
"""Least and largest root of an object's area over the frame's side."""
PIECES = Style(light=0, hue=0, texture=0.3)
"""How pieces of other photographs are pasted."""


@dataclass(frozen=True)
class Stuff:
    """Pictures as they are read, before sizes and places are drawn."""

    background: Array
    """[h, w, 3] uint8."""
    pictures: list[Array]
    """[h, w, 4] uint8 each."""
    pieces: list[tuple[Array, Array]]
    """Pieces to put behind them: a photograph [h, w, 3] and a picture whose shape is cut out of it."""


def paint(random: Random, stuff: Stuff, side: int, style: Style = NATURAL) -> tuple[Array, list[Array]]:
    """Return a frame [S, S, 3] uint8 and, for each picture, the pixels that show it, [S, S] bool.

    Pieces of other photographs lie behind, in the shapes of pictures: so an edge need not be an object's.
    """
    frame = square(random, stuff.background, side).astype(np.float32)
    for photograph, shape in stuff.pieces:
        _scatter(random, frame, photograph, shape)
    pictures = [each[:, ::-1] if random.random() < 0.5 else each for each in stuff.pictures]
    sizes = random.uniform(*SIZES, len(pictures))
    extents, corners = place([(each.shape[1], each.shape[0]) for each in pictures], sizes, side, random)
    masks = []
    for picture, extent, corner in zip(pictures, extents, corners, strict=True):
        fitted = fit(resize(picture, extent), frame, corner, style, random)
        masks.append(blend(frame, fitted, corner, style, style.shadow * random.uniform(0.3, 1)))
    return compress(frame, style, random), masks


def square(random: Random, photograph: Array, side: int) -> Array:
    """Return a random square of a photograph, [S, S, 3] uint8."""
    height, width = photograph.shape[:2]
    edge = int(random.integers(2 * min(height, width) // 3, min(height, width) + 1))
    y, x = int(random.integers(height - edge + 1)), int(random.integers(width - edge + 1))
    return resize(photograph[y : y + edge, x : x + edge], (side, side))


def resize(picture: Array, extent: Extent) -> Array:
    """Return a picture [h, w, C] uint8 at another width and height."""
    return np.asarray(Image.fromarray(picture).resize(extent, Image.Resampling.LANCZOS))


def tight_box(mask: Array) -> Box | None:
    """Return the box of a mask [S, S] in 0..1, None where it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    height, width = mask.shape
    edges = columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height
    return (float(edges[0]), float(edges[1]), float(edges[2]), float(edges[3]))


def _scatter(random: Random, frame: Array, photograph: Array, shape: Array) -> None:
    side = len(frame)
    extent = scale((shape.shape[1], shape.shape[0]), random.uniform(*SIZES), side)
    filled = square(random, photograph, max(extent))[: extent[1], : extent[0]]
    piece = np.concatenate([filled, resize(shape, extent)[..., 3:]], axis=2)
    corner: Corner = (
        int(random.integers(-extent[0] // 3, side - extent[0] // 2)),
        int(random.integers(-extent[1] // 3, side - extent[1] // 2)),
    )
    fitted = fit(piece, frame, corner, PIECES, random)
    blend(frame, fitted, corner, PIECES, PIECES.shadow * random.uniform(0.3, 1))
