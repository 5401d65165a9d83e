"""SSLalignment's public evaluator, quirks included: cIoU and interactive IoU as its papers report them.

Read off https://github.com/kaistmm/SSLalignment (test.py, utils.py). Maps are scaled to 0..1 each. With all
quirks off the numbers are those of `cacl.evaluation.protocols.interactive`.

| quirk | what it does |
| --- | --- |
| `strictly-above` | the value of the rank itself is not predicted: a pixel less, nothing of a flat top |
| `named-pictures` | a picture is the id up to the last underscore: on S4 a film, on Flickr everything |
| `nan-when-nothing` | the CIoU of an empty prediction of an empty truth is 0/0, not a number |

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import boxes, interactive
from cacl.evaluation.protocols.base import Numbers, Protocol, Truths, describe
from cacl.evaluation.protocols.slavc import ciou_with_quirks
from cacl.evaluation.rules import ranks
from cacl.evaluation.upsampling import Upsampling, upsample_by_interpolation

QUIRKS = frozenset({"strictly-above", "named-pictures", "nan-when-nothing"})


def alignment_protocol(
    name: str, version: int, consensus: bool = False, quirks: frozenset[str] = QUIRKS
) -> Protocol:
    """Return the evaluator as a protocol; `consensus` as for boxes (Flickr)."""
    ends = [f"{kind}{end}" for kind in ("ciou", "auc", "iiou", "iauc") for end in boxes.RULES]
    return Protocol(
        name,
        version,
        truth=boxes.opinions_truth if consensus else boxes.objects_truth,
        scores=scores,
        measure=partial(measure, quirks=quirks),
        per_clip=per_clip,
        per_picture=partial(per_picture, quirks=quirks),
        summarize=partial(summarize, quirks=quirks),
        ceiling=boxes.ceiling,
        rules={end: boxes.RULES["_adaptive" if end.endswith("_adaptive") else ""] for end in ends},
        main="ciou",
        upsampling="bilinear-corners",
        has_detection=False,
        quirks=quirks,
        with_quirks=lambda left: alignment_protocol(name, version, consensus, left),
    )


def scores(maps: Tensor, size: int, upsampling: Upsampling) -> Tensor:
    """Return maps [n, S, S], upsampled by the library's own call, each scaled to 0..1."""
    return metrics.min_max(upsample_by_interpolation(maps, size, upsampling))


def measure(scores: Tensor, truths: Truths, quirks: Set[str]) -> dict[str, Tensor]:
    """Return CIoU by both rules, and confidence."""
    truth = truths["boxes"]
    known = describe(truth)
    limits = metrics.values_at(scores, ranks(tuple(boxes.RULES.values()), scores, truth, known["area"]))
    found = []
    for limit in limits[:, :, None, None]:
        predicted = scores > limit if "strictly-above" in quirks else scores >= limit
        found.append(ciou_with_quirks(predicted, truth, quirks))
    return {
        **known,
        "ciou_top50": found[0],
        "ciou_adaptive": found[1],
        "confidence": metrics.confidence_per_clip(scores),
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return CIoU ≥ 0.5 and AUC of sounding clips by both rules, and the CIoU itself."""
    found = results.take(results.sounding)
    return {
        **boxes.right_and_auc("ciou", "auc", found["ciou_top50"]),
        **boxes.right_and_auc("ciou_adaptive", "auc_adaptive", found["ciou_adaptive"]),
        "mean_ciou": found["ciou_top50"],
    }


def per_picture(results: ClipResults, quirks: Set[str]) -> dict[str, np.ndarray]:
    """Return what `interactive.per_picture` returns, of the pictures that this evaluator sees."""
    return interactive.per_picture(_grouped(results, quirks))


def summarize(results: ClipResults, quirks: Set[str]) -> Numbers:
    """Return the evaluator's numbers."""
    found = results.take(results.sounding)
    return {
        **boxes.share_and_auc("ciou", "auc", found["ciou_top50"]),
        **boxes.share_and_auc("ciou_adaptive", "auc_adaptive", found["ciou_adaptive"]),
        **interactive.picture_numbers(_grouped(results, quirks)),
        "mean_ciou": metrics.mean(found["ciou_top50"]),
    }


def _grouped(results: ClipResults, quirks: Set[str]) -> ClipResults:
    if "named-pictures" not in quirks:
        return results
    stems = ["_".join(clip.split("_")[:-1]) for clip in results.id.tolist()]
    return replace(results, image=np.array([f"{stem}_" for stem in stems], dtype=str))
