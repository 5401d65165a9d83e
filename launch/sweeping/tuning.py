"""Ray Tune around the trials: where they run, who decides, what happens after a crash or a kill."""

from __future__ import annotations

import logging
import os
import shutil
import socket
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # train.jsonl is the record
os.environ.setdefault("RAY_worker_niceness", "0")  # a trial is no background work
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# A sweep on this machine leaves a token in the home. `ray start` asks for it from then on; this has it sent.
if "RAY_AUTH_TOKEN" in os.environ or os.path.exists(os.path.expanduser("~/.ray/auth_token")):
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import ray
from ray import tune

from cacl.errors import UserError
from launch.sweeping.live_table import LiveTable
from launch.sweeping.rungs import Rungs
from launch.sweeping.scheduler import Halving
from launch.sweeping.space import Asha, Space
from launch.sweeping.trial import run_trial

_ATTEMPTS = 5
"""Starts of Ray: it gives itself 30 seconds each, which are few on a busy machine."""


def tune_trials(
    out: Path, space: Space, trials: list[dict[str, Any]], address: str | None, cpus: int | None
) -> list[str]:
    """Run every trial that has not ended yet; return the names of those that failed for good.

    A sweep's memory is its run directories and `out`/rungs.json. Ray's own record of an earlier life, pickles
    in `out`/tune, is thrown away unread. `address` names a running cluster, None starts one of `cpus`
    processors on this machine.
    """
    start_ray(address, cpus)
    try:
        shutil.rmtree(out / "tune", ignore_errors=True)
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        stop = space.stop
        asha = Halving(Rungs(stop, out / "rungs.json"), space.objective) if isinstance(stop, Asha) else None
        tuner = tune.Tuner(
            tune.with_resources(run_trial, plan_resources(space, machines)),
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
        results: Any = tuner.fit()
        return [result.config["trial"]["name"] for result in results if result.error]
    finally:
        ray.shutdown()


def start_ray(address: str | None, cpus: int | None) -> None:
    """Connect to a Ray cluster, or start one on this machine."""
    if address and address != "auto":
        check_address(address)
    for attempts_left in reversed(range(_ATTEMPTS)):
        try:
            ray.init(
                address=address or "local",  # None would be any cluster that ran here last, a dead one too
                num_cpus=None if address else cpus,
                include_dashboard=None if address else False,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
            return
        except Exception as error:  # Ray's own types
            ray.shutdown()
            if address and isinstance(error, ConnectionError):
                raise UserError(f"--address {address}: no Ray cluster answers there: {error}") from error
            if not attempts_left:
                raise UserError(
                    f"Ray did not start: {error}; try again when there is less to do", exit_code=1
                ) from error


def check_address(address: str) -> None:
    """Raise UserError unless somebody listens at HOST:PORT: Ray itself would go on trying for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"--address {address}: expected HOST:PORT, such as node01:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--address {address}: no Ray cluster answers there: {error}") from error


def plan_resources(space: Space, machines: list[dict[str, float]]) -> dict[str, float]:
    """Return what one trial takes of a machine. Raises UserError where no machine could have it."""
    wanted: dict[str, float] = {"CPU": space.processes}
    if any(machine.get("GPU") for machine in machines):
        wanted["GPU"] = space.processes
    for name, amount in wanted.items():
        most = int(max(machine.get(name, 0) for machine in machines))
        if amount > most:
            raise UserError(
                f"processes: a trial of {space.processes} needs as many {name}s of one machine, and none has "
                f"more than {most} in Ray"
            )
    return wanted
