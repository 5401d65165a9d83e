"""What of a recipe may change when a run goes on: every key whose change makes another training is refused."""

from __future__ import annotations

import pytest

from cacl.errors import UserError
from cacl.options import plain
from cacl.runs.directory import Run
from launch.config import load_recipe, read_yaml
from launch.jobs.changes import FIXED, check_changes
from tests.launch.tiny import write_recipe

REFUSED = {
    "model": ("--model.dimension", "8", "model.dimension 16 → 8"),
    "a choice in the model": ("--model.audio.channels", "8", "model.audio.channels 16 → 8"),
    "loss": ("--loss.temperature", "0.5", "loss.temperature 0.07 → 0.5"),
    "precision of scores": ("--loss.scores", "bfloat16", "loss.scores float32 → bfloat16"),
    "data.order": ("--data.order.lanes", "12", "data.order.lanes 6 → 12"),
    "optimizer.name": ("--optimizer", "sgd", "optimizer.name adamw → sgd"),
    "optimizer.decay": ("--optimizer.decay", "all", "optimizer.decay matrices → all"),
    "optimizer.rates": ("--optimizer.rates.loss", "0.1", "optimizer.rates.loss None → 0.1"),
    "engine.name": ("--engine", "deepspeed", "engine.name ddp → deepspeed"),
    "engine.zero": ("--engine.zero", "1", "engine.zero 2 → 1"),
    "training.seed": ("--training.seed", "1", "training.seed 0 → 1"),
    "training.global_batch_size": (
        "--training.global-batch-size",
        "24",
        "training.global_batch_size 12 → 24",
    ),
    "training.micro_batch_size": ("--training.micro-batch-size", "1", "training.micro_batch_size 2 → 1"),
    "training.ema_decay": ("--training.ema-decay", "0.5", "training.ema_decay None → 0.5"),
    "training.target": ("--training.target.dropout", "true", "training.target.dropout False → True"),
    "no average any more": ("--training.ema-decay", "null", "training.ema_decay 0.9 → None"),
}
BEFORE = {
    "engine.zero": ["--engine", "deepspeed"],
    "training.target": ["--training.ema-decay", "0.9"],
    "no average any more": ["--training.ema-decay", "0.9"],
}
"""What the run began with, next to the tiny recipe."""
TAKEN = {
    "memory": ("--loss.memory-mib", "64", "loss.memory_mib None → 64.0"),
    "length": ("--training.epochs", "5", "training.epochs 3 → 5"),
    "rate": ("--optimizer.learning-rate", "0.1", "optimizer.learning_rate 0.001 → 0.1"),
    "validation": ("--data.validation", "x", "data.validation None → x"),
    "seed in a name": ("--training.checkpoint-every", "7", "training.checkpoint_every 4 → 7"),
}


@pytest.fixture
def started(tmp_path):
    """Return recipe and run directory of a run that has begun."""

    def start(*overrides: str) -> tuple[str, Run]:
        recipe, run = str(write_recipe(tmp_path, tmp_path)), Run(tmp_path / "run")
        run.create(plain(load_recipe(recipe, list(overrides))), {})
        return recipe, run

    return start


def test_every_fixed_key_is_tried_here():
    assert set(FIXED) <= set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_another_training_is_refused_by_what_was_and_what_is(started, name):
    key, value, said = REFUSED[name]
    before = BEFORE.get(name, [])
    recipe, run = started(*before)
    assert check_changes(run, load_recipe(recipe, before)) == []
    with pytest.raises(UserError, match="was trained with another recipe") as refusal:
        check_changes(run, load_recipe(recipe, [*before, key, value]))
    assert said in str(refusal.value) and "--init-from" in str(refusal.value)


def test_a_run_from_before_there_was_a_precision_of_scores_goes_on_in_float32(started):
    recipe, run = started()
    before = read_yaml(run.recipe_file)
    assert before["loss"].pop("scores") == "float32"
    run.create(before, {})
    assert check_changes(run, load_recipe(recipe, ["--loss.scores", "float32"])) == []


@pytest.mark.parametrize(("key", "value", "said"), TAKEN.values(), ids=TAKEN)
def test_a_change_of_the_rest_is_taken_and_said(started, key, value, said):
    recipe, run = started()
    assert check_changes(run, load_recipe(recipe, [key, value])) == [said]


def test_what_is_refused_is_named_without_what_would_be_taken(started):
    recipe, run = started()
    with pytest.raises(UserError) as refusal:
        check_changes(run, load_recipe(recipe, ["--training.seed", "1", "--training.epochs", "5"]))
    assert "training.seed 0 → 1" in str(refusal.value) and "epochs" not in str(refusal.value)
