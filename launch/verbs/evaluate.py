"""Measure a run by a protocol: the trained model beside the untrained one, mere objects, the centered box.

    cacl evaluate --run runs/demo
    cacl evaluate --run runs/mine --data data/vggss --protocol vggss --ids vggss.json --nproc-per-node 2

Each clip is measured once, whatever the number of ranks; a killed evaluation goes on where it stopped. Writes
evaluation/<protocol>/ and metrics.json in the run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError
from launch import systems
from launch.measuring import Work, add_protocol_arguments, chosen, open_test, read_ids
from launch.ranks import check_number, run_ranks

if TYPE_CHECKING:
    from cacl.evaluation.predict import Maps
    from cacl.evaluation.protocols import Protocol
    from cacl.world import World
    from launch.jobs.recipe import Recipe
    from shards.store import Store

RANK_WORDS = (
    "data",
    "protocol",
    "upsampling",
    "without_quirks",
    "weights",
    "checkpoint",
    "ids",
    "object_guidance",
    "object_weights",
    "alpha",
    "validation",
)
"""The arguments that every rank is given, beside the run."""
_COLUMN = 15
"""Characters of a column of the printed table."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    # torchrun takes --run for an abbreviation of an option of its own, so ranks are given the longer name.
    parser.add_argument("--run", "--run-dir", required=True, metavar="RUN", help="a run directory")
    add_protocol_arguments(parser)
    parser.add_argument("--weights", choices=["model", "ema"], default="model", help="default: model")
    parser.add_argument(
        "--checkpoint",
        choices=["latest", "best"],
        default="latest",
        help="best: by validation (default: latest)",
    )
    parser.add_argument(
        "--ids", metavar="FILE", help="measure only the clips of this list, name those missing"
    )
    systems.add_arguments(parser)
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="ranks on this machine (default: 1)")


def main(arguments: argparse.Namespace) -> int:
    """Be one rank, or start several and wait for them."""
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        opened(arguments)
        given = {name: getattr(arguments, name) for name in RANK_WORDS}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
        words.append(f"--run-dir={arguments.run}")
        return run_ranks(arguments.nproc_per_node, "launch.verbs.evaluate", words)
    from launch.jobs.environment import start_world, stop_world

    world = start_world()
    try:
        evaluate_rank(arguments, world)
    finally:
        stop_world()
    return 0


def evaluate_rank(arguments: argparse.Namespace, world: World) -> None:
    """Measure this rank's share; rank 0 writes and prints the whole."""
    from cacl.evaluation import results
    from cacl.evaluation.protocols import CONTROLS
    from cacl.evaluation.refinement import once_a_batch
    from cacl.resumable import discard
    from cacl.runs.directory import Run
    from cacl.runs.load import find_checkpoint

    recipe, store, protocol = opened(arguments)
    ids = read_ids(arguments.ids) if arguments.ids else None
    check_size(protocol.name, protocol.official_clips, len(ids or store.indices))
    step = world.broadcast_object(str(find_checkpoint(Run(arguments.run), arguments.checkpoint)))
    identity = {"checkpoint": step, "weights": arguments.weights, "data": store.fingerprint}
    parts = Path(arguments.run) / "evaluation" / f".{protocol.name}.parts"
    work = Work(recipe, store, parts, identity, world)
    beside = systems.trained_and_untrained(arguments, work)
    beside["model"] = once_a_batch(beside["model"])
    indices = store.indices
    guidance: dict[str, Any] = {}
    objects, network = objects_if_any(arguments, work)
    if objects:
        beside["objects"], guidance = once_a_batch(objects), {"network": network}
    if arguments.object_guidance:
        pair = beside["model"], beside["objects"]
        beside["guided"], indices, said = systems.mixed(arguments, work, *pair, protocol)
        guidance |= said
    # What was measured with another mixing must not be taken over by an evaluation that goes on.
    work = replace(work, identity={**identity, "guidance": guidance, "objects": arguments.object_weights})
    measured = work.measure(beside, protocol, indices)
    for name, control in CONTROLS.get(protocol.name, {}).items():
        measured[name] = work.measure({"model": beside["model"]}, control, indices).get("model", {})
    if not world.is_main:
        return
    measured, missing = chosen(measured, ids, store, guidance.get("reserved", []))
    tested = results.Tested(protocol, store.fingerprint, Path(step).name, missing)
    record = results.summarize(tested, measured) | {"object_guidance": guidance}
    results.write(Path(arguments.run), record, measured)
    discard(parts)
    print(table(record))


def opened(arguments: argparse.Namespace) -> tuple[Recipe, Store, Protocol]:
    """Return recipe, test clips and protocol as the arguments name them."""
    named = (arguments.run, arguments.data, arguments.protocol)
    return open_test(*named, arguments.upsampling, arguments.without_quirks)


def objects_if_any(arguments: argparse.Namespace, work: Work) -> tuple[Maps | None, str]:
    """Return the object maps and their network; without weights nothing, and say so, unless asked for."""
    try:
        return systems.object_maps(arguments, work)
    except UserError as error:
        if arguments.object_guidance or arguments.object_weights:
            raise
        if work.world.is_main:
            print(f"objects alone are not measured: {error}", file=sys.stderr)
        return None, ""


def check_size(protocol: str, official: int | None, clips: int) -> None:
    """Raise UserError where more clips would be measured than the official test set has."""
    if official and clips > official:
        raise UserError(
            f"--protocol {protocol}: the official set has {official} clips, these are {clips}; "
            "name the official list with --ids FILE"
        )


def table(record: Mapping[str, Any]) -> str:
    """Return an evaluation's numbers as lines of text, what they are measured by and on first."""
    from cacl.evaluation.protocols import CONTROLS

    titles = {"model": "trained", "guided": "with objects", "objects": "objects alone"}
    titles |= {"untrained": "untrained", "centered_box": "centered box", "ceiling": "ceiling"}
    shown = [key for key in titles if key in record]
    width = max(map(len, record["model"])) + 2
    lines = [heading(record), " " * width + "".join(f"{titles[key]:>{_COLUMN}}" for key in shown)]
    for name in record["model"]:
        lines.append(f"{name:<{width}}" + "".join(_cell(record[key].get(name)) for key in shown))
    for key in CONTROLS.get(record["protocol"], {}):
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in record[key].items())
        lines.append(f"{key.replace('_', ' ')}: {numbers}")
    return "\n".join(lines)


def heading(record: Mapping[str, Any]) -> str:
    """Return protocol, its version and options, N, the share of the set and the missing clips as one line."""
    options = "".join(f", {name} {value}" for name, value in record["options"].items())
    missing = [str(clip) for clip in record["missing"]]
    absent = f"; missing: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}" if missing else ""
    return (
        f"{record['protocol']} version {record['protocol_version']}{options}: {record['n']} clips, "
        f"{100 * record['share_of_set']:.1f} % of the set{absent}"
    )


def _cell(value: float | None) -> str:
    return f"{'-':>{_COLUMN}}" if value is None else f"{value:>{_COLUMN}.3f}"


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["evaluate", *sys.argv[1:]]))
