"""Make a run directory of a released SLAVC, EZ-VSL or FNAC checkpoint, to evaluate it or to localize with it.

    cacl import slavc/best.pth --out runs/slavc --test data/vggss --protocol slavc-compat
    cacl evaluate --run runs/slavc                    # as SLAVC's script; its average: --weights ema
    cacl import fnac/best.pth --out runs/fnac --method fnac

Weights only: nothing in the file is executed. What does not match is listed, and then nothing is written.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("file", metavar="FILE", help="the checkpoint, .pth or .safetensors")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run directory to make")
    parser.add_argument(
        "--method", choices=["slavc", "ez-vsl", "fnac"], help="whose file it is, where names do not tell"
    )
    parser.add_argument("--test", metavar="DIR", help="packed test clips of later evaluations")
    parser.add_argument("--protocol", default="vggss", metavar="NAME", help="default: vggss")


def main(arguments: argparse.Namespace) -> None:
    """Make the run and say what it holds."""
    from launch.jobs.import_checkpoint import import_checkpoint

    released = import_checkpoint(
        arguments.file,
        arguments.out,
        method=arguments.method,
        test=arguments.test,
        protocol=arguments.protocol,
    )
    print(f"{arguments.out}: {released.kind}, {' and '.join(released.states)}; every tensor matched")
