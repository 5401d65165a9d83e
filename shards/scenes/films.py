"""Films in which objects move over a photograph, and the one that is heard changes.

Axes: `F` frames, `H`, `W` pixels of a frame, `T` samples of sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.ndimage import shift

from cacl.annotation import Box
from shards.clip import Array
from shards.scenes.cast import draw_one
from shards.scenes.paint import SIZES, resize, tight_box
from shards.scenes.paste import NATURAL, blend, fit
from shards.scenes.place import scale
from shards.scenes.sound import mix, voice

Random = np.random.Generator
HEIGHT, WIDTH = 270, 480
FRAME_RATE, SAMPLE_RATE = 24, 32000
"""Frames and samples a second. Half a clip's window is a whole number of frames, so its middle is one."""
_TURN = (1.5, 4.0)
"""Seconds for which one object is heard, least and most."""
_FADE = 0.03
"""Seconds in which a voice comes and goes."""


class Moving(NamedTuple):
    """An object that wanders about its own middle."""

    fitted: Array
    """[h, w, 4] float32."""
    path: Array
    """[F, 2] float64, x and y of its upper left pixel."""


class Turn(NamedTuple):
    """A time in which one object is heard, or none."""

    start: float
    """Seconds."""
    end: float
    who: int | None


def draw_turns(random: Random, objects: int, seconds: float, silence: float) -> list[Turn]:
    """Let objects be heard by turns, never one twice in a row, with silence in about that share of turns."""
    turns, start, last = [], 0.0, None
    while start < seconds:
        end = min(seconds, start + random.uniform(*_TURN))
        others = [k for k in range(objects) if k != last]
        who = None if not others or random.random() < silence else draw_one(random, others)
        turns.append(Turn(start, end, who))
        start, last = end, who
    return turns


def mix_turns(random: Random, turns: list[Turn], recordings: list[Array], seconds: float) -> Array:
    """Return the sound of a film, [T] float32: each voice in its turns, softly faded."""
    samples = round(seconds * SAMPLE_RATE)
    voices = [voice(random, recording, samples) for recording in recordings]
    time = np.arange(samples) / SAMPLE_RATE
    for who, one in enumerate(voices):
        heard = np.zeros(samples)
        for turn in turns:
            if turn.who == who:
                heard += np.clip(np.minimum(time - turn.start, turn.end - time) / _FADE, 0, 1)
        one *= np.minimum(heard, 1).astype(np.float32)
    return mix(random, voices, None, samples)


def stage(
    random: Random, background: Array, pictures: list[Array], frames: int
) -> tuple[Array, list[Moving]]:
    """Return the scenery [H, W, 3] float32 and the objects, fitted to it, with their ways."""
    scenery = _scenery(random, background)
    moving = []
    for picture in pictures:
        extent = scale((picture.shape[1], picture.shape[0]), random.uniform(*SIZES), HEIGHT)
        path = _wander(random, frames, (WIDTH - extent[0], HEIGHT - extent[1]))
        x, y = path.mean(axis=0).astype(int)
        fitted = fit(resize(picture, extent), scenery, (int(x), int(y)), NATURAL, random)
        moving.append(Moving(fitted, path))
    return scenery, moving


def frames_of(scenery: Array, moving: list[Moving]) -> Iterator[tuple[Array, list[Array]]]:
    """Yield each frame [H, W, 3] uint8 with the visible pixels of every object, [H, W] bool.

    An object hides those before it in the list.
    """
    for number in range(len(moving[0].path)):
        frame, masks = scenery.copy(), list[Array]()
        for each in moving:
            place = np.floor(each.path[number])
            moved = shift(each.fitted, (*(each.path[number] - place)[::-1], 0), order=1, mode="nearest")
            corner = int(place[0]), int(place[1])
            mask = blend(frame, moved, corner, NATURAL, NATURAL.shadow / 2)
            masks = [behind & ~mask for behind in masks] + [mask]
        yield np.clip(np.rint(frame), 0, 255).astype(np.uint8), masks


def boxes_of(masks: list[Array]) -> list[Box | None]:
    """Return the box of each mask, None where nothing of the object is visible."""
    return [tight_box(mask) for mask in masks]


def _scenery(random: Random, background: Array) -> Array:
    height, width = background.shape[:2]
    factor = max(HEIGHT / height, WIDTH / width)
    large = resize(background, (max(WIDTH, round(width * factor)), max(HEIGHT, round(height * factor))))
    y, x = (int(random.integers(a - b + 1)) for a, b in zip(large.shape, (HEIGHT, WIDTH), strict=False))
    return large[y : y + HEIGHT, x : x + WIDTH].astype(np.float32)


def _wander(random: Random, frames: int, room: tuple[int, int]) -> Array:
    """Return a smooth way [F, 2] within 0..room (x, y), from two slow waves a direction."""
    time = np.arange(frames) / FRAME_RATE
    ways = []
    for space in room:
        waves = sum(
            part * np.sin(2 * np.pi * (time / random.uniform(*periods) + random.random()))
            for part, periods in ((0.75, (8.0, 16.0)), (0.25, (3.0, 6.0)))
        )
        ways.append(max(space, 0) * (0.5 + 0.5 * waves))
    return np.stack(ways, axis=1)
