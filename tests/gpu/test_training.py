"""Promises 7 and 8 on every device: checkpoints know no device, and a killed training goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cacl.runs import checkpoint
from cacl.training.trainer import EMA_FILE, resume
from cacl.world import World
from tests.gpu.steps import STEPS, How, build, curve, on_cpu, take
from tests.launch.tiny import train_rank, write_recipe
from tests.training.jobs import Job, steps


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


def test_a_killed_training_goes_on_as_if_nothing_had_been(tmp_path: Path, device, data, monkeypatch):
    """On the processor bit for bit. A GPU adds in another order each time, which Adam magnifies."""
    if device.type == "cpu":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    recipe = write_recipe(tmp_path, data)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    with Job(recipe, killed, ranks=None) as job:
        job.until_step(6)
        job.kill()
    for run in (killed, undisturbed):
        train_rank(World(device=device), str(recipe), str(run), {"resume": run == killed})
    found, wanted = steps(killed), steps(undisturbed)
    assert len(found) == 18
    assert found == wanted if device.type == "cpu" else found == pytest.approx(wanted, rel=1e-2)
