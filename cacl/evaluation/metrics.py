"""Metrics of sound source localization: plain functions on tensors, batched on the tensors' device.

Axes: `n` clips, `S` pixels of an image's side, `P = S * S`.

Conventions
- A *score map* [n, S, S] is real, higher where the model hears the sound; no scale is assumed except where a
  function says so. A *truth* [n, S, S] is bool or in 0..1 (see `cacl.evaluation.ground_truth`); zeros where
  nothing sounds.
- A *prediction* [n, S, S] is bool.
- A map with NaN or infinity raises ValueError: `validate` stands at the door of `cacl.evaluation.measure`.
- The CIoU of a clip in which nothing sounds is 0 whatever is predicted, and such clips enter no mean of CIoU.
- Which pixels are predicted is a rule of `cacl.evaluation.rules`; all of them predict what is at or above a
  threshold. "Top 50 %" always predicts half of the image, so a box under a quarter of it can never reach
  CIoU 0.5; `ceiling_ciou` says what can be reached.

Numbers that rank clips by confidence (AP, max-F1) are in `cacl.evaluation.detection`.

The definitions are those of EZ-VSL's and SLAVC's public evaluators, less their quirks; the quirks are in
`cacl.evaluation.protocols.slavc`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation.pixels import passes

SIZE_BINS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 144**2), "huge": (144**2, 10**9)}
"""Bounds of the ground truth's area, in pixels of a 224×224 image."""

_THRESHOLDS = [0.05 * step for step in range(21)]


def validate(maps: Tensor, truth: Tensor) -> None:
    """Raise ValueError unless maps [n, h, w] are finite, and truth [n, S, S] of the same clips is in 0..1."""
    if maps.ndim != 3 or truth.ndim != 3 or len(maps) != len(truth) or truth.shape[1] != truth.shape[2]:
        shapes = f"{list(maps.shape)} and {list(truth.shape)}"
        raise ValueError(f"expected maps [n, h, w] and truth [n, S, S] of the same clips, got {shapes}")
    finite = torch.isfinite(maps).flatten(1).all(1)
    if not finite.all():
        broken = (~finite).nonzero()[:5, 0].tolist()
        raise ValueError(f"maps hold NaN or infinity in rows {broken} of this batch")
    if truth.dtype != torch.bool and len(truth) and not (truth.amin() >= 0 and truth.amax() <= 1):
        raise ValueError(f"expected truth in 0..1, got {truth.amin():.3g} to {truth.amax():.3g}")


# A value per clip.


def thresholds(scores: Tensor, ranks: Tensor) -> Tensor:
    """Return [k, n], numbers that the `ranks` [k, n] int64 lowest pixels of each map are below, others not.

    Where pixels tie with the value of that rank, it is this value, and fewer lie below.
    """
    flat = scores.flatten(1)
    return passes(flat).thresholds(flat, ranks)


def values_at(scores: Tensor, ranks: Tensor) -> Tensor:
    """Return [k, n], the values themselves of ascending `ranks` [k, n] int64, by a sort.

    For rules that ask what is strictly above one, or compare another map with it.
    """
    return passes(scores).ascending(scores.flatten(1)).gather(1, ranks.T).T


def min_max(maps: Tensor) -> Tensor:
    """Return maps [n, S, S] scaled to 0..1 each; a constant one stays."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / torch.where(high > low, high - low, 1), maps)


def top_prediction(scores: Tensor, rank_fraction: float = 0.5) -> Tensor:
    """Return bool [n, S, S]: the pixels at or above the value of ascending rank `int(P * rank_fraction)`."""
    ranks = _same_rank(scores, rank_fraction)
    return scores >= thresholds(scores, ranks)[0, :, None, None]


def area_prediction(scores: Tensor, pixels: Tensor) -> Tensor:
    """Return bool [n, S, S]: the `pixels` [n] highest pixels of each map, and those that tie with the last.

    0 predicts nothing.
    """
    total = scores.shape[1] * scores.shape[2]
    first = (total - pixels.round().long()).clamp(max=total - 1)
    limits = thresholds(scores, first[None])[0]
    return (scores >= limits[:, None, None]) & (pixels > 0)[:, None, None]


def _same_rank(scores: Tensor, rank_fraction: float) -> Tensor:
    rank = int(scores.shape[1] * scores.shape[2] * rank_fraction)
    return scores.new_full((1, len(scores)), rank, dtype=torch.int64)


def ciou_per_clip(prediction: Tensor, truth: Tensor) -> Tensor:
    """Return float64 [n]: `Σ pred·g / (Σ g + Σ pred·[g = 0])`, 0 where nothing sounds.

    Consensus intersection over union (Senocak et al., 2018). Sums are exact: multiples of one half.
    """
    overlap = inside = area(prediction & sounding(truth))
    if truth.dtype != torch.bool:
        inside = torch.linalg.vecdot(prediction.flatten(1).double(), truth.flatten(1).double())
    return _consensus(inside, overlap, area(prediction), area(truth))


def ciou_at(scores: Tensor, limits: Tensor, truth: Tensor, total: Tensor | None = None) -> Tensor:
    """Return float64 [k, n], `ciou_per_clip` of the pixels of each map that are at least `limits` [k, n].

    `total` [n] is the truth's area where it is known already.
    """
    if truth.dtype != torch.bool:
        return torch.stack([ciou_per_clip(scores >= limit[:, None, None], truth) for limit in limits])
    predicted, inside = passes(scores).overlaps(scores.flatten(1), limits, truth.flatten(1))
    return _consensus(inside, inside, predicted, area(truth) if total is None else total)


def _consensus(inside: Tensor, overlap: Tensor, predicted: Tensor, total: Tensor) -> Tensor:
    return inside / (total + predicted - overlap).clamp(min=0.5)


def sounding(truth: Tensor) -> Tensor:
    """Return bool [n, S, S], where anybody says that it sounds."""
    return truth if truth.dtype == torch.bool else truth > 0


def covered(truth: Tensor, total: Tensor | None = None) -> Tensor:
    """Return float64 [n], how many pixels anybody says sound; `total` is the truth's area if it is known."""
    if truth.dtype == torch.bool and total is not None:
        return total
    return area(sounding(truth))


def area(truth: Tensor) -> Tensor:
    """Return float64 [n], the sum over pixels of bool or 0..1 maps [n, S, S]."""
    flat = truth.flatten(1)
    return passes(flat).count(flat) if flat.dtype == torch.bool else flat.sum(1, dtype=torch.float64)


def ceiling_ciou(truth: Tensor, rank_fraction: float = 0.5, total: Tensor | None = None) -> Tensor:
    """Return float64 [n], the best CIoU that a prediction of the size of `top_prediction` can reach.

    `total` [n] is the truth's area where it is known already.
    The best prediction takes the truth's highest pixels; where it is larger than the truth, all of them.
    """
    pixels = truth[0].numel() if len(truth) else 1
    predicted = pixels - int(pixels * rank_fraction)
    total = area(truth) if total is None else total
    marked = covered(truth, total)
    inside = total.clamp(max=predicted)
    if truth.dtype != torch.bool:
        for clip in (marked > predicted).nonzero().flatten().tolist():
            inside[clip] = truth[clip].flatten().topk(predicted).values.double().sum()
    return inside / (total + (predicted - marked).clamp(min=0)).clamp(min=0.5)


def confidence_per_clip(scores: Tensor, fraction: float = 0.25) -> Tensor:
    """Return [n], the mean of the highest `fraction` of pixels: how sure it is that something sounds."""
    return thresholds_and_confidence(scores, _same_rank(scores, 0)[:0], fraction)[1]


def thresholds_and_confidence(scores: Tensor, ranks: Tensor, fraction: float = 0.25) -> tuple[Tensor, Tensor]:
    """Return `thresholds` [k, n] and `confidence_per_clip` [n] of the same maps."""
    flat = scores.flatten(1)
    return passes(flat).thresholds_and_mean(flat, ranks, -(-flat.shape[1] // round(1 / fraction)))


def peak(scores: Tensor) -> Tensor:
    """Return int64 [n, 2], (x, y) of each map's highest pixel; of several, the first in reading order."""
    place = passes(scores).peak(scores.flatten(1))
    return torch.stack([place % scores.shape[2], place // scores.shape[2]], dim=1)


def peak_inside(scores: Tensor, truth: Tensor) -> Tensor:
    """Return bool [n]: whether the peak lies where the truth is above 0 (the pointing game)."""
    place = passes(scores).peak(scores.flatten(1))
    return truth.flatten(1).gather(1, place[:, None])[:, 0] > 0


def pixel_ap_per_clip(scores: Tensor, truth: Tensor) -> Tensor:
    """Return float64 [n]: average precision of pixels ranked by score, positive where truth ≥ 0.5.

    NaN without a positive pixel. The mean over positive pixels of the precision at their score, tied pixels
    together: what scikit-learn's `average_precision_score` computes for one clip.
    """
    ordered, positive = passes(scores).ascending(scores.flatten(1)), truth >= 0.5
    values = []
    for every, clip_scores, clip_positive in zip(ordered, scores, positive, strict=True):
        own = clip_scores[clip_positive].sort().values
        above = len(own) - torch.searchsorted(own, own)
        above_in_all = len(every) - torch.searchsorted(every, own)
        values.append((above.double() / above_in_all).mean())
    return torch.stack(values) if values else scores.new_zeros(0, dtype=torch.float64)


# A value over clips, of `ciou` float [n].


def success_rate(ciou: Tensor, threshold: float = 0.5) -> float:
    """Return the share of clips with CIoU ≥ threshold: the field's reported "CIoU", also LocAcc or AP50."""
    return float((ciou.double() >= threshold).double().mean())


def mean(values: np.ndarray) -> float:
    """Return the mean of those that are not NaN, the same to the last bit in any order of clips."""
    known = values[~np.isnan(values)]
    return math.fsum(known.tolist()) / len(known) if len(known) else math.nan


def auc(ciou: Tensor) -> float:
    """Return the area under the success rate over thresholds 0, 0.05 … 1, by trapezoids.

    NaN is below every threshold. Shares are counted, so that the order of clips changes no bit.
    """
    thresholds = torch.tensor(_THRESHOLDS, dtype=torch.float64, device=ciou.device)
    shares = (ciou.double()[:, None] >= thresholds).double().mean(0)
    return float(torch.trapezoid(shares, thresholds))


def auc_per_clip(ciou: Tensor) -> Tensor:
    """Return float64 [n], whose mean is `auc`: the trapezoids are linear in the clips."""
    thresholds = torch.tensor(_THRESHOLDS, dtype=torch.float64, device=ciou.device)
    return torch.trapezoid((ciou.double()[:, None] >= thresholds).double(), thresholds, dim=1)
