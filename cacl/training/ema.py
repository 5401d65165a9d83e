"""A moving average of a model: its parameters and its buffers.

Public code averages the parameters alone, and the copy then normalizes with running statistics of step 0.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """`average = decay * average + (1 - decay) * model`, parameters and buffers of floating point alike.

    Counters and other whole numbers are copied. Every rank that averages the same model has the same average:
    nothing is exchanged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from a copy of `model` (not of a wrapper around it); `decay` lies in 0..1."""
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must lie in 0..1, got {decay}")
        self.decay = decay
        self.model = model
        self.module = copy.deepcopy(model).requires_grad_(False)
        """The average, for targets and for evaluation. In eval mode: its statistics are averages too."""
        self.module.eval()

    @torch.no_grad()
    def update(self) -> None:
        """Take the model's present state into the average. Nothing here waits for the device."""
        state = self.model.state_dict()
        averaged, current = [], []
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                averaged.append(average)
                current.append(state[name].to(average.dtype))
            else:
                average.copy_(state[name])
        torch._foreach_lerp_(averaged, current, 1 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average's state, with the names of the model's."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from an earlier average."""
        self.module.load_state_dict(state)
