"""A training on the device that there is not, for the jobs that take a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cacl.world import World
from launch.config import load_recipe
from launch.jobs.train import train
from tests.device.crossings import CHECKPOINT, FITTING, METER, ONCE, VALIDATION
from tests.device.flow import DEVICE, DeviceFlow
from tests.launch.tiny import write_recipe


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Four steps with a moving average, a validation and two checkpoints."""
    folder = tmp_path_factory.mktemp("device")
    recipe = write_recipe(
        folder,
        data,
        data={"validation": str(data)},
        loss={"learn_temperature": True, "kernel": "torch"},  # Triton's wants the GPU itself
        training={"ema_decay": 0.9, "checkpoint_every": 2},
    )
    with DeviceFlow(ONCE | METER | VALIDATION | FITTING | CHECKPOINT) as flow:
        train(load_recipe(str(recipe), []), folder / "run", World(device=DEVICE), max_steps=4)
    assert flow.crossed == METER.keys() | VALIDATION.keys() | FITTING.keys() | CHECKPOINT.keys()
    return folder / "run"
