"""Where the sound is in a picture or film of one's own.

Axes: `H`, `W` pixels of a picture, `h`, `w` cells of a map, `F` frames, `T` samples of sound.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cacl.errors import UserError
from cacl.viewing.film import FilmWriter, SlidingAudio, film_writer, frames, read_audio
from cacl.viewing.finder import SoundFinder
from cacl.viewing.pictures import outline, overlay

_BATCH = 8
"""Frames through the model at once."""
_SETTLING = 0.1
"""Share by which a film's color scale moves towards each frame's own, so that it does not flicker."""


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
    """Return the picture with its heat map, and the raw map [h, w].

    Where the finder has a θ, heat and an outline lie on what is above it alone.
    """
    raw = finder.map(picture, audio)
    return draw_heat(finder, picture, torch.from_numpy(raw), None), raw


def localize_film(
    finder: SoundFinder,
    film: str | Path,
    out: str | Path,
    maps_file: str | Path | None = None,
    each: Callable[[Tensor], Any] = lambda raw: None,
) -> int:
    """Write the film with a heat map over every frame and its own sound; return the number of frames.

    Memory does not grow with the film's length. `maps_file` (.npz) receives `time` [F] in seconds and `maps`
    [F, h, w], `each` every raw map [h, w] in its turn. Heat is drawn as by `localize_picture`. Raises
    UserError for a file that is not a film with picture and sound.
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
                writer.add(time, np.asarray(draw_heat(finder, picture, raw, scale)))
                each(raw)
                raw_maps.add(time, raw.numpy())
                count += 1
        if not count:
            raise UserError(f"{film}: holds no frame that can be read")
        if maps_file:
            raw_maps.save(Path(maps_file))
    return count


def draw_heat(finder: SoundFinder, picture: np.ndarray, raw: Tensor, scale: ColorScale | None) -> Image.Image:
    """Return a picture [H, W, 3] uint8 with the heat of a raw map [h, w] over it, above θ if there is one."""
    scores, theta = finder.pixels(raw), finder.theta
    low, high = (scale or ColorScale()).follow(scores)
    frame = torch.tensor(picture).permute(2, 0, 1)
    if theta is None:
        return overlay(frame, scores, low=low, high=high)
    above = scores > theta
    high = max(high, float(scores.max())) if above.any() else theta
    return outline(overlay(frame, scores, low=theta, high=high), above)


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
