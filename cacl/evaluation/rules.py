"""Threshold rules: which pixels of a score map are predicted, at or above which value.

| rule | predicts | used by |
| --- | --- | --- |
| `TopShare` | a share of the pixels, half of them | EZ-VSL, SLAVC, FNAC and most others |
| `Adaptive` | as many pixels as the truth has | SSLalignment and what followed it |
| `Absolute` | what reaches a θ | vssl_eval, and whoever wants silence to be answered by nothing |
| `BestOf` | what reaches the θ that the test set likes best | ACL, F of AVSBench |

The first two ask for no scale and no θ. Where pixels tie with the last that is predicted, all of them are.
Numbers under different rules are different numbers, even where their names agree in a paper.

Axes: `n` clips of a batch, `k` rules, `P` pixels of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cacl.evaluation import metrics


@dataclass(frozen=True)
class TopShare:
    """The highest `share` of the pixels, whatever the truth's size."""

    share: float = 0.5

    def __str__(self) -> str:
        return "top half" if self.share == 0.5 else f"top {self.share:g}"

    def rank(self, pixels: int, covered: Tensor) -> Tensor:
        """Return int64 [n], the ascending rank of the lowest pixel of P `pixels` that is predicted."""
        return torch.full_like(covered, int(pixels * (1 - self.share)), dtype=torch.int64)


@dataclass(frozen=True)
class Adaptive:
    """As many pixels as are marked in the truth; half of them where it has none."""

    def __str__(self) -> str:
        return "as many pixels as the truth"

    def rank(self, pixels: int, covered: Tensor) -> Tensor:
        """Return int64 [n] as `TopShare.rank` does; `covered` [n] says how many pixels the truth has."""
        return torch.where(covered > 0, pixels - covered, pixels // 2).long()


@dataclass(frozen=True)
class Absolute:
    """Every pixel of at least `theta`."""

    theta: float
    chosen: str = "fixed"
    """Where θ comes from: `fixed` beforehand, or the clips on which it was chosen."""

    def __str__(self) -> str:
        return f"at least {self.theta:g} ({self.chosen})"


@dataclass(frozen=True)
class BestOf:
    """Every pixel that reaches the threshold which the test set itself likes best: a public habit."""

    thresholds: tuple[float, ...]

    def __str__(self) -> str:
        return f"best of {len(self.thresholds)} thresholds, chosen on the test set"


@dataclass(frozen=True)
class Region:
    """What a model outlines itself, by a mask or boxes."""

    def __str__(self) -> str:
        return "the model's own region"


Rule = TopShare | Adaptive | Absolute | BestOf | Region


def ranks(
    relative: Sequence[TopShare | Adaptive], scores: Tensor, truth: Tensor, total: Tensor | None = None
) -> Tensor:
    """Return int64 [k, n], the ranks by which rules cut score maps [n, S, S], for `metrics.thresholds`.

    `total` [n] is the area of `truth` [n, S, S] where it is known already.
    """
    covered = metrics.covered(truth, total)
    pixels = scores.shape[1] * scores.shape[2]
    return torch.stack([rule.rank(pixels, covered) for rule in relative])
