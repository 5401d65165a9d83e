"""What a training shows and keeps: validation and the best checkpoint (promise 11), times, traces, weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import cacl
from cacl.errors import UserError
from cacl.options import parse, plain
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.runs.export import read_about
from cacl.runs.load import CHOICE, find_checkpoint, load_weights, open_model
from launch.config import load_recipe
from launch.jobs.export import export
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import train_rank, write_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Run:
    """A run of twelve steps on two ranks with everything that can be seen switched on."""
    folder = tmp_path_factory.mktemp("seen")
    recipe = write_recipe(folder, data, data={"validation": str(data)})
    overrides = [
        "--training.log",
        "[tensorboard]",
        "--training.profile-steps",
        "2",
        "--training.ema-decay",
        "0.9",
    ]
    options = {"max_steps": 12, "overrides": [*overrides, "--training.keep-checkpoints", "1"]}
    run_ranks(2, train_rank, str(recipe), str(folder / "run"), options)
    return Run(folder / "run")


def test_every_checkpoint_is_measured_and_the_best_is_kept(run):
    measured = {line["step"]: line["validation"][CHOICE] for line in run.records() if "validation" in line}
    assert list(measured) == [4, 8, 12]
    best = max(measured, key=lambda step: (measured[step], step))
    kept = {int(folder.name[5:]) for folder in checkpoint.step_folders(run.checkpoints)}
    assert kept == {12, best}
    assert find_checkpoint(run, "best") == run.checkpoints / f"step-{best}"


def test_lines_split_the_step_into_its_parts(run):
    line = [line for line in run.records() if "loss" in line][-1]
    parts = {"data", "prepare", "forward", "loss", "communication", "backward", "optimizer"}
    assert parts <= line["seconds"].keys()
    assert 0 < sum(line["seconds"].values()) <= line["step_seconds"] * 1.01
    assert line["exchanged_bytes"] > 0 and line["memory_mib"] > 0
    assert line["positive_similarity"] != line["negative_similarity"]
    assert line["temperature"] == pytest.approx(0.07) and line["gradient_norm"] > 0
    assert line["same_class_pairs"] == 0
    lines = {line["step"]: line["seconds"] for line in run.records() if "loss" in line}
    # A checkpoint's seconds stand with the step that follows it.
    assert [step for step, seconds in lines.items() if "checkpoint" in seconds] == [5, 9]


def test_a_trace_and_event_files_are_written(run):
    assert json.loads((run.folder / "trace.json").read_text())["traceEvents"]
    assert list((run.folder / "tensorboard").glob("events*"))


def test_the_moving_average_is_another_model(run):
    model, average = open_model(run.folder)[0], open_model(run.folder, "ema")[0]
    differing = [
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, average.state_dict()[name])
    ]
    assert any("weight" in name for name in differing)
    assert not any("running" in name for name in differing), (
        "targets are computed with the model's statistics"
    )


def test_a_run_opens_with_the_weights_that_its_recipe_measures(run, tmp_path):
    copy = Run(shutil.copytree(run.folder, tmp_path / "copy"))
    text = run.recipe_file.read_text()
    assert text.count("measured: model") == 1
    copy.recipe_file.write_text(text.replace("measured: model", "measured: ema"))
    average = open_model(run.folder, "ema")[0].state_dict()
    for found in (open_model(copy.folder)[0], cacl.load(copy.folder).model):
        assert all(torch.equal(value, average[name]) for name, value in found.state_dict().items())
    file, _ = export(copy.folder, tmp_path / "copy.safetensors")
    assert read_about(file)["weights"] == "ema"


def test_weights_of_another_run_are_taken_and_mismatches_listed(run, tmp_path):
    model, _ = open_model(run.folder, "untrained")
    said = load_weights(model, run.folder)
    trained, _ = open_model(run.folder)
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert "not in the file: nothing" in said
    tensors = {name: value for name, value in trained.state_dict().items() if name != "audio_heads.0.bias"}
    tensors |= {"audio_heads.0.weight": torch.zeros(1), "strange": torch.zeros(1)}
    checkpoint.write_tensors(tmp_path / "part.safetensors", tensors)
    said = load_weights(model, tmp_path / "part.safetensors")
    assert "not in the file: audio_heads.0.bias" in said
    assert "not in the model: strange" in said
    assert "of another shape: audio_heads.0.weight" in said
    checkpoint.write_tensors(tmp_path / "none.safetensors", {"strange": torch.zeros(1)})
    with pytest.raises(UserError, match="no tensor of it fits"):
        load_weights(model, tmp_path / "none.safetensors")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04N.")
    with pytest.raises(UserError, match="name a run directory"):
        load_weights(model, tmp_path / "pickle.safetensors")


def test_a_resolved_recipe_reads_back_as_itself(run):
    from launch.jobs.recipe import Recipe

    values = run.recipe()
    assert plain(parse(Recipe, values, "recipe")) == values


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in Run(folder).records() if "loss" in line]


def test_faster_or_smaller_encoders_change_no_loss(tmp_path, data):
    recipe = write_recipe(tmp_path, data)
    plainly = {"max_steps": 4}
    run_ranks(1, train_rank, str(recipe), str(tmp_path / "plain"), plainly)
    for option in ("channels-last", "activation-checkpointing"):
        options = plainly | {"overrides": [f"--training.{option}", "true"]}
        run_ranks(1, train_rank, str(recipe), str(tmp_path / option), options)
        # float32: other kernels add in another order.
        assert losses(tmp_path / option) == pytest.approx(losses(tmp_path / "plain"), rel=1e-4)


def test_every_shipped_recipe_is_one(capsys):
    recipes = sorted(Path("launch/recipes").glob("*.yaml"))
    assert len(recipes) >= 9
    for path in recipes:
        assert load_recipe(path, []).training.global_batch_size > 0
