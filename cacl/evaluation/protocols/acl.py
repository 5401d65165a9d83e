"""ACL's public evaluator: absolute thresholds on a map of 0..1, and the best of them on the test set.

Read off https://github.com/swimmiing/ACL-SSL (Eval.py, VGGSS/eval_utils.py, modules/mask_utils.py). The map
is a sigmoid of logits: of a model's cosines, it lies in 0.27..0.73. Its tables report the best of 19
thresholds, which the test set itself chooses; here the number's name says so. The clean form of an absolute
threshold is `ciou_absolute` of `cacl.evaluation.protocols.boxes`, at a θ that validation clips chose.

| quirk | what it does |
| --- | --- |
| `nan-when-nothing` | the CIoU of an empty prediction of an empty truth is 0/0, not a number; sane: 0 |

Its rule without a threshold, the median, is that of the first map of a batch for all of the batch, which is
each map's own in its scripts' batches of 1; `Rules.median_batch` is that size.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side, `T` thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import boxes
from cacl.evaluation.protocols.base import Numbers, Protocol, Truths, describe
from cacl.evaluation.rules import BestOf, TopShare, ranks
from cacl.evaluation.upsampling import Upsampling, upsample_by_interpolation

QUIRKS = frozenset({"nan-when-nothing"})


@dataclass(frozen=True)
class Rules:
    """What the evaluator lets one choose, as its public commands choose it."""

    thresholds: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(1, 20))
    offset: float = 0.0
    """Added to the upsampled logits: `b / w` of the model's own scale."""
    median_batch: int = 1
    quirks: frozenset[str] = QUIRKS


PUBLISHED = Rules()


def acl_protocol(name: str, version: int, consensus: bool = False, rules: Rules = PUBLISHED) -> Protocol:
    """Return the evaluator as a protocol; `consensus` as for boxes (Flickr)."""
    best = BestOf(rules.thresholds)
    return Protocol(
        name,
        version,
        truth=boxes.opinions_truth if consensus else boxes.objects_truth,
        scores=partial(scores, offset=rules.offset),
        measure=partial(measure, rules=rules),
        per_clip=per_clip,
        summarize=partial(summarize, thresholds=rules.thresholds),
        sweep=partial(sweep, thresholds=rules.thresholds),
        rules=dict.fromkeys(_best_names(rules.thresholds), best)
        | dict.fromkeys(("ciou_median", "auc_median"), TopShare()),
        main=_best_names(rules.thresholds)[0],
        has_detection=False,
        judged_by="ciou_median",
        ranked_by="ciou_median",
        quirks=rules.quirks,
        with_quirks=lambda left: acl_protocol(name, version, consensus, replace(rules, quirks=left)),
    )


def scores(maps: Tensor, size: int, upsampling: Upsampling, offset: float) -> Tensor:
    """Return heat maps [n, S, S] in 0..1 of logits, upsampled by the library's own call."""
    return (upsample_by_interpolation(maps, size, upsampling) + offset).sigmoid()


def measure(scores: Tensor, truths: Truths, rules: Rules) -> dict[str, Tensor]:
    """Return CIoU at each threshold, `ciou_sweep` [n, T], and at the median, and confidence."""
    truth = truths["boxes"]
    known = describe(truth)
    levels = torch.tensor(rules.thresholds, dtype=scores.dtype, device=scores.device)
    limits = torch.cat([levels[:, None].expand(-1, len(scores)), _medians(scores, truth, rules.median_batch)])
    found = metrics.ciou_at(scores, limits, truth, known["area"])
    if "nan-when-nothing" in rules.quirks:
        nothing = (known["area"] == 0) & (scores.amax((1, 2)) < limits)
        found = torch.where(nothing, torch.nan, found)
    return {
        **known,
        "ciou_sweep": found[:-1].T.contiguous(),
        "ciou_median": found[-1],
        "confidence": metrics.confidence_per_clip(scores),
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return CIoU ≥ 0.5 and AUC of sounding clips at the median; what a sweep chose has no interval."""
    return boxes.right_and_auc("ciou_median", "auc_median", results["ciou_median"][results.sounding])


def sweep(results: ClipResults, thresholds: tuple[float, ...]) -> dict[str, list[float]]:
    """Return the share at 0.5 and the AUC of sounding clips at each threshold."""
    columns = torch.from_numpy(results["ciou_sweep"][results.sounding]).T
    return {
        "threshold": list(thresholds),
        "ciou": [metrics.success_rate(ciou) for ciou in columns],
        "auc": [metrics.auc(ciou) for ciou in columns],
    }


def summarize(results: ClipResults, thresholds: tuple[float, ...]) -> Numbers:
    """Return the best of the sweep, by names that say who chose it, where it was, and the median's."""
    curve = sweep(results, thresholds)
    numbers: Numbers = {}
    for kind, name in zip(("ciou", "auc"), _best_names(thresholds), strict=True):
        numbers[name] = max(curve[kind])
        numbers[f"threshold_of_best_{kind}"] = thresholds[curve[kind].index(numbers[name])]
    median = results["ciou_median"][results.sounding]
    return numbers | boxes.share_and_auc("ciou_median", "auc_median", median)


def _best_names(thresholds: tuple[float, ...]) -> list[str]:
    return [f"{kind}_best_of_{len(thresholds)}_on_test_set" for kind in ("ciou", "auc")]


def _medians(scores: Tensor, truth: Tensor, batch: int) -> Tensor:
    """Return [1, n], the median of the first map of each batch, for all maps of the batch."""
    own = metrics.values_at(scores, ranks((TopShare(),), scores, truth))
    first = torch.arange(len(scores), device=scores.device) // batch * batch
    return own[:, first]
