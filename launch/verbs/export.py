"""Write a run's trained model and its recipe into one .safetensors file, to keep or to give away.

    cacl export --run runs/demo --out demo.safetensors --license CC-BY-4.0
    cacl export --show demo.safetensors
    cacl localize film.mp4 --run demo.safetensors

In Python: `cacl.load("demo.safetensors")`. Another training starts from it with --init-from.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cacl.errors import UserError
from launch.as_json import as_json
from launch.table import with_interval
from launch.verbs.arguments import add_checkpoint_arguments, add_json_argument, check_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", "--run-dir", metavar="RUN", help="a run directory")
    source.add_argument("--show", metavar="FILE", help="say what an exported file holds")
    parser.add_argument("--out", metavar="FILE", help="default: RUN.safetensors, beside the run directory")
    parser.add_argument("--license", default="", metavar="NAME", help="what others may do with the weights")
    add_checkpoint_arguments(parser)
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> None:
    """Write the file, or read one, and say what is in it."""
    if arguments.run:
        check_run(arguments.run)
    from cacl.runs.export import read_about
    from launch.jobs.export import export

    if arguments.show:
        for name in ("out", "license", "weights"):
            if getattr(arguments, name):
                raise UserError(f"--{name}: goes with --run; --show writes nothing")
        about = read_about(Path(arguments.show))
        print(as_json(about) if arguments.json else describe(arguments.show, about))
        return
    out, step = export(
        arguments.run,
        arguments.out,
        weights=arguments.weights,
        checkpoint=arguments.checkpoint,
        license=arguments.license,
    )
    about = read_about(out)
    sentence = f'{out}: {about["weights"]} weights of step {step}; use it with cacl.load("{out}")'
    print(as_json(about) if arguments.json else sentence)


def describe(file: str, about: Mapping[str, Any]) -> str:
    """Return what an exported file says of itself, as lines of text."""
    from cacl.runs.card import card_of
    from cacl.runs.load import described

    card, (name, trained_on) = card_of(about, file), described(about["recipe"], file)
    lines = [f"{name}: {about['weights']} weights of step {about['step']}"]
    if card.exported:
        license = card.license or "none is named"
        lines.append(f"exported {card.exported} by cacl {card.cacl}, license: {license}")
    lines.append(f"trained on {trained_on or 'data that are not named'}")
    for found in card.results:
        number = with_interval(found.value, found.interval)
        lines.append(f"{found.evaluation}, {found.clips} clips: {found.metric} {number}")
        lines.append(f"  {found.signature}")
    return "\n".join(lines if card.results else [*lines, "measured by no protocol"])
