"""What Ray asks after every result: whether the trial goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from launch.sweeping.rungs import Rungs
from launch.sweeping.space import STOPPED, SweepObjective


class Halving(FIFOScheduler):
    """Trials in their order; at each rung only the best share goes on.

    A trial that is stopped is marked in its run directory, so that it stays so when the sweep is restored.
    """

    def __init__(self, rungs: Rungs, objective: SweepObjective) -> None:
        super().__init__()
        self.rungs, self.sign = rungs, 1.0 if objective.best == "max" else -1.0

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Enter the result, write it down, then decide."""
        mine = trial.config["trial"]
        continues = self.rungs.enter(mine["name"], result["step"], self.sign * result["objective"])
        if not continues:
            (Path(mine["run_dir"]) / STOPPED).touch()
        self.rungs.save()
        return TrialScheduler.CONTINUE if continues else TrialScheduler.STOP
