"""Fit the threshold θ of a run: above it something sounds, below it nothing in view does.

    cacl calibrate --run runs/demo
    cacl calibrate --run runs/slavc --validation data/validation --upsampling bicubic-corners

No boxes are needed: the clips are shown with silence, noise and sounds of something off-screen, and θ is the
third quartile of the highest values of all these maps. Writes calibration/<options>.json in the run.
"""

from __future__ import annotations

import argparse

from launch.as_json import as_json
from launch.ranks import check_number, run_ranks
from launch.verbs.arguments import (
    add_checkpoint_arguments,
    add_draw_arguments,
    add_json_argument,
    check_packed,
    check_run,
)

RANK_WORDS = ("validation", "repetitions", "seed", "weights", "checkpoint", "upsampling", "labels")
"""The arguments that every rank is given, beside the run and the negatives."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    # torchrun takes --run for an abbreviation of an option of its own, so ranks are given the longer name.
    parser.add_argument("--run", "--run-dir", required=True, metavar="RUN", help="a run directory")
    parser.add_argument(
        "--validation",
        metavar="DIR",
        help="packed clips, never test clips (default: the recipe's data.validation)",
    )
    parser.add_argument(
        "--negatives",
        nargs="+",
        default=["silence", "noise", "off-screen"],
        choices=["silence", "noise", "off-screen"],
        help="sounds that nothing in view makes (default: all three)",
    )
    add_draw_arguments(parser)
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "--upsampling",
        choices=["bicubic", "bilinear", "bicubic-corners", "bilinear-corners", "nearest"],
        default="bicubic",
        help="from map to pixels (default: bicubic, as localize draws them)",
    )
    add_json_argument(parser)
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="ranks on this machine (default: 1)")


def main(arguments: argparse.Namespace) -> int:
    """Be one rank and say the θ, or start several and wait for them."""
    check_run(arguments.run)
    if arguments.validation is not None:
        check_packed(arguments.validation)
    from launch.jobs.calibrate import calibrate
    from launch.jobs.environment import start_world, stop_world

    given = {name: getattr(arguments, name) for name in RANK_WORDS}
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        words = [f"--{name}={value}" for name, value in given.items() if value is not None]
        words += ["--json"] if arguments.json else []
        words += [f"--run-dir={arguments.run}", "--negatives", *arguments.negatives]
        return run_ranks(arguments.nproc_per_node, "calibrate", words)
    world = start_world()
    try:
        fitted = calibrate(arguments.run, world, negatives=arguments.negatives, **given)
        if fitted is not None:
            print(
                as_json(fitted.plain())
                if arguments.json
                else f"θ {fitted.theta:.4f}: three quarters of {fitted.clips} clips' negatives stay below it "
                f"({fitted.checkpoint}, {fitted.weights} weights, {fitted.upsampling} upsampling); "
                f"kept in {arguments.run}/calibration"
            )
    finally:
        stop_world()
    return 0
