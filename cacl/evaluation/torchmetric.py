"""The evaluator as a metric of torchmetrics, for Lightning and other loops that gather metrics over ranks.

Axes: `N` clips, `h`, `w` cells of a map, `K` columns of a protocol.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.evaluator import Boxes, Evaluator, Size, canonical
from cacl.evaluation.measure import measure_annotated
from cacl.evaluation.protocols import Protocol
from cacl.evaluation.upsampling import Upsampling
from cacl.extras import named_extras

with named_extras():
    from torchmetrics import Metric


class LocalizationMetric(Metric):
    """Measure maps batch by batch, over all ranks, by a protocol; see `cacl.evaluate` for what they are.

    `compute` returns the numbers of the clips of every rank, the same on all and whatever their order. A
    sampler that repeats clips to make ranks equally long makes them count twice; leave it out in evaluation.

    >>> metric = LocalizationMetric("vggss")
    >>> metric.update(torch.rand(3, 7, 7), [[(0.1, 0.2, 0.9, 0.8)]] * 3)
    >>> 0 <= metric.compute()["ciou"] <= 1
    True
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    rows: list[Tensor]
    """[N, 2 + K] of each batch: a clip's number of boxes, its picture, and the protocol's columns."""

    def __init__(
        self,
        protocol: str | Protocol = "vggss",
        *,
        upsampling: Upsampling | None = None,
        without_quirks: Collection[str] = (),
        **more: Any,
    ) -> None:
        """`more` are torchmetrics' own options. Raises UserError as `Evaluator` does."""
        super().__init__(**more)
        self.protocol = Evaluator(protocol, upsampling=upsampling, without_quirks=without_quirks).protocol
        nothing = measure_annotated(torch.zeros(0, 1, 1), [], self.protocol)
        self._kinds = {name: (values.dtype, values.shape[1:]) for name, values in nothing.columns.items()}
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget every clip."""
        super().reset()
        # torchmetrics gathers nothing, and waits for ever, where one rank's list is empty.
        width = 2 + sum(math.prod(shape) for _, shape in self._kinds.values())
        self.rows = [torch.zeros(0, width, dtype=torch.float64, device=self.device)]

    def update(
        self,
        maps: np.ndarray | Tensor,
        boxes: Sequence[Boxes] | None = None,
        *,
        size: Size | None = None,
        masks: Sequence[Any] | np.ndarray | Tensor | None = None,
        images: Sequence[str | None] | None = None,
    ) -> None:
        """Measure a batch of N maps [N, h, w]. Raises UserError as `cacl.evaluate` does."""
        evaluator = Evaluator(self.protocol)
        evaluator.update(maps, boxes, size=size, masks=masks, images=images)
        if not len(evaluator):
            return
        results = evaluator.results()
        pictures = np.array([_number(name) for name in results.image.tolist()])
        columns = [results.boxes, pictures, *(results[name] for name in self._kinds)]
        wide = [one.astype(np.float64).reshape(len(results), -1) for one in columns]
        self.rows.append(torch.from_numpy(np.concatenate(wide, axis=1)).to(self.device))

    def compute(self) -> dict[str, float]:
        """Return the protocol's numbers. Raises UserError where no clip was added, or none has boxes."""
        rows = torch.cat([self.rows] if isinstance(self.rows, Tensor) else self.rows).cpu().numpy()
        boxes, pictures = rows[:, 0], rows[:, 1].astype(np.int64)
        if not boxes.any():
            raise UserError("no clip has boxes, so that there is nothing to find; give boxes of what sounds")
        columns, first = {}, 2
        for name, (kind, shape) in self._kinds.items():
            last = first + math.prod(shape)
            columns[name] = rows[:, first:last].reshape(-1, *shape).astype(kind)
            first = last
        index = np.arange(len(rows))
        results = ClipResults(
            index=index,
            id=index.astype(str),
            class_name=np.full(len(rows), ""),
            boxes=boxes.astype(np.int64),
            columns=columns,
            image=np.where(pictures > 0, pictures.astype(str), ""),
        )
        return self.protocol.summarize(canonical(results))


def _number(picture: str) -> int:
    """Return a number for a picture's name that a float64 holds, 0 for none: ranks gather no text."""
    digest = hashlib.sha256(picture.encode()).digest()
    return 1 + int.from_bytes(digest[:6], "big") if picture else 0
