"""A run directory whose small files are damaged: one sentence, and nothing of it is lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import cacl as library
from cacl.errors import Remark, UserError
from cacl.evaluation.results import read_record
from cacl.resumable import resumable_map
from cacl.runs import log
from cacl.runs.directory import Run
from cacl.runs.export import read_about
from cacl.types import Batch
from cacl.world import World
from launch.jobs.runs import list_runs
from launch.main import main
from tests.launch.tiny import cacl, train_rank, write_recipe

STEP = {"step": 1, "epoch": 0, "loss": 2.0}
DAMAGE = [b"7\n", b"{}\n", b"null\n", b"\xff\xfe\n", b'{"step": "2", "loss": 1.0}\n', b'{"step": 2, "loss": "x"}\n',
          b'{"step": 2, "validation": 3}\n', b'{"step": 2\n', b"[" * 20000 + b"\n"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert cacl("pack", "generated", "--clips", "12", "--shard-size", "2", "--frame-side", "48", "--out",
                str(folder / "g")).returncode == 0  # fmt: skip
    recipe = write_recipe(folder, folder / "g")
    done = cacl("train", str(recipe), "--run-dir", str(folder / "run"), "--max-steps", "1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Run(shutil.copytree(trained / "run", tmp_path / "run"))


@pytest.mark.parametrize("line", DAMAGE, ids=[line[:20].decode("latin-1") for line in DAMAGE])
def test_a_damaged_line_of_the_log_is_named_and_the_others_are_read(tmp_path, line):
    file = tmp_path / "train.jsonl"
    whole = [json.dumps({**STEP, "step": step}).encode() + b"\n" for step in (1, 2, 3)]
    file.write_bytes(whole[0] + line + whole[1] + whole[2])
    with pytest.warns(Remark, match=r"train\.jsonl: damaged lines are passed over: 2$"):
        assert [record["step"] for record in log.read(file)] == [1, 2, 3]
    before = file.read_bytes()
    with pytest.warns(Remark, match=r"line 2 is damaged; the file as it was is now .*train\.jsonl\.damaged"):
        log.truncate(file, 2)
    assert [record["step"] for record in log.read(file)] == [1, 2]
    assert (tmp_path / "train.jsonl.damaged").read_bytes() == before


def test_the_torn_last_line_of_a_killed_training_is_no_damage(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text(json.dumps(STEP) + '\n{"step": 2, "lo')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log.read(file) == [STEP]
        log.truncate(file, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["train.jsonl"]


def test_a_training_goes_on_over_a_damaged_log_and_says_so(trained, run):
    with run.log_file.open("ab") as file:
        file.write(b"\xff\xfe\n7\n")
    done = cacl(
        "train", str(trained / "tiny.yaml"), "--run-dir", str(run.folder), "--resume", "--max-steps", "2"
    )
    assert done.returncode == 0 and "line 2 is damaged" in done.stderr, done.stderr
    assert [line["step"] for line in run.records() if "loss" in line] == [1, 2]
    assert (run.folder / "train.jsonl.damaged").read_bytes().endswith(b"\xff\xfe\n7\n")


RECIPES = {
    "not UTF-8": b"\xff\xfe",
    "NUL": bytes(99),
    "cut": b"data: [",
    "no mapping": b"- 1",
    "nothing": b"",
    "without model": b"data: {train: x}",
    "a section that is none": b"data: {train: x}\nmodel: 3\ntraining: {seed: 0}\nloss: {}",
    "no seed": b"model: {image: {}}\ntraining: {}\nloss: {}",
    "measured of nothing": b"model: {image: {}}\ntraining: {measured: 3}\nloss: {}",
}


@pytest.mark.parametrize("content", RECIPES.values(), ids=RECIPES.keys())
def test_a_recipe_that_is_damaged_is_named(run, content):
    run.recipe_file.write_bytes(content)
    with pytest.raises(UserError, match=r"recipe\.yaml") as caught:
        library.load(run.folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


REFUSED = {("heartbeat", "binary"), ("heartbeat", "empty"), ("heartbeat/rank-0.json", "folder"),
           ("requeue", "folder"), ("recipe.yaml", "folder"), ("recipe.yaml", "binary"), ("recipe.yaml", "empty"),
           ("lock", "folder"), ("train.jsonl", "folder")}  # fmt: skip
"""What cannot be gone on with; everything else of another kind is no matter."""


@pytest.mark.parametrize(
    "name", ["heartbeat", "heartbeat/rank-0.json", "requeue", "recipe.yaml", "lock", "train.jsonl"]
)
@pytest.mark.parametrize("kind", ["folder", "binary", "empty"])
def test_files_of_another_kind_are_a_sentence_or_no_matter(trained, run, name, kind):
    path = run.folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.mkdir() if kind == "folder" else path.write_bytes(b"\xff\x00" if kind == "binary" else b"")
    refused = (name, kind) in REFUSED
    with pytest.raises(UserError, match=name) if refused else contextlib.nullcontext():
        train_rank(World(), str(trained / "tiny.yaml"), str(run.folder), {"resume": True, "max_steps": 2})
    assert (run.checkpoints / "step-1").is_dir() and (run.checkpoints / "step-2").is_dir() != refused


def test_weights_that_a_run_does_not_have_are_named(run, trained):
    with pytest.raises(UserError, match=r"step-1: holds no ema weights; set training\.ema_decay"):
        library.load(run.folder, "ema")


@pytest.mark.parametrize(
    "metadata",
    [
        "[]",
        "7",
        "{}",
        "[" * 20000,
        '{"format_version": 1}',
        '{"format_version": 1, "recipe": null, "weights": "model"}',
    ],
)
def test_an_exported_file_with_damaged_metadata_is_one_sentence(tmp_path, metadata):
    file = tmp_path / "e.safetensors"
    save_file({"a": torch.ones(2)}, file, metadata={"cacl": metadata})
    with pytest.raises(UserError, match=r"e\.safetensors: .*(export it again|cacl export)"):
        library.load(file)


@pytest.mark.parametrize(
    "lost", ["model", "loss", "training", "data", "training.seed", "data.augmentation.size"]
)
def test_an_exported_file_whose_recipe_lacks_something_is_one_sentence(trained, tmp_path, lost):
    good = tmp_path / "good.safetensors"
    assert cacl("export", "--run", str(trained / "run"), "--out", str(good)).returncode == 0
    about = read_about(good)
    *path, last = lost.split(".")
    holder = about["recipe"]
    for key in path:
        holder = holder[key]
    for value in (None, "x"):
        holder[last] = value
        file = tmp_path / "bad.safetensors"
        save_file(load_file(good), file, metadata={"cacl": json.dumps(about)})
        with pytest.raises(UserError, match=last):
            library.load(file)
    del holder[last]
    save_file(load_file(good), file, metadata={"cacl": json.dumps(about)})
    with pytest.raises(UserError, match=last):
        library.load(file)


def test_weights_and_sounds_that_are_not_finite_make_no_picture(trained, tmp_path):
    finder = library.load(trained / "run")
    picture, audio = np.zeros((40, 50, 3), np.uint8), np.zeros(16000, np.float32)
    assert np.isfinite(finder.map(picture, audio, finder.sample_rate)).all()
    with pytest.raises(UserError, match="the sound holds NaN"):
        finder.map(picture, np.full(16000, np.nan, np.float32), finder.sample_rate)
    with torch.no_grad():
        next(finder.model.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="the model has diverged"):
        finder.map(picture, audio, finder.sample_rate)


def test_broken_safetensors_are_one_sentence_wherever_weights_are_read(trained, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"\xff" * 64)
    frame, sound = str(tmp_path / "frame.png"), str(tmp_path / "sound.wav")
    Image.new("RGB", (50, 40)).save(frame)
    soundfile.write(sound, np.zeros(16000), 16000)
    for words in (["import", str(bad), "--out", str(tmp_path / "i")],
                  ["train", str(trained / "tiny.yaml"), "--run-dir", str(tmp_path / "r"), "--init-from", str(bad)],
                  ["label", str(trained / "g"), "--weights", str(bad)],
                  ["localize", frame, "--sound", sound, "--run", str(bad)]):  # fmt: skip
        done = cacl(*words)
        assert done.returncode == 2 and "Traceback" not in done.stderr and "bad.safetensors" in done.stderr, (
            words
        )


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"{", b"{}", b"7", b'{"protocol": 3, "model": []}', b"[" * 9999]
)
def test_damaged_figures_of_an_evaluation_are_named_and_the_run_is_listed_without_them(run, content):
    (run.folder / "metrics.json").write_bytes(content)
    with pytest.warns(Remark, match=r"metrics\.json: is damaged .*evaluate again"):
        (row,) = list_runs(run.folder.parent).values()
    assert row["step"] == 1
    with pytest.raises(UserError, match=r"metrics\.json: .*evaluate again"):
        read_record(run.folder)


def test_a_damaged_unit_of_what_a_killed_job_has_done_is_named(tmp_path):
    def work(batch: Batch) -> dict[str, np.ndarray]:
        return {"value": batch.index.numpy().astype(np.float32)}

    def batches(indices: np.ndarray) -> Iterator[Batch]:
        if len(indices):
            index = torch.from_numpy(indices)
            yield Batch(index, index, index, torch.ones(len(index), dtype=torch.bool))

    indices = np.arange(10)
    assert resumable_map(indices, batches, work, tmp_path / "parts", {}, World()) is not None
    (unit,) = (tmp_path / "parts").rglob("unit-*.npz")
    whole = bytearray(unit.read_bytes())
    whole[whole.find(indices.tobytes()) + 3] ^= 1
    for damage in (whole, whole[:50], b""):
        unit.write_bytes(damage)
        with pytest.raises(UserError, match=r"unit-0000000\.npz: is damaged .*delete it and run again"):
            resumable_map(indices, batches, work, tmp_path / "parts", {}, World())


@pytest.mark.parametrize(
    "words",
    [
        ("config", "pipe.yaml"),
        ("train", "pipe.yaml", "--run-dir", "x"),
        ("import", "pipe.safetensors", "--out", "x"),
        ("pack", "vggss", "--root", ".", "--boxes", "pipe.json", "--out", "x"),
        ("pack", "videos", "--root", ".", "--list", "pipe.csv", "--out", "x"),
        ("runs", "run"),
        ("label", "data", "--tagger", "./pipe.py:tag"),
    ],
    ids=lambda words: words[0],
)
def test_a_pipe_in_place_of_a_file_is_a_sentence(tmp_path, monkeypatch, capsys, data, words):
    """Reading it would wait for ever for somebody to write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("data: {}")
    (tmp_path / "data").symlink_to(data)
    for name in ("pipe.yaml", "pipe.safetensors", "pipe.json", "pipe.csv", "pipe.py", "run/train.jsonl"):
        os.mkfifo(tmp_path / name)
    assert main(list(words)) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
