"""Paste a cut-out picture so that the cut gives little away.

The picture takes on light, sharpness and noise of the place where it is pasted, its edge is feathered, and a
soft shadow lies under it. Pixels are float32 in 0..255; `S` is the frame's side, `h`, `w` the picture's.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from shards.clip import Array

Random = np.random.Generator
_SIDE = 224
"""The frame's side, in pixels, that lengths in pixels are meant for."""
_FINE = 1.0
"""Sigma, pixels: what is finer is noise and texture."""
_BLEED = 3.0
"""Sigma, pixels, by which colors go on beyond the picture's edge."""


@dataclass(frozen=True)
class Style:
    """How a picture is fitted to its place. All zero is a plain paste."""

    feather: float = 0.7
    """Sigma of the edge's transition, pixels."""
    light: float = 0.5
    """How far mean and spread of its brightness move to those of the surroundings, 0..1."""
    hue: float = 0.2
    """How far its mean color does, 0..1."""
    texture: float = 0.7
    """How far its finest texture is brought to the level of the surroundings, 0..1."""
    shadow: float = 0.3
    """How dark a shadow may be, 0..1."""
    quality: tuple[int, int] = (75, 95)
    """Lowest and highest JPEG quality of the finished frame; zeros leave it as it is."""


NATURAL = Style()
PLAIN = Style(feather=0, light=0, hue=0, texture=0, shadow=0, quality=(0, 0))


def fit(picture: Array, frame: Array, corner: tuple[int, int], style: Style, random: Random) -> Array:
    """Return `picture` [h, w, 4] uint8 as it would look at `corner` (x, y) of `frame`, float32.

    Colors go on beyond the edge, so that a feathered rim shows the picture and not what it was cut from.
    """
    alpha = picture[..., 3] / np.float32(255)
    inside = alpha > 0.5
    color = _bleed(picture[..., :3].astype(np.float32), alpha)
    around = _surroundings(frame, corner, picture.shape[:2])
    color = _match_light(color, inside, around.reshape(-1, 3), style)
    color = _match_texture(color, inside, float(np.std(_fine(around))), style.texture, random)
    return np.concatenate([color, 255 * alpha[..., None]], axis=2)


def blend(frame: Array, fitted: Array, corner: tuple[int, int], style: Style, shade: float = 0.0) -> Array:
    """Paint a fitted picture into `frame` [S, S, 3] in place; return its mask, [S, S] bool.

    `shade` is the darkness of its shadow, 0..1. What lies outside of the frame is cut off.
    """
    sigma = style.feather * len(frame) / _SIDE
    margin = int(4 * sigma + 2 + 0.3 * fitted.shape[0] * (shade > 0))
    color = np.pad(fitted[..., :3], ((margin,) * 2, (margin,) * 2, (0, 0)), mode="edge")
    alpha = np.pad(fitted[..., 3] / np.float32(255), margin)
    here, there = _overlap(frame.shape[:2], alpha.shape, (corner[0] - margin, corner[1] - margin))
    mask = np.zeros(frame.shape[:2], bool)
    mask[here] = (alpha > 0.5)[there]
    under = frame[here]
    if shade:
        under *= 1 - shade * _shadow(alpha, fitted.shape[0])[there][..., None]
    soft = gaussian_filter(alpha, sigma) if sigma else alpha
    under += soft[there][..., None] * (color[there] - under)
    return mask


def compress(frame: Array, style: Style, random: Random) -> Array:
    """Return `frame` [S, S, 3] after one JPEG of random quality, as uint8."""
    whole = np.clip(np.rint(frame), 0, 255).astype(np.uint8)
    lowest, highest = style.quality
    if not highest:
        return whole
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "JPEG", quality=int(random.integers(lowest, highest + 1)))
    return np.array(Image.open(file))


def _bleed(color: Array, alpha: Array) -> Array:
    weight = alpha[..., None]
    sigma = (_BLEED, _BLEED, 0)
    spread = gaussian_filter(color * weight, sigma) / np.maximum(gaussian_filter(weight, sigma), 1e-4)
    return np.where(weight > 0.98, color, spread).astype(np.float32)


def _surroundings(frame: Array, corner: tuple[int, int], size: tuple[int, ...]) -> Array:
    """Return what of `frame` a picture of `size` (h, w) at `corner` covers, and half as much around it."""
    (x, y), (height, width) = corner, size[:2]
    more = max(height, width) // 2
    return frame[max(0, y - more) : max(1, y + height + more), max(0, x - more) : max(1, x + width + more)]


def _fine(color: Array) -> Array:
    fine: Array = color - gaussian_filter(color, (_FINE, _FINE, 0))
    return fine


def _match_light(color: Array, inside: Array, around: Array, style: Style) -> Array:
    own = color[inside]
    if not own.size:
        return color
    mean, apart = own.mean(axis=0), around.mean(axis=0) - own.mean(axis=0)
    shift = style.light * apart.mean() + style.hue * (apart - apart.mean())
    gain = np.clip((around.std() + 1) / (own.std() + 1), 0.5, 1.5) ** style.light
    return ((color - mean) * gain + mean + shift).astype(np.float32)


def _match_texture(color: Array, inside: Array, wanted: float, share: float, random: Random) -> Array:
    """Blur or roughen the picture until its finest texture is as strong as the `wanted` deviation."""
    fine = _fine(color)
    there = float(np.std(fine[inside])) if inside.any() else wanted
    if there > wanted:
        return color - share * (1 - wanted / there) * fine
    missing = share * (wanted**2 - there**2) ** 0.5
    return color + np.float32(min(missing, 8.0)) * random.standard_normal((*inside.shape, 1), np.float32)


def _shadow(alpha: Array, height: int) -> Array:
    """Return how dark it is below the picture, 0..1."""
    return gaussian_filter(np.roll(alpha, round(0.06 * height), axis=0), max(1.0, 0.05 * height))


def _overlap(
    frame: tuple[int, ...], picture: tuple[int, ...], corner: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a picture at `corner` (x, y) lies in the frame, and which part of it does."""
    here, there = [], []
    for size, length, start in zip(frame, picture, corner[::-1], strict=True):
        first, last = min(max(0, start), size), max(0, min(size, start + length))
        here.append(slice(first, max(first, last)))
        there.append(slice(first - start, max(first, last) - start))
    return (here[0], here[1]), (there[0], there[1])
