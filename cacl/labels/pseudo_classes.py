"""Label tables of pseudo-classes: one view of the clips clustered alone, or image and sound fused.

Axes: `N` clips, `D` numbers of a vector, `K` clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cacl.errors import UserError
from cacl.labels.cluster import DIMENSIONS, Clustering, cluster, whiten
from cacl.labels.fuse import fuse, views_of_classes
from cacl.labels.table import LabelHeader, LabelTable

Views = Mapping[str, npt.NDArray[Any]]
"""Vectors [N, D] of the same clips under "image", "sound" or both."""


def cluster_table(
    index: npt.NDArray[np.int64],
    views: Views,
    header: LabelHeader,
    *,
    clusters: int | None = None,
    seed: int = 0,
    soft: bool = False,
) -> LabelTable:
    """Return the table of clusters of the clips `index` [N]: of one view whitened, of two views fused.

    `clusters` None takes the most stable number. `soft` keeps every clip's distribution over the clusters.
    The header is `header` with the number of classes, the seed, and how the clusters were found.
    """
    clustering, confidence, space = cluster_views(views, clusters, seed)
    stability = {str(number): round(value, 4) for number, value in clustering.stability.items()}
    asked = {"seed": seed, "clusters_asked": clusters}
    parameters = {**asked, **header.parameters, **space, "stability": stability}
    header = replace(header, classes=len(clustering.centers), parameters=parameters)
    return LabelTable(index, clustering.label, confidence, header, soft=clustering.soft if soft else None)


def cluster_views(
    views: Views, clusters: int | None, seed: int
) -> tuple[Clustering, npt.NDArray[np.float32], dict[str, Any]]:
    """Return clusters, confidences [N], and what the header says of the space that was clustered.

    Confidence is the likelihood of a clip's cluster, of two views calibrated by their agreement.
    """
    if len(views) == 2:
        fusion = fuse(views["image"], views["sound"], clusters, seed)
        correlation = fusion.space.correlation.round(4).tolist()
        space = {"dimensions": fusion.space.dimensions, "correlation": correlation}
        return fusion.clustering, fusion.confidence, space
    ((name, vectors),) = views.items()
    dimensions = DIMENSIONS[name]
    clustering = cluster(whiten(vectors, dimensions), clusters, seed)
    return clustering, clustering.soft.max(1), {"dimensions": dimensions}


def views_of_tables(image: LabelTable, audio: LabelTable) -> tuple[npt.NDArray[np.int64], Views]:
    """Return the clips [N] that both tables label, and their predictions as vectors to fuse."""
    index = np.intersect1d(image.index, audio.index)
    views = {}
    for name, table in (("image", image), ("sound", audio)):
        rows = np.isin(table.index, index)
        # Several things may sound at once: a distribution over classes that exclude each other has lost that.
        known = table.soft if table.probability is None else table.probability
        views[name] = views_of_classes(table.label[rows], None if known is None else known[rows])
    return index, views


def check_clusters(clusters: int | None, clips: int) -> None:
    """Raise UserError for a number of clusters that these clips cannot make."""
    if clusters is not None and not 2 <= clusters <= clips:
        raise UserError(f"--clusters {clusters}: give a number from 2 to {clips}, the clips that there are")
