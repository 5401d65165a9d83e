"""How good a label table is: what can be said of labels alone, and against true classes where they are known.

A pair is two different clips. It is *labeled* when both have the same pseudo-label, *true* when both have the
same true class. A labeled pair that is not true is a wrong positive in training; a true pair that is not
labeled stays a false negative. Axes: `N` clips.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

Labels = npt.NDArray[Any]


def histogram(labels: Labels) -> npt.NDArray[np.int64]:
    """Return how many clips each label has, largest first; labels [N] with -1 are a class each."""
    known = labels[labels >= 0]
    counts = np.unique(known, return_counts=True)[1] if len(known) else np.zeros(0, np.int64)
    return np.sort(np.concatenate([counts, np.ones(len(labels) - len(known), np.int64)]))[::-1]


def describe(labels: Labels, batch_size: int) -> dict[str, float]:
    """Return what labels [N] say of themselves.

    "entropy" is in bits; "same_class_pairs" is the expected number of ordered pairs of different clips with
    one label in a batch drawn at random, "positives_per_clip" that number for one clip.
    """
    counts = histogram(labels)
    n = int(counts.sum())
    share = counts / max(n, 1)
    probability = float((counts * (counts - 1.0)).sum() / max(n * (n - 1.0), 1.0))
    size = min(batch_size, n)
    return {
        "clips": n,
        "classes": len(counts),
        "largest_share": float(share.max(initial=0.0)),
        "entropy": float(-(share * np.log2(share)).sum()),
        "batch_size": size,
        "same_class_pairs": size * (size - 1.0) * probability,
        "positives_per_clip": (size - 1.0) * probability,
    }


def measure_batches(labels: Labels, batch_size: int, batches: int = 200, seed: int = 0) -> dict[str, float]:
    """Return means over random batches of labels [N]: ordered same-label pairs, rows without negatives."""
    own = _separate(labels)
    random = np.random.default_rng(seed)
    size = min(batch_size, len(own))
    pairs, lonely = [], []
    for _ in range(batches):
        counts = np.unique(random.choice(own, size, replace=False), return_counts=True)[1]
        pairs.append(float((counts * (counts - 1)).sum()))
        lonely.append(float(counts[counts == size].sum()))
    return {
        "batches": batches,
        "same_class_pairs": float(np.mean(pairs)),
        "same_class_pairs_deviation": float(np.std(pairs)),
        "rows_without_negatives": float(np.mean(lonely)),
    }


def compare(labels: Labels, truth: Labels) -> dict[str, float]:
    """Return how labels [N] agree with true classes [N]: purity, NMI, pair precision, recall and F1."""
    own = _separate(labels)
    table = contingency_matrix(truth, own, sparse=True)
    both = _pairs(table.data)
    labeled, true = _pairs(np.asarray(table.sum(0))), _pairs(np.asarray(table.sum(1)))
    precision, recall = both / labeled if labeled else 1.0, both / true if true else 1.0
    return {
        "purity": float(table.max(axis=0).sum() / len(own)),
        "nmi": float(normalized_mutual_info_score(truth, own)),
        "pair_precision": precision,
        "pair_recall": recall,
        "pair_f1": 2 * precision * recall / (precision + recall) if both else 0.0,
        "labeled_pairs": labeled,
        "true_pairs": true,
    }


def agreement(first: Labels, second: Labels) -> dict[str, float]:
    """Return how two labelings [N] of the same clips agree, whatever their classes are called."""
    a, b = _separate(first), _separate(second)
    pairs = compare(b, a)
    return {
        "nmi": pairs["nmi"],
        "adjusted_rand": float(adjusted_rand_score(a, b)),
        "pairs_kept": pairs["pair_recall"],
        "pairs_new": 1.0 - pairs["pair_precision"],
    }


def confusion(labels: Labels, truth: Labels, most: int = 40) -> tuple[npt.NDArray[np.int64], Labels, Labels]:
    """Return counts [classes, labels] of the most frequent, each label beside the class that it mostly is."""
    classes, rows = np.unique(truth, return_inverse=True)
    names, columns = np.unique(labels, return_inverse=True)
    table = np.zeros((len(classes), len(names)), np.int64)
    np.add.at(table, (rows, columns), 1)
    kept_rows = np.argsort(-table.sum(1), kind="stable")[:most]
    kept_columns = np.argsort(-table.sum(0), kind="stable")[:most]
    table = table[np.sort(kept_rows)][:, np.sort(kept_columns)]
    order = np.argsort(table.argmax(0), kind="stable")
    return table[:, order], classes[np.sort(kept_rows)], names[np.sort(kept_columns)][order]


def _pairs(counts: npt.NDArray[Any]) -> float:
    counts = np.asarray(counts, np.float64)
    return float((counts * (counts - 1)).sum() / 2)


def _separate(labels: Labels) -> npt.NDArray[np.int64]:
    """Give every clip with label -1 a label of its own."""
    labels = np.array(labels, np.int64)
    unknown = labels < 0
    labels[unknown] = labels.max(initial=0) + 1 + np.arange(unknown.sum())
    return labels
