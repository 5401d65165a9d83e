"""A small step of training: twelve clips of three classes, a model with every random part, and a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from cacl.loss import LossOptions
from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.options import parse
from cacl.training.engines.ddp import DDP, DDPEngine
from cacl.training.optimization import SGD
from cacl.types import ClipLabels
from cacl.world import World

CLIPS, MICRO = 12, 2
MODEL = ModelOptions(
    image=image.SmallCnn(channels=16, norm="batch"),
    audio=audio.SmallCnn(channels=16, norm="batch"),
    dimension=8,
    image_dropout=0.5,
)
LOSS = {
    "similarity": {"name": "max"},
    "positives": {"name": "same-class"},
    "objective": {"name": "infonce"},
    "temperature": 0.2,
    "learn_temperature": True,
}


def inputs() -> tuple[Tensor, Tensor, ClipLabels]:
    """Twelve clips of three classes, in float64."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(CLIPS, 3, 32, 32, generator=generator, dtype=torch.float64)
    spectrograms = torch.randn(CLIPS, 1, 32, 40, generator=generator, dtype=torch.float64)
    index = torch.arange(CLIPS)
    return (
        images,
        spectrograms,
        ClipLabels(index, index % 3, torch.ones(CLIPS), torch.ones(CLIPS, dtype=torch.bool)),
    )


def rows_of(clips: ClipLabels, rows: slice) -> ClipLabels:
    return ClipLabels(clips.index[rows], clips.label[rows], clips.confidence[rows], clips.valid[rows])


def engine_of(world: World) -> DDPEngine:
    loss = parse(LossOptions, LOSS, "test")
    model = Localizer(MODEL, loss.scalars(), seed=3).double().train()
    return DDP().build(model, SGD(learning_rate=0.1), world)
