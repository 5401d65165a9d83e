"""Write a run's trained model and its recipe into one .safetensors file, to keep or to give away.

    cacl export --run runs/demo --out demo.safetensors
    cacl localize film.mp4 --run demo.safetensors

In Python: `cacl.load("demo.safetensors")`. Another training starts from it with --init-from.
"""

from __future__ import annotations

import argparse

from launch.verbs.arguments import add_checkpoint_arguments, check_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--run", "--run-dir", required=True, metavar="RUN", help="a run directory")
    parser.add_argument("--out", metavar="FILE", help="default: RUN.safetensors, beside the run directory")
    add_checkpoint_arguments(parser)


def main(arguments: argparse.Namespace) -> None:
    """Write the file and say what is in it."""
    check_run(arguments.run)
    from cacl.runs.export import read_about
    from launch.jobs.export import export

    out, step = export(
        arguments.run, arguments.out, weights=arguments.weights, checkpoint=arguments.checkpoint
    )
    print(f'{out}: {read_about(out)["weights"]} weights of step {step}; use it with cacl.load("{out}")')
