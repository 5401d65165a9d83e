"""Promise 15: a recipe takes the very steps of the public code that it is named after."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from cacl.loss import global_loss
from cacl.model.dropout import ClipDropout
from cacl.model.localizer import Localizer
from cacl.options import parse, plain
from cacl.released.ez_vsl import from_ez_vsl
from cacl.released.slavc import from_slavc
from cacl.training.ema import Ema
from cacl.training.engines import DDP
from cacl.training.optimization import SGD
from cacl.training.step import train_step
from cacl.types import ClipLabels
from cacl.world import World
from launch.config import load_recipe
from launch.jobs.recipe import Recipe
from tests.conftest import GOLDEN
from tests.helpers.trajectory import Trajectory

FILES = {file.stem.removeprefix("trajectory_"): file for file in sorted(GOLDEN.glob("trajectory_*.npz"))}
"""By name: a recipe's, and what is added to its form without dropout."""
FILES.pop("sspl", None)  # other inputs, and rates by part: test_trajectory_sspl


def is_slow(name: str, optimizer: str) -> bool:
    """Say whether another trajectory sees the same and more: a case is seconds of convolutions in float64.

    FNAC's loss is EZ-VSL's and three terms.
    """
    return optimizer == "sgd" or f"{name}_dropout" in FILES or (name == "ez-vsl" and "fnac" in FILES)


CASES = [
    pytest.param(*case, id="-".join(case), marks=[pytest.mark.slow] if is_slow(*case) else [])
    for case in itertools.product(FILES, ("adam", "sgd"))
]


class Masks(ClipDropout):
    """Dropout whose masks are handed over."""

    def __init__(self, trajectory: Trajectory, first: int) -> None:
        super().__init__(trajectory.number("dropout"))
        self.trajectory, self.first, self.step = trajectory, first, 0

    def forward(self, features: Tensor, keys: Any = None) -> Tensor:
        kept = self.trajectory.mask(self.step, self.first)
        self.step += 1
        return features * kept / (1 - self.rate)


def recipe_of(name: str, trajectory: Trajectory) -> Recipe:
    """Return a recipe with what the trajectory says otherwise: random trunk, temperature, decay, dropout."""
    values = plain(load_recipe(name, []))
    values["model"]["image"]["weights"] = "none"
    values["model"]["image_dropout"] = 0.0
    values["loss"]["temperature"] = trajectory.number("tau")
    for regularizer in values["loss"]["regularizers"]:
        regularizer["first_epoch"] = 0
    if values["training"]["ema_decay"]:
        values["training"]["ema_decay"] = trajectory.number("decay")
    return parse(Recipe, values, name)


def theirs(method: str, tensors: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Return tensors of our model under the public code's names."""
    ours = {}
    for name in names:
        translated = from_slavc({name: torch.empty(0)})[0] if method == "slavc" else None
        (own,) = translated or from_ez_vsl({name: torch.empty(0)})
        ours[name] = tensors[own]
    return ours


@pytest.mark.parametrize(("case", "optimizer"), CASES)
def test_a_recipe_takes_the_steps_of_its_public_code(case, optimizer):
    """Loss, gradients, parameters, running statistics and targets of every step."""
    method, trajectory = case.removesuffix("_dropout"), Trajectory(FILES[case])
    recipe = recipe_of(method, trajectory)
    model = Localizer(recipe.model, recipe.loss.scalars(), head=recipe.loss.head).double().train()
    weights = trajectory.weights()
    state = from_slavc(weights)[0] if method == "slavc" else from_ez_vsl(weights)
    state |= {name: value for name, value in model.state_dict().items() if name.endswith("batches_tracked")}
    model.load_state_dict(state)
    rate = trajectory.number(f"{optimizer}/learning_rate")
    options = SGD() if optimizer == "sgd" else replace(recipe.optimizer, weight_decay=0.0)
    engine = DDP().build(model, replace(options, learning_rate=rate), World())
    decay = recipe.training.ema_decay
    average = None if decay is None else Ema(model, decay, recipe.training.target)
    if trajectory.number("dropout"):
        model.image_dropout = Masks(trajectory, 40000)
        if average is not None:
            average.module.image_dropout = Masks(trajectory, 50000)
    gradients: dict[str, Tensor] = {}
    update = engine.update

    def watched(factor: float) -> Tensor:
        gradients.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        return update(factor)

    n = trajectory.batch
    clips = ClipLabels(torch.arange(n), torch.full((n,), -1), torch.ones(n), torch.ones(n, dtype=torch.bool))
    schedule, golden = recipe.schedule, trajectory.values
    lists = {"gradient": "names", "parameters": "names", "running_statistics": "statistics_names"}
    public = {key: [str(name) for name in golden[names]] for key, names in lists.items()}
    for step in range(trajectory.steps):
        if average is not None:  # theirs moves at the beginning of a forward, ours at the end of a step
            before = {name: value.clone() for name, value in average.state_dict().items()}
        with mock.patch.object(engine, "update", watched):
            record = train_step(
                engine,
                [trajectory.inputs(step)],
                clips,
                lambda embeddings, own: global_loss(embeddings, own, recipe.loss, World()),
                seed=0,
                step=step,
                learning_rate_factor=schedule.factor(step, trajectory.steps),
                average=average,
            )
        found = {"gradient": gradients, "parameters": model.state_dict()}
        found["running_statistics"] = model.state_dict()
        assert record.terms.mean.item() == pytest.approx(golden[f"{optimizer}/loss"][step], rel=1e-10)
        for key, names in lists.items():
            digest = trajectory.digest(theirs(method, found[key], public[key]), names)
            close(digest, golden[f"{optimizer}/{key}"][step], f"{key} after step {step}")
    if average is not None:
        for key, names in (("parameters", "target_names"), ("running_statistics", "target_statistics_names")):
            tensors = before if key == "parameters" else average.state_dict()
            named = theirs(method, tensors, [str(name) for name in golden[names]])
            close(trajectory.digest(named, names), golden[f"{optimizer}/target_{key}"], f"target's {key}")


def close(found: np.ndarray, golden: np.ndarray, what: str) -> None:
    """Compare norms and projections [tensors, 2], each relative to the tensor's norm."""
    # float64 through two networks of eighteen layers; Adam divides small gradients by their size.
    error = np.abs(found - golden).max(1) / np.maximum(golden[:, 0], 1e-6)
    assert error.max() < 1e-10, f"{what}: {error.max():.1e} at tensor {error.argmax()}"
