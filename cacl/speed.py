"""Ways to make the encoders faster or smaller that change no number beyond rounding."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cacl.model import Localizer


def speed_up(model: Localizer, compile: bool, channels_last: bool, activation_checkpointing: bool) -> None:
    """Change how the encoders of `model` are computed, in place; names of its state stay as they are."""
    if channels_last:
        model.to(memory_format=torch.channels_last)
    for trunk in (model.image_trunk, model.sound_trunk):
        if activation_checkpointing and any(p.requires_grad for p in trunk.parameters()):
            _recompute(trunk)
        if compile:
            trunk.compile()


def _recompute(trunk: nn.Module) -> None:
    """Keep only what enters the trunk, and compute the rest again in the backward pass."""
    forward = trunk.forward

    def checkpointed(*arguments: Any) -> Any:
        return checkpoint(forward, *arguments, use_reentrant=False)

    trunk.forward = checkpointed
