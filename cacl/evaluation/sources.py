"""Several sources at once: which map is whose, and is every source found in the whole picture?

The sounds of K clips are summed and their frames joined, or one frame shows K objects; a model gives M maps,
in any order. Each map is compared with each source over the whole joined picture (frame-wise), maps and
sources are paired one to one so that the sum of CIoU is highest, and a source without a map counts 0. Public
code cuts the map to the source's own frame first (source-wise), which hands over the answer: see `cut`. A
model that hears no difference gives one map for all: `class_blind` is the floor that this sets.

Axes: `M` maps of a clip, `K` sources of it, `N` clips, `H`, `W` pixels of the joined picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.rules import Adaptive, ranks

LEVELS = (0.1, 0.3, 0.5)
"""CIoU that a source has to reach, in the names of numbers."""


def whole(maps: Tensor, sources: int) -> Tensor:
    """Return each map [M, H, W] as it is compared with each source, [M, K, H, W]: frame-wise."""
    return maps[:, None].expand(-1, sources, -1, -1)


def cut(maps: Tensor, sources: int) -> Tensor:
    """Return maps [M, H, W] cut to the frame of each source, joined vertically, [M, K, H / K, W].

    Source-wise: a number of it says so in its name.
    """
    return maps.unflatten(1, (sources, -1))


def class_blind(maps: Tensor) -> Tensor:
    """Return as many copies of the mean of maps [M, H, W]: what a model knows that tells no sources apart."""
    return maps.mean(0, keepdim=True).expand(len(maps), -1, -1) if len(maps) else maps


def measure_sources(maps: Tensor, truths: Tensor, theta: float) -> dict[str, Tensor]:
    """Return float64 [K] of a clip by `ciou_adaptive`, `ciou_theta` (above θ) and `pixel_ap`.

    `maps` is [M, K, H, W] as `whole` or `cut` give it, `truths` [K, H, W] bool. Each CIoU has pairs of its
    own; average precision is that of the pairs by the adaptive rule. 0 for a source without a map.
    """
    count, sources = maps.shape[:2]
    scores, wanted = maps.flatten(0, 1), truths.repeat(count, 1, 1)
    limits = metrics.thresholds(scores, ranks((Adaptive(),), scores, wanted))
    adaptive = metrics.ciou_at(scores, limits, wanted)[0].view(count, sources)
    above = metrics.ciou_per_clip(scores > theta, wanted).view(count, sources)
    precision = metrics.pixel_ap_per_clip(scores, wanted).view(count, sources)
    found = {name: truths.new_zeros(sources, dtype=torch.float64) for name in ("ciou_adaptive", "pixel_ap")}
    found["ciou_theta"] = torch.zeros_like(found["pixel_ap"])
    for ours, theirs in pairs(adaptive):
        found["ciou_adaptive"][theirs] = adaptive[ours, theirs]
        found["pixel_ap"][theirs] = precision[ours, theirs].nan_to_num()
    for ours, theirs in pairs(above):
        found["ciou_theta"][theirs] = above[ours, theirs]
    return found


def pairs(values: Tensor) -> list[tuple[int, int]]:
    """Return min(M, K) pairs of map and source, one to one, with the highest sum of `values` [M, K]."""
    rows, columns = linear_sum_assignment(values.cpu().numpy(), maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def joint_ap(maps: Tensor, truths: Tensor) -> float:
    """Return the average precision of the pixelwise maximum of maps [M, H, W] for all of truths [K, H, W].

    0 without a map: PIAP, of what is heard at all.
    """
    if not len(maps):
        return 0.0
    return float(metrics.pixel_ap_per_clip(maps.amax(0)[None], truths.any(0)[None]).nan_to_num())


def source_shares(name: str, ciou: np.ndarray) -> dict[str, float]:
    """Return the shares of sources, `ciou` of any shape, that reach each level, and the area; by names.

    `<name>_at_0.1` … and `auc` with what follows `ciou` in the name.
    """
    values = torch.from_numpy(ciou.ravel())
    shares = {f"{name}_at_{level}": metrics.success_rate(values, level) for level in LEVELS}
    return {**shares, name.replace("ciou", "auc"): metrics.auc(values)}


def source_numbers(
    clips: Sequence[dict[str, Tensor]], joint: Sequence[float], counts: Sequence[int]
) -> dict[str, float]:
    """Return the numbers of a test set, the same bits in any order of clips.

    `clips` are what `measure_sources` gave, `joint` what `joint_ap` gave, `counts` how many maps each had.
    """
    columns = {name: torch.cat([clip[name] for clip in clips]).cpu().numpy() for name in clips[0]}
    right = [count == len(clip["pixel_ap"]) for count, clip in zip(counts, clips, strict=True)]
    return {
        **source_shares("ciou_adaptive", columns["ciou_adaptive"]),
        **source_shares("ciou_theta", columns["ciou_theta"]),
        "cap": metrics.mean(columns["pixel_ap"]),
        "piap": metrics.mean(np.array(joint)),
        "count_accuracy": sum(right) / len(right),
    }
