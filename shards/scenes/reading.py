"""Pictures, photographs and recordings out of files, as scenes use them.

Raises BrokenMedia, as `shards.sources.media` does, for a file's fault, which costs the clip that wants it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from cacl.media.still import UnreadablePicture, open_head, open_picture
from shards.clip import Array, Storage
from shards.sources import media
from shards.sources.recordings import decode_audio

PICTURES = (".png", ".webp", ".gif", ".tif", ".tiff", ".avif")
"""Endings of pictures that may have an alpha channel."""
PHOTOGRAPHS = (".jpg", ".jpeg", *PICTURES)
RECORDINGS = (".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".aif", ".aiff", ".au")
"""Endings of sounds that libsndfile reads."""
PICTURE_SIDE = 512
"""Longest side of a picture, pixels; a larger one is reduced."""
BACKGROUND_SIDE = 448
"""Shortest side of a photograph, pixels; a larger one is reduced."""
_LONGEST = 30.0
"""Seconds of a recording; what follows is not used."""
_SHORTEST = 0.05
"""Seconds that a recording must have."""
_SHORTEST_EDGE = 8
"""Pixels of a picture."""
_QUIET = 10 ** (-50 / 20)
"""Of the loudest sample: what is below at a recording's ends is silence."""


def has_alpha(path: Path) -> bool | None:
    """Say whether a picture's head names an alpha channel; None where it has no readable head."""
    try:
        with open_head(path) as image:
            return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    except Exception:  # Pillow raises whatever it meets in a broken file; reading it will say what it is
        return None


def read_picture(path: Path) -> Array:
    """Return a picture, [h, w, 4] uint8, RGB and alpha, cut to what is not transparent."""
    with open_image(path) as image:
        return cut_picture(image.convert("RGBA"))


def cut_picture(image: Image.Image) -> Array:
    """Return an RGBA image cut to what is not transparent and reduced to PICTURE_SIDE, [h, w, 4] uint8."""
    box = image.getchannel("A").getbbox()
    if box is None:
        raise media.BrokenMedia("transparent: no pixel of the picture can be seen")
    picture = image.crop(box)
    if min(picture.size) < _SHORTEST_EDGE:
        raise media.BrokenMedia(f"too small: {picture.width}×{picture.height} pixels")
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return np.array(picture)


def read_photograph(path: Path) -> Array:
    """Return a photograph, [h, w, 3] uint8, its short side reduced to BACKGROUND_SIDE."""
    with open_image(path) as image:
        return reduce_photograph(image)


def reduce_photograph(image: Image.Image) -> Array:
    """Return a photograph or a part of one, [h, w, 3] uint8, its short side reduced to BACKGROUND_SIDE."""
    return media.fit_frame(np.array(image.convert("RGB")), Storage(frame_side=BACKGROUND_SIDE))


def open_image(path: Path) -> Image.Image:
    """Return the decoded image of a file. Raises BrokenMedia for what does not decode to its last row."""
    data = media.read_bytes(path)
    try:
        return open_picture(data)
    except UnreadablePicture as error:
        raise media.BrokenMedia(str(error)) from None


def read_recording(data: bytes, sample_rate: int) -> Array:
    """Return the recording in a file's bytes, [t] float32 in -1..1, mono, without silence at its ends."""
    storage = Storage(sample_rate=sample_rate, seconds=_LONGEST)
    recording = decode_audio(data, storage, media.Needs(_SHORTEST))
    return trim(recording.samples[: round(recording.seconds * sample_rate)])


def trim(samples: Array) -> Array:
    """Return a sound [t] float32 without what lies 50 dB below its loudest sample at its ends, in -1..1."""
    loud = np.abs(samples)
    kept = np.flatnonzero(loud > _QUIET * loud.max())
    return np.clip(samples[kept[0] : kept[-1] + 1], -1, 1).astype(np.float32)
