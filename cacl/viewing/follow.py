"""A model's maps along a film: some of its frames go through the model, the others lie between their maps.

Axes: `H`, `W` pixels of a frame, `h`, `w` cells of a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cacl.viewing.film import Part, SlidingAudio, begin_of_sound, facts
from cacl.viewing.film_writer import Sound
from cacl.viewing.finder import SoundFinder
from cacl.viewing.heat import Array

EVERY = 0.2
"""Seconds between two maps. A window of sound is seconds long, and hardly another one so soon after."""
_BATCH = 4
"""Frames through the model at once."""
_EARLY = 1e-3
"""Seconds by which a frame may come before its map is due: clocks are rounded."""
_CUT = 40.0
"""Mean difference of two frames, of 255, from which on they are of two scenes."""
_COARSE = 24
"""Pixels of a side by which two frames are compared."""


class Shown(NamedTuple):
    """A frame of a film, and the map that belongs to it."""

    time: float
    """Seconds on the film's own clock."""
    picture: Array
    """[H, W, 3] uint8."""
    raw: Array
    """[h, w] float32, cosines."""
    measured: bool
    """Whether it is the model's own map; else it lies between two of them."""


@dataclass
class _Group:
    """Frames from one that the model sees to before the next."""

    cut: bool
    """Whether a new scene begins with it."""
    times: list[float] = field(default_factory=list)
    pictures: list[Array] = field(default_factory=list)


def soundtrack(film: str | Path, part: Part, dubbed: str | Path | None = None) -> Sound:
    """Return the sound of a part of a film: its own, or that of another file from its beginning on."""
    start = facts(film).begin + part.start
    end = None if part.seconds is None else start + part.seconds
    if dubbed is None:
        return Sound(film, start, end)
    start = begin_of_sound(dubbed)
    # Infinity: the film ends where its picture ends, however long the other sound is.
    return Sound(dubbed, start, float("inf") if part.seconds is None else start + part.seconds)


def follow(
    finder: SoundFinder,
    frames: Iterable[tuple[float, Array]],
    begin: float,
    sound: Sound,
    dubbed: bool,
    every: float = EVERY,
) -> Iterator[Shown]:
    """Yield each frame of a film with its map; the model makes one every `every` seconds and at each cut.

    Between two maps of one scene the others are interpolated. `begin` is the film's first moment on its
    clock, at which `sound` starts; a `dubbed` one is followed by silence. Holds a batch of maps' frames.
    """
    audio = SlidingAudio(sound.path, finder.sample_rate, finder.samples, start=sound.start, endless=dubbed)
    waiting: tuple[_Group, Array] | None = None
    for group, raw in _mapped(finder, _groups(frames, every), audio, sound.start - begin):
        if waiting is not None:
            yield from _between(*waiting, group, raw)
        waiting = group, raw
    if waiting is not None:
        yield from _between(*waiting, None, waiting[1])


def _groups(frames: Iterable[tuple[float, Array]], every: float) -> Iterator[_Group]:
    group: _Group | None = None
    for time, picture in frames:
        cut = group is not None and _is_cut(group.pictures[-1], picture)
        if group is None or cut or time >= group.times[0] + every - _EARLY:
            if group is not None:
                yield group
            group = _Group(cut)
        group.times.append(time)
        group.pictures.append(picture)
    if group is not None:
        yield group


def _mapped(
    finder: SoundFinder, groups: Iterable[_Group], audio: SlidingAudio, later: float
) -> Iterator[tuple[_Group, Array]]:
    """Yield groups with the maps of their first frames; the sound's clock is `later` than the film's."""
    batch: list[_Group] = []
    windows: list[Array] = []

    def maps() -> Iterator[tuple[_Group, Array]]:
        found = finder.maps([one.pictures[0] for one in batch], windows)
        yield from zip(batch, found.float().numpy(), strict=True)

    for group in groups:
        batch.append(group)
        windows.append(audio.around(group.times[0] + later))
        if len(batch) == _BATCH:
            yield from maps()
            batch, windows = [], []
    if batch:
        yield from maps()


def _between(group: _Group, raw: Array, following: _Group | None, after: Array) -> Iterator[Shown]:
    """Yield a group's frames with maps on the way to the next one's, or with its own before a cut."""
    first = group.times[0]
    gap = following.times[0] - first if following is not None and not following.cut else float("inf")
    for number, (time, picture) in enumerate(zip(group.times, group.pictures, strict=True)):
        weight = np.float32((time - first) / gap) if gap > 0 else np.float32(0)
        yield Shown(time, picture, raw + weight * (after - raw), number == 0)


def _is_cut(before: Array, after: Array) -> bool:
    if before.shape != after.shape:
        return True
    step = [max(1, side // _COARSE) for side in before.shape[:2]]
    one, other = (picture[:: step[0], :: step[1]].astype(np.int16) for picture in (before, after))
    return bool(np.abs(one - other).mean() > _CUT)
