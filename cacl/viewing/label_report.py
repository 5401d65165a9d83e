"""The page of a report on label tables: one HTML file that opens without a network.

Axes: `C` classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cacl.files import write_text
from cacl.viewing.pages import TEMPLATES, render
from cacl.viewing.pictures import figure_url

Confusion = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Clips [true, label], and the names of rows and columns."""


def write_label_report(
    path: Path, record: Mapping[str, Any], counts: Mapping[str, tuple[np.ndarray, Confusion | None]]
) -> None:
    """Write the report with its pictures inside.

    `record` holds the numbers; `counts` of each table the clips of each class [C], the most frequent first,
    and its confusion with the true classes, if they are known.
    """
    pictures = {
        name: [_histogram(clips), *([] if confusion is None else [_confusion(*confusion)])]
        for name, (clips, confusion) in counts.items()
    }
    write_text(path, render(TEMPLATES / "labels.html", record=record, pictures=pictures))


def _histogram(counts: np.ndarray) -> str:
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(np.arange(len(counts)), counts, width=1.0, color="#b4441f")
    axes.set(xlabel="classes, most frequent first", ylabel="clips")
    axes.spines[["top", "right"]].set_visible(False)
    return figure_url(figure, dpi=110)


def _confusion(counts: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> str:
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Oranges", vmin=0, vmax=1)
    axes.set_yticks(np.arange(len(rows)), rows, fontsize=6, parse_math=False)
    axes.set_xticks(np.arange(len(columns)), columns, fontsize=6, rotation=90, parse_math=False)
    axes.set(xlabel="label, the most frequent", ylabel="true class, the most frequent")
    return figure_url(figure, dpi=110)
