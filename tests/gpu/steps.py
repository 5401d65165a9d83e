"""A few steps of the small training of tests/training, on any device and at any precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from cacl.loss import LossOptions, global_loss
from cacl.model.acceleration import speed_up
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.training.ema import Ema
from cacl.training.engines import DDP, DeepSpeed
from cacl.training.engines.base import Engine
from cacl.training.optimization import AdamW
from cacl.training.step import train_step
from cacl.world import World
from tests.training.steps import CLIPS, LOSS, MICRO, MODEL, inputs, rows_of

STEPS = 3


@dataclass(frozen=True)
class Curve:
    """What a training came to, on the processor."""

    losses: list[float]
    norms: list[float]
    state: dict[str, Tensor]
    """The model's."""
    average: dict[str, Tensor]


@dataclass(frozen=True)
class How:
    """How the steps are computed."""

    dtype: torch.dtype = torch.float64
    precision: Literal["float32", "bfloat16"] = "float32"
    micro: int = MICRO
    compile: bool = False
    channels_last: bool = False
    averaged: bool = True
    """Whether a moving average makes the targets, which ZeRO 3 has none of."""
    zero: Literal[0, 1, 2, 3] | None = None
    """DeepSpeed's stage; None is DDP."""


def build(world: World, how: How) -> tuple[Engine, Ema | None]:
    """A model without dropout: random numbers are a device's own."""
    loss = parse(LossOptions, LOSS, "test")
    model = Localizer(replace(MODEL, image_dropout=0.0), loss.scalars(), seed=3).to(how.dtype).train()
    speed_up(model, how.compile, how.channels_last, False)
    options: Any = DDP() if how.zero is None else DeepSpeed(zero=how.zero)
    engine = options.build(model, AdamW(learning_rate=1e-3), world, how.precision, 1.0)
    return engine, Ema(engine.module, 0.9) if how.averaged else None


def take(
    engine: Engine, average: Ema | None, how: How, steps: Sequence[int]
) -> tuple[list[float], list[float]]:
    """Take `steps` on this rank's share; return losses and gradient norms."""
    world, loss = engine.world, parse(LossOptions, LOSS, "test")
    images, spectrograms, clips = inputs()
    share = CLIPS // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    mine = (x[rows].to(world.device, how.dtype).split(how.micro) for x in (images, spectrograms))
    micro_batches = list(zip(*mine, strict=True))
    losses, norms = [], []
    for step in steps:
        record = train_step(
            engine,
            micro_batches,
            rows_of(clips, rows).to(world.device),
            lambda embeddings, own: global_loss(embeddings, own, loss, world),
            seed=0,
            step=step,
            learning_rate_factor=1.0,
            average=average,
        )
        losses.append(record.terms.mean.item())
        norms.append(float(record.gradient_norm))
    return losses, norms


def curve(world: World, device: str, how: How) -> Curve:
    """Take STEPS steps on `device`."""
    if device != "cpu":
        torch.backends.cudnn.allow_tf32 = False  # this may be a process of its own
    world = replace(world, device=torch.device(device))
    engine, average = build(world, how)
    losses, norms = take(engine, average, how, range(STEPS))
    files = engine.state_files()
    state = on_cpu(next(iter(files.values()), {}))
    return Curve(losses, norms, state, on_cpu(average.state_dict()) if average else {})


def on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies, which later steps do not change."""
    return {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
