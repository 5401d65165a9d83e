"""Retrieval between sounds and pictures, in both directions, with ties at their mean rank.

A query is a row of similarities, its answer the candidate of the same number; for the other direction give
the transpose. Published code breaks ties in ways of its own, so that a model which finds everything alike
may look good (or poor); `entries` re-enacts the form of CAV-MAE Sync
(https://github.com/edsonroteia/cav-mae-sync, src/retrieval.py).

Axes: `n` clips, `T` slices of a clip in time, `D` channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from cacl.evaluation.compare import Statistic, mean_over_clips

Strategy = Literal["mean", "max", "diagonal_mean", "diagonal_max"]
"""The number of a pair's T × T cosines: over all, or over those of the same time."""
PROTOCOL = "retrieval"
"""What evaluations of it are called."""
_PLACES = (1, 5, 10)
_ROWS = 16
"""Queries whose cosines with every candidate are held at once."""


def similarities(queries: Tensor, candidates: Tensor, strategy: Strategy) -> Tensor:
    """Return float32 [n, n] from slices [n, T, D] of queries and of candidates, of any length.

    Sums are float64 before they are rounded, so that copies of a clip tie wherever they stand.
    """
    rows, columns = (normalize(slices.double(), dim=-1) for slices in (queries, candidates))
    diagonal, best = strategy.startswith("diagonal"), strategy.endswith("max")
    found = []
    for part in rows.split(_ROWS):
        pairs = "qtd,ctd->qct" if diagonal else "qtd,csd->qcts"
        cosines = torch.einsum(pairs, part, columns).flatten(2)
        found.append((cosines.amax(2) if best else cosines.mean(2)).float())
    return torch.cat(found)


def ranks(similarity: np.ndarray) -> np.ndarray:
    """Return float64 [n], 1 + candidates above the own + half of those that tie with it."""
    own = np.diagonal(similarity)[:, None]
    return 1 + (similarity > own).sum(1) + ((similarity == own).sum(1) - 1) / 2


def class_ranks(similarity: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return float64 [n], the rank of the first candidate of the query's class, `labels` [n]; the own counts.

    Of ties, the mean place of the first hit: t others and m of the class make t / (m + 1) above it.
    """
    same = labels[:, None] == labels
    best = np.where(same, similarity, -np.inf).max(1, keepdims=True)
    above, level = (similarity > best).sum(1), similarity == best
    return 1 + above + (level & ~same).sum(1) / ((level & same).sum(1) + 1)


def entries(similarity: np.ndarray) -> np.ndarray:
    """Return float64 [m ≥ n], every place at which the own similarity stands in its sorted row.

    A quirk: a row with ties has several, and weighs so much more.
    """
    own = np.diagonal(similarity)[:, None]
    above, level = (similarity > own).sum(1), (similarity == own).sum(1)
    places = [first + np.arange(1, ties + 1) for first, ties in zip(above, level, strict=True)]
    return np.concatenate(places).astype(np.float64)


def retrieval_numbers(found: np.ndarray) -> dict[str, float]:
    """Return the shares of ranks that are at most 1, 5 and 10, and their median and mean."""
    shares = {f"r{k}": float((found <= k).mean()) for k in _PLACES}
    return {**shares, "median_rank": float(np.median(found)), "mean_rank": float(found.mean())}


def ranked(similarity: np.ndarray, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return columns of ranks [n] by direction, from similarities [n, n] of images (rows) to sounds.

    `rank_image_to_sound`, `rank_sound_to_image`, and with `labels` [n] `class_rank_…` of both.
    """
    found = {}
    for direction, matrix in (("image_to_sound", similarity), ("sound_to_image", similarity.T)):
        found[f"rank_{direction}"] = ranks(matrix)
        if labels is not None:
            found[f"class_rank_{direction}"] = class_ranks(matrix, labels)
    return found


def ranked_numbers(columns: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return `retrieval_numbers` of columns of `ranked`: `r1_image_to_sound`, `class_r1_…` and so on."""
    return {
        column.replace("rank", number): value
        for column, found in columns.items()
        for number, value in retrieval_numbers(found).items()
    }


def ranked_statistics(seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Statistic]:
    """Return these numbers of runs on the same clips, for intervals and pairs; medians have none.

    Queries are drawn, among the same candidates.
    """
    found: dict[str, Statistic] = {}
    for column in seeds[0]:
        every = np.stack([one[column] for one in seeds])
        found |= {column.replace("rank", f"r{k}"): mean_over_clips(every <= k) for k in _PLACES}
        found[column.replace("rank", "mean_rank")] = mean_over_clips(every)
    return found
