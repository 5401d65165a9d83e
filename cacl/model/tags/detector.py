"""YOLOX-nano, which finds COCO's objects in a frame (Ge et al. 2021, arXiv:2107.08430), through ONNX.

Axes: `n` frames, `S` pixels of a side, `k` boxes of a frame, `C` classes, `g` cells of a grid's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from cacl.errors import UserError, shorten
from cacl.files import sha256_file
from cacl.model.tags.table import COCO

SIZE = 416
"""Pixels of the side that the network sees."""
STRIDES = (8, 16, 32)
"""Pixels from one cell to the next, of its three grids of cells."""
LEAST_SCORE = 0.1
"""Of a box that is taken."""
MOST_OVERLAP = 0.45
"""IoU from which the weaker of two boxes of one class is dropped."""


@dataclass(frozen=True)
class Boxes:
    """What is found in one frame."""

    corners: Tensor
    """[k, 4] float32: left, top, right, bottom in 0..1."""
    scores: Tensor
    """[k] float32 in 0..1."""
    classes: Tensor
    """[k] int64, places in `COCO`."""

    def raster(self, side: int) -> Tensor:
        """Return [C, g, g]: of each class the best score of a box that covers a cell, by its covered share.

        A box that covers a part of a cell counts there for that part.
        """
        edges = torch.arange(side + 1, dtype=torch.float32) / side
        low, high = edges[:-1], edges[1:]
        left, top, right, bottom = self.corners.T[:, :, None]
        wide = (torch.minimum(right, high) - torch.maximum(left, low)).clamp(min=0) * side
        tall = (torch.minimum(bottom, high) - torch.maximum(top, low)).clamp(min=0) * side
        covered = self.scores[:, None, None] * tall[:, :, None] * wide[:, None, :]
        found = torch.zeros(len(COCO), side, side)
        for one, cells in zip(self.classes.tolist(), covered, strict=True):
            found[one] = torch.maximum(found[one], cells)
        return found


class Detector:
    """The network from its authors' file."""

    def __init__(self, file: Path, threads: int | None = None) -> None:
        """Open `file`. Raises UserError where it is not this network's."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own classes of errors have no common parent
            raise UserError(f"{file}: cannot be opened as an ONNX network ({shorten(error)})") from error
        asked, given = self._session.get_inputs(), self._session.get_outputs()
        cells = sum((SIZE // stride) ** 2 for stride in STRIDES)
        if [one.shape for one in (*asked, *given)] != [[1, 3, SIZE, SIZE], [1, cells, 5 + len(COCO)]]:
            raise UserError(f"{file}: is not YOLOX at {SIZE} pixels with {len(COCO)} classes; name its file")
        self.weights = sha256_file(file)
        self._input = asked[0].name
        self._centers, self._strides = _cells()

    def __call__(self, images: Tensor) -> list[Boxes]:
        """Return what is in frames [n, 3, S, S] uint8 RGB, each resized to the network's size."""
        from torchvision.ops import batched_nms

        pixels = images.cpu()
        if pixels.shape[-2:] != (SIZE, SIZE):
            pixels = functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
        seen = pixels.flip(1).float().numpy()
        found = []
        for frame in seen:
            (raw,) = self._session.run(None, {self._input: frame[None]})
            corners, scores, classes = self._decode(torch.from_numpy(np.ascontiguousarray(raw[0])))
            kept = batched_nms(corners, scores, classes, MOST_OVERLAP)
            found.append(Boxes(corners[kept], scores[kept], classes[kept]))
        return found

    def _decode(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return corners [k, 4] in 0..1, scores [k] and classes [k] of the network's cells [cells, 85]."""
        probability = raw[:, 4:5] * raw[:, 5:]
        cell, one = (probability > LEAST_SCORE).nonzero(as_tuple=True)
        center = (raw[cell, :2] + self._centers[cell]) * self._strides[cell]
        half = raw[cell, 2:4].exp() * self._strides[cell] / 2
        corners = torch.cat([center - half, center + half], 1).div(SIZE).clamp(0, 1)
        return corners, probability[cell, one], one


def _cells() -> tuple[Tensor, Tensor]:
    """Return the place [cells, 2] (x, y) of each cell in its grid, and the grid's stride [cells, 1]."""
    places, strides = [], []
    for stride in STRIDES:
        side = torch.arange(SIZE // stride, dtype=torch.float32)
        y, x = torch.meshgrid(side, side, indexing="ij")
        places.append(torch.stack([x, y], -1).flatten(0, 1))
        strides.append(torch.full((len(places[-1]), 1), float(stride)))
    return torch.cat(places), torch.cat(strides)
