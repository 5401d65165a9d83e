"""The control that saliency cannot pass: the same frames with the silent object's sound.

The peak must leave the first object (`peak_in_first_box`) and go to the other (`peak_in_sounding_box`).

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cacl.annotation import OTHER_SOUND, join_boxes
from cacl.evaluation import metrics
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.ground_truth import pixel_boxes, union_map
from cacl.evaluation.protocols.base import Annotation, Numbers, Protocol, Truths, describe, known, required


def other_sound_protocol(name: str, version: int) -> Protocol:
    """Return the control."""
    return Protocol(
        name,
        version,
        truth=truth,
        measure=measure,
        per_clip=per_clip,
        summarize=summarize,
        audio=OTHER_SOUND,
        has_detection=False,
    )


def truth(annotation: Annotation, size: int) -> Truths:
    """Return, bool, the boxes of the object that sounds now (`sounding`) and of the one before (`first`)."""
    playing = annotation.heard_in(OTHER_SOUND)
    boxes = join_boxes(playing) if playing else None
    both = {
        "sounding": known(annotation, f"boxes of {OTHER_SOUND}", boxes),
        "first": required(annotation, "boxes"),
    }
    return {name: union_map(pixel_boxes(boxes, size, annotation.id), size) for name, boxes in both.items()}


def measure(scores: Tensor, truths: Truths) -> dict[str, Tensor]:
    """Return where the peak lies."""
    return {
        **describe(truths["sounding"]),
        "peak_in_sounding_box": metrics.peak_inside(scores, truths["sounding"]),
        "peak_in_first_box": metrics.peak_inside(scores, truths["first"]),
    }


def per_clip(results: ClipResults) -> dict[str, np.ndarray]:
    """Return where each peak lies."""
    return {name: results[name] for name in ("peak_in_sounding_box", "peak_in_first_box")}


def summarize(results: ClipResults) -> Numbers:
    """Return the shares of clips."""
    return {name: float(values.mean()) for name, values in per_clip(results).items()}
