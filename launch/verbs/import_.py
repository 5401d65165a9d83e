"""Make a run directory of a released SLAVC or EZ-VSL checkpoint, to evaluate it or to localize with it.

    cacl import slavc/best.pth --out runs/slavc --test data/vggss --protocol slavc-compat
    cacl evaluate --run runs/slavc --weights ema      # SLAVC evaluates its moving average

Weights only: nothing in the file is executed. What does not match is listed, and then nothing is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cacl.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="the checkpoint, .pth or .safetensors")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run directory to make")
    parser.add_argument("--test", metavar="DIR", help="packed test clips of later evaluations")
    parser.add_argument("--protocol", default="vggss", metavar="NAME", help="default: vggss")


def main(arguments: argparse.Namespace) -> None:
    """Write recipe and checkpoint. Raises UserError where the file does not match a model that we know."""
    from cacl.evaluation.protocols import get_protocol
    from cacl.files import write_json
    from cacl.model.weights import read_weights
    from cacl.options import plain
    from cacl.released.recognize import recognize
    from cacl.runs.checkpoint import FORMAT_VERSION, seal, write_tensors
    from cacl.runs.directory import Run
    from launch.jobs.environment import describe
    from launch.jobs.recipe import DataOptions, Recipe

    get_protocol(arguments.protocol)
    run = Run(arguments.out)
    if run.is_used():
        raise UserError(f"{arguments.out}: holds a run already; name another with --out")
    try:
        released = recognize(read_weights(Path(arguments.file)))
    except UserError as error:
        raise UserError(f"{arguments.file}: {error}") from error
    if unmatched := released.unmatched():
        listed = "\n  ".join(unmatched)
        raise UserError(
            f"{arguments.file}: {len(unmatched)} tensors do not match {released.kind}:\n  {listed}"
        )
    data = DataOptions(train="", test=arguments.test, protocol=arguments.protocol)
    run.create(plain(Recipe(data=data, model=released.options)), describe())
    folder = run.checkpoints / "step-0"
    for name, state in released.states.items():
        write_tensors(folder / f"{name}.safetensors", state)
    write_json(
        folder / "state.json", {"format_version": FORMAT_VERSION, "step": 0, "imported": released.kind}
    )
    seal(folder)
    print(f"{arguments.out}: {released.kind}, {' and '.join(released.states)}; every tensor matched")
