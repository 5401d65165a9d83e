"""A second round of labels: each clip asks its nearest neighbors in the trained model's own space.

Axes: `N` clips, `D` numbers of a vector, `k` neighbors, `K` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cacl.labels.quality import agreement, compare
from cacl.labels.table import LabelTable

_ROWS = 1024
"""Clips whose neighbors are looked for at once: memory is _ROWS · N."""


@dataclass(frozen=True)
class Vote:
    """What the neighbors of N clips say."""

    label: npt.NDArray[np.int64]
    """[N], the winner."""
    share: npt.NDArray[np.float32]
    """[N], the winner's share of the vote, 0..1."""
    own: npt.NDArray[np.float32]
    """[N], the share of the vote for the label that the clip has itself, 0..1."""


def vote(
    vectors: npt.NDArray[Any],
    label: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.float32],
    neighbors: int = 20,
) -> Vote:
    """Return what the nearest `neighbors` of each clip, itself excluded, say, by cosine of vectors [N, D].

    A neighbor's voice is its confidence times its similarity; those with label -1 have none. Where nobody has
    a voice a clip keeps its label, with shares 0.
    """
    if neighbors < 1:
        raise ValueError(f"expected at least 1 neighbor, received {neighbors}")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    names, column = np.unique(label, return_inverse=True)
    voice = np.where(label >= 0, confidence, 0.0)
    winners = np.empty(len(label), np.int64)
    shares, own = np.empty(len(label), np.float32), np.empty(len(label), np.float32)
    for start in range(0, len(label), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(label)))
        cosine = unit[rows] @ unit.T
        cosine[np.arange(len(rows)), rows] = -np.inf
        kept = max(1, min(neighbors, len(label) - 1))  # a single clip has but itself, without a voice
        nearest = np.argpartition(-cosine, kept - 1, axis=1)[:, :kept]
        weight = np.take_along_axis(cosine, nearest, axis=1).clip(0) * voice[nearest]
        votes = np.zeros((len(rows), len(names)))
        np.add.at(votes, (np.arange(len(rows))[:, None], column[nearest]), weight)
        heard = votes.sum(1) > 0
        votes /= np.where(heard, votes.sum(1), 1.0)[:, None]
        winners[rows] = np.where(heard, names[votes.argmax(1)], label[rows])
        shares[rows], own[rows] = votes.max(1), votes[np.arange(len(rows)), column[rows]]
    return Vote(winners, shares, own)


def relabel(
    vectors: npt.NDArray[Any],
    label: npt.NDArray[np.int64],
    confidence: npt.NDArray[np.float32],
    neighbors: int = 20,
    majority: float = 0.5,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return labels [N] and confidences [N] after one round of voting.

    A clip takes its neighbors' label where they agree by more than `majority`, else it keeps its own; its
    confidence is the share of the vote for the label that it has now.
    """
    result = vote(vectors, label, confidence, neighbors)
    changed = (result.label != label) & (result.share > majority)
    return np.where(changed, result.label, label), np.where(changed, result.share, result.own)


def relabel_table(
    table: LabelTable,
    index: npt.NDArray[np.int64],
    vectors: npt.NDArray[Any],
    *,
    neighbors: int = 20,
    majority: float = 0.5,
    weights: str = "",
) -> LabelTable:
    """Return `table` after one round of voting among the clips of which there are vectors.

    `vectors` [N, D] belong to the clips `index` [N], sorted; a clip that only one of both has is left out.
    `weights` is the sha256 of those of the model that made the vectors, for the header.
    """
    both, rows, known = np.intersect1d(index, table.index, return_indices=True)
    before, certainty = table.label[known], table.confidence[known]
    label, confidence = relabel(vectors[rows], before, certainty, neighbors, majority)
    parameters = {
        "neighbors": neighbors,
        "majority": majority,
        "run": weights,
        "table": table.fingerprint,
    }
    header = replace(table.header, classifier=f"{table.header.classifier}, relabeled", parameters=parameters)
    return LabelTable(both, label, confidence, header)


def changes(
    before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], truth: Sequence[str] | None, most: int = 20
) -> dict[str, Any]:
    """Return what a round did to labels [N], as plain values.

    How many changed, the `most` frequent moves from one label to another, how both agree, and the quality
    before and after where true classes are known.
    """
    moved = np.stack([before, after], axis=1)[before != after]
    moves, counts = np.unique(moved, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    record: dict[str, Any] = {
        "clips": len(after),
        "changed": len(moved),
        **agreement(before, after),
        "moves": [
            {"from": int(old), "to": int(new), "clips": int(count)}
            for (old, new), count in zip(moves[order], counts[order], strict=True)
        ],
    }
    if truth is not None:
        record |= {"before": compare(before, np.array(truth)), "after": compare(after, np.array(truth))}
    return record
