"""What every protocol has.

Axes: `n` clips of a batch, `N` clips of the test set, `S` pixels of an image's side.

A protocol is a function from score maps and annotations to per-clip columns (`measure`), and from the columns
of a whole test set to named floats (`summarize`). Whoever changes what a number means raises the protocol's
`version`.

Annotations are those of the shards: `id`, `class_name`, `boxes` [[x0, y0, x1, y1], …] in 0..1, the loader's
decoded `mask` where there is one, and `other` (the same of the silent object). No boxes: nothing in view
sounds.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation import metrics
from cacl.evaluation.compare import Statistic, mean_over_clips
from cacl.evaluation.detection import Detections
from cacl.evaluation.upsampling import Upsampling, upsample
from cacl.threads import over_threads

_CPU_PIECE = 16
"""Clips whose pixels are measured at once on a CPU."""

Columns = Mapping[str, np.ndarray]
"""Per-clip results of a test set: `index` int64 [N], `id`, `class_name` str [N], `boxes` (how many) int64
[N], and the protocol's own [N]."""


@dataclass(frozen=True)
class Protocol(ABC):
    """What every protocol has; a subclass says what it measures."""

    name: str
    version: int
    upsampling: Upsampling = "bicubic"
    size: int = 224
    official_clips: int | None = None
    """How many clips the public test set has, where there is one."""
    sound: str = "wav"
    """The member of a packed clip that is played to the model."""
    compared: tuple[str, ...] = ("boxes",)
    """The names of the ground truth maps."""
    ranked_by: str = "ciou_top50"
    """The column that is higher where a clip is localized better."""
    judged_by: str = "ciou_top50"
    """The column that is 0.5 or more where the place is right."""

    def altered(self, upsampling: Upsampling | None, without_quirks: Sequence[str]) -> Self:
        """Return the protocol with another upsampling, and with quirks switched off.

        Raises UserError for a quirk that there is not.
        """
        if without_quirks:
            raise UserError(f"protocol {self.name}: has no quirk {without_quirks[0]!r}; leave it out")
        return replace(self, upsampling=upsampling or self.upsampling)

    def options(self) -> dict[str, str]:
        """Return what may be set beside name and version, for records."""
        return {"upsampling": self.upsampling}

    @abstractmethod
    def truths(self, annotation: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the maps [S, S] that a clip is compared with.

        Raises UserError naming the clip and the field.
        """

    def describe(self, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the columns [n] that do not depend on a model."""
        boxes = truths[self.compared[0]]
        area = metrics.area(boxes)
        return {"area": area, "ceiling_ciou_top50": metrics.ceiling_ciou(boxes, total=area)}

    @abstractmethod
    def measure(self, scores: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return one column [n] a name for score maps [n, S, S] and the stacked `truths` [n, S, S]."""

    @abstractmethod
    def summarize(self, columns: Columns) -> dict[str, float]:
        """Return the named numbers of a whole test set."""

    @abstractmethod
    def per_clip(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return [N] values a name, for every reported number that is a mean over clips."""

    def statistics(self, seeds: Sequence[Columns]) -> dict[str, Statistic]:
        """Return the reported numbers of runs on the same clips, for intervals and comparisons."""
        values = [self.per_clip(columns) for columns in seeds]
        stacked = {name: np.stack([one[name] for one in values]) for name in values[0]}
        return {name: mean_over_clips(one) for name, one in stacked.items() if one.size}

    def ceiling(self, columns: Columns) -> dict[str, float]:
        """Return the best that any model can reach, for the metrics that have such a bound below 1."""
        return {}

    def detections(self, columns: Columns) -> Detections:
        """Return which clips are right, which sound, and how sure the model is."""
        sounding = columns["boxes"] > 0
        correct = (columns[self.judged_by] >= 0.5) & sounding
        return Detections(*map(torch.from_numpy, (correct, sounding, columns["confidence"])))

    def breakdown(self, columns: Columns) -> dict[str, Any]:
        """Return the main number by size of the object and by class, with the clips behind each.

        Of sets with silent clips also, by what is heard, the share of them that is taken for sounding.
        """
        sounding = columns["boxes"] > 0
        good = columns[self.judged_by] >= 0.5
        area, classes = columns["area"], columns["class_name"]
        sizes = {
            name: sounding & (area >= low) & (area < high) for name, (low, high) in metrics.SIZE_BINS.items()
        }
        kinds = {str(name): sounding & (classes == name) for name in np.unique(classes[sounding]) if name}
        found = {
            "by_size": {name: _share(good, rows) for name, rows in sizes.items() if rows.any()},
            "by_class": {name: _share(good, rows) for name, rows in kinds.items()},
        }
        return found if sounding.all() else {**found, "silent": self.detections(columns).silent(classes)}

    def measure_maps(self, maps: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the columns of a model's `maps` [n, h, w], at the protocol's pixels.

        They are those of `describe` and `measure`. On a CPU every thread takes a few clips at a time, so that
        their pixels stay in its cache. Raises ValueError for maps that are not finite or not of the same
        clips.
        """
        metrics.validate(maps, truths[self.compared[0]])
        if maps.device.type != "cpu":
            return self._columns(maps, truths)

        def columns(first: int) -> dict[str, Tensor]:
            rows = slice(first, first + _CPU_PIECE)
            return self._columns(maps[rows], {name: truth[rows] for name, truth in truths.items()})

        parts = over_threads(columns, range(0, max(1, len(maps)), _CPU_PIECE))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _columns(self, maps: Tensor, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**self.describe(truths), **self.measure(self.scores(maps), truths)}

    def scores(self, maps: Tensor) -> Tensor:
        """Bring a model's maps [n, h, w] to [n, S, S]."""
        return upsample(maps.float(), self.size, self.upsampling)

    def measure_centered_box(self, truths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the columns of a model that always points at the middle of the frame.

        Its map falls off with the distance to the middle; the top 50 % is a square of half the image's area.
        """
        boxes = truths[self.compared[0]]
        offset = (torch.arange(self.size, device=boxes.device) + 0.5 - self.size / 2).abs()
        distance = torch.maximum(offset[:, None], offset)
        scores = (1 - distance / self.size).expand(boxes.shape)
        columns = {**self.describe(truths), **self.measure(scores, truths)}
        if "ciou_top50" in columns:
            half = distance < int(self.size * math.sqrt(0.5)) / 2
            columns["ciou_top50"] = metrics.ciou_per_clip(half.expand(boxes.shape), boxes)
        return columns


def _share(good: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    return {"n": int(rows.sum()), "right": float(good[rows].mean())}


def field(annotation: Mapping[str, Any], name: str) -> Any:
    """Return a field that the protocol needs. Raises UserError naming clip and field where it is absent."""
    if name not in annotation:
        clip_id = annotation.get("id", "?")
        raise UserError(
            f"clip {clip_id}: the annotation has no {name!r}, which this protocol needs; pack it again"
        )
    return annotation[name]
