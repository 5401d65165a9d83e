"""Promise 15: the recipe sspl takes the very steps of the public code (zjsong/SSPL, `sspl_wo_pcm`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cacl.loss import global_loss
from cacl.model.localizer import Localizer
from cacl.options import parse, plain
from cacl.training.engines.ddp import DDP, DDPEngine
from cacl.training.optimization import SGD
from cacl.training.step import train_step
from cacl.types import ClipLabels
from cacl.world import World
from launch.config import load_recipe
from launch.jobs.recipe import Recipe
from tests.conftest import GOLDEN
from tests.helpers.trajectory import Trajectory, draw

OWN = Path(__file__).parents[1] / "golden"
FILE = next(path for folder in (GOLDEN, OWN) if (path := folder / "trajectory_sspl.npz").exists())
"""Made by us: golden values from elsewhere may lack it."""
NAMES = {
    "net_frame.feat_extractor.": "image_trunk.body.features.",
    "net_sound.features.": "audio_trunk.frozen.features.",
    "net_sound.embeddings.": "audio_trunk.frozen.embeddings.",
    "net_sound.fc.0.": "audio_trunk.body.0.",
    "net_sound.fc.2.": "audio_heads.0.",
    "net_ssl_head.projector.layer1.0.": "loss_head.projector.0.",
    "net_ssl_head.projector.layer1.1.": "loss_head.projector.1.",
    "net_ssl_head.projector.layer2.0.": "loss_head.projector.3.",
    "net_ssl_head.projector.layer2.1.": "loss_head.projector.4.",
    "net_ssl_head.projector.layer3.0.": "loss_head.projector.6.",
    "net_ssl_head.projector.layer3.1.": "loss_head.projector.7.",
    "net_ssl_head.predictor.layer1.0.": "loss_head.predictor.0.",
    "net_ssl_head.predictor.layer1.1.": "loss_head.predictor.1.",
    "net_ssl_head.predictor.layer2.": "loss_head.predictor.3.",
}
"""Their names and ours, by what they begin with."""


def ours(name: str) -> str:
    """Return our name of a tensor of theirs."""
    (prefix,) = (prefix for prefix in NAMES if name.startswith(prefix))
    return NAMES[prefix] + name.removeprefix(prefix)


def recipe_of() -> Recipe:
    """Return the recipe with random trunks."""
    values = plain(load_recipe("sspl", []))
    for trunk in ("image", "audio"):
        values["model"][trunk]["weights"] = "none"
    return parse(Recipe, values, "sspl")


@dataclass(frozen=True)
class Start:
    """What both trajectories begin with."""

    trajectory: Trajectory
    recipe: Recipe
    model: Localizer
    learned: dict[str, Tensor]
    """The state of what is not frozen."""
    inputs: list[tuple[Tensor, Tensor]]
    """What the frozen networks make of each step's inputs."""

    def engine(self, name: str) -> DDPEngine:
        """Return an engine of the model as it was, with the recipe's optimizer or plain SGD."""
        sound, head = (self.trajectory.number(f"{name}/learning_rate_{part}") for part in ("sound", "head"))
        options = {"adamw": self.recipe.optimizer, "sgd": SGD()}[name]
        chosen = replace(options, learning_rate=sound, rates={"loss": head})
        assert chosen.weight_decay == self.trajectory.number(f"{name}/weight_decay")
        assert name == "sgd" or chosen == self.recipe.optimizer, "the recipe has the rates of the public code"
        self.model.load_state_dict(self.learned, strict=False)
        return DDP().build(self.model, chosen, World())


@pytest.fixture(scope="module")
def start() -> Start:
    trajectory, recipe = Trajectory(FILE), recipe_of()
    model = Localizer(recipe.model, recipe.loss.scalars(), head=recipe.loss.head).double().train()
    state = {ours(name): value for name, value in trajectory.weights().items()}
    missing, surplus = model.load_state_dict(state, strict=False)
    assert not surplus and all("num_batches_tracked" in name for name in missing)
    images, sounds = (tuple(trajectory.values[f"{what}_shape"]) for what in ("image", "examples"))
    inputs = []
    with torch.no_grad():
        for step in range(trajectory.steps):
            views = [2 * draw(images, trajectory.seed, first + step) for first in (20000, 25000)]
            # Theirs have an axis of one channel after the examples.
            examples = (2 * draw(sounds, trajectory.seed, 30000 + step) - 1).squeeze(2)
            seen = torch.stack([model.image_trunk(torch.from_numpy(view)) for view in views], 1)
            inputs.append((seen, model.audio_trunk.prepare(torch.from_numpy(examples))))
    frozen = ("image_trunk.", "audio_trunk.frozen.")
    learned = {name: value for name, value in state.items() if not name.startswith(frozen)}
    return Start(trajectory, recipe, model, learned, inputs)


class Gradients:
    """Each step's gradients, taken where the optimizer is about to use them."""

    def __init__(self, engine: DDPEngine) -> None:
        self.found: dict[str, Tensor] = {}
        self._named = dict(engine.module.named_parameters())
        engine.optimizer.register_step_pre_hook(self._take)

    def _take(self, *arguments: Any) -> None:
        self.found = {name: p.grad.clone() for name, p in self._named.items() if p.grad is not None}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_recipe_takes_the_steps_of_its_public_code(start, optimizer):
    """Loss, gradients, parameters and running statistics of every step, to 1e-9 of their size."""
    trajectory, golden = start.trajectory, start.trajectory.values
    engine = start.engine(optimizer)
    gradients, n = Gradients(engine), trajectory.batch
    clips = ClipLabels(torch.arange(n), torch.full((n,), -1), torch.ones(n), torch.ones(n, dtype=torch.bool))
    trained = {name for name, p in engine.module.named_parameters() if p.requires_grad}
    assert trained == {ours(name) for name in golden["names"]}, "what is frozen there is frozen here"
    for step, micro_batch in enumerate(start.inputs):
        record = train_step(
            engine,
            [micro_batch],
            clips,
            partial(global_loss, options=start.recipe.loss, world=World()),
            seed=0,
            step=step,
            learning_rate_factor=start.recipe.schedule.factor(step, trajectory.steps),
        )
        assert record.terms.mean.item() == pytest.approx(golden[f"{optimizer}/loss"][step], rel=1e-9)
        now = engine.module.state_dict()
        for what, tensors, names in (
            ("gradient", gradients.found, "names"),
            ("parameters", now, "names"),
            ("running_statistics", now, "statistics_names"),
        ):
            expected = golden[f"{optimizer}/{what}"][step]
            digest = trajectory.digest({name: tensors[ours(name)] for name in golden[names]}, names)
            # A projection is a sum of both signs: its rounding is that of the tensor's norm. One running mean
            # is 0 but for rounding, since what it averages comes from a BatchNorm; deviations are near 1.
            # AdamW divides by roots of small numbers: by the third step 1.3e-10 are seen on an AMD EPYC.
            allowed = 1e-9 * np.maximum(np.abs(expected), expected[:, :1])
            allowed += 1e-12 * (what == "running_statistics")
            difference = np.abs(digest - expected)
            assert (difference <= allowed).all(), (what, step, (difference / allowed).max())


def test_the_recipe_is_the_public_codes_settings():
    """By hand from its arguments_train.py, main.py and dataset/base.py (see docs/recipes.md)."""
    recipe = load_recipe("sspl", [])
    training, cut = recipe.training, recipe.data.augmentation
    assert (training.global_batch_size, training.micro_batch_size, training.epochs) == (256, 256, 100)
    assert (training.precision, training.clip_gradient_norm, training.ema_decay) == ("float32", None, None)
    assert [recipe.schedule.factor(step, 3900) for step in (0, 1, 3899)] == [1.0, 1.0, 1.0]
    assert (cut.size, cut.short_side, cut.square, cut.flip, cut.views) == (224, int(224 * 1.1), True, 0.5, 2)
    assert (cut.duration, cut.sample_rate, cut.window) == (3.0, 16000, "middle")
