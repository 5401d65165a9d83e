"""A sweep's space: the settings that come of it, and one sentence for what is wrong with it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from cacl.errors import UserError
from launch.config import load_recipe
from launch.sweeping.space import Space, SweepObjective, load_space, setting_name

ROOT = Path(__file__).parent.parent.parent
RECIPE = (
    "data: {train: shards, validation: others}\ntraining: {global_batch_size: 48, micro_batch_size: 12}\n"
)
GOOD = {
    "vary": {"loss.temperature": [0.05, 0.2], "training.global_batch_size": [24, 48]},
    "seeds": [0, 1],
    "processes": 2,
}


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe that only the space has to fit."""
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return str(file)


def space_of(tmp_path: Path, **changes: object) -> Space:
    """Write a space and read it."""
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}))
    return load_space(file)


def test_a_grid_is_every_combination(tmp_path: Path, recipe: str) -> None:
    settings = space_of(tmp_path).settings(recipe)
    assert [tuple(setting.values()) for setting in settings] == [(0.05, 24), (0.05, 48), (0.2, 24), (0.2, 48)]


def test_random_settings_are_the_same_at_every_call_and_within_bounds(tmp_path: Path, recipe: str) -> None:
    vary = {"loss.temperature": {"low": "1e-2", "high": 1, "log": True}, "loss.similarity": ["mean", "max"]}
    space = space_of(tmp_path, vary=vary, search={"name": "random", "samples": 30, "seed": 3})
    settings = space.settings(recipe)
    assert settings == space.settings(recipe) and len(settings) == 30
    temperatures = [setting["loss.temperature"] for setting in settings]
    assert all(0.01 <= value <= 1 for value in temperatures)
    below = sum(value < 0.1 for value in temperatures)
    assert 5 <= below <= 25, "the logarithm is drawn evenly, so about half lie in the lower decade"
    assert {setting["loss.similarity"] for setting in settings} == {"mean", "max"}


def test_a_setting_becomes_the_recipe_of_a_trial(tmp_path: Path, recipe: str) -> None:
    vary = {"loss.similarity": ["max"], "optimizer": [{"name": "sgd", "learning_rate": 0.5}]}
    space = space_of(tmp_path, vary=vary, fixed={"training.epochs": 3})
    (setting,) = space.settings(recipe)
    trial = load_recipe(recipe, space.overrides(setting, seed=7))
    assert trial.loss.similarity.name == "max" and trial.optimizer.learning_rate == 0.5
    assert (trial.training.epochs, trial.training.seed) == (3, 7)


def test_names_of_settings_are_fit_for_files() -> None:
    name = setting_name({"loss.temperature": 0.1 / 3, "data.labels": "a/b c.parquet", "a.x": 1, "b.x": 2})
    assert name == "loss.temperature=0.03333,data.labels=a_b_c.parquet,a.x=1,b.x=2"


def test_the_objective_is_found_within_a_line() -> None:
    objective = SweepObjective(key="validation.recall_at_1")
    assert objective.read({"step": 1, "validation": {"recall_at_1": 0.5}}) == 0.5
    assert objective.read({"step": 1, "loss": 0.5}) is None
    assert math.isnan(SweepObjective(key="loss").read({"loss": math.nan}) or 0)


def test_the_spaces_that_come_along_fit_the_recipes_that_come_along() -> None:
    for file in sorted((ROOT / "launch/spaces").glob("*.yaml")):
        assert load_space(file).settings(str(ROOT / "launch/recipes/demo.yaml"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vary": {"loss.temprature": [1]}}, r"loss\.temprature: 1.*temprature: unknown key"),
        (
            {"vary": {"training.global_batch_size": [50]}},
            "50 is not a multiple of the 24 lanes of data.order.lanes; use 72",
        ),
        ({"fixed": {"training.micro_batch_size": 7}}, "micro_batch_size: 7 does not divide the 12 clips"),
        ({"processes": 5}, "24 clips cannot be dealt to 5 ranks"),
        (
            {"fixed": {"data.validation": None}},
            "validation.recall_at_1 needs clips to validate on; set data.val",
        ),
        ({"vary": {}}, "vary: name at least one key"),
        ({"vary": {"loss.temperature": []}}, "give a list of values"),
        ({"vary": {"loss.temperature": 0.1}}, "give a list of values"),
        ({"vary": {"loss.temperature": [0.1, 0.1]}}, "two settings are called 'temperature=0.1'"),
        ({"vary": {"loss.temperature": {"low": 0.1, "high": 0.2}}}, "a grid needs a list of values"),
        (
            {"vary": {"loss.temperature": {"low": 2, "high": 1}}, "search": {"name": "random"}},
            "low below high",
        ),
        ({"vary": {"training.seed": [1, 2]}}, "list the seeds under `seeds`"),
        ({"seeds": []}, "seeds: give at least one"),
        ({"seeds": [1, 1]}, "none of them twice"),
        ({"search": {"name": "bayes"}}, "there is no 'bayes'; choose one of grid, random"),
        ({"search": {"name": "random", "samples": 0}}, "samples: give at least 1"),
        ({"stop": {"name": "asha", "first_step": 9, "last_step": 3}}, "needs 1 <= first_step <= last_step"),
        ({"stop": {"name": "asha"}}, "first_step: missing"),
        ({"objective": {"key": "loss", "best": "low"}}, "objective.best"),
        ({"colour": 1}, "colour: unknown key"),
    ],
)
def test_bad_spaces_are_one_sentence(tmp_path: Path, recipe: str, changes: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        space_of(tmp_path, **changes).settings(recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("node01", "expected HOST:PORT"),
        ("node01:", "expected HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
    ],
)
def test_an_address_where_nobody_answers_is_said_at_once(address: str, said: str) -> None:
    from launch.sweeping.tuning import check_address

    with pytest.raises(UserError, match=f"--address {address}: {said}"):
        check_address(address)
