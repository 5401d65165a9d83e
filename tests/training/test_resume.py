"""Promises 2, 7 and 8: what a resumed training takes up, what it refuses, and who may write in its folder."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cacl.errors import UserError
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from launch.config import load_recipe
from launch.jobs.changes import check_changes
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import train_rank, write_recipe
from tests.training.jobs import steps


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, data) -> str:
    changes: dict[str, Any] = {"data": {"validation": str(data)}, "training": {"ema_decay": 0.9}}
    return str(write_recipe(tmp_path_factory.mktemp("recipe"), data, **changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, recipe) -> Path:
    """A run of six steps, with a checkpoint after the fourth and the sixth."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(recipe, run, max_steps=6)
    return run


def train(recipe: str, run: Path, size: int = 1, **options: object) -> None:
    run_ranks(size, train_rank, recipe, str(run), options)


def test_a_checkpoint_carries_all_that_it_came_from(trained, recipe):
    from cacl.options import plain

    folder = trained / "checkpoints" / "step-6"
    state = checkpoint.read_state(folder)
    assert {"model.safetensors", "ema.safetensors", "state.json", "hashes.json"} <= set(
        path.name for path in folder.iterdir()
    )
    assert (folder / "engine" / "optimizer.safetensors").exists()
    # 72 clips in batches of 12: six steps are one epoch.
    assert state["step"] == 6 and state["position"] == {"epoch": 1, "batch": 0}
    assert state["recipe"] == json.loads(json.dumps(plain(load_recipe(recipe, []))))
    assert state["environment"]["versions"]["torch"] and "commit" in state["environment"]
    assert state["identity"]["data"] and state["world_size"] == 1
    assert set(state["validation"]) >= {"recall_at_1", "recall_at_5", "clips"}


def test_two_ranks_one_rank_four_ranks_in_the_middle_of_an_epoch(tmp_path, data):
    """Three batches an epoch: both changes of the world's size fall into one."""
    sizes = {"global_batch_size": 24, "micro_batch_size": 2, "epochs": 4}
    recipe = str(write_recipe(tmp_path, data, data={"order": {"name": "lanes", "lanes": 12}}, training=sizes))
    train(recipe, tmp_path / "whole", max_steps=10)
    for size, last in ((2, 4), (1, 7), (4, 10)):
        train(recipe, tmp_path / "run", size=size, resume=True, max_steps=last)
    # float32 sums in another order, amplified by ten steps of Adam.
    assert steps(tmp_path / "run") == pytest.approx(steps(tmp_path / "whole"), rel=2e-4)
    assert [line["world_size"] for line in Run(tmp_path / "run").records()] == [2] * 4 + [1] * 3 + [4] * 3


def test_a_change_that_the_state_does_not_hang_on_is_taken_and_said(trained, recipe):
    words = ["--training.epochs", "5", "--optimizer.learning-rate", "1e-4", "--loss.memory-mib", "64"]
    changes = check_changes(Run(trained), load_recipe(recipe, words))
    assert changes == [
        "loss.memory_mib None → 64.0",
        "optimizer.learning_rate 0.001 → 0.0001",
        "training.epochs 3 → 5",
    ]


def test_a_refused_resume_leaves_the_run_as_it_was(trained, recipe):
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    with pytest.raises(AssertionError, match=r"training\.seed 0 → 1"):
        train(recipe, trained, resume=True, max_steps=8, overrides=["--training.seed", "1"])
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_run_killed_before_its_first_checkpoint_begins_again_with_an_empty_log(trained, recipe, tmp_path):
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    run.create(Run(trained).recipe(), {})
    for line in Run(trained).records()[:3]:
        run.log(line)
    train(recipe, run.folder, resume=True, max_steps=6)
    assert steps(run.folder) == steps(trained)


def test_a_finished_run_has_nothing_left_to_do(trained, recipe):
    before = steps(trained)
    train(recipe, trained, resume=True, max_steps=6)
    assert steps(trained) == before and not (trained / "requeue").exists()


def test_a_stop_during_validation_is_not_kept_waiting_by_it(tmp_path, recipe):
    """Asked for the fifth time, one rank says yes: before the first batch of the validation after step 4."""
    run = tmp_path / "run"
    train(recipe, run, size=2, max_steps=12, stop_at=5)
    assert (run / "requeue").exists()
    assert [line["step"] for line in Run(run).records()] == [1, 2, 3, 4], "no figure, and no step more"
    newest = checkpoint.latest_valid(run / "checkpoints")
    assert newest is not None and newest.name == "step-4"
    assert checkpoint.read_state(newest)["validation"] is None


HOLD = """
import sys, time
from cacl.runs.directory import Run
run = Run(sys.argv[1])
run.lock()
print("held", flush=True)
time.sleep(600)
"""


def test_two_trainings_do_not_write_in_one_folder(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None, "it is a pipe"
            assert holder.stdout.readline() == b"held\n"
            with pytest.raises(
                UserError, match=rf"another training writes here \(host .*, process {holder.pid}\)"
            ):
                Run(folder).lock()
        finally:
            holder.kill()
    run = Run(folder)
    run.lock()  # the dead hold nothing
    run.release()


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def no_locks(*arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    Run(tmp_path / "run").lock()
