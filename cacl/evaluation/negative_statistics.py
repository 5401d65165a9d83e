"""Numbers under negative sound as functions of how often each clip counts: intervals, and pairs of runs.

Axes: `N` sounding clips, `K` repetitions of a kind, `R` seeds (runs that differ in nothing else),
`k` resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from cacl.evaluation import metrics
from cacl.evaluation.compare import Statistic, mean_over_clips
from cacl.evaluation.negatives import area_over_image_per_clip

_AREA, _OVERLAP, _IN_NOISE = "pia_", "iou_positive_", "ciou_"
"""How columns of kinds begin: of negatives' areas, of overlaps with the own map, of own sounds in noise."""


def negative_statistics(seeds: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Statistic]:
    """Return the numbers of `negatives.negative_numbers` of runs on the same clips, and those in noise.

    A run's columns are `ciou` [N], and by kind [N, K]: `pia_<kind>` and `iou_positive_<kind>` of negatives,
    `ciou_<kind>` and `iou_positive_<kind>` of the own sound in noise.
    """
    values = [_per_clip(columns) for columns in seeds]
    means = {name: mean_over_clips(np.stack([one[name] for one in values])) for name in values[0]}
    kinds = [name.removeprefix(_AREA) for name in seeds[0] if name.startswith(_AREA)]
    balanced: dict[str, Statistic] = {}
    for kind in kinds:
        balanced[f"f_loc_{kind}"] = _balance(means["mean_ciou"], [_less_than_all(means[f"pia_{kind}"])])
        balanced[f"f_auc_{kind}"] = _balance(means["auc"], [means[f"aoc_{kind}"]])
    if kinds:
        quiet = [_less_than_all(means[f"pia_{kind}"]) for kind in kinds]
        balanced["f_loc"] = _balance(means["mean_ciou"], quiet)
        balanced["f_auc"] = _balance(means["auc"], [means[f"aoc_{kind}"] for kind in kinds])
    return means | balanced


def _per_clip(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the values [N] whose means over clips are the numbers: all that are linear in the clips."""
    found = {"mean_ciou": columns["ciou"], "auc": _auc(columns["ciou"])}
    for name, values in columns.items():
        if name.startswith(_AREA):
            kind = name.removeprefix(_AREA)
            found |= {name: values.mean(1), f"aoc_{kind}": area_over_image_per_clip(values.T)}
        elif name.startswith(_OVERLAP):
            found[name] = values.mean(1)
        elif name.startswith(_IN_NOISE):
            kind = name.removeprefix(_IN_NOISE)
            found |= {f"mean_ciou_{kind}": values.mean(1), f"auc_{kind}": _auc(values.ravel(), values.shape)}
    return found


def _auc(ciou: np.ndarray, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the values [N] whose mean is the area, of CIoU [N], or of [N K] that has this `shape`."""
    values = metrics.auc_per_clip(torch.from_numpy(ciou)).numpy()
    return values if shape is None else values.reshape(shape).mean(1)


def _less_than_all(area: Statistic) -> Statistic:
    """Return 1 minus a number."""
    return replace(area, of=lambda weights: 1 - area.of(weights))


def _balance(own: Statistic, quiet: Sequence[Statistic]) -> Statistic:
    """Return the harmonic mean of a number and the mean of others, 0 where both are 0."""

    def of(weights: np.ndarray) -> np.ndarray:
        one = own.of(weights)
        other = np.mean([each.of(weights) for each in quiet], axis=0)
        total = one + other
        return np.divide(2 * one * other, total, out=np.zeros_like(total), where=total > 0)

    return replace(own, of=of)
