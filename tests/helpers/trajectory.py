"""Trajectories of public training code: the rule that makes weights and inputs, and what is kept of a tensor.

The rule stands in tests/golden/README.md, "Training trajectories".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def draw(shape: tuple[int, ...], *key: int) -> np.ndarray:
    """Return float64 values in -1..1 that are a function of the key."""
    return 2 * np.random.Generator(np.random.Philox(np.random.SeedSequence([*key]))).random(shape) - 1


def make(shape: tuple[int, ...], kind: str, *key: int) -> Tensor:
    """Return the weight that a row of `weights` describes."""
    if kind in ("zeros", "ones"):
        return torch.full(shape, float(kind == "ones"), dtype=torch.float64)
    offset = 1.0 if kind.startswith("1 + ") else 0.0
    scale = next(float(word) for word in kind.removeprefix("1 + ").split() if word != "uniform")
    return torch.from_numpy(offset + scale * draw(shape, *key))


class Trajectory:
    """One file: what goes into a training, and what comes out of every step of it."""

    def __init__(self, file: Path) -> None:
        self.values = dict(np.load(file))
        self.directions: dict[int, np.ndarray] = {}
        for name in ("seed", "batch", "steps"):
            setattr(self, name, int(self.values[name]))

    seed: int
    batch: int
    steps: int

    def number(self, name: str, default: float = 0.0) -> float:
        """Return a number of the file, such as `tau`."""
        return float(self.values.get(name, default))

    def weights(self) -> dict[str, Tensor]:
        """Return the first weights, under the public code's names."""
        rows: list[tuple[str, int, list[int], str]] = json.loads(str(self.values["weights"]))
        return {name: make(tuple(shape), kind, self.seed, i) for name, i, shape, kind in rows}

    def inputs(self, step: int) -> tuple[Tensor, Tensor]:
        """Return a step's images and spectrograms, as networks take them."""
        images = 2 * draw((self.batch, 3, 224, 224), self.seed, 20000 + step)
        spectrograms = 2 * draw((self.batch, 1, 257, 200), self.seed, 30000 + step) - 1
        return torch.from_numpy(images), torch.from_numpy(spectrograms)

    def mask(self, step: int, first: int) -> Tensor:
        """Return which of the image trunk's features a step's dropout keeps; `first` is 40000 or 50000."""
        shape = (self.batch, 512, 7, 7)
        return torch.from_numpy(draw(shape, self.seed, first + step) >= 2 * self.number("dropout") - 1)

    def digest(self, tensors: dict[str, Tensor], names: str) -> np.ndarray:
        """Return norm and projection of the named tensors, [names, 2]."""
        found: list[Any] = []
        for j, name in enumerate(self.values[names]):
            value = tensors[str(name)].detach().numpy()
            direction = self._direction(value.shape, 10000 + j)
            found.append((np.linalg.norm(value), np.vdot(value, direction)))
        return np.array(found)

    def _direction(self, shape: tuple[int, ...], key: int) -> np.ndarray:
        """Return what a tensor is projected on; drawn once, since every step asks for it twice."""
        known = self.directions.get(key)
        if known is None or known.shape != shape:
            known = self.directions[key] = draw(shape, self.seed, key)
        return known
