"""A sweep from its first trial to its report, begun or resumed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from cacl.errors import UserError
from cacl.files import read_json, write_json, write_text
from cacl.options import plain
from launch.config import find, load_recipe, read_recipe
from launch.sweeping.report import SettingResult, read_results, trial_folder, write_report
from launch.sweeping.space import Setting, Space, load_space


@dataclass(frozen=True)
class SweepResult:
    """What a sweep has found and left in its folder."""

    results: list[SettingResult]
    """Every setting, the best first."""
    report: Path
    failed: list[str]
    """Names of the trials that failed for good."""
    attempts: int
    """How often a trial was started before it counts as failed."""
    best: Path | None
    """The recipe of the best setting; None if no setting has finished with all its seeds."""
    is_interrupted: bool
    """True if there are trials that have neither ended nor failed: the sweep is to be resumed."""


def sweep(
    recipe: str,
    space: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    address: str | None = None,
    cpus: int | None = None,
) -> SweepResult:
    """Run every trial that has not ended yet, then write the report and the best recipe.

    `recipe` and `space` are paths, or names of files that come with cacl. `address` names a running Ray
    cluster; without one a cluster of `cpus` processors is started on this machine. Raises UserError for a
    space that does not fit the recipe, a folder that holds another sweep, or if Ray is missing.
    """
    recipe_file = str(find(recipe).absolute())
    plan = load_space(space)
    settings = plan.settings(recipe_file)
    out = Path(out).absolute()
    claim(out, resume, recipe_file, plan, settings)
    trials = [
        trial_config(out, recipe_file, plan, setting, seed) for setting in settings for seed in plan.seeds
    ]
    try:
        from launch.sweeping.tuning import tune_trials
    except ImportError as error:
        raise UserError(f"Ray is missing ({error}); in cacl's folder: pip install '.[ray]'") from error
    requeue = out / "requeue"  # until the end: a batch script whose job is cut off starts it again
    requeue.touch()
    try:
        failed = tune_trials(out, plan, trials, address, cpus)
    except Exception:
        requeue.unlink()
        raise
    return conclude(out, recipe, plan, settings, failed)


def claim(out: Path, resume: bool, recipe: str, space: Space, settings: list[Setting]) -> None:
    """Record what this sweep is; refuse a folder that holds another one."""
    record = {"recipe": read_recipe(recipe), "space": asdict(space), "settings": settings}
    file = out / "sweep.json"
    if file.exists():
        if not resume:
            raise UserError(f"{out}: holds a sweep already; go on with it by --resume, or name another --out")
        if read_json(file, "name another --out") != json.loads(json.dumps(record)):
            raise UserError(f"{out}: holds a sweep of another recipe or space; name another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, record)


def trial_config(out: Path, recipe: str, space: Space, setting: Setting, seed: int) -> dict[str, Any]:
    """Return the plain values that `launch.sweeping.trial.run_trial` needs."""
    folder = trial_folder(out, setting, seed)
    return {
        "name": folder.name,
        "run_dir": str(folder),
        "recipe": recipe,
        "overrides": space.overrides(setting, seed),
        "processes": space.processes,
        "objective": asdict(space.objective),
        "folder": os.getcwd(),
    }


def conclude(out: Path, recipe: str, space: Space, settings: list[Setting], failed: list[str]) -> SweepResult:
    """Write the report and, unless the sweep was interrupted, the best recipe."""
    results = read_results(out, space, settings)
    report = write_report(out, space, results, recipe)
    unfinished = sum(trial.state == "unfinished" for result in results for trial in result.trials)
    is_interrupted, best = unfinished > len(failed), None
    if not is_interrupted:
        (out / "requeue").unlink(missing_ok=True)
        if results[0].is_whole:
            best = out / "best.yaml"
            write_best(best, recipe, space, results[0])
    return SweepResult(results, report, failed, space.retries + 1, best, is_interrupted)


def write_best(path: Path, recipe: str, space: Space, best: SettingResult) -> None:
    """Write the recipe of the best setting, with its first seed, ready for `cacl train`."""
    values = plain(load_recipe(recipe, space.overrides(best.setting, space.seeds[0])))
    head = f"# The best setting of a sweep of {recipe}: {best.name}, {space.objective.key} {best.mean:.4f}\n"
    write_text(path, head + yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False))
