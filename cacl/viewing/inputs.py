"""Pictures and sounds as people have them, made what a model takes: from files, images of Pillow, any arrays.

Axes: `H`, `W` pixels of a picture, `T` samples of sound, `C` channels.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from torch import Tensor

from cacl.errors import UserError, brief
from cacl.media.sound import one_channel, within_one

if TYPE_CHECKING:  # arrays are taken without Pillow
    from PIL import Image

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray | Tensor"
"""A file, an image of any mode, or [H, W], [H, W, C], [C, H, W]: gray or RGB, either with alpha.

Whole numbers are 0..255, uint16 0..65535, floats 0..1, booleans black and white.
"""
Sound: TypeAlias = str | Path | np.ndarray | Tensor
"""A file, or [T], [T, C], [C, T]: floats in -1..1, or integers over their whole range."""

_CHANNELS = (1, 2, 3, 4)
"""Of a picture: gray or RGB, either with alpha."""
_SLACK = 1e-3
"""By which resized floats may leave 0..1."""
_MOST_CHANNELS = 64
"""Of a sound; a longer side is time."""


def picture_of(given: Picture) -> np.ndarray:
    """Return a picture as viewers show it, [H, W, 3] uint8; what is transparent lies on white.

    Raises UserError, one sentence, for what is no picture.
    """
    if isinstance(given, str | os.PathLike):
        return _read(Path(given))
    if not isinstance(given, np.ndarray | Tensor) and getattr(given, "mode", "F") != "F":  # Pillow's
        from cacl.media.still import as_shown

        try:
            return np.asarray(as_shown(given))
        except (OSError, ValueError) as error:
            raise UserError(f"the picture cannot be made RGB from {given.mode}: {error}") from error
    values = _eight_bits(_channels_last(_array(given, "picture")))
    count = values.shape[2]
    colors = values[..., : 3 if count > 2 else 1]
    if count in (2, 4):
        share = values[..., -1:] / 255
        colors = np.rint(share * colors + 255 * (1 - share)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colors, (*values.shape[:2], 3)))


def sound_of(given: Sound, sample_rate: float | None, rate: int) -> np.ndarray:
    """Return a sound as a model hears it, [T] float32 mono at `rate` Hz, from one at `sample_rate` Hz.

    A file says its own rate. Raises UserError, one sentence, for what is no sound, and for an array whose
    rate is not said.
    """
    if isinstance(given, str | os.PathLike):
        if sample_rate is not None:
            raise UserError(f"{given}: sample_rate: a file says its own; leave it out")
        from cacl.viewing.film import read_audio

        return read_audio(Path(given), rate)
    if sample_rate is None:
        raise UserError(
            f"sample_rate: an array does not say its own; give it, such as sample_rate={rate}, which the "
            "model hears"
        )
    if isinstance(sample_rate, bool) or not 1 <= sample_rate < 2**24 or sample_rate != int(sample_rate):
        raise UserError(f"sample_rate: {brief(sample_rate)} is not a whole number of Hz")
    channels = _as_floats(_array(given, "sound"))
    return _resample(within_one(one_channel(channels)), int(sample_rate), rate)


def _read(path: Path) -> np.ndarray:
    """Return the picture of a file, [H, W, 3] uint8. Raises UserError where it cannot be read."""
    from cacl.media.still import UnreadablePicture, as_shown, open_picture

    try:
        return np.asarray(as_shown(open_picture(path)))
    except (OSError, UnreadablePicture) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as a picture: {why}") from error


def _array(given: object, what: str) -> np.ndarray:
    """Return an array of numbers. Raises UserError for anything else, and for one that holds nothing."""
    values = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if values.dtype.kind not in "buif":
        raise UserError(
            f"a {what} is a file, an array of numbers or a tensor, not {brief(given)}"
            if values.dtype.kind == "O"
            else f"a {what} is an array of numbers, not of {values.dtype}"
        )
    if not values.size:
        raise UserError(f"the {what} is empty: its shape is {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UserError(f"the {what} holds NaN or infinity; mend it")
    return values


def _channels_last(values: np.ndarray) -> np.ndarray:
    """Return a picture's values as [H, W, C]."""
    if values.ndim == 2:
        return values[..., None]
    if values.ndim == 3 and values.shape[2] in _CHANNELS:
        return values
    if values.ndim == 3 and values.shape[0] in _CHANNELS:
        return np.moveaxis(values, 0, 2)
    raise UserError(f"a picture is [H, W], [H, W, 3] or [3, H, W], not {list(values.shape)}")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Return a picture's values as uint8, whatever they are."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return np.where(values, np.uint8(255), np.uint8(0))
    low, high = values.min().item(), values.max().item()
    if values.dtype.kind == "f":
        if low < -_SLACK or high > 1 + _SLACK:
            raise UserError(
                f"floats of a picture are 0..1, these go from {low:g} to {high:g}; scale them, or give uint8"
            )
        return np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    if values.dtype == np.uint16:
        return np.rint(values / 257).astype(np.uint8)
    if low < 0 or high > 255:
        raise UserError(
            f"whole numbers of a picture are 0..255 (of uint16 0..65535), these go from {low} to {high}"
        )
    return values.astype(np.uint8)


def _as_floats(values: np.ndarray) -> np.ndarray:
    """Return a sound's values as [T, C] float64, integers over their whole range as -1..1."""
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or min(values.shape) > _MOST_CHANNELS or values.dtype == bool:
        raise UserError(
            f"a sound is [T], [T, channels] or [channels, T] of floats or integers, not "
            f"{list(values.shape)} of {values.dtype}"
        )
    if values.shape[0] < values.shape[1]:
        values = values.T
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    limits = np.iinfo(values.dtype)
    middle = (limits.min + limits.max + 1) // 2
    return (values.astype(np.float64) - middle) / (limits.max + 1 - middle)


def _resample(audio: np.ndarray, given: int, wanted: int) -> np.ndarray:
    """Return a sound [T] at another rate, [T'] float32, as one that is read from a file."""
    if given == wanted:
        return audio.astype(np.float32)
    import av
    from av.audio.resampler import AudioResampler

    frame = av.AudioFrame.from_ndarray(audio.astype(np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = given
    resampler = AudioResampler(format="fltp", layout="mono", rate=wanted)
    pieces = [piece.to_ndarray()[0] for part in (frame, None) for piece in resampler.resample(part)]
    return np.concatenate(pieces) if pieces else np.zeros(math.ceil(len(audio) * wanted / given), np.float32)
