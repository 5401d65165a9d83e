"""A few clips of a few labels, to look at and to listen to.

Axes: `N` labeled clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cacl.extras import named_extras
from cacl.labels.classifier import TORCHVISION
from cacl.labels.table import LabelHeader, LabelTable

_IMAGENET = 1000


@dataclass(frozen=True)
class Members:
    """Clips of one label."""

    name: str
    """The class's, or "label 3" where it has none."""
    clips: int
    """How many have the label."""
    confidence: float
    """Their mean, 0..1."""
    true: str
    """The class that most of them are annotated with, and how many are; "" where it is not known."""
    shown: tuple[int, ...]
    """The indices of some."""


def choose_members(
    table: LabelTable, truth: Sequence[str] | None, *, labels: int = 12, each: int = 4, seed: int = 0
) -> list[Members]:
    """Return up to `labels` labels with `each` clips drawn at random, `truth` [N] says their classes.

    Half of the labels are the most frequent ones, the others are drawn among the rest, of two clips or more
    where there are such.
    """
    known, counts = np.unique(table.label[table.label >= 0], return_counts=True)
    order = np.lexsort((known, -counts))
    random, names = np.random.default_rng(seed), class_names(table.header)
    first, rest = order[: labels - labels // 2], order[labels - labels // 2 :]
    several = rest[counts[rest] > 1] if (counts[rest] > 1).any() else rest
    drawn = random.permutation(several)[: labels // 2]
    taken = [*first.tolist(), *sorted(drawn.tolist(), key=order.tolist().index)]
    return [_members(table, truth, names, int(known[k]), each, random) for k in taken]


def _members(
    table: LabelTable,
    truth: Sequence[str] | None,
    names: Sequence[str],
    label: int,
    each: int,
    random: np.random.Generator,
) -> Members:
    rows = np.flatnonzero(table.label == label)
    shown = table.index[np.sort(random.permutation(rows)[:each])]
    true = ""
    if truth is not None:
        name, often = Counter(truth[int(row)] for row in rows).most_common(1)[0]
        true = f"{name}, {often} of {len(rows)}"
    called = names[label] if label < len(names) else f"label {label}"
    return Members(called, len(rows), float(table.confidence[rows].mean()), true, tuple(shown.tolist()))


def class_names(header: LabelHeader) -> Sequence[str]:
    """Return the names of a table's classes, none where nobody named them, as those of clusters."""
    if named := header.parameters.get("class_names"):
        return [str(name) for name in named]
    network = header.classifier.partition(",")[0]  # of a table that was relabeled too
    seen = network in ("efficientnet-lite0", *TORCHVISION) or network.startswith("timm:")
    if not seen or header.classes != _IMAGENET:
        return ()
    with named_extras():
        from torchvision.models import ResNet18_Weights

        return list(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
