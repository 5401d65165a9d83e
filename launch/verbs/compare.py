"""Say whether one run is better than another on the same test clips, and how sure that is.

    cacl compare runs/own-clip runs/class-aware
    cacl compare 'runs/own-clip-{}' 'runs/class-aware-{}' --seeds 0 1 2 3 4

Both runs have been evaluated by the same protocol (`cacl evaluate`). With --seeds, `{}` in the names stands
for the seed, and the intervals are over clips and seeds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError

if TYPE_CHECKING:
    from cacl.evaluation.protocols import Columns, Protocol


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("first", metavar="A", help="a run directory that has been evaluated")
    parser.add_argument("second", metavar="B", help="another one")
    parser.add_argument("--seeds", nargs="+", metavar="SEED", help="compare A and B with {} replaced by each")
    parser.add_argument("--protocol", metavar="NAME", help="default: that of A's newest evaluation")
    parser.add_argument(
        "--system", default="model", help="which rows: model (default), guided, untrained ..."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object in place of sentences")


def main(arguments: argparse.Namespace) -> None:
    """Print a verdict for every number that is a mean over clips."""
    from cacl.evaluation.protocols import CONTROLS, get_protocol
    from cacl.evaluation.results import read_record

    runs = [named(name, arguments.seeds) for name in (arguments.first, arguments.second)]
    first_record = read_record(runs[0][0], arguments.protocol)
    protocol = get_protocol(first_record["protocol"])
    for run in runs[0] + runs[1]:
        check_same(first_record, read_record(run, protocol.name), runs[0][0], run)
    columns = read_columns(runs[0] + runs[1], protocol, arguments.system)
    measured_by = CONTROLS.get(protocol.name, {}).get(arguments.system, protocol)
    found = compared(columns[: len(runs[0])], columns[len(runs[0]) :], measured_by)
    names = (arguments.first, arguments.second)
    if arguments.json:
        print(
            json.dumps({"first": names[0], "second": names[1], "protocol": protocol.name, "metrics": found})
        )
        return
    shown = unlike(*names)
    for metric, one in found.items():
        print(sentence(shown, metric, one))


def unlike(first: str, second: str) -> tuple[str, str]:
    """Return two paths without the folders at the beginning that both have."""
    parts = Path(first).parts, Path(second).parts
    shared = 0
    while parts[0][shared] == parts[1][shared] and shared + 1 < min(map(len, parts)):
        shared += 1
    return str(Path(*parts[0][shared:])), str(Path(*parts[1][shared:]))


def named(name: str, seeds: list[str] | None) -> list[Path]:
    """Return the run directories of a name. Raises UserError where `{}` and --seeds do not go together."""
    if (seeds is not None) != ("{}" in name):
        raise UserError(f"{name}: write {{}} for the seed in both names, and name the seeds with --seeds")
    return [Path(name.replace("{}", seed)) for seed in seeds] if seeds else [Path(name)]


def check_same(first: Mapping[str, Any], other: Mapping[str, Any], first_run: Path, run: Path) -> None:
    """Raise UserError unless both evaluations measured the same thing on the same clips."""
    for key in ("protocol_version", "options", "data", "n"):
        if first[key] != other[key]:
            raise UserError(
                f"{run}: its {key} is {other[key]}, that of {first_run} is {first[key]}; evaluate both alike"
            )


def read_columns(runs: list[Path], protocol: Protocol, system: str) -> list[Columns]:
    """Return a system's per-clip columns of every run, all of the same clips in the order of their index."""
    import numpy as np

    from cacl.evaluation.results import read_clips

    found: list[Columns] = []
    for run in runs:
        systems = read_clips(run, protocol.name)
        if system not in systems:
            raise UserError(f"{run}: --system {system}: not measured; there are {', '.join(systems)}")
        found.append(systems[system])
        if not np.array_equal(found[0]["index"], found[-1]["index"]):
            raise UserError(f"{run}: has results for other clips than {runs[0]}; evaluate both alike")
    return found


def compared(first: list[Columns], second: list[Columns], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return every number of both with intervals, and the paired difference; the lists are over seeds.

    With one seed, numbers that are right or wrong for each clip have McNemar's test too.
    """
    import numpy as np

    from cacl.evaluation.compare import mcnemar

    numbers = [protocol.statistics(seeds) for seeds in (first, second)]
    result: dict[str, dict[str, Any]] = {}
    for metric, one in numbers[0].items():
        other = numbers[1][metric]
        result[metric] = {
            "clips": one.clips,
            "seeds": len(first),
            "first": vars(one.interval()),
            "second": vars(other.interval()),
            "difference": vars(other.less(one).interval()),
        }
    if len(first) == 1:
        pair = [protocol.per_clip(seeds[0]) for seeds in (first, second)]
        for metric in (name for name, value in pair[0].items() if value.dtype == np.bool_):
            result[metric]["mcnemar"] = vars(mcnemar(pair[0][metric], pair[1][metric]))
    return result


def sentence(names: tuple[str, str], metric: str, found: dict[str, Any]) -> str:
    """Return a metric's comparison as text."""
    from cacl.evaluation.compare import Estimate, verdict

    text = verdict(*names, metric, Estimate(**found["difference"]), found["clips"], found["seeds"])
    if test := found.get("mcnemar"):
        text += (
            f" McNemar: right in {names[0]} alone {test['only_first']}, in {names[1]} alone "
            f"{test['only_second']}, p = {test['p_value']:.3g}."
        )
    return text
