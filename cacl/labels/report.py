"""What a report says of label tables, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from cacl.labels.quality import agreement, compare, confusion, describe, histogram, measure_batches
from cacl.labels.table import LabelTable

Truth = Mapping[str, Sequence[str] | None]
Confusion = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Clips [true, label], and the names of rows and columns."""


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


def count_labels(
    tables: Mapping[str, LabelTable], truth: Truth
) -> dict[str, tuple[np.ndarray, Confusion | None]]:
    """Return each table's clips of each class and, with true classes, its confusion with them."""
    counts: dict[str, tuple[np.ndarray, Confusion | None]] = {}
    for name, table in tables.items():
        classes = truth[name]
        known = classes is not None and len(classes) > 0
        counts[name] = histogram(table.label), confusion(table.label, np.array(classes)) if known else None
    return counts
