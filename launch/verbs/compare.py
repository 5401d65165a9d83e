"""Say whether one run is better than another on the same test clips, and how sure that is.

    cacl compare runs/own-clip runs/class-aware
    cacl compare 'runs/own-clip-{}' 'runs/class-aware-{}' --seeds 0 1 2 3 4
    cacl compare runs/theirs runs/ours --protocol vggss --shared

Both runs have been evaluated by the same protocol (`cacl evaluate`). With --seeds, `{}` in the names stands
for the seed, and the intervals are over clips and seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cacl.errors import UserError
from cacl.runs.directory import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("first", metavar="A", help="a run directory that has been evaluated")
    parser.add_argument("second", metavar="B", help="another one")
    parser.add_argument("--seeds", nargs="+", metavar="SEED", help="compare A and B with {} replaced by each")
    parser.add_argument(
        "--protocol", metavar="NAME", help="a protocol, or an evaluation's name (default: A's newest)"
    )
    parser.add_argument(
        "--system", default="model", help="which rows: model (default), guided, untrained, negatives ..."
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="on the clips that both have, where they were measured on others",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of sentences")


def main(arguments: argparse.Namespace) -> None:
    """Print a verdict for every number that is a mean over clips."""
    names = (arguments.first, arguments.second)
    first, second = (runs_of(name, arguments.seeds) for name in names)
    for run in (*first, *second):
        Run(run).check_measured()
    from launch.jobs.compare import compare  # what follows takes PyTorch

    pair = compare(
        first, second, protocol=arguments.protocol, system=arguments.system, shared=arguments.shared
    )
    if arguments.json:
        metrics = {metric: one.record() for metric, one in pair.metrics.items()}
        print(
            json.dumps(
                {
                    "first": names[0],
                    "second": names[1],
                    "protocol": pair.protocol,
                    "clips": pair.clips,
                    "metrics": metrics,
                }
            )
        )
        return
    if arguments.shared:
        print(f"{pair.clips} clips that all have, of {' and '.join(map(str, sorted(set(pair.of))))}")
    shown = short_names(*names)
    for metric, one in pair.metrics.items():
        print(one.sentence(shown, metric))


def short_names(first: str, second: str) -> tuple[str, str]:
    """Return two paths without the folders at the beginning that both have."""
    parts = Path(first).parts, Path(second).parts
    shared = 0
    while parts[0][shared] == parts[1][shared] and shared + 1 < min(map(len, parts)):
        shared += 1
    return str(Path(*parts[0][shared:])), str(Path(*parts[1][shared:]))


def runs_of(name: str, seeds: list[str] | None) -> list[Path]:
    """Return the run directories of a name. Raises UserError if `{}` and --seeds do not go together."""
    if (seeds is not None) != ("{}" in name):
        raise UserError(f"{name}: write {{}} for the seed in both names, and name the seeds with --seeds")
    return [Path(name.replace("{}", seed)) for seed in seeds] if seeds else [Path(name)]
