"""Line charts as inline SVG, for reports that open without a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 14, 40
COLUMNS = WIDTH - LEFT - RIGHT
"""Across what lines are drawn on."""
PALETTE = ("#b4441f", "#2b6a99", "#6a8f3c", "#7d5ba6", "#8a8577", "#c79a2e", "#3d8f8a")

Points = Sequence[tuple[float, float]] | np.ndarray
"""(x, y) one after the other, or [N, 2]."""


@dataclass(frozen=True)
class Range:
    """The ends of an axis and where its ticks stand."""

    low: float
    high: float

    @property
    def ticks(self) -> list[float]:
        """Return four to eight round values within the range."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def line_chart(
    series: Mapping[str, Points], x_label: str, y_label: str, y_range: tuple[float, float] | None = None
) -> str:
    """Return an SVG element with one line a series, a legend where there are several, and labeled axes.

    Points that are not finite are left out. Without any point the chart says so; of a line thinned for
    drawing it says so below.
    """
    whole = {name: _finite(points) for name, points in series.items()}
    finite = {name: thinned(points, COLUMNS) for name, points in whole.items()}
    every = [point for points in finite.values() for point in points.tolist()]
    if not every:
        return '<p class="quiet">Nothing was recorded.</p>'
    cut = [len(points) for name, points in whole.items() if len(finite[name]) < len(points)]
    x_axis = _range([x for x, _ in every])
    y_axis = Range(*y_range) if y_range else _range([y for _, y in every])
    parts = [_grid(x_axis, y_axis, x_label, y_label)]
    for number, (name, points) in enumerate(finite.items()):
        path = " ".join(f"{_x(x, x_axis):.1f},{_y(y, y_axis):.1f}" for x, y in points.tolist())
        color = PALETTE[number % len(PALETTE)]
        style = f'fill="none" stroke="{color}" stroke-width="1.8" stroke-linejoin="round"'
        parts.append(f'<polyline points="{path}" {style}/>')
        if len(finite) > 1:
            parts.append(_legend(number, name, color))
    title = escape(f"{y_label} over {x_label}")
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}" class="chart">'
        + "".join(parts)
        + "</svg>"
        + _note(max(cut, default=0))
    )


def smooth(values: Sequence[float], half_life: float) -> list[float]:
    """Return the exponentially weighted mean up to each value, its weight halved every `half_life` values."""
    keep = 0.5 ** (1 / half_life)
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        means.append(total / weight)
    return means


def thinned(points: np.ndarray, columns: int) -> np.ndarray:
    """Return those of a line's points [N, 2] without which it would look another, in their order.

    Of successive points in one of `columns` equal parts of the x-axis the first, the lowest, the highest and
    the last stay, so that nothing that stands out is lost (M4; Jugel et al., 2014). A line along x has at
    most four points a column then; one of so few points stays as it is.
    """
    if len(points) <= 4 * columns:
        return points
    x, y = points.T
    low, high = x.min(), x.max()
    column = np.minimum((x - low) / max(high - low, np.finfo(float).tiny) * columns, columns - 1).astype(int)
    first = np.flatnonzero(np.diff(column, prepend=-1))
    last = np.append(first[1:], len(points)) - 1
    run = np.repeat(np.arange(len(first)), last - first + 1)
    by_height = np.lexsort((y, run))  # within each run from the lowest to the highest
    return points[np.unique(np.concatenate([first, last, by_height[first], by_height[last]]))]


def _finite(points: Points) -> np.ndarray:
    """Return the points whose numbers are all finite, float64 [N, 2]."""
    every = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    return every[np.isfinite(every).all(1)]


def _note(points: int) -> str:
    """Return what is said below a chart of a line with so many `points` that they are not all drawn."""
    if not points:
        return ""
    return (
        f'<p class="note">Of {points:,} points of a line each of {COLUMNS} columns shows the first, the '
        "lowest, the highest and the last.</p>"
    )


def _range(values: Sequence[float]) -> Range:
    low, high = min(values), max(values)
    return Range(low, high) if high > low else Range(low - 0.5, high + 0.5)


def _x(value: float, axis: Range) -> float:
    return LEFT + (value - axis.low) / (axis.high - axis.low) * (WIDTH - LEFT - RIGHT)


def _y(value: float, axis: Range) -> float:
    return HEIGHT - BOTTOM - (value - axis.low) / (axis.high - axis.low) * (HEIGHT - TOP - BOTTOM)


def _grid(x_axis: Range, y_axis: Range, x_label: str, y_label: str) -> str:
    parts = []
    for value in y_axis.ticks:
        y = _y(value, y_axis)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="rule"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in x_axis.ticks:
        x = _x(value, x_axis)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle" class="axis">{escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(12 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle" '
        f'class="axis">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _legend(number: int, name: str, color: str) -> str:
    y = TOP + 8 + 17 * number
    x = WIDTH - RIGHT - 8
    return f'<text x="{x}" y="{y}" text-anchor="end" fill="{color}" class="legend">{escape(name)}</text>'
