"""Write a run's report: one HTML file with numbers, curves and test frames, which needs no network.

    cacl report --run runs/demo
    cacl report --run runs/mine --data data/mine                  # clips without boxes: no numbers
    cacl report --run runs/class-aware --beside runs/own-clip     # two models on the same frames

The runs have been evaluated before (`cacl evaluate --run runs/demo`). Writes report.html in the run, or
clips.html of clips on which it was not evaluated, which shows them without numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cacl.errors import UserError
from cacl.runs.directory import Run
from launch.verbs.arguments import add_weights_argument, check_packed, check_run, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument(
        "--run",
        required=True,
        metavar="RUN",
        help="a run directory",
    )
    parser.add_argument("--beside", metavar="RUN", help="another one, evaluated on the same clips")
    parser.add_argument("--data", metavar="DIR", help="packed clips (default: the recipe's data.test)")
    parser.add_argument("--out", metavar="FILE", help="the page (default: report.html or clips.html in RUN)")
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
    check_run(arguments.run)
    if arguments.data is not None:
        check_packed(arguments.data)
    elif not (Path(arguments.run) / "metrics.json").exists():
        run = arguments.run
        raise UserError(
            f"{run}: has not been evaluated; run first: cacl evaluate --run {run}, or look at clips without "
            f"boxes: cacl report --run {run} --data DIR"
        )
    if arguments.beside is not None:
        Run(arguments.beside).check_measured()
    from launch.jobs.report import report

    path = report(
        arguments.run,
        out=arguments.out,
        beside=arguments.beside,
        data=arguments.data,
        protocol=arguments.protocol,
        weights=arguments.weights,
        clips=arguments.clips,
        classes=arguments.classes,
    )
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
