"""A film cut to another shape around what sounds, as a patient camera operator would pan.

The way of the crop is planned over the whole film at once: of all ways that never move faster than allowed,
and not at all while nothing sounds, the one along which what sounds is least outside, and which moves least.
Axes: `M` moments, `G` places of the crop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cacl.annotation import Box
from cacl.viewing.film import Part, frames
from cacl.viewing.film_writer import Sound, film_writer
from cacl.viewing.heat import Array
from cacl.viewing.tracks import Moment

SPEED = 0.05
"""Of the film's width, or of its height where the crop moves along it, a second."""
_EXACT = 1e-6
"""Of a step, by which rounding may fall short of a whole one."""
_GRID = 0.001
"""Distance of two places that are thought of, as a share of that side."""
_AWAY, _MOVING = 0.1, 0.05
"""What the whole side costs, as the distance of the crop from what sounds and as a move, where all of what
sounds being outside for one moment costs 1."""


@dataclass(frozen=True)
class Target:
    """Where something sounds at a moment, along the side on which the crop moves; shares of that side."""

    time: float
    """Seconds."""
    low: float
    high: float
    weight: float = 1.0
    """How sure that is; 0 where nothing sounds."""


@dataclass(frozen=True)
class Crop:
    """The size of a crop, in pixels, and the side along which it moves."""

    width: int
    height: int
    across: bool
    """Whether it moves from left to right; else from top to bottom."""

    def share(self, size: tuple[int, int]) -> float:
        """Return its share of the side along which it moves, of a film of H, W pixels."""
        return self.width / size[1] if self.across else self.height / size[0]


def crop_of(size: tuple[int, int], shape: tuple[int, int]) -> Crop:
    """Return the largest crop of `shape` (width : height) in a film of H, W pixels; its sides are even."""
    height, width = size
    across = width * shape[1] >= height * shape[0]
    if across:
        wide, tall = height * shape[0] / shape[1], float(height)
    else:
        wide, tall = float(width), width * shape[1] / shape[0]
    return Crop(max(2, int(wide) // 2 * 2), max(2, int(tall) // 2 * 2), across)


def targets_of(moments: Sequence[Moment], across: bool) -> list[Target]:
    """Return what a crop follows: boxes, or points where there is no θ; nothing where nothing sounds."""
    found = []
    for one in moments:
        axis = 0 if across else 1
        low, high = (one.box[axis], one.box[axis + 2]) if one.box else (one.point[axis],) * 2
        found.append(Target(one.time, low, high, 0.0 if one.sounds is False else one.confidence))
    return found


def box_targets(times: Sequence[float], boxes: Sequence[Box | None], across: bool) -> list[Target]:
    """Return what a crop follows of boxes that are known, each at its moment; None where nothing sounds."""
    axis = 0 if across else 1
    return [
        Target(time, box[axis], box[axis + 2]) if box else Target(time, 0.5, 0.5, 0.0)
        for time, box in zip(times, boxes, strict=True)
    ]


def plan(targets: Sequence[Target], share: float, speed: float = SPEED) -> Array:
    """Return where a crop of that share begins at each moment, [M] float64, shares of the side.

    It never moves by more than `speed` of the side a second, and stays while nothing sounds. Found by dynamic
    programming over all ways on a grid.
    """
    room = max(0.0, 1.0 - share)
    places = np.linspace(0, room, max(2, round(room / _GRID) + 1)) if room > _GRID else np.zeros(1)
    step = places[1] if len(places) > 1 else 1.0
    costs = np.stack([_costs(one, places, share) for one in targets])
    total, choices = costs[0], [np.arange(len(places))]
    for before, one, cost in zip(targets, targets[1:], costs[1:], strict=False):
        moving = before.weight > 0 and one.weight > 0
        allowed = int(speed * (one.time - before.time) / step + _EXACT) if moving else 0
        total, came = _onward(total, min(allowed, len(places) - 1), _MOVING * step)
        total = total + cost
        choices.append(came)
    at = int(total.argmin())
    way = [at]
    for came in choices[:0:-1]:
        at = int(came[at])
        way.append(at)
    found: Array = places[way[::-1]]
    return found


def write_reframed(
    film: str | Path,
    out: str | Path,
    sound: Sound,
    part: Part,
    times: Sequence[float],
    begins: Array,
    crop: Crop,
    drawn: Callable[[], Any] = lambda: None,
) -> None:
    """Write a part of a film cut to a crop that begins at `begins` [M], shares of the side, at `times` [M].

    In between it moves evenly. `drawn` is called after every frame.
    """
    with film_writer(out, sound, crop.width, crop.height) as writer:
        for time, picture in frames(film, part):
            side = picture.shape[1] if crop.across else picture.shape[0]
            length = crop.width if crop.across else crop.height
            begin = min(round(float(np.interp(time, times, begins)) * side), side - length)
            cut = slice(begin, begin + length)
            writer.add(time, picture[: crop.height, cut] if crop.across else picture[cut, : crop.width])
            drawn()


def _costs(one: Target, places: Array, share: float) -> Array:
    """Return what it costs to be at each place, [G].

    Two sources that do not fit into the crop are not halved: it is better to show one of them whole.
    """
    length = max(one.high - one.low, _GRID)
    inside = np.minimum(one.high, places + share) - np.maximum(one.low, places)
    outside = 1 - np.clip(inside / min(length, share), 0, 1)
    away = np.abs(places + share / 2 - (one.low + one.high) / 2)
    found: Array = one.weight * (outside + _AWAY * away)
    return found


def _onward(total: Array, reach: int, price: float) -> tuple[Array, Array]:
    """Return the cheapest way to each place from places within `reach`, [G], and from where it comes, [G]."""
    best, came = total, np.arange(len(total))
    for move in range(1, reach + 1):
        for shifted in (move, -move):
            other = np.full_like(total, np.inf)
            if shifted > 0:
                other[shifted:] = total[:-shifted]
            else:
                other[:shifted] = total[-shifted:]
            other += price * move
            better = other < best
            came = np.where(better, np.arange(len(total)) - shifted, came)
            best = np.where(better, other, best)
    return best, came
