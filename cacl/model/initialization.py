"""How weights that are not loaded begin."""

from __future__ import annotations

from typing import Literal

from torch import nn

Initialization = Literal["torch", "ez-vsl"]


def initialize_as_ez_vsl(*modules: nn.Module) -> None:
    """Draw weights as EZ-VSL, SLAVC and FNAC do for heads and sound network (github.com/stoneMo/EZ-VSL).

    Convolutions: normal of variance 2 / (outputs × kernel area), He's for the backward pass; linear layers:
    normal of deviation 0.01 within ±2; norms: weights normal around 1 of deviation 0.02, biases 0. Biases of
    convolutions and linear layers stay torch's.
    """
    for part in (part for module in modules for part in module.modules()):
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.01)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(part.weight, mean=1, std=0.02)
            nn.init.zeros_(part.bias)
