"""Promises 3, 4, 7 and 8 of a whole training: a stop changes nothing, nor does the number of ranks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cacl.model.localizer import Localizer
from cacl.runs.checkpoint import latest_valid, write_tensors
from cacl.runs.directory import Run
from launch.config import load_recipe
from launch.jobs.train import train
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import cacl, train_rank, write_recipe

STEPS = 12


def losses(run: Path) -> list[float]:
    records = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, len(records) + 1))
    return [record["loss"] for record in records]


def weights(run: Path) -> bytes:
    folder = latest_valid(run / "checkpoints")
    assert folder is not None and folder.name == f"step-{STEPS}"
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, data) -> str:
    return str(write_recipe(tmp_path_factory.mktemp("recipe"), data))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, recipe):
    """Return the run of twelve steps on so many ranks, each made once."""
    made: dict[int, Path] = {}

    def run(size: int) -> Path:
        if size not in made:
            made[size] = tmp_path_factory.mktemp("undisturbed") / str(size)
            run_ranks(size, train_rank, recipe, str(made[size]), {"max_steps": STEPS})
        return made[size]

    return run


@pytest.mark.parametrize("size", [1, 2, 3])
def test_stopped_by_a_signal_and_resumed_is_the_same_run_bit_for_bit(tmp_path, recipe, undisturbed, size):
    run = tmp_path / "run"
    run_ranks(size, train_rank, recipe, str(run), {"max_steps": STEPS, "stop_at": 5})
    assert (run / "requeue").exists()
    stopped = len(losses(run))
    assert 5 <= stopped < STEPS
    run_ranks(size, train_rank, recipe, str(run), {"max_steps": STEPS, "resume": True})
    assert not (run / "requeue").exists()
    assert losses(run) == losses(undisturbed(size))
    assert weights(run) == weights(undisturbed(size))


def test_the_number_of_ranks_changes_no_loss(undisturbed):
    expected = losses(undisturbed(1))
    for size in (2, 3):
        # float32 sums in another order, amplified by twelve steps of Adam.
        assert losses(undisturbed(size)) == pytest.approx(expected, rel=2e-4)


def test_two_ranks_one_rank_three_ranks_in_the_middle_of_an_epoch(tmp_path, recipe, undisturbed):
    run = tmp_path / "run"
    for size, last in ((2, 4), (1, 7), (3, STEPS)):
        run_ranks(size, train_rank, recipe, str(run), {"max_steps": last, "resume": True})
    assert losses(run) == pytest.approx(losses(undisturbed(1)), rel=2e-4)


@pytest.mark.parametrize("decoder", ["torch", "dali"])
def test_a_training_of_two_views_from_files_on_any_ranks_stopped_and_resumed(tmp_path, data, decoder):
    """SSPL's two views, by either decoder; validation, which has one view, between them."""
    sizes = {"hidden": 16, "projection": 16, "bottleneck": 4}
    recipe = str(
        write_recipe(
            tmp_path,
            data,
            data={
                "augmentation": {"size": 32, "short_side": 36, "views": 2},
                "decoder": {"name": decoder},
                "validation": str(data),
            },
            loss={"similarity": {"name": "mean"}, "objective": {"name": "sspl", **sizes}},
            training={"micro_batch_size": 6},
        )
    )
    whole, two, parts = (tmp_path / name for name in ("whole", "two", "parts"))
    run_ranks(1, train_rank, recipe, str(whole), {"max_steps": 6})
    run_ranks(2, train_rank, recipe, str(two), {"max_steps": 6})
    for last in (2, 6):
        run_ranks(1, train_rank, recipe, str(parts), {"max_steps": last, "resume": True})
    steps = [[line["loss"] for line in Run(run).records() if "loss" in line] for run in (whole, two, parts)]
    assert len(steps[0]) == 6 and steps[2] == steps[0]
    # float32 sums in another order, amplified by Adam and by BatchNorm of six clips; the loss lies in -1..1.
    assert steps[1] == pytest.approx(steps[0], abs=2e-3)
    (validated,) = [line for line in Run(two).records() if "validation" in line][-1:]
    assert 0 <= validated["validation"]["recall_at_1"] <= 1


def test_scores_that_hardware_does_not_compute_are_float32_in_the_record_and_said_once(tmp_path, recipe):
    said: list[str] = []
    loaded = load_recipe(recipe, ["--loss.scores", "tf32"])
    assert train(loaded, tmp_path / "run", max_steps=1, say=said.append) == "finished"
    record = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert record["scores"] == "float32"
    lines = [line for line in said if line.startswith("loss.scores")]
    assert lines == ["loss.scores: tf32 needs an NVIDIA GPU from Ampere on; scores are float32 on cpu"]


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(tmp_path, recipe, undisturbed):
    run = tmp_path / "run"
    run_ranks(1, train_rank, recipe, str(run), {"max_steps": 9})
    (run / "checkpoints" / "step-9" / "model.safetensors").write_bytes(b"")
    answer = cacl("train", recipe, "--run-dir", str(run), "--resume", "--max-steps", str(STEPS))
    assert "step-9: damaged" in answer.stderr, answer.stderr
    assert losses(run) == losses(undisturbed(1))
    assert weights(run) == weights(undisturbed(1))


def test_cacl_train_starts_ranks_passes_signals_on_and_resumes(tmp_path, recipe):
    run, given = tmp_path / "run", tmp_path / "given.safetensors"
    read = load_recipe(recipe, [])
    write_tensors(given, Localizer(read.model, seed=9).state_dict())
    words = ["train", recipe, "--nproc-per-node", "2", "--run-dir", str(run), "--training.epochs", "400"]
    words += ["--max-steps", "2000", "--init-from", str(given)]
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.main", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None, "they are pipes"
    while not (run / "train.jsonl").exists() or len((run / "train.jsonl").read_text().splitlines()) < 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(240) == 0
    assert (run / "requeue").exists()
    said = process.stdout.read()  # ranks are given every word of the command
    assert f"training from the start to step 2000 on 2 rank(s), run {run}" in said
    assert f"weights from {given}; " in said and "not in the file: nothing" in said
    assert f"; go on with --resume --run-dir {run}" in said and "stopped on a signal; saved step-" in said
    record = json.loads((run / "train.jsonl").read_text().splitlines()[-1])
    newest = latest_valid(run / "checkpoints")
    assert newest is not None and newest.name == f"step-{record['step']}"
    assert record["world_size"] == 2
    wanted = {
        "step",
        "epoch",
        "loss",
        "clips_per_second",
        "data_wait_share",
        "same_class_pairs",
        "rows_without_negatives",
    }
    assert wanted <= record.keys()
    refused = cacl(*words)
    assert refused.returncode == 2 and "holds a run already" in refused.stderr
    assert refused.stderr.count("\n") == 1


WRONG = {
    "lanes": (["--nproc-per-node", "4"], "lanes"),
    "micro-batch": (["--training.micro-batch-size", "5"], "training.micro_batch_size"),
    "batch": (["--training.global-batch-size", "13"], "global_batch_size"),
    "labels": (["--data.labels", "nowhere.parquet"], "nowhere.parquet"),
    "data": (["--data.train", "nowhere"], "nowhere"),
    "protocol": (["--data.protocol", "vgss"], "did you mean vggss?"),
    "steps": (["--max-steps", "0"], "--max-steps"),
    "restarts": (["--max-restarts", "-1"], "--max-restarts"),
}


@pytest.mark.parametrize(("words", "named"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_one_sentence_before_anything_is_written(tmp_path, recipe, words, named):
    run = tmp_path / "run"
    answer = cacl("train", recipe, "--run-dir", str(run), *words)
    assert answer.returncode == 2, answer.stderr
    assert named in answer.stderr and answer.stderr.count("\n") == 1
    assert not run.exists()
