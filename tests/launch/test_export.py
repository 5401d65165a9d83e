"""A trained model as one file: the same maps from it as from its run, wherever it is taken."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import cacl as library
from cacl.errors import UserError
from cacl.runs.checkpoint import latest_valid
from cacl.runs.directory import Run
from cacl.runs.export import read_about
from launch.main import main
from tests.launch.tiny import cacl, write_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory, data) -> Path:
    """A run of three steps with a moving average, whose ResNet began with weights from a file."""
    from torchvision.models import resnet18

    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), folder / "resnet18.pth")
    recipe = write_recipe(
        folder,
        data,
        model={"image": {"name": "resnet18", "weights": str(folder / "resnet18.pth")}},
        training={"ema_decay": 0.5},
    )
    answer = cacl("train", str(recipe), "--run-dir", str(folder / "run"), "--max-steps", "3")
    assert answer.returncode == 0, answer.stderr
    (folder / "resnet18.pth").unlink()
    return folder / "run"


@pytest.mark.parametrize("which", ["model", "ema"])
def test_the_file_gives_the_maps_of_the_run_without_the_run(run, tmp_path, which) -> None:
    file = tmp_path / "given.safetensors"
    assert main(["export", "--run", str(run), "--out", str(file), "--weights", which]) == 0
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    audio = generator.normal(size=48000).astype(np.float32)
    expected = library.load(run, which).map(picture, audio, 16000)
    away = tmp_path / "away"
    away.mkdir()
    (tmp_path / "plain").touch()
    assert file.stat().st_mode == (tmp_path / "plain").stat().st_mode, "others may read it, as any other file"
    moved = shutil.move(file, away / "given.safetensors")
    assert np.array_equal(library.load(moved).map(picture, audio, 16000), expected)


def test_the_file_says_its_license_and_what_its_weights_were_measured_to_be(run, data, tmp_path, capsys):
    copy, file = tmp_path / "run", tmp_path / "given.safetensors"
    shutil.copytree(run, copy)
    recipe = copy / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(re.sub(r"weights: .*resnet18.pth", "weights: none", text))  # for the untrained model
    words = ["--weights", "ema", "--data", str(data), "--protocol", "boxes"]
    assert main(["evaluate", "--run", str(copy), *words]) == 0
    record = json.loads((copy / "evaluation/boxes,weights=ema/metrics.json").read_text())
    for name, other in (("boxes", {"weights": "model"}), ("boxes,checkpoint=best", {"checkpoint": "step-1"})):
        (copy / "evaluation" / name).mkdir()
        (copy / "evaluation" / name / "metrics.json").write_text(json.dumps(record | other))
    given = ["--out", str(file), "--weights", "ema", "--license", "CC-BY-4.0"]
    assert main(["export", "--run", str(copy), *given]) == 0
    capsys.readouterr()
    assert main(["export", "--show", str(file)]) == 0
    said = capsys.readouterr().out
    low, high = record["main"]["interval"]
    number = f"{record['main']['name']} {record['main']['value']:.3f} [{low:.3f}, {high:.3f}]"
    assert f"boxes,weights=ema, {record['n']} clips: {number}\n  {record['signature']}" in said
    assert "license: CC-BY-4.0" in said and said.count("|v") == 1, "other weights, other steps"
    assert main(["export", "--show", str(file), "--license", "MIT"]) == 2
    assert "--license: goes with --run" in capsys.readouterr().err


def test_a_file_of_an_earlier_cacl_has_no_card_and_a_damaged_one_is_a_sentence(run, tmp_path, capsys):
    file, other = tmp_path / "given.safetensors", tmp_path / "other.safetensors"
    assert main(["export", "--run", str(run), "--out", str(file)]) == 0
    about = read_about(file)
    del about["card"]
    for card, code, said in (
        ({}, 0, "measured by no protocol"),
        ({"card": {"results": [1]}}, 2, "card: results.0"),
    ):
        save_file(load_file(file), other, metadata={"cacl": json.dumps(about | card)})
        assert main(["export", "--show", str(other)]) == code
        told = capsys.readouterr()
        assert said in (told.err if code else told.out)


def test_the_weights_are_those_of_the_checkpoint_and_start_another_training(run, tmp_path) -> None:
    file = tmp_path / "given.safetensors"
    assert main(["export", "--run", str(run), "--out", str(file)]) == 0
    checkpoint = latest_valid(Run(run).checkpoints)
    assert checkpoint is not None
    trained = load_file(checkpoint / "model.safetensors")
    given = load_file(file)
    assert trained.keys() == given.keys()
    assert all(torch.equal(given[name], trained[name]) for name in trained)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((run / "recipe.yaml").read_text())
    words = ["--run-dir", str(tmp_path / "next"), "--max-steps", "1", "--init-from", str(file)]
    answer = cacl("train", str(recipe), *words, "--model.image.weights", "none")
    assert answer.returncode == 0, answer.stderr
    assert f"{len(trained)} of {len(trained)} tensors matched" in answer.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--run", "{tmp_path}"], "not a run directory"),
        (["--run", "{run}", "--out", "x.pt"], "give it the ending .safetensors"),
        (["--run", "{run}", "--checkpoint", "best"], "no valid checkpoint with a validation figure"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(run, tmp_path, capsys, words, sentence) -> None:
    assert main(["export", *[word.format(run=run, tmp_path=tmp_path) for word in words]]) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1, error


def test_what_cannot_be_loaded_is_one_sentence(run, tmp_path) -> None:
    file = tmp_path / "given.safetensors"
    main(["export", "--run", str(run), "--out", str(file)])
    with pytest.raises(UserError, match=r"holds the weights of the model; export it with --weights ema"):
        library.load(file, "ema")
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(file), bare)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(file.read_bytes()[:1000])
    for other in (bare, torn, run / "recipe.yaml"):
        with pytest.raises(UserError, match=r"not an exported model; make one with: cacl export"):
            library.load(other)
    newer = tmp_path / "newer.safetensors"
    save_file(load_file(file), newer, metadata={"cacl": json.dumps({"format_version": 99})})
    with pytest.raises(UserError, match=r"format_version is 99, this cacl reads 1"):
        library.load(newer)
