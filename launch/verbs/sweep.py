"""Try settings of a recipe with Ray Tune; each trial is a distributed training of its own.

    cacl sweep demo --space temperature --out runs/sweep
    cacl sweep demo --space temperature --out runs/sweep --resume

It leaves report.html, results.json, best.yaml and a run directory a trial. Killed, it goes on with --resume.
On a running Ray cluster: --address HOST:PORT. Inside SLURM: cacl submit sweep.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cacl.errors import UserError

if TYPE_CHECKING:
    from launch.sweeping.report import Row
    from launch.sweeping.space import Setting, Space


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="what every trial starts from")
    parser.add_argument(
        "--space", required=True, metavar="SPACE", help="what to vary, a file as in launch/spaces/"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the sweep is kept")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the sweep in --out, if there is one"
    )
    parser.add_argument(
        "--address", metavar="HOST:PORT", help="a running Ray cluster (default: this machine)"
    )
    parser.add_argument(
        "--cpus", type=int, metavar="N", help="processors to use on this machine (default: all)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run or go on with a sweep, then write its report."""
    from launch.config import find
    from launch.sweeping.space import load_space

    recipe = str(find(arguments.recipe).absolute())
    space = load_space(arguments.space)
    settings = space.settings(recipe)
    out = Path(arguments.out).absolute()
    claim(out, arguments.resume, recipe, space, settings)
    trials = [trial_config(out, recipe, space, setting, seed) for setting in settings for seed in space.seeds]
    try:
        from launch.sweeping.tuning import tune_trials
    except ImportError as error:
        raise UserError(f"Ray is missing ({error}); in cacl's folder: pip install '.[ray]'") from error
    requeue = out / "requeue"  # until the end: a batch script whose job is cut off starts it again
    requeue.touch()
    try:
        failed = tune_trials(out, space, trials, arguments.address, arguments.cpus)
    except Exception:
        requeue.unlink()
        raise
    return conclude(out, arguments.recipe, space, settings, failed)


def claim(out: Path, resume: bool, recipe: str, space: Space, settings: list[Setting]) -> None:
    """Record what this sweep is; refuse a folder that holds another one."""
    from cacl.files import write_json
    from launch.config import read_yaml

    record = {"recipe": read_yaml(recipe), "space": asdict(space), "settings": settings}
    file = out / "sweep.json"
    if file.exists():
        if not resume:
            raise UserError(f"{out}: holds a sweep already; go on with it by --resume, or name another --out")
        if json.loads(file.read_text()) != json.loads(json.dumps(record)):
            raise UserError(f"{out}: holds a sweep of another recipe or space; name another --out")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(file, record)


def trial_config(out: Path, recipe: str, space: Space, setting: Setting, seed: int) -> dict[str, Any]:
    """Return the plain values that `launch.sweeping.trial.run_trial` needs."""
    from launch.sweeping.report import trial_folder

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


def conclude(out: Path, recipe: str, space: Space, settings: list[Setting], failed: list[str]) -> int:
    """Write the report and the best recipe, say where they are, and return the exit code."""
    from launch.sweeping.report import read_rows, write_report

    rows = read_rows(out, space, settings)
    report = write_report(out, space, rows, recipe)
    show(rows)
    print(f"report: {report}")
    for name in failed:
        print(f"{name}: failed {space.retries + 1} times, see {out}/trials/{name}/trial.log", file=sys.stderr)
    if sum(trial.state == "unfinished" for row in rows for trial in row.trials) > len(failed):
        print("the sweep was interrupted: go on with the same command and --resume", file=sys.stderr)
        return 130
    (out / "requeue").unlink(missing_ok=True)
    if not rows[0].is_whole:
        print("no setting has finished with all its seeds, so none is called the best", file=sys.stderr)
        return 1
    write_best(out / "best.yaml", recipe, space, rows[0])
    print(f"best recipe: cacl train {out / 'best.yaml'}")
    return 0


def show(rows: list[Row]) -> None:
    """Print the settings, the best first."""
    from launch.sweeping.table import table

    cells = [
        [
            row.name,
            "–" if row.mean is None else f"{row.mean:.4f}",
            f"{row.interval[0]:.4f} – {row.interval[1]:.4f}" if row.interval else "–",
            " ".join(f"{trial.state}@{trial.step}" for trial in row.trials),
        ]
        for row in rows
    ]
    print("\n".join(table(["setting", "mean", "95 % interval", "trials"], cells)))


def write_best(path: Path, recipe: str, space: Space, best: Row) -> None:
    """Write the recipe of the best setting, with its first seed, ready for `cacl train`."""
    from cacl.options import plain
    from launch.config import load_recipe

    values = plain(load_recipe(recipe, space.overrides(best.setting, space.seeds[0])))
    head = f"# The best setting of a sweep of {recipe}: {best.name}, {space.objective.key} {best.mean:.4f}\n"
    path.write_text(head + yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False))
