"""Measure a run by a protocol: the trained model beside the untrained one, the centered box and the ceiling.

    cacl evaluate --run runs/demo
    cacl evaluate --run runs/mine --data data/vggss --protocol vggss --ids vggss.json --nproc-per-node 2

Each clip is measured once, whatever the number of ranks; a killed evaluation goes on where it stopped. Writes
evaluation/<protocol>/ and metrics.json in the run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError
from launch.measuring import Work, chosen, open_test, read_ids
from launch.ranks import check_number, run_ranks

if TYPE_CHECKING:
    import numpy as np

    from cacl.evaluation.predict import Maps
    from cacl.evaluation.protocols import Protocol
    from cacl.world import World

RANK_WORDS = (
    "data",
    "protocol",
    "weights",
    "checkpoint",
    "ids",
    "object_guidance",
    "object_weights",
    "alpha",
)
"""The arguments that every rank is given, beside the run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    # torchrun takes --run for an abbreviation of an option of its own, so ranks are given the longer name.
    parser.add_argument("--run", "--run-dir", required=True, metavar="RUN", help="a run directory")
    parser.add_argument("--data", metavar="DIR", help="packed test clips (default: the recipe's data.test)")
    parser.add_argument("--protocol", metavar="NAME", help="default: the recipe's data.protocol")
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
    parser.add_argument(
        "--object-guidance",
        choices=["min-max", "fixed-range"],
        help="measure also maps mixed with where any object is, as EZ-VSL or as SLAVC mix them",
    )
    parser.add_argument(
        "--object-weights", metavar="FILE", help="ResNet-18's ImageNet weights (default: EfficientNet-Lite0)"
    )
    parser.add_argument(
        "--alpha", default="0.4", metavar="A", help="weight of the sound's map, or: choose (default: 0.4)"
    )
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="ranks on this machine (default: 1)")


def main(arguments: argparse.Namespace) -> int:
    """Be one rank, or start several and wait for them."""
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        open_test(arguments)
        given = {name: getattr(arguments, name) for name in RANK_WORDS}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
        words.append(f"--run-dir={arguments.run}")
        return run_ranks(arguments.nproc_per_node, "launch.evaluate", words)
    from launch.environment import start_world, stop_world

    world = start_world()
    try:
        evaluate_rank(arguments, world)
    finally:
        stop_world()
    return 0


def evaluate_rank(arguments: argparse.Namespace, world: World) -> None:
    """Measure this rank's share; rank 0 writes and prints the whole."""
    from cacl.evaluation import results
    from cacl.evaluation.predict import maps_of
    from cacl.evaluation.protocols import CONTROLS
    from cacl.labels.units import discard
    from cacl.run import Run, find_checkpoint, open_model

    recipe, store, protocol = open_test(arguments)
    ids = read_ids(arguments.ids) if arguments.ids else None
    names = {"model": arguments.weights, "untrained": "untrained"}
    systems = {
        name: maps_of(open_model(arguments.run, which, arguments.checkpoint)[0].to(world.device))
        for name, which in names.items()
    }
    step = world.broadcast_object(str(find_checkpoint(Run(arguments.run), arguments.checkpoint)))
    identity = {"checkpoint": step, "weights": arguments.weights, "data": store.fingerprint}
    parts = Path(arguments.run) / "evaluation" / f".{protocol.name}.parts"
    work = Work(recipe, store, parts, identity, world)
    indices = store.indices
    guidance: dict[str, Any] = {}
    if arguments.object_guidance:
        guided_systems, indices, guidance = guide(arguments, work, systems["model"], protocol)
        systems |= guided_systems
    measured = work.measure(systems, protocol, indices)
    for name, control in CONTROLS.get(protocol.name, {}).items():
        measured[name] = work.measure({"model": systems["model"]}, control, indices).get("model", {})
    if not world.is_main:
        return
    measured, missing = chosen(measured, ids, store, guidance.get("reserved", []))
    tested = results.Tested(protocol, store.fingerprint, Path(step).name, missing)
    record = results.summarize(tested, measured)
    if guidance:
        record["object_guidance"] = guidance
    results.write(Path(arguments.run), record, measured)
    discard(parts)
    print(table(record))


def guide(
    arguments: argparse.Namespace, work: Work, sound: Maps, protocol: Protocol
) -> tuple[dict[str, Maps], np.ndarray, dict[str, Any]]:
    """Return the systems `objects` and `guided`, the clips to measure on, and what the record says of them.

    With `--alpha choose`, every tenth clip is reserved for the choice and left out of all numbers.
    """
    from cacl.encoders.image import EfficientNetLite0, ResNet18
    from cacl.evaluation.object_guidance import MIXINGS, best_alpha, guided, object_maps

    weights, indices = arguments.object_weights, work.store.indices
    options = ResNet18(weights=weights, frozen=True) if weights else EfficientNetLite0(stride=32)
    objects = object_maps(options.build().to(work.world.device))
    mixing = MIXINGS[arguments.object_guidance]
    record: dict[str, Any] = {"mixing": arguments.object_guidance, "network": options.name}
    if arguments.alpha == "choose":
        reserved = indices[::10]
        grid = {f"alpha-{k / 10}": k / 10 for k in range(11)}
        trials = {name: guided(sound, objects, mixing(alpha), protocol) for name, alpha in grid.items()}
        found = work.measure(trials, protocol, reserved)
        quality = {
            grid[name]: float(rows[protocol.ranked_by].mean()) for name, rows in found.items() if name in grid
        }
        alpha = work.world.broadcast_object(best_alpha(quality) if quality else None)
        record |= {"chosen_on": len(reserved), "reserved": reserved.tolist()}
        indices = indices[[k for k in range(len(indices)) if k % 10]]
    else:
        alpha = number(arguments.alpha)
    record["alpha"] = alpha
    return {"objects": objects, "guided": guided(sound, objects, mixing(alpha), protocol)}, indices, record


def number(text: str) -> float:
    """Return an alpha. Raises UserError unless it is in 0..1."""
    try:
        alpha = float(text)
    except ValueError:
        alpha = -1.0
    if not 0 <= alpha <= 1:
        raise UserError(f"--alpha {text}: give a number in 0..1, or choose")
    return alpha


def table(record: Mapping[str, Any]) -> str:
    """Return an evaluation's numbers as lines of text."""
    from cacl.evaluation.protocols import CONTROLS

    controls = CONTROLS.get(record["protocol"], {})
    names = list(record["model"])
    titles = {"model": "trained model", "guided": "with objects", "objects": "objects alone"}
    titles |= {"untrained": "untrained model", "centered_box": "centered box"}
    rows = {title: record[key] for key, title in titles.items() if key in record}
    rows["ceiling"] = record["ceiling"]
    width = max(map(len, names)) + 2
    missing = f", {len(record['missing'])} missing" if record["missing"] else ""
    lines = [f"{record['protocol']} version {record['protocol_version']}: {record['n']} clips{missing}"]
    lines.append(" " * 16 + "".join(f"{name:>{width}}" for name in names))
    for title, numbers in rows.items():
        cells = [_cell(numbers.get(name), width) for name in names]
        lines.append(f"{title:<16}" + "".join(cells))
    for key in controls:
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in record[key].items())
        lines.append(f"{key.replace('_', ' ')}: {numbers}")
    return "\n".join(lines)


def _cell(value: float | None, width: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.3f}"


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["evaluate", *sys.argv[1:]]))
