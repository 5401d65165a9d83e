"""θ of a plain training: fitted by its validations, and the one that `cacl calibrate` fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import cacl
from cacl.runs import calibration, checkpoint
from cacl.runs.directory import Run
from cacl.runs.load import build_model
from cacl.world import World
from launch.config import load_recipe
from launch.jobs.calibrate import calibrate
from launch.jobs.data import validation_of
from launch.jobs.train import build
from launch.main import main
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import train_rank, write_recipe

TIMES = 2


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Eleven validation clips: ranks have unequal shares, and the last batch is smaller."""
    folder = tmp_path_factory.mktemp("validation") / "clips"
    words = ["--split", "test", "--clips", "11", "--shard-size", "4", "--frame-side", "48", "--workers", "1"]
    assert main(["pack", "generated", "--out", str(folder), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, data, clips) -> str:
    changes: dict[str, Any] = {
        "data": {"validation": str(clips)},
        "training": {
            "calibration": TIMES, "checkpoint_every": 1, "keep_checkpoints": 1, "ema_decay": 0.5,
            "measured": "ema",
        },
    }  # fmt: skip
    return str(write_recipe(tmp_path_factory.mktemp("recipe"), data, **changes))


def train(recipe: str, run: Path, size: int = 1, **options: object) -> Run:
    run_ranks(size, train_rank, recipe, str(run), options)
    return Run(run)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, recipe) -> Run:
    """A run of four steps, validated after each."""
    return train(recipe, tmp_path_factory.mktemp("trained") / "run", max_steps=4)


def fitted_files(run: Run) -> list[Path]:
    return sorted(calibration.folder(run).iterdir())


def test_a_plain_training_leaves_the_theta_that_calibrate_fits(trained):
    """Of the weights that the recipe measures; batches of other sizes round otherwise in float32."""
    found = cacl.load(trained.folder).calibrations
    assert [(one.checkpoint, one.weights, one.upsampling) for one in found] == [("step-4", "ema", "bicubic")]
    again = calibrate(trained.folder, repetitions=TIMES)
    assert again is not None
    assert found[0].thetas == pytest.approx(again.thetas, abs=1e-4)
    assert found[0].best == pytest.approx(again.best, abs=1e-4)
    assert (found[0].clips, found[0].data, found[0].negatives) == (again.clips, again.data, again.negatives)
    assert again.best is not None and again.best > again.theta
    assert calibration.find(trained, "step-4", "ema", "bicubic") == again, "it takes the place of the other"


def test_theta_goes_with_the_checkpoints_that_are_kept_and_no_others(trained):
    kept = {folder.name for folder in checkpoint.step_folders(trained.checkpoints)}
    names = {f"upsampling=bicubic,weights=ema,checkpoint={name}.json" for name in kept}
    assert {file.name for file in fitted_files(trained)} == names
    best = checkpoint.best(trained.checkpoints, "recall_at_1")
    assert best is not None and calibration.read_all(trained, best.name, "ema")


def test_two_ranks_fit_the_theta_of_one(recipe, tmp_path):
    """Promise 4: ranks share the clips, and each hears what the other has embedded."""
    runs = [train(recipe, tmp_path / str(size), size, max_steps=1) for size in (1, 2)]
    alone, shared = (calibration.read_all(run, "step-1", "ema")[0] for run in runs)
    assert shared.thetas == pytest.approx(alone.thetas, abs=1e-4)
    assert shared.best == pytest.approx(alone.best, abs=1e-4)
    assert (shared.clips, shared.negatives) == (alone.clips, alone.negatives)


def test_a_stop_leaves_theta_to_the_next_start(recipe, tmp_path):
    """Asked for the second time, it says yes: before the first batch of the validation after step 1."""
    run = train(recipe, tmp_path / "run", max_steps=3, stop_at=2)
    assert (run.folder / "requeue").exists() and not calibration.folder(run).exists()
    train(recipe, run.folder, max_steps=1, resume=True)
    assert [one.checkpoint for one in calibration.read_all(run, "step-1", "ema")] == ["step-1"]


def test_export_and_localize_know_theta_without_more(trained, tmp_path):
    file = tmp_path / "given.safetensors"
    assert main(["export", "--run", str(trained.folder), "--out", str(file)]) == 0
    finder = cacl.load(file)
    assert finder.theta is not None and finder.scale[2] == finder.calibrations[0].best
    assert finder.sounds(torch.full((7, 7), -1.0)) is False


@pytest.mark.parametrize(
    "overrides", [["--training.calibration", "0"], ["--data.test", "{clips}"], ["--data.validation", "null"]]
)
def test_no_theta_where_none_is_wanted_or_on_test_clips(recipe, clips, tmp_path, overrides):
    words = [word.format(clips=clips) for word in overrides]
    run = train(recipe, tmp_path / "run", max_steps=1, overrides=words)
    assert not calibration.folder(run).exists() and cacl.load(run.folder).theta is None


def test_where_nothing_is_off_screen_theta_is_fitted_to_silence_and_noise(recipe, tmp_path):
    """A training does not end for it, as `cacl calibrate` does, which was asked for it."""
    few = tmp_path / "few"
    assert main(["pack", "generated", "--out", str(few), "--clips", "1", "--frame-side", "48"]) == 0
    run = train(recipe, tmp_path / "run", max_steps=1, overrides=["--data.validation", str(few)])
    (found,) = calibration.read_all(run, "step-1", "ema")
    assert found.negatives == {"kinds": ["silence", "noise"], "repetitions": TIMES, "seed": 0}


def test_a_model_that_has_diverged_has_no_theta(recipe, tmp_path):
    """No comparison with NaN is true: all sounds would be answered by nothing."""
    read, run = load_recipe(recipe, ["--training.measured", "model"]), Run(tmp_path / "run")
    engine, _ = build(read, World(), None, print, build_model)
    for broken in (False, True):
        if broken:
            torch.nn.init.constant_(engine.module.get_parameter("audio_heads.0.bias"), torch.nan)
        validate = validation_of(read, engine, World(), run=run)
        assert validate is not None
        figures = validate(int(broken), lambda: False)
        assert figures is not None and ("not_finite" in figures) == broken
    assert [file.name for file in fitted_files(run)] == ["upsampling=bicubic,checkpoint=step-0.json"]
