"""A moving average of a model, which makes targets in training and can be measured instead of the model.

How it makes targets is a choice. SLAVC runs its average in training mode: BatchNorm normalizes by the batch
at hand, the average's running statistics follow its own forwards, and dropout is at work. By default targets
are computed as in eval mode, with the model's present running statistics. Averaged ones would mix first
guesses with the truth for 1 / (1 - decay) steps in each of twenty layers: at decay 0.999 all sounds would
look alike to the targets for thousands of steps.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cacl.options import Options
from cacl.training.batch_norm import moving_norms


@dataclass(frozen=True)
class TargetOptions(Options):
    """How the moving average computes targets."""

    statistics: Literal["running", "batch"] = "running"
    """What its BatchNorm normalizes by: the model's running statistics, or the batch's own as SLAVC does."""
    dropout: bool = False
    """Whether its dropout is at work, as in SLAVC; masks are other than the model's."""


class Ema:
    """`average = decay * average + (1 - decay) * model` of every parameter.

    Buffers are copied, but where statistics are the batch's: then running statistics follow the average's own
    forwards (see `RunningStatistics`). Every rank that averages the same model has the same average: nothing
    is exchanged here.
    """

    def __init__(self, model: nn.Module, decay: float, target: TargetOptions | None = None) -> None:
        """Start from a copy of `model` (not of a wrapper around it); `decay` lies in 0..1."""
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must lie in 0..1, got {decay}")
        target = target or TargetOptions()
        self.decay = decay
        self.model = model
        self.module = copy.deepcopy(model).requires_grad_(False)
        """The average, in the mode that makes targets."""
        norms = moving_norms(self.module.train())
        self.module.train(target.dropout)
        for norm in norms:
            norm.train(target.statistics == "batch")
        moving = {id(buffer) for norm in norms if norm.training for buffer in norm.buffers()}
        self._copied = [name for name, buffer in self.module.named_buffers() if id(buffer) not in moving]

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present state into the average. Nothing here waits for the device."""
        averages: list[Tensor] = list(self.module.parameters())
        current = [p.to(a.dtype) for p, a in zip(self.model.parameters(), averages, strict=True)]
        torch._foreach_lerp_(averages, current, 1 - self.decay)
        if self._copied:
            mine, models = dict(self.module.named_buffers()), dict(self.model.named_buffers())
            torch._foreach_copy_(
                [mine[name] for name in self._copied], [models[name] for name in self._copied]
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average's state, with the names of the model's."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier average."""
        self.module.load_state_dict(state)
