"""The report on label tables: numbers as plain values, and one HTML file that opens without a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from cacl.labels.quality import agreement, compare, confusion, describe, histogram, measure_batches
from cacl.labels.table import LabelTable

Truth = Mapping[str, Sequence[str] | None]


def build_report(tables: Mapping[str, LabelTable], truth: Truth, batch_size: int) -> dict[str, Any]:
    """Return plain values: a table's description and, with true classes, quality; each pair's agreement.

    `truth` gives every table's clips their annotated class, or None where one lacks it.
    """
    record: dict[str, Any] = {"batch_size": batch_size, "tables": {}, "pairs": []}
    for name, table in tables.items():
        part: dict[str, Any] = {"header": asdict(table.header), **describe(table.label, batch_size)}
        part["measured"] = measure_batches(table.label, batch_size)
        part["mean_confidence"] = float(table.confidence.mean()) if len(table.confidence) else 0.0
        classes = truth[name]
        if classes is not None and len(classes):
            part |= compare(table.label, np.array(classes))
            part["true_classes"] = len(set(classes))
        record["tables"][name] = part
    for (first, a), (second, b) in combinations(tables.items(), 2):
        both, rows_a, rows_b = np.intersect1d(a.index, b.index, return_indices=True)
        if len(both):
            same = agreement(a.label[rows_a], b.label[rows_b])
            record["pairs"].append({"first": first, "second": second, "clips": len(both), **same})
    return record


def write_html(path: Path, record: Mapping[str, Any], tables: Mapping[str, LabelTable], truth: Truth) -> None:
    """Write the report with its pictures inside."""
    pictures = {}
    for name, table in tables.items():
        classes = truth[name]
        shown = [_histogram(table)]
        if classes is not None and len(classes):
            shown.append(_confusion(table, classes))
        pictures[name] = shown
    loader = Environment(loader=PackageLoader("cacl", "templates"), autoescape=select_autoescape())
    page = loader.get_template("labels.html").render(record=record, pictures=pictures)
    path.write_text(page, encoding="utf-8")


def _histogram(table: LabelTable) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.4), layout="constrained")
    axes = figure.add_subplot()
    counts = histogram(table.label)
    axes.bar(np.arange(len(counts)), counts, width=1.0, color="#b4441f")
    axes.set(xlabel="classes, most frequent first", ylabel="clips")
    axes.spines[["top", "right"]].set_visible(False)
    return _url(figure)


def _confusion(table: LabelTable, classes: Sequence[str]) -> str:
    from matplotlib.figure import Figure

    counts, rows, columns = confusion(table.label, np.array(classes))
    figure = Figure(figsize=(7, 7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Oranges", vmin=0, vmax=1)
    axes.set_yticks(np.arange(len(rows)), rows, fontsize=6)
    axes.set_xticks(np.arange(len(columns)), columns, fontsize=6, rotation=90)
    axes.set(xlabel="label, the most frequent", ylabel="true class, the most frequent")
    return _url(figure)


def _url(figure: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
