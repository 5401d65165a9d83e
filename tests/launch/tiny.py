"""A tiny real training: generated clips packed into shards, a small model, losses over all ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from cacl.processes import STOPPING
from cacl.world import World

RECIPE: dict[str, Any] = {
    "data": {
        "order": {"name": "lanes", "lanes": 6},
        "workers": 0,
        "augmentation": {"size": 32, "short_side": 36},
    },
    "model": {
        "image": {"name": "small-cnn", "channels": 16, "norm": "batch"},
        "audio": {"name": "small-cnn", "channels": 16, "norm": "batch"},
        "dimension": 16,
    },
    "loss": {
        "similarity": {"name": "max"},
        "positives": {"name": "own-clip"},
        "objective": {"name": "infonce"},
    },
    "training": {"global_batch_size": 12, "micro_batch_size": 2, "epochs": 3, "checkpoint_every": 4},
}


def cacl(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "launch.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, **more)


def write_recipe(folder: Path, clips: Path, **changes: dict[str, Any]) -> Path:
    """Write the tiny recipe with changed sections."""
    values = {name: {**part, **changes.get(name, {})} for name, part in RECIPE.items()}
    values["data"]["train"] = str(clips)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values | {k: v for k, v in changes.items() if k not in RECIPE}))
    return path


def train_rank(world: World, recipe: str, run_dir: str, options: dict[str, Any]) -> None:
    """Be one rank of a training in this process; `stop_at` sends `signal` (SIGTERM) to the last rank at that step."""
    from launch.config import load_recipe
    from launch.jobs.train import train
    from launch.stop_request import StopRequest

    class TerminatedAt(StopRequest):
        """Sends the signal itself, at a step and not at a time."""

        steps = -1  # the first question comes before the first step

        def __call__(self) -> int:
            self.steps += 1
            if self.steps == options.get("stop_at") and world.rank == world.size - 1:
                os.kill(os.getpid(), options.get("signal", signal.SIGTERM))
            return super().__call__()

    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        train(
            load_recipe(recipe, options.get("overrides", [])),
            run_dir,
            world,
            resume=options.get("resume", False),
            max_steps=options.get("max_steps"),
            init_from=options.get("init_from"),
            stop_requested=TerminatedAt(),
            say=print,
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
