"""A clip as a source gives it, and as the members of a shard that it becomes.

Axes: `S` pixels of a frame's side (height first), `T` samples of sound.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from cacl.annotation import Annotation, Array, SoundSource
from cacl.errors import UserError
from shards.annotation import mask_name, write_annotation


@dataclass(frozen=True)
class Storage:
    """What is stored of a clip; recorded in the manifest."""

    frame_side: int = field(default=256, metadata={"help": "pixels of the stored frame's short side"})
    frame_quality: int = field(default=90, metadata={"help": "JPEG quality, 1..95"})
    sample_rate: int = field(default=16000, metadata={"help": "samples a second of the stored sound, Hz"})
    seconds: float = field(default=10.0, metadata={"help": "length of the stored sound, seconds"})

    def __post_init__(self) -> None:
        """Raises UserError for what no clip can be stored as."""
        for name, low, high in (
            ("frame_side", 16, 65_500),
            ("frame_quality", 1, 95),
            ("sample_rate", 1000, 192_000),
            ("seconds", 0.01, 3600),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                option = "--" + name.replace("_", "-")
                raise UserError(f"{option}: {value:g} is not in {low:g} to {high:g}")

    @property
    def samples(self) -> int:
        """Exact number of stored samples, `T`."""
        return round(self.seconds * self.sample_rate)


STORAGE = Storage()
SCENE = Storage(frame_side=224, seconds=3.0)
"""Of clips that are made, of just the length that a model hears."""


@dataclass(frozen=True)
class Clip:
    """One frame and the sound around it, decoded."""

    id: str
    frame: Array
    """[S, S', 3] uint8, RGB."""
    audio: Array
    """[T] float32 in -1..1, mono, at the storage's rate."""
    sources: tuple[SoundSource, ...] | None = None
    """What is heard or seen, masks [S, S']; None where nothing is known of it, () where nothing sounds."""
    sounds: Mapping[str, Array] = field(default_factory=dict)
    """Further sounds, [T] float32 each, by the member that `SoundSource.audio` names, such as `other.wav`."""
    image: str | None = None
    """Shared by clips that have the same frame."""
    film: str | None = None
    """Shared by clips of one film."""
    time: float | None = None
    """Of the frame, seconds into the file that was read."""
    seconds: float | None = None
    """Length of the sound before it was repeated or cut."""
    tags: tuple[str, ...] = ()
    """What else is said of the clip, a word each."""

    @property
    def annotation(self) -> Annotation:
        """What is known of the clip, without its index."""
        return Annotation(
            self.id, -1, self.sources, self.image, self.film, self.time, self.seconds, self.tags
        )


@dataclass(frozen=True)
class Rejection:
    """A clip that cannot be used, and why. It keeps its index, which stays empty."""

    id: str
    reason: str
    """A class of faults and, after a colon, the particulars."""
    file: str = ""
    """The file at fault, relative to the source's root."""


def members(clip: Clip, index: int, storage: Storage) -> dict[str, bytes]:
    """Encode a clip as the members of its sample, `json` last, by extension."""
    found = {
        "jpg": encode_jpeg(clip.frame, storage.frame_quality),
        "wav": encode_wav(clip.audio, storage.sample_rate),
    }
    for name, audio in clip.sounds.items():
        found[name] = encode_wav(audio, storage.sample_rate)
    for number, source in enumerate(clip.sources or ()):
        if source.mask is not None:
            found[mask_name(number)] = encode_mask(source.mask)
    found["json"] = write_annotation(replace(clip.annotation, index=index))
    return found


def encode_jpeg(frame: Array, quality: int) -> bytes:
    """Return `frame` [S, S', 3] uint8 as a JPEG."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=quality)
    return file.getvalue()


def encode_mask(mask: Array) -> bytes:
    """Return `mask` [S, S'], not 0 on visible pixels, as a PNG of 0 and 255."""
    file = io.BytesIO()
    Image.fromarray((mask != 0).astype(np.uint8) * 255).save(file, "PNG")
    return file.getvalue()


def encode_wav(audio: Array, sample_rate: int) -> bytes:
    """Return `audio` [T] float in -1..1 as a 16-bit mono WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(sample_rate)
        writer.writeframes(to_int16(audio).tobytes())
    return file.getvalue()


def to_int16(audio: Array) -> Array:
    """Return `audio` [T] float in -1..1 as little-endian 16-bit integers."""
    return np.rint(np.clip(audio, -1, 1) * 32767).astype("<i2")
