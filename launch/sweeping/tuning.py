"""Ray Tune around the trials: where they run, who decides, what happens after a crash or a kill."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # train.jsonl is the record
os.environ.setdefault("RAY_worker_niceness", "0")  # a trial is no background work
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import tune

from cacl.errors import UserError
from launch.sweeping.scheduler import LastingAsha
from launch.sweeping.space import Asha, Space
from launch.sweeping.table import LiveTable
from launch.sweeping.trial import run_trial


def tune_trials(
    out: Path, space: Space, trials: list[dict[str, Any]], address: str | None, cpus: int | None
) -> list[str]:
    """Run every trial that has not ended yet; return the names of those that failed for good.

    What Ray keeps lies in `out`/tune: a sweep that was killed is restored from it. `address` names a running
    cluster, None starts one of `cpus` processors on this machine.
    """
    start_ray(address, cpus)
    try:
        trainable = tune.with_resources(run_trial, needs(space, ray.cluster_resources()))
        folder = str(out / "tune")
        if tune.Tuner.can_restore(folder):
            tuner = tune.Tuner.restore(folder, trainable, resume_errored=True)
        else:
            tuner = new_tuner(out, space, trials, trainable)
        results: Any = tuner.fit()
        return [result.config["trial"]["name"] for result in results if result.error]
    finally:
        ray.shutdown()


def new_tuner(out: Path, space: Space, trials: list[dict[str, Any]], trainable: Any) -> tune.Tuner:
    """Return the tuner of a sweep that starts."""
    stop = space.stop
    asha = LastingAsha(stop, space.objective, out / "rungs.pkl") if isinstance(stop, Asha) else None
    return tune.Tuner(
        trainable,
        param_space={"trial": tune.grid_search(trials)},
        tune_config=tune.TuneConfig(scheduler=asha),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(out),
            failure_config=tune.FailureConfig(max_failures=space.retries),
            callbacks=[LiveTable([trial["name"] for trial in trials])],
            verbose=0,
        ),
    )


def start_ray(address: str | None, cpus: int | None) -> None:
    """Connect to a Ray cluster, or start one on this machine."""
    try:
        ray.init(
            address=address,
            num_cpus=None if address else cpus,
            include_dashboard=None if address else False,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise UserError(f"--address {address}: no Ray cluster answers there: {error}") from error
    except Exception as error:  # Ray's own type where a busy machine is too slow for its time-out of 30 s
        raise UserError(
            f"Ray did not start: {error}; try again when there is less to do", exit_code=1
        ) from error


def needs(space: Space, resources: dict[str, float]) -> dict[str, float]:
    """Return what one trial takes of a machine. Raises UserError where no machine could have it."""
    wanted: dict[str, float] = {"CPU": space.processes}
    if resources.get("GPU"):
        wanted["GPU"] = space.processes
    for name, amount in wanted.items():
        if amount > resources.get(name, 0):
            has = int(resources.get(name, 0))
            raise UserError(
                f"processes: a trial of {space.processes} needs as many {name}s, and Ray has {has}"
            )
    return wanted
