"""Pictures and sounds that a browser shows: heat maps, frames, waveforms, as data URLs.

Axes: `S` pixels of an image's side, `h`, `w` cells of a map, `T` samples.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
import numpy as np
import soundfile
from PIL import Image, ImageChops, ImageFilter
from torch import Tensor

COLORS = "inferno"
"""Name of the color map; its brightness rises with the score, so that it reads in gray too."""


def heat_image(scores: Tensor, low: float | None = None, high: float | None = None) -> Image.Image:
    """Return a score map [S, S] as a picture with alpha: transparent at `low`, opaque at `high`.

    Without them the scale is the map's own, so that the picture says where, and not how sure.
    """
    values = scores.double().cpu().numpy()
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    relative = ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
    colors = matplotlib.colormaps[COLORS](0.25 + 0.75 * relative)
    colors[..., 3] = relative**1.5
    return Image.fromarray((colors * 255).round().astype(np.uint8), "RGBA")


def frame_image(frame: Tensor) -> Image.Image:
    """Return a frame [3, S, S] uint8 as a picture."""
    return Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())


def overlay(
    frame: Tensor, scores: Tensor, low: float | None = None, high: float | None = None, opacity: float = 0.85
) -> Image.Image:
    """Return a frame [3, H, W] uint8 with the heat of `scores` [S, S], scaled `low` to `high`, over it."""
    heat = heat_image(scores, low, high)
    heat.putalpha(heat.getchannel("A").point(lambda alpha: round(alpha * opacity)))
    picture = frame_image(frame).convert("RGBA")
    if heat.size != picture.size:
        heat = heat.resize(picture.size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(picture, heat).convert("RGB")


def outline(picture: Image.Image, region: Tensor) -> Image.Image:
    """Return a picture with a white line around a region [S, S] bool of it; none where that is empty."""
    mask = Image.fromarray(region.cpu().numpy().astype(np.uint8) * 255)
    mask = mask.resize(picture.size, Image.Resampling.BILINEAR).point(lambda value: 255 * (value >= 128))
    wide = mask.filter(ImageFilter.MaxFilter(2 * max(1, min(picture.size) // 200) + 1))
    drawn = picture.copy()
    drawn.paste((255, 255, 255), mask=ImageChops.subtract(wide, mask))
    return drawn


def jpeg_url(image: Image.Image, quality: int = 82) -> str:
    """Return a picture as a data URL."""
    return _url(_encoded(image, "JPEG", quality=quality), "image/jpeg")


def webp_url(image: Image.Image, quality: int = 70) -> str:
    """Return a picture with alpha as a data URL; smooth heat maps take few kilobytes."""
    return _url(_encoded(image, "WEBP", quality=quality), "image/webp")


def flac_url(waveform: Tensor, rate: int) -> str:
    """Return a waveform [T] in -1..1 of `rate` Hz as a data URL (16-bit FLAC)."""
    return _sound_url(waveform, rate, "FLAC", "PCM_16")


def ogg_url(waveform: Tensor, rate: int) -> str:
    """Return a waveform [T] in -1..1 of `rate` Hz as a data URL a fifth as long as FLAC's (Ogg Vorbis)."""
    return _sound_url(waveform, rate, "OGG", "VORBIS")


def _sound_url(waveform: Tensor, rate: int, container: str, coding: str) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.clamp(-1, 1).cpu().numpy(), rate, format=container, subtype=coding)
    return _url(buffer.getvalue(), f"audio/{container.lower()}")


def figure_url(figure: Any, dpi: int = 130) -> str:
    """Return a matplotlib figure as a data URL (PNG)."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return _url(buffer.getvalue(), "image/png")


def _encoded(image: Image.Image, kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def _url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
