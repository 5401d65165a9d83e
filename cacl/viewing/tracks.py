"""What is found in a film as data: for each map where something sounds, or that nothing does.

    {"format_version": 1, "film": "film.mp4", "width": 640, "height": 360, "frame_rate": 25.0, "frames": 1500,
     "begin": 0.0, "scale": {"zero": 0.0, "theta": 0.37, "best": 0.62},
     "moments": [{"time": 0.2, "frame": 5, "sounds": true, "point": [0.31, 0.52], "value": 0.48,
                  "confidence": 0.77, "box": [0.2, 0.4, 0.5, 0.9],
                  "area": 30120, "mask": {"size": [360, 640], "counts": "…"}}, …]}

Points and boxes are shares of the frame's width and height, an area is in pixels. Axes: `H`, `W` pixels of a
frame, `h`, `w` cells of a map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import label

from cacl.annotation import Box
from cacl.files import write_json
from cacl.viewing.film import Facts
from cacl.viewing.heat import Array, HeatPainter, Scale

FORMAT_VERSION = 1
_DIGITS = 5
"""Of shares and cosines in files: finer than a pixel."""


@dataclass(frozen=True)
class Moment:
    """What is found at one moment of a film."""

    time: float
    """Seconds on the film's own clock."""
    frame: int
    """Its number in the film, from 0."""
    sounds: bool | None
    """Whether something in view sounds; None where the model has no θ, and no area is claimed."""
    point: tuple[float, float]
    """Where the map is highest."""
    value: float
    """The map's highest cosine."""
    confidence: float
    """How far that is from nothing (0) to as sure as the model gets (1)."""
    box: Box | None = None
    """Of the area above θ in which the point lies; None where nothing sounds."""
    mask: dict[str, Any] | None = None
    """That area, in COCO's compressed run lengths."""
    area: int = 0
    """How many pixels it has."""


@dataclass(frozen=True)
class Track:
    """A film's moments in order, and what they are measured in."""

    film: str
    """The file's name."""
    width: int
    height: int
    frame_rate: float
    frames: int
    """Of the whole film, as its header says, or as far as it was read."""
    begin: float
    """Of its first frame on its own clock, seconds."""
    scale: Scale
    moments: list[Moment]

    def plain(self) -> dict[str, Any]:
        """Return plain values, as files hold them."""
        values = asdict(self) | {"scale": self.scale._asdict()}
        return {"format_version": FORMAT_VERSION, **values}


class Tracker:
    """Makes moments of maps, and of them a film's track."""

    def __init__(self, film: str | Path, facts: Facts, scale: Scale) -> None:
        self._film, self._facts, self._scale = Path(film), facts, scale
        self._painter: HeatPainter | None = None
        self.moments: list[Moment] = []

    def add(self, time: float, raw: Array, size: tuple[int, int], sounds: bool | None) -> None:
        """Append the moment of a map [h, w] of a frame of H, W pixels; `sounds` is what the model says."""
        if self._painter is None or self._painter.size != size:
            self._painter = HeatPainter(self._scale, size)
        values, frame = self._painter.values(raw), round((time - self._facts.begin) * self._facts.rate)
        self.moments.append(found_at(values, time, frame, self._scale, sounds))

    def track(self) -> Track:
        """Return what was added."""
        height, width = self._painter.size if self._painter else (0, 0)
        frames = self._facts.frames or (self.moments[-1].frame + 1 if self.moments else 0)
        rate, begin = self._facts.rate, self._facts.begin
        return Track(self._film.name, width, height, rate, frames, begin, self._scale, self.moments)


def found_at(values: Array, time: float, frame: int, scale: Scale, sounds: bool | None) -> Moment:
    """Return what a map at the frame's pixels, [H, W], says of a moment."""
    height, width = values.shape
    y, x = (int(place) for place in np.unravel_index(int(values.argmax()), values.shape))
    value = float(values[y, x])
    confidence = min(max((value - scale.zero) / (scale.end - scale.zero), 0.0), 1.0)
    point = _rounded((x + 0.5) / width, (y + 0.5) / height)
    box, mask, pixels = None, None, 0
    if sounds and scale.theta is not None:
        area = region(values, scale.theta, (x, y))
        rows, columns = np.flatnonzero(area.any(1)), np.flatnonzero(area.any(0))
        left, right = columns[0] / width, (columns[-1] + 1) / width
        top, bottom = rows[0] / height, (rows[-1] + 1) / height
        box, mask = _rounded(left, top, right, bottom), run_lengths(area)
        pixels = int(area.sum())
    value, confidence = _rounded(value, confidence)
    return Moment(round(time, 4), frame, sounds, point, value, confidence, box, mask, pixels)


def region(values: Array, theta: float, point: tuple[int, int]) -> Array:
    """Return the connected area [H, W] bool of pixels above θ around a point x, y, the point at least."""
    x, y = point
    labels, _ = label(values > theta)
    area: Array = labels == labels[y, x] if labels[y, x] else np.zeros(values.shape, bool)
    area[y, x] = True
    return area


def run_lengths(mask: Array) -> dict[str, Any]:
    """Return a mask [H, W] bool in COCO's compressed run lengths, as pycocotools reads them."""
    found = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in mask.shape], "counts": found["counts"].decode("ascii")}


def write_track(path: Path, track: Track) -> None:
    """Write a track as JSON, whole or not at all."""
    write_json(path, track.plain())


def _rounded(*numbers: float) -> Any:
    return tuple(round(float(number), _DIGITS) for number in numbers)
