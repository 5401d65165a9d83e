"""Interactive sets: several sounds over one picture, each with boxes of its own (IS3, VPO, AVSBench).

A model that looks at what is salient finds one object of a picture whatever it hears; `iiou` counts the
pictures in which every object is found when it sounds. Clips of one picture share the annotation's `image`;
a clip without it is a picture of its own. Definitions of SSLalignment (Senocak et al., 2023), less the
quirks of its code, which are in `cacl.evaluation.protocols.alignment`.

Axes: `N` clips of the test set, `G` pictures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import boxes
from cacl.evaluation.protocols.base import Numbers, Protocol

COLUMNS = {"": "ciou_top50", "_adaptive": "ciou_adaptive"}
"""The columns of the two rules, by what the names of their numbers end in."""


def interactive_protocol(
    name: str, version: int, official_clips: int | None = None, consensus: bool = False
) -> Protocol:
    """Return the protocol of boxes with the numbers of whole pictures; arguments as for boxes."""
    plain = boxes.boxes_protocol(name, version, official_clips, consensus)
    more = {f"{kind}{end}": rule for end, rule in boxes.RULES.items() for kind in ("iiou", "iauc")}
    return replace(
        plain,
        summarize=summarize,
        per_picture=per_picture,
        ceiling=ceiling,
        rules={**plain.rules, **more},
        main="iiou_adaptive",
    )


def lowest(results: ClipResults, column: str) -> np.ndarray:
    """Return float64 [G], the lowest value of each picture's sounding clips; NaN is lower than any."""
    found = results.take(results.sounding)
    pictures = found.pictures
    low = np.full(pictures.max(initial=-1) + 1, np.inf)
    np.minimum.at(low, pictures, found[column])
    return low


def per_picture(results: ClipResults) -> dict[str, np.ndarray]:
    """Return whether all of a picture is found at 0.5, and its part of the area, by both rules."""
    values: dict[str, np.ndarray] = {}
    for end, column in COLUMNS.items():
        values |= boxes.right_and_auc(f"iiou{end}", f"iauc{end}", lowest(results, column))
    return values


def picture_numbers(results: ClipResults) -> Numbers:
    """Return `iiou` and `iauc`, the means over pictures, by both rules."""
    numbers: Numbers = {}
    for end, column in COLUMNS.items():
        numbers |= boxes.share_and_auc(f"iiou{end}", f"iauc{end}", lowest(results, column))
    return numbers


def summarize(results: ClipResults) -> Numbers:
    """Return the numbers of boxes, then those of pictures."""
    return boxes.summarize(results) | picture_numbers(results)


def ceiling(results: ClipResults) -> Numbers:
    """Return the bounds of boxes, and of pictures: that of the object which is hardest by its size."""
    drawn = replace(results, columns={**results.columns, "drawn": (results["area"] > 0).astype(float)})
    return {
        **boxes.ceiling(results),
        **boxes.share_and_auc("iiou", "iauc", lowest(results, "ceiling_ciou_top50")),
        **boxes.share_and_auc("iiou_adaptive", "iauc_adaptive", lowest(drawn, "drawn")),
    }
