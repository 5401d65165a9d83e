"""Heat over frames in whole arrays of bytes: colors on a fixed scale, the outline at θ, a ring at the peak.

Axes: `H`, `W` pixels of a frame, `h`, `w` cells of a map.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from PIL import Image, ImageDraw, ImageFont

from cacl.evaluation.upsampling import axis_weights
from cacl.runs.calibration import PLAIN

Array = np.ndarray[Any, Any]
WORDS = "nothing sounds here"
COLORS = LinearSegmentedColormap.from_list("sound", ["#2440e0", "#0b8cf0", "#00c8d8", "#2fe6a0", "#b6ff5e"])
"""From unsure to sure; cold, as most of what people film is warm, and brighter all the way."""
_ALPHA = (0.45, 0.66)
"""Opacity of heat where it begins and where it is surest."""
_NARROWEST = 0.02
"""Of a scale between where heat begins and where it is surest, cosines."""
_PRODUCT = 2**18
"""Multiplications of a matrix product for which OpenBLAS starts no threads: beside a model's they would wait
for each other, and a frame take ten times as long."""
_STEPS = 255
"""Of the scale, in bytes; step 0 is clear."""


class Scale(NamedTuple):
    """A model's fixed scale, cosines: see `SoundFinder.scale`."""

    zero: float
    theta: float | None
    best: float

    @property
    def begin(self) -> float:
        """Where heat begins: at θ, or at nothing where there is no θ."""
        return self.zero if self.theta is None else self.theta

    @property
    def end(self) -> float:
        """Where heat is surest."""
        return max(self.best, self.begin + _NARROWEST)

    def steps(self, values: Array) -> Array:
        """Return values as uint8 steps: 0 below the beginning, 255 at the end and above."""
        span = np.float32(_STEPS / (self.end - self.begin))
        steps = (values - np.float32(self.begin)) * span
        # What is above the beginning is at step 1 at least.
        return np.where(steps > 0, np.clip(steps, 1, _STEPS), 0).astype(np.uint8)


class Seen(NamedTuple):
    """What a drawn frame shows."""

    value: float
    """The map's highest pixel, a cosine."""
    point: tuple[int, int]
    """Where it is: x, y in pixels."""
    sounds: bool | None
    """Whether it is above θ; None where there is no θ."""


class HeatPainter:
    """Draws maps over frames of one size, on one scale."""

    def __init__(self, scale: Scale, size: tuple[int, int]) -> None:
        """`size` is H, W."""
        self.scale, self.size = scale, size
        self._colors, self._keep = _tables(scale)
        self._width = max(1, min(size) // 240)
        self._ring = ring(max(11, min(size) // 18))
        self._words = pill(WORDS, max(11, min(size) // 26))

    def values(self, raw: Array) -> Array:
        """Return a map [h, w] at the frame's pixels, [H, W] float32, as θ is compared with (bicubic)."""
        rows, columns = (_weights(cells, pixels) for cells, pixels in zip(raw.shape, self.size, strict=True))
        across = raw.astype(np.float32) @ columns.T
        at_once = max(1, _PRODUCT // across.size)
        found = np.empty(self.size, np.float32)
        for begin in range(0, len(rows), at_once):
            np.matmul(rows[begin : begin + at_once], across, out=found[begin : begin + at_once])
        return found

    def paint(self, picture: Array, raw: Array) -> tuple[Array, Seen]:
        """Return a frame [H, W, 3] uint8 with the heat of a map [h, w] over it, and what is seen there."""
        values = self.values(raw)
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        value, theta = float(values[y, x]), self.scale.theta
        seen = Seen(value, (int(x), int(y)), None if theta is None else value > theta)
        drawn = picture.copy()
        steps = self.scale.steps(values)
        if (place := _box(steps, self._width)) is not None:
            self._warm(drawn[place], steps[place])
            if theta is not None:
                self._outline(drawn[place], steps[place] > 0)
        if seen.sounds is False:
            margin = max(6, min(self.size) // 40)
            stamp(drawn, self._words, (margin, margin))
        else:
            half = self._ring.shape[0] // 2
            stamp(drawn, self._ring, (seen.point[0] - half, seen.point[1] - half))
        return drawn, seen

    def _warm(self, part: Array, steps: Array) -> None:
        """Lay colors over a part of a frame, in place."""
        kept = self._keep.take(steps)
        for channel, added in enumerate(self._colors):
            over = part[..., channel] * kept
            over >>= 8
            over += added.take(steps)
            part[..., channel] = over

    def _outline(self, part: Array, region: Array) -> None:
        """Draw a white line around a region, and a dark one around that, in place."""
        wide = grown(region, self._width)
        part[grown(wide, self._width) & ~wide] = (16, 20, 32)
        part[wide & ~region] = (255, 255, 255)


def grown(mask: Array, by: int) -> Array:
    """Return a mask [H, W] bool, `by` pixels larger on each side."""
    for _ in range(by):
        tall = mask.copy()
        tall[1:] |= mask[:-1]
        tall[:-1] |= mask[1:]
        mask = tall.copy()
        mask[:, 1:] |= tall[:, :-1]
        mask[:, :-1] |= tall[:, 1:]
    return mask


def stamp(picture: Array, sprite: Array, corner: tuple[int, int]) -> None:
    """Lay a sprite [h, w, 4] uint8 over a picture [H, W, 3] uint8 at x, y, in place, cut at its borders."""
    x, y = corner
    height, width = picture.shape[:2]
    top, left = max(0, -y), max(0, -x)
    shown = sprite[top : height - y, left : width - x].astype(np.uint16)
    part = picture[y + top : y + top + shown.shape[0], x + left : x + left + shown.shape[1]]
    alpha = shown[..., 3:]
    part[...] = (part * (255 - alpha) + shown[..., :3] * alpha + 127) // 255


def font(size: int) -> ImageFont.FreeTypeFont:
    """Return the typeface of all that is written on frames; it has θ."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size)


@lru_cache
def ring(diameter: int) -> Array:
    """Return a ring with a dot in its middle, white on dark, as a sprite [d, d, 4] uint8."""
    fine = 4
    side, line = diameter * fine, max(2, diameter // 7) * fine
    image = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(image)
    edge = fine
    pen.ellipse((0, 0, side - 1, side - 1), outline=(16, 20, 32, 235), width=line + 2 * edge)
    pen.ellipse((edge, edge, side - 1 - edge, side - 1 - edge), outline=(255, 255, 255, 255), width=line)
    middle, dot = side / 2, line * 0.7
    pen.ellipse((middle - dot, middle - dot, middle + dot, middle + dot), fill=(255, 255, 255, 255))
    return np.asarray(image.resize((diameter, diameter), Image.Resampling.BOX))


@lru_cache
def pill(text: str, size: int) -> Array:
    """Return white words on a dark rounded ground as a sprite [h, w, 4] uint8."""
    letters = font(size)
    left, top, right, bottom = letters.getbbox(text)
    pad = size // 2
    shape = (round(right - left) + 2 * pad, round(bottom - top) + 2 * pad)
    image = Image.new("RGBA", shape)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((0, 0, shape[0] - 1, shape[1] - 1), radius=pad, fill=(16, 20, 32, 190))
    pen.text((pad - left, pad - top), text, fill=(255, 255, 255, 255), font=letters)
    return np.asarray(image)


def colors(count: int) -> Array:
    """Return the color map in `count` steps, [count, 3] uint8."""
    return (COLORS(np.linspace(0, 1, count))[:, :3] * 255).round().astype(np.uint8)


def _tables(scale: Scale) -> tuple[Array, Array]:
    """Return what a step adds to a frame's bytes, [3, 256] uint16, and what it keeps, [256] of 256."""
    first, last = _ALPHA if scale.theta is not None else (0.0, _ALPHA[1])
    alpha = np.linspace(first, last, _STEPS + 1)
    alpha[0] = 0
    added = np.ascontiguousarray((colors(_STEPS + 1) * alpha[:, None]).T)
    return added.round().astype(np.uint16), ((1 - alpha) * 256).round().astype(np.uint16)


@lru_cache
def _weights(cells: int, pixels: int) -> Array:
    found: Array = axis_weights(cells, pixels, PLAIN).float().numpy()
    return found


def _box(steps: Array, margin: int) -> tuple[slice, slice] | None:
    """Return where a map is not clear, with room for its outline; None where it is clear everywhere."""
    slices = []
    for axis in (1, 0):
        filled = np.flatnonzero(steps.any(axis))
        if not len(filled):
            return None
        slices.append(slice(max(0, int(filled[0]) - 2 * margin), int(filled[-1]) + 2 * margin + 1))
    return slices[0], slices[1]
