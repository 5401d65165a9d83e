"""Files of earlier versions are read under today's names, with one warning."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import cacl
from cacl.errors import UserError
from cacl.files import sha256_file, write_json
from cacl.model import image
from cacl.model.audio import SmallCnn
from cacl.model.localizer import Localizer, ModelOptions
from cacl.runs.directory import Run
from cacl.runs.renamed import TENSORS, OlderNames, rename_keys
from cacl.training.engines import DeepSpeed
from cacl.training.optimization import SGD
from cacl.world import World
from launch.config import load_recipe
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import cacl as command
from tests.launch.tiny import train_rank, write_recipe

OLDER = {
    "data": {"train": "clips"},
    "model": {"sound": {"name": "small-cnn", "channels": 32}},
    "loss": {"objective": {"name": "margin", "margin": -0.3}, "direction": "image"},
}


def make_older(run: Run) -> None:
    """Give a run's recipe and the tensors of its checkpoint the names that they had."""
    recipe = run.recipe()
    recipe["model"]["sound"] = recipe["model"].pop("audio")
    recipe["loss"]["direction"] = {"image-to-audio": "image"}[recipe["loss"]["direction"]]
    run.recipe_file.write_text(yaml.safe_dump(recipe))
    folder = run.checkpoints / "step-4"
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        for old, new in TENSORS.items():
            name = name.replace(new, old)
        tensors[name] = tensor
    assert {name.partition(".")[0] for name in tensors} >= {"sound_trunk", "sound_heads", "image_trunk"}
    save_file(tensors, folder / "model.safetensors")
    hashes = json.loads((folder / "hashes.json").read_text())
    write_json(folder / "hashes.json", {name: sha256_file(folder / name) for name in hashes})


def test_an_older_recipe_is_read_with_one_warning(tmp_path):
    path = tmp_path / "older.yaml"
    path.write_text(yaml.safe_dump(OLDER))
    with pytest.warns(OlderNames) as seen:
        recipe = load_recipe(path, [])
    assert len(seen) == 1
    sentence = str(seen[0].message)
    assert sentence.startswith(f"{path}: ")
    assert all(
        part in sentence
        for part in ("model.sound is model.audio now", "margin is margin-nce", "image-to-audio")
    )
    assert isinstance(recipe.model.audio, SmallCnn) and recipe.model.audio.channels == 32
    assert (recipe.loss.objective.name, recipe.loss.direction) == ("margin-nce", "image-to-audio")


def test_older_names_on_the_command_line_are_read_too(tmp_path):
    path = tmp_path / "today.yaml"
    path.write_text(yaml.safe_dump({"data": {"train": "clips"}}))
    with pytest.warns(OlderNames) as seen:
        recipe = load_recipe(path, ["--model.sound.channels", "64", "--loss.direction", "audio"])
    assert isinstance(recipe.model.audio, SmallCnn)
    assert (recipe.model.audio.channels, recipe.loss.direction) == (64, "audio-to-image")
    assert len(seen) == 2, "one for each word"


def test_todays_names_are_left_alone():
    today = {
        "model": {"audio": {"name": "small-cnn"}},
        "loss": {"direction": "both", "objective": {"name": "supcon"}},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rename_keys(today, "today") == today


def test_the_command_says_it_in_a_sentence(tmp_path):
    path = tmp_path / "older.yaml"
    path.write_text(yaml.safe_dump(OLDER))
    answer = command("config", str(path))
    assert answer.returncode == 0 and yaml.safe_load(answer.stdout)["model"]["audio"]["channels"] == 32
    assert answer.stderr.startswith(f"cacl: {path}: ") and answer.stderr.count("\n") == 1


def test_a_run_of_an_earlier_version_is_resumed_to_the_same_end(tmp_path, data):
    """Its recipe, its checkpoint's tensors and its hashes under the names that they had."""
    recipe = str(write_recipe(tmp_path, data))
    for name, steps in (("undisturbed", 6), ("older", 4)):
        run_ranks(1, train_rank, recipe, str(tmp_path / name), {"max_steps": steps})
    run = Run(tmp_path / "older")
    make_older(run)
    with pytest.warns(OlderNames, match="recipe.yaml"):
        cacl.load(run.folder)
    run_ranks(1, train_rank, recipe, str(run.folder), {"max_steps": 6, "resume": True})
    ends = [
        load_file(tmp_path / name / "checkpoints/step-6/model.safetensors")
        for name in ("undisturbed", "older")
    ]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def resume_by_deepspeed(world: World, folder: str) -> str:
    engine = DeepSpeed(zero=0).build(Localizer(ModelOptions(image=image.SmallCnn())), SGD(), world)
    with pytest.raises(UserError) as refusal:
        engine.load(Path(folder))
    return str(refusal.value)


def test_deepspeeds_own_files_keep_older_names_and_the_sentence_says_what_to_do(tmp_path):
    write_json(tmp_path / "state.json", {"world_size": 1})
    save_file({"sound_trunk.body.0.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    (sentence,) = run_ranks(1, resume_by_deepspeed, str(tmp_path))
    assert "earlier version" in sentence and f"--init-from {tmp_path / 'model.safetensors'}" in sentence
