"""Where the sound is in a picture or film of one's own.

Axes: `H`, `W` pixels of a picture, `h`, `w` cells of a map, `F` maps, `T` samples of sound.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from cacl.errors import UserError
from cacl.files import written
from cacl.threads import ahead
from cacl.viewing.film import Facts, Part, facts, frames, read_audio
from cacl.viewing.film_writer import Sound, film_writer
from cacl.viewing.finder import SoundFinder
from cacl.viewing.follow import EVERY, Shown, follow, soundtrack
from cacl.viewing.heat import Array, HeatPainter, Scale
from cacl.viewing.strip import Strip

Item = TypeVar("Item")
_IN_FLIGHT = 48 * 2**20
"""Bytes of frames that wait between two threads."""


@dataclass(frozen=True)
class Look:
    """Which part of a film is written, and how it looks."""

    part: Part = field(default_factory=Part)
    every: float = EVERY
    """Seconds between two maps of the model."""
    side_by_side: bool = False
    """Whether the film as it was stands to the left of the one with heat."""
    strip: bool = True
    """Whether the sound and the color bar stand below."""


def localize_picture(
    finder: SoundFinder, picture: np.ndarray, audio: np.ndarray
) -> tuple[Image.Image, np.ndarray]:
    """Return a picture [H, W, 3] uint8 with its heat, and the raw map [h, w] under a sound [T'] float32.

    Colors are on the finder's fixed scale. Where it has a θ, heat and an outline lie on what is above it
    alone, and where nothing is the picture says so.
    """
    raw = finder.map(picture, audio, finder.sample_rate)
    painter = HeatPainter(Scale(*finder.scale), (picture.shape[0], picture.shape[1]))
    return Image.fromarray(painter.paint(picture, raw)[0]), raw


def localize_film(
    finder: SoundFinder,
    film: str | Path,
    out: str | Path,
    maps_file: str | Path | None = None,
    each: Callable[[Shown], Any] = lambda shown: None,
    *,
    dub: str | Path | None = None,
    look: Look = Look(),
    drawn: Callable[[], Any] = lambda: None,
) -> int:
    """Write a film with a heat map over every frame and its sound; return the number of frames.

    Memory does not grow with the film's length. `dub` is a recording that takes the place of the film's own
    sound, and is followed by silence. `maps_file` (.npz) receives the model's maps, `time` [F] in seconds and
    `maps` [F, h, w]; `each` takes the frames that have one, and `drawn` is called after every frame that is
    written. Heat is drawn as by `localize_picture`. The ending of `out` says which kind of film: .mp4, .webm,
    .mkv, .mov or .gif, which has no sound. Raises UserError for a file that is not a film with picture and
    sound.
    """
    told = facts(film)
    sound, begin = soundtrack(film, look.part, dub), told.begin + look.part.start
    source = _Source(film, sound, dub is not None, told, begin)
    count = 0
    with contextlib.ExitStack() as opened:
        raw_maps = opened.enter_context(MapFile())

        def note(shown: Shown) -> None:
            raw_maps.add(shown.time, shown.raw)
            each(shown)

        writer = None
        for time, picture in opened.enter_context(contextlib.closing(_drawn(finder, source, look, note))):
            if writer is None:
                height, width = picture.shape[:2]
                writer = opened.enter_context(film_writer(out, source.sound, width, height))
            writer.add(time, picture)
            count += 1
            drawn()
        if not count:
            raise UserError(f"{film}: holds no frame that can be read in the part that is asked for")
        if maps_file:
            raw_maps.save(Path(maps_file))
    return count


def read_recording(finder: SoundFinder, path: str | Path) -> np.ndarray:
    """Return a recording as the model hears it: mono at its rate, [T'] float32."""
    return read_audio(path, finder.sample_rate)


@dataclass(frozen=True)
class _Source:
    """A film and its sound, as they are read."""

    film: str | Path
    sound: Sound
    dubbed: bool
    facts: Facts
    begin: float
    """Of the part, seconds on the film's clock."""


def _drawn(
    finder: SoundFinder, source: _Source, look: Look, note: Callable[[Shown], None]
) -> Generator[tuple[float, Array], None, None]:
    """Yield the pages of the written film; frames are read, mapped and drawn by a thread each.

    `note` takes every frame that the model saw, in one of these threads.
    """
    most = source.facts.frames_in(_IN_FLIGHT)
    with contextlib.ExitStack() as opened:

        def beside(items: Iterable[Item]) -> Iterator[Item]:
            return opened.enter_context(contextlib.closing(ahead(items, most)))

        pictures = beside(frames(source.film, look.part))
        mapped = beside(follow(finder, pictures, source.begin, source.sound, source.dubbed, look.every))
        yield from beside(_pages(finder, source, look, mapped, note))


def _pages(
    finder: SoundFinder,
    source: _Source,
    look: Look,
    mapped: Iterable[Shown],
    note: Callable[[Shown], None],
) -> Iterator[tuple[float, Array]]:
    """Yield (seconds, page [H', W', 3] uint8) for every frame."""
    scale, painter, strip = Scale(*finder.scale), None, None
    for shown in mapped:
        height, width = shown.picture.shape[:2]
        if painter is None:
            painter = HeatPainter(scale, (height, width))
            if look.strip:
                seconds = source.facts.seconds_of(look.part)
                across = 2 * width if look.side_by_side else width
                strip = Strip(scale, (height, across), source.sound, finder.duration, seconds)
        if painter.size != (height, width):
            raise UserError(
                f"{source.film}: the picture's size changes after {shown.time:.2f} s; cut the film there"
            )
        if shown.measured:
            note(shown)
        page, seen = painter.paint(shown.picture, shown.raw)
        if look.side_by_side:
            page = np.concatenate([shown.picture, page], axis=1)
        if strip:
            page = np.concatenate([page, strip.draw(shown.time - source.begin, seen.value)])
        yield shown.time, page


class MapFile:
    """Collects maps on the disk, for a film of any length, and saves them as .npz."""

    def __init__(self) -> None:
        self._times, self._maps = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._shape: tuple[int, ...] = (0, 0)
        self._count = 0

    def add(self, time: float, raw: np.ndarray) -> None:
        """Append the map [h, w] of the frame at `time` (seconds)."""
        self._shape = raw.shape
        self._count += 1
        self._times.write(np.float64(time).tobytes())
        self._maps.write(np.ascontiguousarray(raw, dtype=np.float32).tobytes())

    def save(self, path: Path) -> None:
        """Write `time` [F] float64 and `maps` [F, h, w] float32, whole or not at all."""
        arrays: list[tuple[str, Any, str, tuple[int, ...]]] = [
            ("time", self._times, "<f8", (self._count,)),
            ("maps", self._maps, "<f4", (self._count, *self._shape)),
        ]
        with written(path) as partial, zipfile.ZipFile(partial, "w") as archive:
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
