"""Passes over every pixel of a batch of maps: in PyTorch on any device, compiled on a CPU that has numba.

`passes` is the one place that asks where the maps lie; both forms return the same numbers.

Axes: `n` clips, `k` limits, `P` pixels of a map.
"""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
import torch
from torch import Tensor

kernels: Any
try:
    from cacl.evaluation import kernels
except ImportError:  # numba only makes this faster, and may be absent or not take this NumPy
    kernels = None


class Passes(typing.Protocol):
    """What metrics ask of all pixels of `maps` [n, P] and of bool `truth` [n, P]."""

    def thresholds(self, maps: Tensor, ranks: Tensor) -> Tensor:
        """Return [k, n], each map's values of ascending `ranks` [k, n] int64; see `metrics.thresholds`."""

    def thresholds_and_mean(self, maps: Tensor, ranks: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return `thresholds` [k, n] and the mean [n] of the `count` highest pixels of each map."""

    def overlaps(self, maps: Tensor, limits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Return int64 [k, n] twice: pixels of at least `limits` [k, n], and those of them in `truth`."""

    def count(self, truth: Tensor) -> Tensor:
        """Return float64 [n], how many pixels are true."""

    def ascending(self, maps: Tensor) -> Tensor:
        """Return [n, P], each map's values in ascending order."""

    def peak(self, maps: Tensor) -> Tensor:
        """Return int64 [n], the place of the highest pixel; of several, the first."""


class TorchPasses:
    """Sorts and sums of PyTorch."""

    def thresholds(self, maps: Tensor, ranks: Tensor) -> Tensor:
        return self.ascending(maps).gather(1, ranks.T).T

    def thresholds_and_mean(self, maps: Tensor, ranks: Tensor, count: int) -> tuple[Tensor, Tensor]:
        ordered = self.ascending(maps)
        return ordered.gather(1, ranks.T).T, ordered[:, -count:].mean(1)

    def overlaps(self, maps: Tensor, limits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        predictions = [maps >= limit[:, None] for limit in limits]
        predicted = torch.stack([prediction.sum(1) for prediction in predictions])
        return predicted, torch.stack([(prediction & truth).sum(1) for prediction in predictions])

    def count(self, truth: Tensor) -> Tensor:
        return truth.sum(1, dtype=torch.float64)

    def ascending(self, maps: Tensor) -> Tensor:
        return maps.sort(dim=1).values

    def peak(self, maps: Tensor) -> Tensor:
        return maps.argmax(1)


class CompiledPasses:
    """The kernels of `cacl.evaluation.kernels`, and NumPy where it is the quicker one."""

    def thresholds(self, maps: Tensor, ranks: Tensor) -> Tensor:
        return torch.from_numpy(kernels.thresholds(maps.numpy(), ranks.numpy()))

    def thresholds_and_mean(self, maps: Tensor, ranks: Tensor, count: int) -> tuple[Tensor, Tensor]:
        thresholds, means = kernels.thresholds_and_means(maps.numpy(), ranks.numpy(), count)
        return torch.from_numpy(thresholds), torch.from_numpy(means).to(maps.dtype)

    def overlaps(self, maps: Tensor, limits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        predicted, inside = kernels.overlaps(maps.numpy(), limits.numpy(), truth.numpy())
        return torch.from_numpy(predicted), torch.from_numpy(inside)

    def count(self, truth: Tensor) -> Tensor:
        return torch.from_numpy(kernels.count(truth.numpy())).double()

    def ascending(self, maps: Tensor) -> Tensor:
        return torch.from_numpy(np.sort(np.ascontiguousarray(maps.numpy()), axis=1))

    def peak(self, maps: Tensor) -> Tensor:
        # Row by row: over an axis NumPy takes three times as long.
        return torch.tensor([int(row.argmax()) for row in maps.numpy()], dtype=torch.int64)


def passes(maps: Tensor) -> Passes:
    """Return the form for the device of `maps`."""
    return CompiledPasses() if maps.device.type == "cpu" and kernels is not None else TorchPasses()
