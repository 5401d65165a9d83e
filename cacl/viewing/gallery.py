"""Test clips that a report shows: which ones, and each as pictures and sounds for a browser.

Axes: `N` clips of the test set, `S` pixels of an image's side, `T` samples of a sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from cacl.evaluation.clip_results import ClipResults, by_name
from cacl.evaluation.metrics import peak
from cacl.evaluation.protocols import Protocol
from cacl.viewing.pictures import flac_url, frame_image, heat_image, jpeg_url, webp_url


@dataclass(frozen=True)
class View:
    """What one model makes of one sound over a frame."""

    title: str
    scores: Tensor
    """[S, S], on the protocol's pixels."""
    waveform: Tensor
    """[T] in -1..1."""
    boxes: Sequence[Sequence[float]]
    """Where the object is that sounds, normalized."""
    scale: tuple[float, float] | None = None
    """The scores that are not drawn, and brightest; None: the map's own lowest and highest."""


@dataclass(frozen=True)
class Example:
    """A test clip in the gallery."""

    clip_id: str
    class_name: str
    frame: Tensor
    """[3, S, S] uint8."""
    views: list[View]


def choose(
    results: ClipResults, protocol: Protocol, count: int, classes: int, seed: int = 0
) -> dict[str, list[int]]:
    """Return indices of clips for the gallery, by heading; no clip appears twice.

    Of the clips that sound `count`: half of them at random, the best and the worst; then one of each of the
    `classes` classes with the lowest share of right places. Before them all clips of a few pictures that
    several share: the same frame, each time another sound. Of silent clips the ones that the model is surest
    of.
    """
    sounding = results.sounding
    quality = np.nan_to_num(results[protocol.ranked_by][sounding].astype(float))
    together = _of_shared_pictures(results.take(sounding), max(1, count // 8), seed)
    order = np.argsort(-quality, kind="stable")
    order = order[~np.isin(order, together)]
    part = max(1, min(count, len(order)) // 4)
    best, rest = order[:part], order[part:]
    worst, middle = rest[::-1][:part], rest[: max(0, len(rest) - part)]
    drawn = np.random.default_rng(seed).permutation(middle)
    random, left = drawn[: max(0, count - 2 * part)], drawn[max(0, count - 2 * part) :]
    each_class = _of_each_class(results.class_name[sounding], quality, left, classes)
    chosen = {
        "One picture, several sounds": together,
        "Drawn at random": random.tolist(),
        "The best": best.tolist(),
        "The worst": worst.tolist(),
        "One of each class, the weakest classes first": each_class,
    }
    index = results.index[sounding]
    found = {heading: [int(index[row]) for row in rows] for heading, rows in chosen.items()}
    if not sounding.all():
        surest = np.argsort(-results["confidence"][~sounding], kind="stable")[:part]
        found["Nothing in view sounds: where the model is surest"] = [
            int(value) for value in results.index[~sounding][surest]
        ]
    return {heading: rows for heading, rows in found.items() if rows}


def render_example(example: Example, sample_rate: int) -> dict[str, Any]:
    """Return a clip as the page's template takes it."""
    return {
        "clip_id": example.clip_id,
        "class_name": example.class_name,
        "frame": jpeg_url(frame_image(example.frame)),
        "views": [_render_view(view, sample_rate) for view in example.views],
    }


def _of_shared_pictures(results: ClipResults, count: int, seed: int) -> list[int]:
    """Return the rows of all clips of `count` pictures drawn from those that several clips share."""
    pictures = results.pictures
    shared = np.flatnonzero(np.bincount(pictures, minlength=1) > 1)
    drawn = np.random.default_rng(seed).permutation(shared)[:count]
    return [row for picture in drawn for row in np.flatnonzero(pictures == picture).tolist()]


def _of_each_class(classes: np.ndarray, quality: np.ndarray, rows: np.ndarray, count: int) -> list[int]:
    """Return one of `rows` for each of the `count` classes of the lowest mean quality, of these its first."""
    first: dict[str, int] = {}
    for row in rows.tolist():
        first.setdefault(str(classes[row]), row)
    means = {name: float(values.mean()) for name, values in by_name(classes, quality).items()}
    weakest = sorted(first, key=lambda name: (means[name], name))
    return [first[name] for name in weakest if name][:count]


def _render_view(view: View, sample_rate: int) -> dict[str, Any]:
    size = view.scores.shape[-1]
    x, y = peak(view.scores[None])[0].tolist()
    px, py = (x + 0.5) / size, (y + 0.5) / size
    boxes = [[min(max(value, 0.0), 1.0) for value in box] for box in view.boxes]
    return {
        "title": view.title,
        "heat": webp_url(heat_image(view.scores, *(view.scale or (None, None)))),
        "sound": flac_url(view.waveform, sample_rate),
        "boxes": [(100 * x0, 100 * y0, 100 * (x1 - x0), 100 * (y1 - y0)) for x0, y0, x1, y1 in boxes],
        "peak": (100 * px, 100 * py),
        "hit": any(x0 <= px < x1 and y0 <= py < y1 for x0, y0, x1, y1 in boxes),
    }
