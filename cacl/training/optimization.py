"""Optimizers and learning-rate schedules that a recipe can name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import nn

from cacl.options import Options

Fraction = Annotated[float, Field(ge=0, lt=1)]

Decayed = Literal["matrices", "all"]
Part = Literal["image", "audio", "loss"]
Rates = dict[Part, PositiveFloat]


@dataclass(frozen=True)
class Optimizer(Options):
    """What every optimizer is told."""

    name: str = ""
    learning_rate: PositiveFloat = 1e-3
    """Its highest value; the schedule multiplies it."""
    rates: Rates = field(default_factory=dict)
    """Learning rates of parts with their own: `image`, `audio` (a tower and its heads), `loss` (its head)."""
    weight_decay: NonNegativeFloat = 0.0
    """Decay of the weights that `decay` names."""
    decay: Decayed = "matrices"
    """Decay matrices and kernels alone, or biases, norms and scalars too, as torch's optimizers do."""

    def groups(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
        """Return the named parameters that require a gradient, in groups that learn and decay alike."""
        return parameter_groups(parameters, self.weight_decay, self.decay, self.rates)


@dataclass(frozen=True)
class _Adaptive(Optimizer):
    """What Adam and AdamW share."""

    beta1: Fraction = 0.9
    """How long gradients are averaged: over about 1 / (1 - beta1) steps."""
    beta2: Fraction = 0.999
    """The same for their squares."""

    kind: ClassVar[type[torch.optim.Adam]]

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Return the optimizer of the named parameters that require a gradient."""
        betas = (self.beta1, self.beta2)
        return self.kind(self.groups(parameters), lr=self.learning_rate, betas=betas, fused=True)


@dataclass(frozen=True)
class Adam(_Adaptive):
    """Adam (Kingma and Ba, 2015), whose weight decay is added to the gradient (L2)."""

    name: Literal["adam"] = "adam"

    kind: ClassVar[type[torch.optim.Adam]] = torch.optim.Adam


@dataclass(frozen=True)
class AdamW(_Adaptive):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 1e-4
    """Decay of the weights that `decay` names."""

    kind: ClassVar[type[torch.optim.Adam]] = torch.optim.AdamW


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    learning_rate: PositiveFloat = 1e-2
    """Its highest value; the schedule multiplies it."""
    momentum: Fraction = 0.0
    """Share of the last update that the next one keeps."""

    def build(self, parameters: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """Return the optimizer of the named parameters that require a gradient."""
        return torch.optim.SGD(
            self.groups(parameters), lr=self.learning_rate, momentum=self.momentum, fused=True
        )


OptimizerOptions = Annotated[AdamW | Adam | SGD, Field(discriminator="name")]


def parameter_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
    weight_decay: float,
    decay: Decayed = "matrices",
    rates: Mapping[Part, float] | None = None,
) -> list[dict[str, Any]]:
    """Return the groups of parameters that learn and decay alike.

    They are by part, and in it matrices and kernels come first. Parts without a rate of their own are one.
    `all` decays biases, norms and scalars (fewer than two axes) as well as matrices and kernels.
    """
    own = rates or {}
    members: dict[tuple[Part | None, bool], list[nn.Parameter]] = {
        (part, matrices): [] for part in (None, *own) for matrices in (True, False)
    }
    for name, parameter in parameters:
        if parameter.requires_grad:
            part = part_of(name)
            members[part if part in own else None, parameter.ndim >= 2].append(parameter)
    return [
        {
            "params": group,
            "weight_decay": weight_decay * (matrices or decay == "all"),
            **({} if part is None else {"lr": own[part]}),
        }
        for (part, matrices), group in members.items()
        if group
    ]


def part_of(name: str) -> Part:
    """Return the part of the localizer that its parameter `name` belongs to.

    What the loss learns are its head and its scalars.
    """
    if name.startswith("image_"):
        return "image"
    return "audio" if name.startswith("audio_") else "loss"


@dataclass(frozen=True)
class Constant(Options):
    """The same learning rate throughout, after a linear warm-up."""

    name: Literal["constant"] = "constant"
    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises from near 0."""

    def factor(self, step: int, total_steps: int) -> float:
        """Return what the learning rate of `step` (from 0) is multiplied with."""
        return min(1.0, (step + 1) / (self.warmup_steps + 1))


@dataclass(frozen=True)
class Cosine(Options):
    """A linear warm-up, then half a cosine from 1 down to `floor`."""

    name: Literal["cosine"] = "cosine"
    warmup_steps: NonNegativeInt = 0
    """Steps in which the learning rate rises from near 0."""
    floor: Fraction = 0.0
    """Share of the learning rate that is left at the end."""

    def factor(self, step: int, total_steps: int) -> float:
        """Return what the learning rate of `step` (from 0) is multiplied with."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


ScheduleOptions = Annotated[Constant | Cosine, Field(discriminator="name")]
