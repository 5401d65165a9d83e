"""The steps of a whole training, measured in its checkpoints: length, rate, schedule, seed and bounds."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.model.localizer import Localizer
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.world import World
from launch.config import load_recipe
from shards.plan import make_plan
from tests.launch.tiny import train_rank, write_recipe
from tests.shards.classed import Classed, packed_here

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

LIMIT, RATE, STEPS, WARM, TOTAL = 0.01, 2.0, 8, 2, 18
OVERRIDES = [
    "--optimizer", "sgd", "--optimizer.learning-rate", str(RATE), "--training.clip-gradient-norm", str(LIMIT),
    "--schedule.warmup-steps", str(WARM), "--training.checkpoint-every", "1", "--training.keep-checkpoints", "99",
    "--training.seed", "7",
]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("recipe")
    packed_here(make_plan(Classed(classes=("a",) * 72), 6), folder / "train")
    return str(write_recipe(folder, folder / "train"))


@pytest.fixture(scope="module")
def run(tmp_path_factory, recipe) -> Run:
    """Eight of eighteen steps (three epochs of six) of plain SGD, its gradients clipped to a short length."""
    run = tmp_path_factory.mktemp("steps") / "run"
    train_rank(World(), recipe, str(run), {"max_steps": STEPS, "overrides": OVERRIDES})
    return Run(run)


def learned(model: Localizer) -> set[str]:
    return {name for name, _ in model.named_parameters()}


def weights(run: Run, step: int) -> dict[str, Tensor]:
    return checkpoint.read_tensors(run.checkpoints / f"step-{step}" / "model.safetensors")


def expected_rate(step: int) -> float:
    """Two steps of warm-up to the full rate, then half a cosine over what is left of all epochs."""
    if step < WARM:
        return RATE * (step + 1) / (WARM + 1)
    return RATE * (1 + math.cos(math.pi * (step - WARM) / (TOTAL - WARM))) / 2


def test_every_step_is_as_long_as_the_schedule_says(run, recipe):
    """A clipped gradient has the length of the limit; the first step starts at weights of the recipe's seed."""
    read = load_recipe(recipe, OVERRIDES)
    model = Localizer(read.model, read.loss.scalars(), seed=7)
    before = model.state_dict()
    for step in range(STEPS):
        after = weights(run, step + 1)
        moved = [(after[name] - before[name]).double().square().sum() for name in learned(model)]
        # float32 weights near 1 that move by 1e-3 keep four digits; their errors mostly cancel in the sum.
        assert float(sum(moved)) ** 0.5 == pytest.approx(expected_rate(step) * LIMIT, rel=2e-3), step
        before = after


def test_the_log_tells_the_rate_the_epoch_and_the_gradient_before_clipping(run):
    lines = run.records()
    assert [line["learning_rate"] for line in lines] == pytest.approx(
        [expected_rate(k) for k in range(STEPS)]
    )
    assert [line["epoch"] for line in lines] == [0] * 6 + [1] * 2
    assert all(line["gradient_norm"] > 2 * LIMIT for line in lines), "a limit that is felt at every step"
    assert [checkpoint.read_state(run.checkpoints / f"step-{k}")["position"] for k in (5, 6, 8)] == [
        {"epoch": 0, "batch": 5},
        {"epoch": 1, "batch": 0},
        {"epoch": 1, "batch": 2},
    ]


def test_a_learned_temperature_is_put_back_within_its_bounds(tmp_path, recipe):
    """It starts beyond them, from another run's weights; there it has no gradient that could bring it back."""
    words = ["--loss.learn-temperature", "true", "--loss.minimum-temperature", "0.05"]
    read = load_recipe(recipe, words)
    tensors = Localizer(read.model, read.loss.scalars(), seed=0).state_dict()
    (name,) = (name for name in tensors if name.endswith("logit_scale"))
    checkpoint.write_tensors(
        tmp_path / "sharp.safetensors", tensors | {name: torch.full_like(tensors[name], 9.0)}
    )
    options = {"max_steps": 1, "overrides": words, "init_from": str(tmp_path / "sharp.safetensors")}
    train_rank(World(), recipe, str(tmp_path / "run"), options)
    assert float(weights(Run(tmp_path / "run"), 1)[name]) == pytest.approx(-math.log(0.05), abs=1e-6)


def resumed(run: Run, folder: Path, recipe: str, steps: int, *words: str) -> Run:
    """Return a copy of the run that has its first `steps` checkpoints and goes on from there."""
    copy = Run(shutil.copytree(run.folder, folder))
    for step in range(steps + 1, STEPS + 1):
        shutil.rmtree(copy.checkpoints / f"step-{step}")
    options = {"max_steps": STEPS, "resume": True, "overrides": [*OVERRIDES, *words]}
    train_rank(World(), recipe, str(copy.folder), options)
    return copy


def test_a_resumed_run_takes_the_lost_steps_again_and_logs_each_once(run, recipe, tmp_path):
    copy = resumed(run, tmp_path / "copy", recipe, 6)
    assert [line["step"] for line in copy.records()] == list(range(1, STEPS + 1))
    assert [line["loss"] for line in copy.records()] == [line["loss"] for line in run.records()]
    after, before = weights(copy, STEPS), weights(run, STEPS)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_run_does_not_go_on_with_other_clips(run, recipe, tmp_path):
    other = tmp_path / "other"
    packed_here(make_plan(Classed(classes=("b",) * 72), 6), other)
    with pytest.raises(UserError, match=r"step-6: was trained on another data"):
        resumed(run, tmp_path / "copy", recipe, 6, "--data.train", str(other))
