"""Where the sound is in a picture or film of one's own.

Axes: `H`, `W` pixels of a picture, `h`, `w` cells of a map, `F` frames, `T` samples of sound.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize_image

from cacl.errors import UserError
from cacl.evaluation.systems import maps_of
from cacl.evaluation.upsampling import upsample
from cacl.model.localizer import Localizer
from cacl.viewing.film import FilmWriter, SlidingAudio, film_writer, frames, read_audio
from cacl.viewing.pictures import overlay

_BATCH = 8
"""Frames through the model at once."""
_SETTLING = 0.1
"""Share by which a film's color scale moves towards each frame's own, so that it does not flicker."""


@dataclass(frozen=True)
class SoundFinder:
    """A trained model, ready for pictures and sounds of any size and length. See `cacl.load`."""

    model: Localizer
    image_size: int = 224
    sample_rate: int = 16000
    duration: float = 3.0
    """Seconds of sound that the model hears at once."""

    @property
    def samples(self) -> int:
        """Samples of a window of sound, T."""
        return round(self.duration * self.sample_rate)

    def maps(self, pictures: list[np.ndarray], windows: list[np.ndarray]) -> Tensor:
        """Return cosines [n, h, w] in -1..1 for frames [H, W, 3] uint8 and windows [T] float32 in -1..1."""
        device = next(self.model.parameters()).device
        resized = [self._resized(picture) for picture in pictures]
        waveforms = torch.from_numpy(np.stack(windows)).float()
        return maps_of(self.model)(torch.stack(resized).to(device), waveforms.to(device)).cpu()

    def map(self, picture: np.ndarray, audio: np.ndarray) -> np.ndarray:
        """Return the map [h, w] of one picture [H, W, 3] uint8 and its sound [T'] float32 of any length.

        Of a longer sound the middle is heard; a shorter one is repeated.
        """
        return self.maps([picture], [middle(audio, self.samples)])[0].numpy()

    def _resized(self, picture: np.ndarray) -> Tensor:
        image = torch.tensor(picture).permute(2, 0, 1)
        size = [self.image_size, self.image_size]
        return resize_image(image, size, interpolation=InterpolationMode.BICUBIC, antialias=True)


class ColorScale:
    """The scores that are drawn transparent and opaque; follows a film slowly."""

    def __init__(self) -> None:
        self._range: tuple[float, float] | None = None

    def follow(self, scores: Tensor) -> tuple[float, float]:
        """Move towards the range of `scores` and return the scale."""
        new = float(scores.min()), float(scores.max())
        old = self._range or new
        low, high = (before + _SETTLING * (now - before) for before, now in zip(old, new, strict=True))
        self._range = low, high
        return low, high


def localize_picture(
    finder: SoundFinder, picture: np.ndarray, audio: np.ndarray
) -> tuple[Image.Image, np.ndarray]:
    """Return the picture with its heat map, and the raw map [h, w]."""
    raw = finder.map(picture, audio)
    return drawn(picture, torch.from_numpy(raw), None), raw


def localize_film(
    finder: SoundFinder, film: str | Path, out: str | Path, maps_file: str | Path | None = None
) -> int:
    """Write the film with a heat map over every frame and its own sound; return the number of frames.

    Memory does not grow with the film's length. `maps_file` (.npz) receives `time` [F] in seconds and `maps`
    [F, h, w]. Raises UserError for a file that is not a film with picture and sound.
    """
    scale, count = ColorScale(), 0
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        raw_maps = opened.enter_context(MapFile(Path(folder)))
        writer: FilmWriter | None = None
        for times, pictures, maps in _mapped(finder, film):
            if writer is None:
                height, width = pictures[0].shape[:2]
                writer = opened.enter_context(film_writer(out, film, width, height))
            for time, picture, raw in zip(times, pictures, maps, strict=True):
                writer.add(time, np.asarray(drawn(picture, raw, scale)))
                raw_maps.add(time, raw.numpy())
                count += 1
        if not count:
            raise UserError(f"{film}: holds no frame that can be read")
        if maps_file:
            raw_maps.save(Path(maps_file))
    return count


def drawn(picture: np.ndarray, raw: Tensor, scale: ColorScale | None) -> Image.Image:
    """Return a picture [H, W, 3] uint8 with the heat of a raw map [h, w] over it."""
    scores = upsample(raw[None], 224, "bicubic")[0]
    low, high = scale.follow(scores) if scale else (None, None)
    return overlay(torch.tensor(picture).permute(2, 0, 1), scores, low=low, high=high)


def middle(audio: np.ndarray, samples: int) -> np.ndarray:
    """Return the middle [T] of a sound, repeated where it is shorter."""
    if len(audio) < samples:
        return np.resize(audio, samples)
    start = (len(audio) - samples) // 2
    return audio[start : start + samples]


def read_recording(finder: SoundFinder, path: str | Path) -> np.ndarray:
    """Return a recording as the model hears it: mono at its rate, [T'] float32."""
    return read_audio(path, finder.sample_rate)


def _mapped(finder: SoundFinder, film: str | Path) -> Iterator[tuple[list[float], list[np.ndarray], Tensor]]:
    audio = SlidingAudio(film, finder.sample_rate, finder.samples)
    times: list[float] = []
    pictures: list[np.ndarray] = []
    windows: list[np.ndarray] = []
    for time, picture in frames(film):
        times.append(time)
        pictures.append(picture)
        windows.append(audio.around(time))
        if len(times) == _BATCH:
            yield times, pictures, finder.maps(pictures, windows)
            times, pictures, windows = [], [], []
    if times:
        yield times, pictures, finder.maps(pictures, windows)


class MapFile:
    """Collects maps on the disk, for a film of any length, and saves them as .npz."""

    def __init__(self, folder: Path) -> None:
        self._times, self._maps = (folder / "times").open("w+b"), (folder / "maps").open("w+b")
        self._shape: tuple[int, ...] = (0, 0)
        self._count = 0

    def add(self, time: float, raw: np.ndarray) -> None:
        """Append the map [h, w] of the frame at `time` (seconds)."""
        self._shape = raw.shape
        self._count += 1
        self._times.write(np.float64(time).tobytes())
        self._maps.write(np.ascontiguousarray(raw, dtype=np.float32).tobytes())

    def save(self, path: Path) -> None:
        """Write `time` [F] float64 and `maps` [F, h, w] float32."""
        arrays: list[tuple[str, Any, str, tuple[int, ...]]] = [
            ("time", self._times, "<f8", (self._count,)),
            ("maps", self._maps, "<f4", (self._count, *self._shape)),
        ]
        with zipfile.ZipFile(path, "w") as archive:
            for name, source, kind, shape in arrays:
                source.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    header = {"descr": kind, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(entry, header)
                    shutil.copyfileobj(source, entry)

    def __enter__(self) -> MapFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._times.close()
        self._maps.close()
