"""The strip below a film: its sound with a cursor, and the color bar of the heat with what is seen now.

Axes: `w` columns of the sound, `W` pixels of the film's width, `S` of the strip's height.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from cacl.viewing.film import begin_of_sound, resampled
from cacl.viewing.film_writer import Sound
from cacl.viewing.heat import Array, Scale, colors, font

PAGE = 20.0
"""Seconds of sound that a strip shows at once, at most."""
_RATE = 8000
_LOUDNESS = 0.6
"""Power of samples that is drawn, so that what is soft is seen beside what is loud."""
_QUIETEST = 10 ** (-50 / 20)
"""A page's loudest sample that fills its height: noise that nobody hears stays a line."""
_GROUND, _DIM, _BRIGHT, _CURSOR = (16, 20, 32), (92, 104, 132), (190, 214, 255), (255, 255, 255)
_BELOW = (58, 64, 84)
"""Of the color bar where nothing is drawn."""
_NARROW = 200
"""Pixels of width below which there is no room for a color bar."""


def strip_height(size: tuple[int, int]) -> int:
    """Return the height S of the strip of a film of H, W pixels: even, legible, and small beside the film."""
    return max(44, 2 * round(0.07 * min(size)))


class Strip:
    """Draws the strip of each moment of a film, asked for in ascending order."""

    def __init__(
        self, scale: Scale, size: tuple[int, int], sound: Sound, heard: float, seconds: float | None
    ) -> None:
        """`heard` is what the model hears at once, `seconds` the film's length; both in seconds."""
        self.page = PAGE if seconds is None else min(PAGE, max(seconds, 0.1))
        self._heard, self._scale = heard, scale
        height, pad = strip_height(size), max(6, strip_height(size) // 7)
        wide = 0 if size[1] < _NARROW else min(300, max(96, round(0.28 * size[1])))
        self._bar = ColorBar(scale, (height, wide), pad) if wide else None
        self._left, self._shape = wide + pad, (height, size[1])
        self._columns = max(8, size[1] - self._left - pad)
        self._pages = waveform(sound, self.page, self._columns)
        self._number = -1

    def draw(self, since: float, value: float) -> Array:
        """Return the strip [S, W, 3] uint8 at `since` seconds of the film, when the map's peak is `value`."""
        while self._number < int(since / self.page):
            self._turn()
        drawn = self._dim.copy()
        at = (since - self._number * self.page) / self.page * self._columns
        half = self._heard / 2 / self.page * self._columns
        begin, end = (self._left + min(max(round(edge), 0), self._columns) for edge in (at - half, at + half))
        drawn[:, begin:end] = self._bright[:, begin:end]
        cursor, thick = self._left + min(int(at), self._columns - 1), 1 + self._shape[0] // 70
        drawn[2:-2, cursor : cursor + thick] = _CURSOR
        if self._bar:
            self._bar.mark(drawn, value)
        return drawn

    def _turn(self) -> None:
        """Go to the next page."""
        self._number += 1
        lowest_highest = next(self._pages, np.zeros((self._columns, 2), np.float32))
        height = self._shape[0]
        middle, reach = (height - 1) / 2, height / 2 - max(3, height // 10)
        loudest = max(float(np.abs(lowest_highest).max()), _QUIETEST)
        drawn = np.sign(lowest_highest) * np.abs(lowest_highest / loudest) ** _LOUDNESS * reach
        up = middle - np.maximum(drawn[:, 1], 0.5)
        down = middle - np.minimum(drawn[:, 0], -0.5)
        rows = np.arange(height)[:, None]
        curve = (rows >= up) & (rows <= down)
        self._dim, self._bright = (self._paper(curve, color) for color in (_DIM, _BRIGHT))

    def _paper(self, curve: Array, color: tuple[int, int, int]) -> Array:
        height, width = self._shape
        paper = np.full((height, width, 3), _GROUND, np.uint8)
        paper[:, self._left : self._left + self._columns][curve] = color
        if self._bar:
            paper[:, : self._bar.picture.shape[1]] = self._bar.picture
        return paper


class ColorBar:
    """The colors from nothing to as sure as the model gets, θ marked, and a mark for what is seen now."""

    def __init__(self, scale: Scale, shape: tuple[int, int], pad: int) -> None:
        """`shape` is the height and width that it has room in."""
        height, width = shape
        self._scale, self._left, self._length = scale, pad + pad // 2, width - 3 * pad
        self._top, self._mark = round(0.30 * height), triangle(max(7, height // 6))
        letters = font(max(10, round(0.24 * height)))
        image = Image.new("RGB", (width, height), _GROUND)
        pen = ImageDraw.Draw(image)
        bottom = round(0.55 * height)
        levels = np.linspace(scale.zero, scale.end, self._length, dtype=np.float32)
        steps = scale.steps(levels)
        line = np.where((steps > 0)[:, None], colors(256)[steps], np.array(_BELOW, np.uint8))
        rows = np.broadcast_to(line, (bottom - self._top, *line.shape))
        image.paste(Image.fromarray(np.ascontiguousarray(rows)), (self._left, self._top))
        places = [(scale.zero, "0"), (scale.end, "1" if scale.best == 1 else "best")]
        if scale.theta is not None:
            at = self._left + self._x(scale.theta)
            pen.line((at, self._top - 2, at, bottom + 2), fill=_CURSOR, width=max(1, height // 48))
            places.insert(0, (scale.theta, "θ"))
        taken: list[tuple[float, float]] = []
        for value, word in places:
            wide = letters.getlength(word)
            x = min(max(self._left + self._x(value) - wide / 2, 1), width - wide - 1)
            if all(x > end + 3 or x + wide < begin - 3 for begin, end in taken):
                pen.text((x, bottom + 2), word, fill=_BRIGHT, font=letters)
                taken.append((x, x + wide))
        self.picture = np.asarray(image)

    def mark(self, strip: Array, value: float) -> None:
        """Draw the mark for a value into a strip [S, W, 3], in place."""
        tall, wide = self._mark.shape
        x = self._left + self._x(value) - wide // 2
        part = strip[self._top - tall : self._top, max(0, x) : x + wide]
        part[self._mark[:, wide - part.shape[1] :]] = _CURSOR

    def _x(self, value: float) -> int:
        share = (value - self._scale.zero) / (self._scale.end - self._scale.zero)
        return round(min(max(share, 0.0), 1.0) * (self._length - 1))


def waveform(sound: Sound, seconds: float, columns: int) -> Iterator[Array]:
    """Yield the lowest and highest sample of each column of each page, [w, 2] float32, in -1..1."""
    size = round(seconds * _RATE)
    edges = np.linspace(0, size, columns, endpoint=False).astype(int)
    skip = round((sound.start - begin_of_sound(sound.path, sound.start)) * _RATE)
    held = np.zeros(max(0, -skip), np.float32)
    skip = max(0, skip)
    for chunk in resampled(sound.path, _RATE, sound.start):
        held = np.concatenate([held, chunk.mean(1)[skip:]])
        skip = max(0, skip - len(chunk))
        while len(held) >= size:
            yield _extremes(held[:size], edges)
            held = held[size:]
    yield _extremes(np.pad(held, (0, size - len(held))), edges)


def _extremes(samples: Array, edges: Array) -> Array:
    found: Array = np.stack(
        [np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)], axis=1
    )
    return found


def triangle(height: int) -> Array:
    """Return a triangle that points down, [height, 2 height - 1] bool."""
    rows, columns = np.arange(height)[:, None], np.arange(2 * height - 1)
    found: Array = np.abs(columns - (height - 1)) < height - rows
    return found
