"""Late fusion of frame and sound: one space for both, found without labels, and classes in it.

A frame may show another object than the one that is heard, and a sound may be drowned or shared by two kinds
of things. What the two views of a clip have in common over the whole training set is what sounds and is seen:
canonical correlation analysis (Hotelling 1936) finds those directions from co-occurrence alone, whatever
classes or numbers a view is made of (for two lists of classes it is correspondence analysis). The sum of both
views' canonical coordinates estimates the hidden cause (probabilistic CCA, Bach and Jordan 2005); it is
clustered.

Axes: `N` clips, `D` numbers of a vector, `d` canonical directions, `K` clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.isotonic import IsotonicRegression

from cacl.labels.cluster import Clustering, cluster, square_distances, standardize

Vectors = npt.NDArray[Any]

AUDIO_DIMENSIONS = (20, 30, 40, 60)
IMAGE_DIMENSIONS = (50, 100, 200)
"""Principal components that a view may keep; held-out correlation chooses."""


@dataclass(frozen=True)
class SharedSpace:
    """Both views of N clips in the same d directions, each weighted by how much the views share of it."""

    image: npt.NDArray[np.float64]
    """[N, d]."""
    audio: npt.NDArray[np.float64]
    """[N, d]."""
    correlation: npt.NDArray[np.float64]
    """[d] between the views, measured on clips that did not choose the directions."""
    dimensions: tuple[int, int]
    """Principal components of image and sound that were kept."""

    @property
    def joint(self) -> npt.NDArray[np.float64]:
        """The estimate of the common cause, [N, d]."""
        return (self.image + self.audio) / 2


@dataclass(frozen=True)
class Fusion:
    """Classes of N clips from both views."""

    clustering: Clustering
    confidence: npt.NDArray[np.float32]
    """[N] how often image alone and sound alone agree on the class of clips as clear as this one."""
    space: SharedSpace


def fuse(image: Vectors, audio: Vectors, clusters: int | None = None, seed: int = 0) -> Fusion:
    """Return classes of clips from their image vectors [N, D] and sound vectors [N, D]."""
    space = shared_space(image, audio, seed)
    clustering = cluster(space.joint, clusters, seed)
    return Fusion(clustering, agreement_confidence(clustering, space), space)


def shared_space(image: Vectors, audio: Vectors, seed: int = 0) -> SharedSpace:
    """Return the space that image vectors [N, D] and sound vectors [N, D] share.

    How many principal components each view keeps is chosen by the sum of squared correlations on held-out
    clips, and a direction's weight is the root of its held-out correlation: what chance has found has none.
    """
    image, audio = standardize(image), standardize(audio)
    order = np.random.default_rng(seed).permutation(len(image))
    first, second = order[::2], order[1::2]
    folds = [
        (
            _principal(image, chosen, IMAGE_DIMENSIONS),
            _principal(audio, chosen, AUDIO_DIMENSIONS),
            chosen,
            held,
        )
        for chosen, held in ((first, second), (second, first))
    ]
    tried = {
        (a, b): np.mean(
            [_correlation(i[:, :a], s[:, :b], chosen, held) for i, s, chosen, held in folds], axis=0
        )
        for a in _possible(IMAGE_DIMENSIONS, *(fold[0] for fold in folds))
        for b in _possible(AUDIO_DIMENSIONS, *(fold[1] for fold in folds))
    }
    best = max(tried, key=lambda pair: float((tried[pair].clip(0) ** 2).sum()))
    correlation = tried[best].clip(0)
    if not correlation.any():  # so few clips that nothing shared can be told: every direction counts the same
        correlation = np.ones_like(correlation)
    whole_image = _principal(image, order, IMAGE_DIMENSIONS)[:, : best[0]]
    whole_audio = _principal(audio, order, AUDIO_DIMENSIONS)[:, : best[1]]
    image_turn, audio_turn = _turns(whole_image, whole_audio)
    weight, kept = np.sqrt(correlation), correlation > 0
    return SharedSpace(
        (whole_image @ image_turn * weight)[:, kept],
        (whole_audio @ audio_turn * weight)[:, kept],
        correlation[kept],
        best,
    )


def agreement_confidence(clustering: Clustering, space: SharedSpace) -> npt.NDArray[np.float32]:
    """Return a confidence [N] in 0..1 for every clip, calibrated by the views' agreement.

    A clip's clarity is the likelihood of its cluster. Confidence is the share of clips as clear as this one
    (by isotonic regression) for which the image alone and the sound alone name the same cluster.
    """
    clarity = clustering.soft.max(1)
    alone = [square_distances(view, clustering.centers).argmin(1) for view in (space.image, space.audio)]
    agree = (alone[0] == alone[1]).astype(np.float64)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit_transform(clarity, agree)
    return fitted.astype(np.float32)


def views_of_classes(label: npt.NDArray[Any], soft: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
    """Return vectors [N, K] of predictions, for `fuse`: the root of probabilities, or one-hot labels.

    A clip with label -1 has zeros.
    """
    if soft is not None:
        return np.sqrt(soft.astype(np.float64))
    return (label[:, None] == np.unique(label[label >= 0])).astype(np.float64)


def _principal(vectors: Vectors, chosen: Vectors, dimensions: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return whitened principal coordinates of all vectors, the components found on the `chosen` rows.

    Components without variance are left out: whitened, they would be rounding errors made large.
    """
    few = vectors[chosen]
    most = min(max(dimensions), len(few) - 1, few.shape[1])
    components = PCA(most, whiten=True, svd_solver="full").fit(few)
    variance = components.explained_variance_
    return components.transform(vectors)[:, variance > 1e-9 * variance[0]]


def _turns(image: Vectors, audio: Vectors) -> tuple[Vectors, Vectors]:
    """Return how to turn white coordinates so that the views' directions correlate one by one, best first."""
    left, _, right = np.linalg.svd(image.T @ audio / len(image), full_matrices=False)
    return left, right.T


def _correlation(image: Vectors, audio: Vectors, chosen: Vectors, held: Vectors) -> npt.NDArray[np.float64]:
    """Return correlations [d] of directions that `chosen` rows decided, measured on the `held` rows."""
    image_turn, audio_turn = _turns(image[chosen], audio[chosen])
    a, b = image[held] @ image_turn, audio[held] @ audio_turn
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.maximum(np.sqrt((a**2).sum(0) * (b**2).sum(0)), 1e-12)


def _possible(dimensions: Sequence[int], *coordinates: Vectors) -> list[int]:
    """Return the dimensions that half of the clips can fill and vary in; at least one."""
    most = min(min(each.shape[1], len(each) // 4) for each in coordinates)
    return [k for k in dimensions if k <= most] or [max(1, most)]
