"""Try settings of a recipe with Ray Tune; each trial is a distributed training of its own.

    cacl sweep demo --space temperature --out runs/sweep
    cacl sweep demo --space temperature --out runs/sweep --resume

It leaves report.html, results.json, best.yaml and a run directory a trial. Killed, it goes on with --resume.
On a running Ray cluster: --address HOST:PORT. Inside SLURM: cacl submit sweep.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from launch.table import align
from launch.verbs.arguments import positive

if TYPE_CHECKING:
    from launch.sweeping.report import SettingResult


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
        "--cpus", type=positive, metavar="N", help="processors to use on this machine (default: all)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Run or resume a sweep, say what it found, and return 130 if it was interrupted, 1 without a best."""
    from launch.sweeping.sweep import sweep

    found = sweep(
        arguments.recipe,
        arguments.space,
        arguments.out,
        resume=arguments.resume,
        address=arguments.address,
        cpus=arguments.cpus,
    )
    show(found.results)
    print(f"report: {found.report}")
    trials = found.report.parent / "trials"
    for name in found.failed:
        print(f"{name}: failed {found.attempts} times, see {trials / name}/trial.log", file=sys.stderr)
    if found.is_interrupted:
        print("the sweep was interrupted: go on with the same command and --resume", file=sys.stderr)
        return 130
    if found.best is None:
        print("no setting has finished with all its seeds, so none is called the best", file=sys.stderr)
        return 1
    print(f"best recipe: cacl train {found.best}")
    return 0


def show(results: list[SettingResult]) -> None:
    """Print the settings, the best first."""
    cells = [
        [
            result.name,
            "–" if result.mean is None else f"{result.mean:.4f}",
            f"{result.interval[0]:.4f} – {result.interval[1]:.4f}" if result.interval else "–",
            " ".join(f"{trial.state}@{trial.step}" for trial in result.trials),
        ]
        for result in results
    ]
    print("\n".join(align(["setting", "mean", "95 % interval", "trials"], cells)))
