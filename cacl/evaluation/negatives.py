"""Negative sound: does a model point at nothing when nothing in view is heard?

Each clip's frame is shown with its own sound and with sounds that nothing in it makes: silence, noise, and
the sound of something off-screen, each several times. One absolute threshold θ serves all maps, which are
scaled by no map's own range. What is predicted is strictly above θ. Definitions of Juanola et al. (2025,
arXiv 2410.01020), as its public code has them (https://github.com/xavijuanola/vssl_eval), less its quirks.

Axes: `n` clips, `S` pixels of an image's side, `K` repetitions of a kind of negative. A θ is a number, or
one a clip [n].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.pixels import passes
from cacl.evaluation.protocols.base import Protocol
from cacl.evaluation.systems import CPU_PIECE
from cacl.threads import over_threads

KINDS = ("silence", "noise", "offscreen")
_STEPS = [0.05 * step for step in range(21)]

Theta = float | Tensor


def predicted(scores: Tensor, theta: Theta) -> Tensor:
    """Return bool [..., n, S, S], the pixels of maps [..., n, S, S] above θ."""
    return scores > (theta[:, None, None] if isinstance(theta, Tensor) else theta)


def own_ciou(scores: Tensor, truth: Tensor, theta: Theta) -> Tensor:
    """Return float64 [n], the CIoU of the own sound's maps [n, S, S] at θ."""
    return metrics.ciou_per_clip(predicted(scores, theta), truth)


def _pixels(mask: Tensor) -> Tensor:
    """Return int64 [...], how many pixels of bool maps [..., S, S] are true."""
    flat = mask.flatten(-2)
    if flat.device.type == "cpu":  # in a tenth of the time
        return torch.from_numpy(np.count_nonzero(flat.numpy(), axis=-1))
    return flat.sum(-1)


def image_area(scores: Tensor, theta: Theta) -> Tensor:
    """Return float64 [..., n], the share of the image that is predicted: pIA, best 0 for negatives."""
    return _pixels(predicted(scores, theta)).double() / (scores.shape[-2] * scores.shape[-1])


def overlap_with_own(own: Tensor, negative: Tensor, theta: Theta) -> Tensor:
    """Return float64 [K, n], the IoU of the predictions for a clip's own [n, S, S] and negative sounds.

    `negative` is [K, n, S, S]. 1 where both predict nothing; a model that does not listen has 1 as well.
    """
    one, other = predicted(own, theta), predicted(negative, theta)
    both = _pixels(one & other)
    either = _pixels(one) + _pixels(other) - both
    return torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)


def measure_negatives(
    own: Tensor, negatives: Mapping[str, Tensor], truth: Tensor, theta: float, protocol: Protocol
) -> dict[str, dict[str, Tensor]]:
    """Return what clips get at θ, at the protocol's pixels, for `negative_numbers`.

    `own` [n, h, w] and `negatives` [K, n, h, w] by kind are a model's maps, `truth` [n, S, S]. `ciou` holds
    the own sound's [n] under "own", `image_areas` and `overlaps` [K, n] by kind. They are those of
    `own_ciou`, `image_area` and `overlap_with_own`, without maps of S × S pixels that are kept.
    """

    def piece(first: int) -> dict[str, dict[str, Tensor]]:
        rows = slice(first, first + CPU_PIECE)
        scores = protocol.score_maps(own[rows])
        # What is strictly above θ reaches the next number.
        limit = torch.nextafter(scores.new_tensor(theta), scores.new_tensor(torch.inf))
        mine = scores.flatten(1) >= limit
        areas, overlaps = {}, {}
        for kind, maps in negatives.items():
            counted = [_count(protocol.score_maps(some[rows]).flatten(1), limit, mine) for some in maps]
            theirs, both = (torch.stack(part) for part in zip(*counted, strict=True))
            either = mine.sum(1) + theirs - both
            areas[kind] = theirs.double() / mine.shape[1]
            overlaps[kind] = torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)
        return {
            "ciou": {"own": own_ciou(scores, truth[rows], theta)},
            "image_areas": areas,
            "overlaps": overlaps,
        }

    starts = range(0, max(1, len(own)), CPU_PIECE)
    parts = over_threads(piece, starts) if own.device.type == "cpu" else [piece(first) for first in starts]
    return {
        name: {kind: torch.cat([part[name][kind] for part in parts], -1) for kind in parts[0][name]}
        for name in parts[0]
    }


def _count(scores: Tensor, limit: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
    """Return int64 [n] twice: pixels of scores [n, P] that reach `limit`, and those of them in `mine`."""
    limits = limit.expand(1, len(scores)).contiguous()
    predicted, both = passes(scores).overlaps(scores, limits, mine)
    return predicted[0], both[0]


def area_over_image(image_areas: np.ndarray) -> float:
    """Return AOC: the area under the share of values that are at most 0, 0.05 … 1, by trapezoids; best 1."""
    shares = [float((image_areas <= step).mean()) for step in _STEPS]
    return float(np.trapezoid(shares, _STEPS))


def area_over_image_per_clip(image_areas: np.ndarray) -> np.ndarray:
    """Return float64 [n], whose mean is AOC of values [K, n]: the trapezoids are linear in the clips."""
    shares = (image_areas[..., None] <= np.array(_STEPS)).mean(0)
    return np.trapezoid(shares, _STEPS, axis=-1)


def negative_numbers(
    ciou: np.ndarray, image_areas: Mapping[str, np.ndarray], overlaps: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return the numbers of a test set at one θ, the same bits in any order of clips.

    `ciou` [n] are the sounding clips' own, `image_areas` and `overlaps` [K, n] by kind. `f_loc` and `f_auc`
    are harmonic means of the own sound's number and the mean over kinds of the negatives', `f_loc_<kind>`
    with one kind alone.
    """
    own, auc = metrics.mean(ciou), metrics.auc(torch.from_numpy(ciou))
    numbers = {"mean_ciou": own, "auc": auc}
    quiet: dict[str, float] = {}
    for kind, areas in image_areas.items():
        share, quiet[kind] = metrics.mean(areas.ravel()), area_over_image(areas)
        numbers |= {f"pia_{kind}": share, f"aoc_{kind}": quiet[kind]}
        numbers[f"f_loc_{kind}"] = harmonic(own, 1 - share)
        numbers[f"f_auc_{kind}"] = harmonic(auc, quiet[kind])
    for kind, values in overlaps.items():
        numbers[f"iou_positive_{kind}"] = metrics.mean(values.ravel())
    if quiet:
        shares = [1 - numbers[f"pia_{kind}"] for kind in quiet]
        numbers["f_loc"] = harmonic(own, sum(shares) / len(shares))
        numbers["f_auc"] = harmonic(auc, sum(quiet.values()) / len(quiet))
    return numbers


def harmonic(one: float, other: float) -> float:
    """Return the harmonic mean, 0 where both are 0."""
    return 2 * one * other / (one + other) if one + other else 0.0


def fit_theta(highest: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return θ by each published rule, from the highest value of every negative map, [K, n] by kind.

    `max`: their mean; `max10`: a tenth more; `maxq3_pooled`: the third quartile of all; `maxq3_largest`: the
    largest of the kinds' third quartiles. The clips are validation clips, never those that are tested. Kinds
    weigh as their repetitions do: give each as many.
    """
    every = np.concatenate([values.ravel() for values in highest.values()]).astype(np.float64)
    mean = metrics.mean(every)
    quartiles = [float(np.percentile(values.astype(np.float64), 75)) for values in highest.values()]
    return {
        "max": mean,
        "max10": 1.1 * mean,
        "maxq3_pooled": float(np.percentile(every, 75)),
        "maxq3_largest": max(quartiles),
    }
