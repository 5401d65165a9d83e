"""Promises 7 and 8 on every device: checkpoints know no device, and a killed training goes on."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cacl.runs import checkpoint
from cacl.training.trainer import EMA_FILE, resume
from cacl.world import World
from tests.gpu.devices import SELDOM_HERE
from tests.gpu.steps import STEPS, How, build, curve, on_cpu, take
from tests.launch.tiny import train_rank, write_recipe
from tests.training.jobs import steps


@pytest.mark.parametrize("to_processor", [True, False], ids=["to the processor", "from the processor"])
def test_a_checkpoint_goes_on_where_it_was_not_written(tmp_path: Path, device, to_processor):
    """One step here and two there are the three steps of the processor, in double precision."""
    devices = [device, torch.device("cpu")]
    here, there = devices if to_processor else devices[::-1]
    engine, average = build(World(device=here), How())
    assert average is not None
    first, _ = take(engine, average, How(), [0])
    writer = checkpoint.Writer(tmp_path)
    writer.begin(1)
    writer.save(1, {**engine.state_files(), EMA_FILE: average.state_dict()}, {"identity": {}})
    writer.wait()
    engine, average = build(World(device=there), How())
    assert average is not None
    assert resume(engine, average, tmp_path / "step-1", {}) == 1
    rest, _ = take(engine, average, How(), range(1, STEPS))
    wanted = curve(World(), "cpu", How())
    assert first + rest == pytest.approx(wanted.losses, rel=1e-7)
    for ours, theirs in ((engine.module.state_dict(), wanted.state), (average.state_dict(), wanted.average)):
        torch.testing.assert_close(on_cpu(ours), theirs, rtol=1e-7, atol=1e-9)


def train_repeatably(device: torch.device, recipe: Path, run: Path, resume: bool) -> None:
    """Train by algorithms that add in the same order each time; a GPU's own choice does not."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # asked for by torch where cuBLAS is to be repeatable
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_rank(World(device=device), str(recipe), str(run), {"resume": resume})


@SELDOM_HERE
def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, device, data):
    """Bit for bit, on a GPU too. Each training is a process of its own, all of them alike."""
    recipe = write_recipe(tmp_path, data)
    processes = multiprocessing.get_context("forkserver")

    def start(run: Path, resume: bool) -> Any:
        process = processes.Process(target=train_repeatably, args=(device, recipe, run, resume), daemon=True)
        process.start()
        return process

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    first, whole = start(killed, False), start(undisturbed, False)
    while len(steps(killed)) < 6:
        assert first.is_alive()
        time.sleep(0.002)
    first.kill()
    first.join()
    rest = start(killed, True)
    for process in (rest, whole):
        process.join()
        assert process.exitcode == 0
    found = steps(killed)
    assert len(found) == 18 and found == steps(undisturbed)
