"""Frames and sounds out of files that may be broken: decoded whole, or a reason why not.

A file's fault raises BrokenMedia; a fault of the storage beneath it raises OSError and is nobody's clip.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from cacl.media.sound import one_channel, within_one
from cacl.media.still import UnreadablePicture, as_shown, open_picture
from shards.clip import Array, Storage
from shards.sources.lists import forms

FILE_LIMIT = 2**30
"""Bytes of a frame or recording that is read whole."""
DECODING = 2
"""Version of the rules by which a file becomes a frame and a sound; part of a data set's fingerprint."""
SILENCE = 1e-4
"""A sound whose every sample lies below is silent, -80 dB."""
ALONE = {"protocol_whitelist": "none"}
"""Options with which FFmpeg opens nothing that a file names beside itself, as lists of films do."""
_SHORTEST_EDGE = 16
"""Pixels."""
_JPEG_NOISE = 8
"""Levels of 255 that black may have in a JPEG."""


class BrokenMedia(Exception):
    """A file cannot be used. Its message is `class of fault: particulars`."""

    file = ""
    """Which file, relative to the source's root."""


@contextmanager
def blame(file: str) -> Iterator[None]:
    """Let what is BrokenMedia within name `file`."""
    try:
        yield
    except BrokenMedia as error:
        error.file = file
        raise


def explain(error: Exception) -> str:
    """Return an error's message without the addresses of objects, which differ from run to run."""
    text = getattr(error, "strerror", None) or str(error)
    return re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "the file", text) or type(error).__name__


def is_missing(error: OSError) -> bool:
    """Say whether an error means that there is no file of this name, and not that the storage failed."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


def in_any_form(root: Path, name: str) -> Path:
    """Return the path of a file below `root`, in the normal form of its name that is there."""
    return next((root / form for form in forms(name) if os.path.exists(root / form)), root / name)


class Needs(NamedTuple):
    """What a clip must have besides a frame and a sound that can be decoded."""

    shortest: float = 1.0
    """Seconds of sound."""
    heard: bool = True
    """Whether a silent sound is refused."""
    moving: bool = False
    """Whether a film in which nothing moves is refused."""


NOTHING = Needs(shortest=0.0, heard=False)
"""Of clips on which models are measured: whoever leaves some of them out measures something else."""


class Recording(NamedTuple):
    """A sound as it is stored."""

    samples: Array
    """[T] float32, exactly the storage's length: a shorter sound is repeated, as the field does."""
    seconds: float
    """Length of the sound before it was cut or repeated."""


def read_bytes(path: Path) -> bytes:
    """Return a file's content. Raises BrokenMedia when it is missing, empty or absurdly large."""
    try:
        size = path.stat().st_size
        if size > FILE_LIMIT:
            raise BrokenMedia(f"too large: {size} bytes")
        data = path.read_bytes()
    except OSError as error:
        if not is_missing(error):
            raise
        raise BrokenMedia("missing: there is no such file") from None
    if not data:
        raise BrokenMedia("empty: zero bytes")
    return data


def read_frame(path: Path, storage: Storage) -> Array:
    """Return the picture in a file, [S, S', 3] uint8, its short side that of the storage at most.

    Raises BrokenMedia for anything that does not decode to its last row.
    """
    return decode_frame(read_bytes(path), storage)


def decode_frame(data: bytes, storage: Storage) -> Array:
    """Return the picture in a file's bytes, as `read_frame` does."""
    return fit_frame(np.array(as_shown(_decode_picture(data))), storage)


def _decode_picture(data: bytes) -> Image.Image:
    if not data:
        raise BrokenMedia("empty: zero bytes")
    try:
        return open_picture(data, what="frame")
    except UnreadablePicture as error:
        raise BrokenMedia(str(error)) from None


def read_mask(path: Path) -> Array:
    """Return a picture's mask, [h, w] bool: what is not black, of a JPEG what is brighter than half its peak.

    Raises BrokenMedia as `read_frame` does.
    """
    picture = _decode_picture(read_bytes(path))
    gray = np.array(ImageOps.exif_transpose(picture).convert("L"))
    # A JPEG rounds black to almost black.
    return gray > (max(int(gray.max()) // 2, _JPEG_NOISE) if picture.format == "JPEG" else 0)


def fit_mask(mask: Array, frame: Array) -> Array:
    """Bring `mask` [h, w] bool to the pixels of `frame` [S, S', 3], whole or reduced, on which it was drawn.

    Raises BrokenMedia when it is of another form.
    """
    height, width = frame.shape[:2]
    (rows, columns), scale = mask.shape, min(height, width) / min(mask.shape)
    if max(abs(rows * scale - height), abs(columns * scale - width)) > 1:
        raise BrokenMedia(f"mask of another form: {columns}×{rows} pixels on a frame of {width}×{height}")
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def fit_frame(frame: Array, storage: Storage) -> Array:
    """Reduce `frame` [h, w, 3] uint8 to the storage's short side; smaller ones stay as they are."""
    height, width = frame.shape[:2]
    if min(height, width) < _SHORTEST_EDGE:
        raise BrokenMedia(f"too small: {width}×{height} pixels")
    scale = storage.frame_side / min(height, width)
    if scale >= 1:
        return frame
    size = (round(width * scale), round(height * scale))
    return np.array(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))


def fit_audio(audio: Array, rate: int, storage: Storage, needs: Needs) -> Recording:
    """Bring `audio` [t, channels] float to mono, the storage's rate and its exact length, from its start on.

    Raises BrokenMedia when it is not finite or has not what it `needs`.
    """
    from scipy.signal import resample_poly

    if not 1000 <= rate <= 768_000:
        raise BrokenMedia(f"wrong rate: {rate} Hz")
    seconds = len(audio) / rate
    if seconds < needs.shortest or not len(audio):
        raise BrokenMedia(f"too short: {seconds:.3f} s of sound")
    if not np.isfinite(audio).all():
        raise BrokenMedia("not finite: the sound has NaN or infinite samples")
    mono = within_one(one_channel(audio))
    if needs.heard and np.abs(mono).max() < SILENCE:
        raise BrokenMedia("silent: no sample is over -80 dB")
    ratio = Fraction(storage.sample_rate, rate)
    if ratio != 1:
        mono = resample_poly(mono, ratio.numerator, ratio.denominator)
    fitted = np.resize(mono[: storage.samples], storage.samples)
    return Recording(fitted.astype(np.float32), seconds)
