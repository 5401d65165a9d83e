"""`cacl evaluate --protocol retrieval`: a run's ranks among packed clips, against one loop over all pairs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from cacl.errors import UserError
from cacl.evaluation.results import read_clips
from cacl.evaluation.retrieval import class_ranks, ranks
from cacl.runs.checkpoint import seal, write_tensors
from cacl.runs.directory import Run
from cacl.runs.load import open_model, rebuild
from launch.jobs.measuring import AnnotatedClips, data_options
from launch.jobs.retrieval import measure_retrieval
from launch.main import main
from shards.store import open_store
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import write_recipe

CLIPS = 70
"""More than a batch of 64."""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of a small untrained model, and packed clips, whose boxes nobody reads."""
    folder = tmp_path_factory.mktemp("retrieval")
    words = ["--clips", str(CLIPS), "--shard-size", "35", "--frame-side", "48", "--workers", "1"]
    assert main(["pack", "generated", "--out", str(folder / "clips"), *words]) == 0
    recipe = write_recipe(folder, folder / "clips", data={"test": str(folder / "clips")})
    made = Run(folder / "run")
    main(["train", str(recipe), "--run-dir", str(made.folder), "--max-steps", "1"])
    return made.folder


@pytest.fixture(scope="module")
def record(run):
    return measure_retrieval(run)


def similarity_of(run) -> tuple[np.ndarray, np.ndarray]:
    """The highest cosine of each image's places with each sound [N, N], and the clips' classes [N]."""
    options, (model, _) = data_options(run), open_model(run)
    assert options.test is not None
    clips = AnnotatedClips(open_store(options.test), options.decoder, 0, options.augmentation)
    (batch,) = clips.batches(clips.store.indices, CLIPS)
    with torch.no_grad():
        seen = model(*model.prepare(batch.images, batch.waveforms))
    cosines = torch.einsum("npd,md->nmp", seen.image[:, 0], seen.audio[:, 0]).amax(2)
    return cosines.numpy(), np.array([note.class_name for note in batch.annotations or []])


def test_ranks_are_those_of_one_loop_over_all_pairs(run, record):
    similarity, names = similarity_of(run)
    rows = read_clips(run, "retrieval")["model"]
    for direction, matrix in (("image_to_sound", similarity), ("sound_to_image", similarity.T)):
        # Batches of another size round otherwise: two candidates within that may change places.
        assert np.abs(rows[f"rank_{direction}"] - ranks(matrix)).max() <= 1
        assert np.abs(rows[f"class_rank_{direction}"] - class_ranks(matrix, names)).max() <= 1
        expected = float((rows[f"rank_{direction}"] <= 5).mean())
        assert record["model"][f"r5_{direction}"] == expected
        low, high = record["intervals"][f"r5_{direction}"]
        assert low <= expected <= high
    assert (record["n"], record["missing"], record["checkpoint"]) == (CLIPS, [], "step-1")


def rank_of(world, run):
    return measure_retrieval(run, world)


def test_two_ranks_find_the_same(run, record):
    found, nothing = run_ranks(2, rank_of, run)
    assert nothing is None and found["model"] == pytest.approx(record["model"], abs=1 / CLIPS)


def test_the_verb_prints_it_and_two_runs_are_compared(run, record, tmp_path, capsys):
    other = Path(shutil.copytree(run, tmp_path / "other"))
    folder = other / "checkpoints" / "step-1"
    recipe = Run(other).recipe()
    recipe["training"]["seed"] = 9
    write_tensors(folder / "model.safetensors", rebuild(recipe, "test", None).state_dict())
    (folder / "hashes.json").unlink()
    seal(folder)
    assert main(["evaluate", "--run", str(other), "--protocol", "retrieval"]) == 0
    out = capsys.readouterr().out
    assert (
        "retrieval version 1, similarity max, step-1, model weights: 70 clips" in out
        and "median_rank_image_to_sound" in out
    )
    assert not (other / "metrics.json").exists(), "the pages and summaries of a run are about maps"
    words = ["compare", str(run), str(other), "--protocol", "retrieval"]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["metrics"]
    assert said["r1_image_to_sound"]["first"]["value"] == pytest.approx(record["model"]["r1_image_to_sound"])
    assert "class_r10_sound_to_image" in said
    assert main([*words, "--shared"]) == 2
    assert "--shared: a rank is one among all candidates" in capsys.readouterr().err


def test_listed_clips_alone_are_candidates_and_those_without_a_row_are_missing(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    every = read_clips(run, "retrieval")["model"].id.tolist()
    found = measure_retrieval(copy, ids=[*every[:5], "nobody"])
    assert found is not None and (found["n"], found["missing"]) == (5, ["nobody"])
    assert found["model"]["r5_image_to_sound"] == 1


def test_options_of_maps_and_a_run_without_clips_are_one_sentence(run, tmp_path, capsys):
    for words in (["--upsampling", "bilinear"], ["--negatives", "noise"], ["--object-guidance", "min-max"]):
        assert main(["evaluate", "--run", str(run), "--protocol", "retrieval", *words]) == 2
        assert f"{words[0]}: is about maps" in capsys.readouterr().err
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    file = copy / "recipe.yaml"
    file.write_text(file.read_text().replace("  test: ", "  test: null #"))
    with pytest.raises(UserError, match=r"data\.test names no test clips; give them with --data"):
        measure_retrieval(copy)
