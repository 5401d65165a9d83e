"""The page of a report on label tables: one HTML file that opens without a network.

Axes: `C` classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cacl.files import write_text
from cacl.viewing.pages import TEMPLATES, render
from cacl.viewing.pictures import figure_url

Confusion = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Clips [true, label], and the names of rows and columns."""


@dataclass(frozen=True)
class Clip:
    """A clip as a browser shows and plays it."""

    id: str
    frame: str
    """A data URL."""
    sound: str
    """A data URL."""


@dataclass(frozen=True)
class Sample:
    """Some clips of one label."""

    name: str
    note: str
    """How many clips have it, and how sure that is."""
    clips: Sequence[Clip]


@dataclass(frozen=True)
class Part:
    """What the page shows of one table of `N` clips."""

    confidence: np.ndarray
    """[N] in 0..1."""
    counts: np.ndarray
    """Clips of each class [C], the most frequent first."""
    confusion: Confusion | None
    """With the true classes, where they are known."""
    names: Sequence[str]
    """Of the table's classes; none where they have none."""
    samples: Sequence[Sample]


def write_label_report(path: Path, record: Mapping[str, Any], parts: Mapping[str, Part]) -> None:
    """Write the report with its pictures and sounds inside.

    `record` holds the numbers, `parts` what is shown of each table.
    """
    pictures = {
        name: [_bars(part), *([] if part.confusion is None else [_confusion(*part.confusion, part.names)])]
        for name, part in parts.items()
    }
    values = {"record": record, "pictures": pictures, "parts": parts}
    write_text(path, render(TEMPLATES / "labels.html", **values))


def _bars(part: Part) -> str:
    """Return how many clips each class has, and how sure the labels are, as one picture."""
    figure = Figure(figsize=(9.4, 2.4), layout="constrained")
    classes, sure = figure.subplots(1, 2)
    classes.bar(np.arange(len(part.counts)), part.counts, width=1.0, color="#b4441f")
    classes.set(xlabel="classes, most frequent first", ylabel="clips")
    sure.hist(part.confidence, bins=np.linspace(0, 1, 21).tolist(), color="#2b6a99")
    sure.set(xlabel="confidence", xlim=(0, 1))
    for axes in (classes, sure):
        axes.spines[["top", "right"]].set_visible(False)
    return figure_url(figure, dpi=110)


def _confusion(counts: np.ndarray, rows: np.ndarray, columns: np.ndarray, names: Sequence[str]) -> str:
    """Return which true classes have which labels, in cells of one size, with a color bar."""
    labels = [names[label] if 0 <= label < len(names) else str(label) for label in columns.tolist()]
    longest = max(map(len, labels), default=1)
    size = (2.6 + 0.14 * len(columns), 1.2 + 0.14 * len(rows) + 0.06 * longest)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    drawn = axes.imshow(shares, cmap="Oranges", vmin=0, vmax=1)
    axes.set_yticks(np.arange(len(rows)), rows, fontsize=6, parse_math=False)
    axes.set_xticks(np.arange(len(columns)), labels, fontsize=6, rotation=90, parse_math=False)
    axes.set(xlabel="label, the most frequent", ylabel="true class")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=12)
    bar.ax.tick_params(labelsize=6)
    bar.set_label("share of the class", fontsize=7)
    return figure_url(figure, dpi=110)
