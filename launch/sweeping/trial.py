"""One trial: a distributed training of its own, followed through its run directory.

The run directory is the trial's memory: a trial that is started again reports what it had reported (a rung
counts a trial once) and goes on from its newest valid checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cacl.files import lock_with_children
from cacl.processes import end_with_parent
from cacl.runs import log
from launch.sweeping.space import FINISHED, STOPPED, SweepObjective

_SECONDS_BETWEEN_LOOKS = 0.5


def run_trial(config: dict[str, Any]) -> None:
    """Train in a run directory and report every line of its train.jsonl that has the objective.

    `config["trial"]` holds `name`, `recipe`, `run_dir`, `overrides`, `processes`, `objective` and `folder`,
    where relative paths of the recipe start. Raises RuntimeError where the training fails; Ray then starts it
    again.
    """
    from ray import tune

    trial = config["trial"]
    run = Path(trial["run_dir"])
    run.mkdir(parents=True, exist_ok=True)
    objective = SweepObjective(**trial["objective"])
    lines, reported = log.Follower(run / "train.jsonl"), 0

    def report() -> None:
        nonlocal reported
        for line in lines.look():
            value = objective.read(line)
            if value is not None and line["step"] > reported:
                reported = line["step"]
                tune.report({"step": reported, "objective": value})

    report()
    if (run / STOPPED).exists() or (run / FINISHED).exists():
        return
    with (run / "trial.log").open("ab") as output:
        lock_with_children(output)  # no rank of an earlier start of this trial is left: they would hold it
        process = subprocess.Popen(
            command(trial),
            cwd=trial["folder"],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=end_with_parent,
            env={**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
        )
    try:
        while process.poll() is None:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            report()
    finally:
        if process.poll() is None:
            process.terminate()
    report()
    if process.returncode != 0 or (run / "requeue").exists():
        raise RuntimeError(f"{run}: training ended with code {process.returncode}, see its trial.log")
    if not reported:
        raise RuntimeError(
            f"{run}/train.jsonl: no line has the objective {objective.key!r}; name another key"
        )
    (run / FINISHED).touch()


def command(trial: dict[str, Any]) -> list[str]:
    """Return the command of a trial's training."""
    return [
        sys.executable, "-m", "launch.main", "train", trial["recipe"], "--resume",
        "--run-dir", trial["run_dir"], "--nproc-per-node", str(trial["processes"]), *trial["overrides"],
    ]  # fmt: skip
