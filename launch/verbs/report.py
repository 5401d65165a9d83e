"""Write a run's report: one HTML file with numbers, curves and test frames, which needs no network.

    cacl report --run runs/demo
    cacl report --run runs/class-aware --beside runs/own-clip     # two models on the same frames

The runs have been evaluated before (`cacl evaluate --run runs/demo`). Writes report.html in the run.
"""

from __future__ import annotations

import argparse

from cacl.runs.directory import Run
from launch.verbs.arguments import add_weights_argument, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--run",
        required=True,
        metavar="RUN",
        help="a run directory that has been evaluated",
    )
    parser.add_argument("--beside", metavar="RUN", help="another one, evaluated on the same clips")
    parser.add_argument("--data", metavar="DIR", help="packed test clips (default: the recipe's data.test)")
    parser.add_argument(
        "--protocol", metavar="NAME", help="a protocol, or an evaluation's name (default: the newest)"
    )
    add_weights_argument(parser)
    parser.add_argument(
        "--clips", type=count, default=24, metavar="N", help="best, worst and random clips (default: 24)"
    )
    parser.add_argument(
        "--classes", type=count, default=8, metavar="N", help="classes with a clip of their own (default: 8)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Write the page and say where it is."""
    for run in filter(None, (arguments.run, arguments.beside)):
        Run(run).check_measured()
    from launch.jobs.report import report

    path = report(
        arguments.run,
        beside=arguments.beside,
        data=arguments.data,
        protocol=arguments.protocol,
        weights=arguments.weights,
        clips=arguments.clips,
        classes=arguments.classes,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
