"""Collect the wheels that a machine without a network lacks, in folders small enough to be carried.

    cacl wheels --pip-list list.json --python 3.12 --extra deepspeed --limit-mib 60 --out wheels

On that machine, `pip list --format=json > list.json` says what it holds, which stays as it is. Carry the
folders there, in as many journeys as they need, then install them all at once:

    pip install --no-index --no-deps wheels/piece-*/*.whl

What has no wheel is built here from source: run this by the same Python where that compiles something.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from launch.verbs.arguments import positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("more", nargs="*", help="requirements next to cacl's, such as nvidia-ml-py")
    parser.add_argument("--pip-list", type=Path, required=True, help="the machine's pip list as JSON")
    parser.add_argument("--python", required=True, metavar="3.12", help="its Python")
    parser.add_argument("--torch", metavar="VERSION", help="its torch, where pip list does not name one")
    parser.add_argument("--glibc", default="2.28", help="its glibc (default: %(default)s)")
    parser.add_argument("--extra", action="append", default=[], help="of cacl; may be given again")
    parser.add_argument("--limit-mib", type=positive, default=64, help="of a folder (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("wheels"), help="default: %(default)s")


def main(arguments: argparse.Namespace) -> int:
    """Print the folders and what was not to be had; return 1 if anything was not."""
    from launch.jobs.wheels import Machine, collect_wheels, read_pip_list

    installed = read_pip_list(arguments.pip_list)
    if arguments.torch:
        installed["torch"] = arguments.torch
    machine = Machine(arguments.python, installed, int(arguments.glibc.split(".")[1]))
    found = collect_wheels(
        machine,
        arguments.out,
        extras=arguments.extra,
        more=arguments.more,
        limit_mib=arguments.limit_mib,
        say=lambda sentence: print(sentence, file=sys.stderr),
    )
    for piece in found.pieces:
        sizes = [wheel.stat().st_size for wheel in piece.iterdir()]
        print(f"{piece}: {len(sizes)} wheels, {sum(sizes) / 2**20:.1f} MiB")
    for wheel in found.too_large:
        print(f"{wheel}: {wheel.stat().st_size / 2**20:.1f} MiB, larger than a piece may be")
    for contradiction in found.contradictions:
        print(f"asked for: {contradiction}")
    for name, why in found.missing.items():
        print(f"not to be had: {name}: {why}")
    return 1 if found.missing else 0
