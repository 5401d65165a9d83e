"""Pseudo-classes by clustering vectors, the number of classes chosen without true labels.

Axes: `N` clips, `D` numbers of a vector, `K` clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

Vectors = npt.NDArray[Any]

DIMENSIONS = {"sound": 20, "image": 50}
"""Principal components of a view that is clustered alone."""
_AS_STABLE = 0.05


@dataclass(frozen=True)
class Clustering:
    """Clusters of N vectors."""

    label: npt.NDArray[np.int64]
    """[N], the nearest center."""
    soft: npt.NDArray[np.float32]
    """[N, K], how likely each cluster is."""
    centers: npt.NDArray[np.float64]
    """[K, D]."""
    variance: float
    """Mean square distance to the nearest center, a dimension."""
    stability: dict[int, float]
    """Of every number of clusters that was tried; empty where the number was given."""


def whiten(vectors: Vectors, dimensions: int) -> npt.NDArray[np.float64]:
    """Return the first principal components [N, dimensions], each of variance 1, of standardized columns.

    Equal variance matters: what tells classes apart is rarely what varies most.
    """
    standard = standardize(vectors)
    components = PCA(min(dimensions, *standard.shape), svd_solver="full")
    coordinates, variance = components.fit_transform(standard), components.explained_variance_
    kept = variance > 1e-9 * max(variance[0], 1e-300)
    return coordinates[:, kept] / np.sqrt(variance[kept])


def standardize(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Return columns with mean 0 and deviation 1; constant columns become 0."""
    vectors = vectors.astype(np.float64)
    deviation = vectors.std(0)
    return (vectors - vectors.mean(0)) / np.where(deviation > 1e-9, deviation, np.inf)


def cluster(vectors: Vectors, clusters: int | None = None, seed: int = 0) -> Clustering:
    """Return `clusters` clusters of vectors [N, D]; None takes the most stable number (`choose_clusters`)."""
    stability: dict[int, float] = {}
    if clusters is None:
        clusters, stability = choose_clusters(vectors, candidates(len(vectors)), seed)
    centers = _means(vectors, clusters, seed).cluster_centers_.astype(np.float64)
    distance = square_distances(vectors, centers)
    variance = float(distance.min(1).mean() / vectors.shape[1])
    soft = likelihood(distance, variance)
    return Clustering(distance.argmin(1), soft, centers, variance, stability)


def choose_clusters(
    vectors: Vectors, numbers: Sequence[int], seed: int = 0, repeats: int = 3
) -> tuple[int, dict[int, float]]:
    """Return the number of clusters that is found again most alike, and the stability of every number.

    Stability is the mean adjusted Rand index between clusterings from different seeds: too few clusters join
    classes at random, too many split them at random. Of numbers that are as stable as the best but for 0.05
    the largest is taken: in training a class that is split costs less than two that are joined.
    """
    stability = {}
    for number in numbers:
        labels = [_means(vectors, number, seed + 1 + k, starts=1).labels_ for k in range(repeats)]
        pairs = [(a, b) for a in range(repeats) for b in range(a)]
        stability[number] = float(np.mean([adjusted_rand_score(labels[a], labels[b]) for a, b in pairs]))
    best = max(stability.values())
    return max(number for number in stability if stability[number] >= best - _AS_STABLE), stability


def candidates(n: int) -> list[int]:
    """Return numbers of clusters to try for `n` vectors: steps of a fifth, at least eight clips a cluster."""
    numbers = [round(10 * 1.2**step) for step in range(24)]
    return [number for number in numbers if 8 * number <= n] or [max(1, n // 8)]


def square_distances(vectors: Vectors, centers: Vectors) -> npt.NDArray[np.float64]:
    """Return [N, K] squared Euclidean distances."""
    cross = vectors @ centers.T
    distance = (vectors**2).sum(1)[:, None] - 2 * cross + (centers**2).sum(1)
    return np.maximum(distance, 0.0)


def likelihood(distance: npt.NDArray[np.float64], variance: float) -> npt.NDArray[np.float32]:
    """Return [N, K] how likely each cluster is: Gaussians of one variance, rows sum to 1."""
    logits = -distance / (2 * max(variance, 1e-12))
    logits -= logits.max(1, keepdims=True)
    weights = np.exp(logits)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _means(vectors: Vectors, clusters: int, seed: int, starts: int = 10) -> MiniBatchKMeans:
    """Return mini-batch k-means from the best of `starts` first centers."""
    return MiniBatchKMeans(clusters, random_state=seed, n_init=starts, batch_size=1024).fit(vectors)
