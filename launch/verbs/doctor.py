"""Say what this machine can do and what is missing.

    cacl doctor
    cacl doctor --bench      # eight minutes on a GPU: step, loss, decoding, evaluation

It fails only where something is broken that every job needs.
"""

from __future__ import annotations

import argparse
from typing import Any

from launch.as_json import as_json
from launch.verbs.arguments import add_json_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--bench", action="store_true", help="measure how fast training's parts are here")
    parser.add_argument("--quick", action="store_true", help="with --bench: a little of everything")
    add_json_argument(parser)


def main(arguments: argparse.Namespace) -> int:
    """Print what was found, one line each; return 1 if something that every job needs is broken."""
    from launch.jobs.doctor import examine

    if arguments.bench:
        return measure(arguments.quick, arguments.json)
    broken, found = [], []
    for finding in examine():
        found.append(finding)
        if not arguments.json:
            print(f"{finding.state:<8} {finding.name:<20} {finding.text}")
        if finding.is_core and finding.state == "BROKEN":
            broken.append(finding.name)
    ends = (
        f"broken, and needed by everything: {', '.join(broken)}" if broken else "what every job needs is here"
    )
    print(as_json({"findings": found, "broken": broken}) if arguments.json else ends)
    return 1 if broken else 0


def measure(quick: bool, json: bool) -> int:
    """Print what is measured, one line each."""
    import torch

    from launch.jobs.bench import bench
    from launch.jobs.timing import QUICK, Sizes

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    measured: list[Any] = []
    for rows in bench(device, QUICK if quick else Sizes()).values():
        for row in rows():
            measured.append(row)
            if json:
                continue
            found = row.more.get("why", "-") if row.value is None else f"{row.value:.4g} {row.unit}"
            print(f"{row.name:<52} {found}", flush=True)
    if json:
        print(as_json(measured))
    return 0
