"""ASHA that a killed sweep finds again as it left it.

Ray restores the trials of a sweep but not what its scheduler has seen: a restored ASHA has empty rungs and
lets everything pass. This one writes its rungs after every result, before the decision takes effect, and
reads them when it starts. A trial that it has stopped is marked in its run directory, so that it stays so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from launch.sweeping.space import STOPPED, Asha, Objective


class LastingAsha(ASHAScheduler):
    """Ray's ASHA, with its state in `file`."""

    def __init__(self, options: Asha, objective: Objective, file: Path) -> None:
        super().__init__(
            time_attr="step",
            metric="objective",
            mode=objective.best,
            max_t=options.last_step,
            grace_period=options.first_step,
            reduction_factor=options.reduction,
            stop_last_trials=False,  # a trial ends by itself, after its last checkpoint
        )
        self.file, self.is_loaded = file, False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Read the rungs of the sweep's earlier life before the first trial is seen."""
        if not self.is_loaded and self.file.exists():
            self.restore(str(self.file))
        self.is_loaded = True
        super().on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide as ASHA does, and write down what was seen and decided."""
        decision = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            (Path(trial.config["trial"]["run_dir"]) / STOPPED).touch()
        temporary = self.file.with_suffix(".tmp")
        self.save(str(temporary))
        temporary.replace(self.file)
        return decision
