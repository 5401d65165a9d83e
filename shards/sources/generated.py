"""Generated clips: drawn shapes on soft backgrounds, each shape with a synthesized sound of its own.

Needs nothing but NumPy and Pillow; the structure of the clips is that of `stamps`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw

from shards.clip import Array
from shards.sources.scenes import Bank, Object, Random, Scenes, Split

_SIDE = 192
"""Pixels of a drawn shape."""

_Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Generated(Scenes):
    """Drawn shapes, a class each, with a sound of its own."""

    name: ClassVar[str] = "generated"

    def bank(self) -> Bank:
        """Return the drawn shapes."""
        return _bank(self.storage.sample_rate)


@lru_cache(maxsize=1)
def _bank(sample_rate: int) -> _Shapes:
    return _Shapes(sample_rate)


class _Shapes:
    def __init__(self, sample_rate: int) -> None:
        self.objects = []
        for number, (name, (polygons, color)) in enumerate(SHAPES.items()):
            picture = _draw(polygons, color, stripes=number % 4)
            self.objects.append(Object(name, name, picture, synthesize(number, sample_rate), name))

    def background(self, random: Random, split: Split, side: int) -> Array:
        """Return a few random colors, blurred into each other. Splits have different random streams."""
        coarse = random.integers(40, 216, (int(random.integers(3, 9)),) * 2 + (3,), dtype=np.uint8)
        return np.array(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def _regular(corners: int, inner: float = 1.0, turn: float = 0.0, radius: float = 1.0) -> _Points:
    """Return a regular polygon; with `inner` < 1 a star with that many points. Unit circle."""
    step = math.pi / corners
    radii = [radius if k % 2 == 0 or inner == 1.0 else radius * inner for k in range(2 * corners)]
    return [
        (r * math.sin(k * step + turn), -r * math.cos(k * step + turn))
        for k, r in enumerate(radii)
        if inner != 1.0 or k % 2 == 0
    ]


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> _Points:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


SHAPES: dict[str, tuple[list[_Points], tuple[int, int, int]]] = {
    "disc": ([_regular(48)], (214, 39, 40)),
    "square": ([_rectangle(-0.8, -0.8, 0.8, 0.8)], (31, 119, 180)),
    "triangle": ([_regular(3)], (44, 160, 44)),
    "star": ([_regular(5, inner=0.4)], (255, 187, 40)),
    "cross": ([_rectangle(-0.3, -0.9, 0.3, 0.9), _rectangle(-0.9, -0.3, 0.9, 0.3)], (148, 103, 189)),
    "diamond": ([_regular(4)], (23, 190, 207)),
    "hexagon": ([_regular(6)], (140, 86, 75)),
    "bars": ([_rectangle(x, -0.9, x + 0.4, 0.9) for x in (-0.9, -0.2, 0.5)], (240, 240, 240)),
    "arrow": ([[(-0.9, -0.3), (0.2, -0.3), (0.2, -0.8), (0.95, 0), (0.2, 0.8), (0.2, 0.3), (-0.9, 0.3)]],
              (227, 119, 194)),
    "burst": ([_regular(12, inner=0.6)], (188, 189, 34)),
    "hourglass": ([[(-0.8, -0.9), (0.8, -0.9), (-0.8, 0.9), (0.8, 0.9)]], (30, 30, 30)),
    "ell": ([_rectangle(-0.8, -0.9, -0.2, 0.9), _rectangle(-0.8, 0.3, 0.8, 0.9)], (255, 127, 14)),
}  # fmt: skip
"""Name → polygons in -1..1, color."""


def _draw(polygons: list[_Points], color: tuple[int, int, int], stripes: int) -> Array:
    """Return the shape, [h, w, 4] uint8, drawn four times as large and reduced, cut to its box."""
    large = 4 * _SIDE
    alpha = Image.new("L", (large, large), 0)
    for points in polygons:
        ImageDraw.Draw(alpha).polygon(
            [((x + 1) * large / 2, (y + 1) * large / 2) for x, y in points], fill=255
        )
    texture = Image.new("RGB", (large, large), color)
    darker = tuple(value // 2 for value in color)
    for k in range(stripes * 3):
        at = large * k // (stripes * 3)
        ImageDraw.Draw(texture).rectangle([0, at, large, at + large // 40], fill=darker)
    texture.putalpha(alpha)
    small = texture.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.array(small.crop(small.getchannel("A").getbbox()))


def synthesize(number: int, sample_rate: int, seconds: float = 1.5) -> Array:
    """Return the sound of shape `number`, [t] int16: harmonics of a note, in a rhythm."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    note = 110.0 * 2 ** (number * 5 / 12)
    vibrato = 0.02 * note * np.sin(2 * np.pi * 6 * time) if number % 3 == 1 else 0.0
    phase = 2 * np.pi * np.cumsum(note + vibrato + np.zeros_like(time)) / sample_rate
    loudest = 1 + number % 3
    tone = sum(
        np.sin(k * phase) / (1 + abs(k - loudest)) for k in range(1, 5) if k * note < 0.45 * sample_rate
    )
    beats = 1 + number % 5
    envelope = np.exp(-4 * np.modf(time * beats / seconds * 2)[0]) if number % 2 else np.ones_like(time)
    audio = tone * envelope
    return np.rint(audio / np.abs(audio).max() * 0.7 * 32767).astype(np.int16)
