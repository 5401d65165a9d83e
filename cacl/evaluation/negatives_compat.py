"""What the public evaluator of negative sound reports, quirks included, under its own names.

vssl_eval (https://github.com/xavijuanola/vssl_eval, eval.py, utils_dir/eval_utils.py). Its θs are constants
typed into it, fitted elsewhere. Quirks, beside maps of negatives that its EZ-VSL loop brings to pixels in
another way than the own ones, which stand in what it is given: plain CIoU and AUC pool five values of a clip,
of its own median and of four θs, NaN where neither map nor truth has a pixel; plain IIoU is that of the last
of them; pixels are predicted strictly above a rank's value, so one less than the truth has by the adaptive
rule; pictures are told by names less what follows the last underscore.

Axes: `n` clips, `S` pixels of an image's side, `K` repetitions of a kind of negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.negatives import (
    Theta,
    area_over_image,
    harmonic,
    image_area,
    overlap_with_own,
    predicted,
)
from cacl.evaluation.rules import Adaptive, TopShare, ranks

THETAS = ("half", "max", "max10", "maxq3")
"""Its θs, in the order in which it pools them: 0.5, and by three rules of fitting."""
_OF_PICTURES = {"ciou": "iiou", "auc": "iauc"}
_NAMED = {"half": "05", "max": "max", "max10": "max10", "maxq3": "maxq3"}
_SHARES = (("ciou", metrics.success_rate), ("auc", metrics.auc))
_OF_NEGATIVES = {"half": "", "max": "_max", "max10": "_max10", "maxq3": "_maxq3"}


def reference_numbers(
    own: Tensor,
    negatives: Mapping[str, Tensor],
    truth: Tensor,
    thetas: Mapping[str, float],
    names: Sequence[str],
    end: str = "wogl",
) -> dict[str, float]:
    """Return its numbers of own maps [n, S, S] and negative ones [K, n, S, S] by kind; `truth` is [n, S, S].

    `thetas` are those of THETAS, `names` [n] those of the clips; `end` says in the numbers' names whether the
    maps are mixed with those of objects (`ogl`), unscaled: α times a map plus 1 − α times the objects'.
    """
    top, adaptive = metrics.values_at(own, ranks((TopShare(), Adaptive()), own, truth))
    pooled = torch.stack([_ciou(own, truth, limit) for limit in (top, *(thetas[one] for one in THETAS))], 1)
    found = _own_numbers(pooled, _ciou(own, truth, adaptive), pictures_by_name(names), end)
    for number, theta in enumerate(THETAS):
        at = torch.nan_to_num(pooled[:, 1 + number]).numpy()
        found[f"ciou_{_NAMED[theta]}_mean_{end}"] = metrics.mean(at)
        found[f"auc_{_NAMED[theta]}_{end}"] = metrics.auc(torch.from_numpy(at))
    limits: dict[str, Theta] = {_OF_NEGATIVES[one]: thetas[one] for one in THETAS}
    limits |= {"_ciou": top, "_ciouadap": adaptive}
    for kind, maps in negatives.items():
        for name, limit in limits.items():
            areas = image_area(maps, limit).numpy()
            found[f"pia_metric_{kind}{name}_{end}"] = metrics.mean(areas.ravel())
            found[f"auc_{kind}{name}_{end}"] = area_over_image(areas)
    found |= _overlaps(own, negatives, {one: limits[one] for one in _OF_NEGATIVES.values()}, end)
    return found | _overlaps(own, negatives, {"_adap": adaptive}, end)


def pictures_by_name(names: Sequence[str]) -> np.ndarray:
    """Return which picture each clip shows, [n]: a name less what follows its last underscore."""
    return np.unique([name.rsplit("_", 1)[0] for name in names], return_inverse=True)[1]


def balances(found: Mapping[str, float], kinds: Sequence[str]) -> dict[str, float]:
    """Return its F_LOC and F_AUC at `maxq3`, from `reference_numbers` without objects."""
    own, auc = found["ciou_maxq3_mean_wogl"], found["auc_maxq3_wogl"]
    quiet = {kind: 1 - found[f"pia_metric_{kind}_maxq3_wogl"] for kind in kinds}
    areas = {kind: found[f"auc_{kind}_maxq3_wogl"] for kind in kinds}
    share, area = sum(quiet.values()) / len(kinds), sum(areas.values()) / len(kinds)
    return {
        "pia_mean_neg": share,
        "aoc_mean_neg": area,
        "f_pos_neg": harmonic(own, share),
        "f_auc_aoc_pos_neg": harmonic(auc, area),
        **{f"f_ciou_pos_{kind}": harmonic(own, value) for kind, value in quiet.items()},
        **{f"f_auc_aoc_pos_{kind}": harmonic(auc, value) for kind, value in areas.items()},
    }


def ranges(own: Tensor, negatives: Mapping[str, Tensor]) -> dict[str, float]:
    """Return means and medians of the highest and lowest values of maps [n, h, w] and [K, n, h, w]."""
    found = {}
    for kind, maps in {"": own, **{f"_{kind}": maps for kind, maps in negatives.items()}}.items():
        for name, values in (("max", maps.amax((-2, -1))), ("min", maps.amin((-2, -1)))):
            found[f"{name}_heatmap{kind}"] = metrics.mean(values.numpy().ravel())
            found[f"{name}_median_heatmap{kind}"] = float(np.median(values.numpy()))
    return found


def _ciou(scores: Tensor, truth: Tensor, theta: Theta) -> Tensor:
    """Return float64 [n], NaN where neither prediction nor truth has a pixel."""
    prediction = predicted(scores, theta)
    ciou = metrics.ciou_per_clip(prediction, truth)
    nothing = ~prediction.flatten(1).any(1) & ~truth.flatten(1).any(1)
    return torch.where(nothing, torch.nan, ciou)


def _own_numbers(pooled: Tensor, adaptive: Tensor, pictures: np.ndarray, end: str) -> dict[str, float]:
    """Return shares and areas of the own sound: five values a clip [n, 5], and one by the adaptive rule."""
    rules = {"": pooled.flatten(), "_adap": adaptive}
    last = "_ogl" if end == "ogl" else ""
    found = {f"{name}{rule}{last}": number(one) for rule, one in rules.items() for name, number in _SHARES}
    if last:  # of which it has no numbers of pictures
        return found
    for rule, values in (("", pooled[:, -1]), ("_adap", adaptive)):
        lowest = torch.full((pictures.max() + 1,), torch.inf, dtype=torch.float64)
        lowest.scatter_reduce_(0, torch.from_numpy(pictures), values, "amin")
        found |= {f"{_OF_PICTURES[name]}{rule}": number(lowest) for name, number in _SHARES}
    return found


def _overlaps(
    own: Tensor, negatives: Mapping[str, Tensor], limits: Mapping[str, Theta], end: str
) -> dict[str, float]:
    """Return the mean overlaps of own and negative maps, and of two kinds of negatives."""
    found = {}
    kinds = list(negatives)
    for name, theta in limits.items():
        for place, kind in enumerate(kinds):
            values = overlap_with_own(own, negatives[kind], theta)
            found[f"iou_pos_{kind}{name}_{end}_metric"] = metrics.mean(values.numpy().ravel())
            for other in kinds[place + 1 :]:
                pairs = zip(negatives[kind], negatives[other], strict=True)
                values = torch.stack([overlap_with_own(one, two[None], theta)[0] for one, two in pairs])
                found[f"iou_{kind}_{other}{name}_{end}_metric"] = metrics.mean(values.numpy().ravel())
    return found
