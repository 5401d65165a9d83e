"""Write a run's trained model and its recipe into one .safetensors file, to keep or to give away.

    cacl export --run runs/demo --out demo.safetensors
    cacl localize film.mp4 --run demo.safetensors

In Python: `cacl.load("demo.safetensors")`. Another training starts from it with --init-from.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--run", "--run-dir", required=True, metavar="RUN", help="a run directory")
    parser.add_argument("--out", metavar="FILE", help="default: RUN.safetensors, beside the run directory")
    parser.add_argument(
        "--weights", choices=["model", "ema"], help="default: those that the recipe has measured"
    )
    parser.add_argument(
        "--checkpoint",
        choices=["latest", "best"],
        default="latest",
        help="best: by retrieval on data.validation (default: latest)",
    )


def main(arguments: argparse.Namespace) -> None:
    """Write the file and say what is in it."""
    from cacl.runs.export import read_about
    from launch.jobs.export import export

    out, step = export(
        arguments.run, arguments.out, weights=arguments.weights, checkpoint=arguments.checkpoint
    )
    print(f'{out}: {read_about(out)["weights"]} weights of step {step}; use it with cacl.load("{out}")')
