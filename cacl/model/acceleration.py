"""Ways to make the encoders faster or smaller that change no number beyond rounding."""

from __future__ import annotations

from typing import Any

import torch

from cacl.model.localizer import Localizer


def speed_up(model: Localizer, compile: bool, channels_last: bool, activation_checkpointing: bool) -> None:
    """Change how the encoders of `model` are computed, in place; names of its state stay as they are."""
    if channels_last:
        model.to(memory_format=torch.channels_last)
    for trunk in (model.image_trunk, model.audio_trunk):
        trunk.recompute = activation_checkpointing
        network: Any
        for network in trunk.modules():  # timm's know by themselves how to be cut
            if activation_checkpointing and hasattr(network, "set_grad_checkpointing"):
                network.set_grad_checkpointing()
        if compile:
            trunk.compile()
