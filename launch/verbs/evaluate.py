"""Measure a run by a protocol: the trained model beside the untrained one, mere objects, the centered box.

    cacl evaluate --run runs/demo
    cacl evaluate --run runs/mine --data data/vggss --protocol vggss --ids vggss.json --nproc-per-node 2
    cacl evaluate --predictions theirs.npz --boxes vggss.json --protocol vggss --out runs/theirs
    cacl evaluate --model tags --data data/vggss --protocol vggss --out runs/tags
    cacl evaluate --run runs/mine --signature 'vggss|v2|n:5158|...'

Each clip is measured once, whatever the number of ranks; a killed evaluation goes on where it stopped. Writes
evaluation/<protocol>/ and metrics.json in the run; options such as --weights ema are part of the folder's
name: evaluation/<protocol>,weights=ema/.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from launch.as_json import as_json
from launch.ranks import check_number, run_ranks
from launch.verbs.arguments import (
    add_checkpoint_arguments,
    add_draw_arguments,
    add_json_argument,
    share,
)
from launch.verbs.evaluate_retrieval import measure_retrieval
from launch.verbs.evaluate_table import table
from launch.verbs.evaluate_words import check_words, follow_signature, read_alpha

if TYPE_CHECKING:
    from launch.jobs.negatives import Draws

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
    "repetitions",
    "seed",
    "labels",
    "tags",
)
"""The arguments that every rank is given, beside the run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    # torchrun takes --run for an abbreviation of an option of its own, so ranks are given the longer name.
    measured = parser.add_mutually_exclusive_group(required=True)
    measured.add_argument("--run", "--run-dir", metavar="RUN", help="a run directory")
    measured.add_argument("--model", choices=["tags"], help="the localizer without training (docs/tags.md)")
    measured.add_argument(
        "--predictions",
        metavar="FILE",
        help="what another model says: .npz of maps and id, a folder of masks, COCO's results",
    )
    parser.add_argument("--boxes", metavar="FILE", help="with --predictions: the clips' boxes, as vggss.json")
    parser.add_argument("--out", metavar="DIR", help="with --predictions or --model: where the results go")
    parser.add_argument(
        "--threshold", type=share, metavar="S", help="with --predictions: least score of boxes and masks"
    )
    parser.add_argument("--data", metavar="DIR", help="packed test clips (default: the recipe's data.test)")
    parser.add_argument(
        "--protocol", metavar="NAME", help="default: the recipe's data.protocol; retrieval needs no boxes"
    )
    parser.add_argument(
        "--upsampling",
        choices=["bicubic", "bilinear", "bicubic-corners", "bilinear-corners", "nearest"],
        help="from map to pixels (default: the protocol's)",
    )
    parser.add_argument(
        "--without-quirks",
        default="",
        metavar="NAME,NAME",
        help="slavc-compat: the sane number in place of these quirks",
    )
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "--ids", metavar="FILE", help="measure only the clips of this list, name those missing"
    )
    parser.add_argument(
        "--tags",
        metavar="DIR",
        help="with --run: measure the localizer without training too, on the same clips packed at 32 kHz",
    )
    _add_guidance_arguments(parser)
    _add_negative_arguments(parser)
    parser.add_argument(
        "--signature",
        metavar="LINE",
        help="measure as a result was whose signature this is, in place of options",
    )
    add_json_argument(parser)
    parser.add_argument("--nproc-per-node", type=int, metavar="N", help="ranks on this machine (default: 1)")


def _add_guidance_arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--validation",
        metavar="DIR",
        help="packed clips with boxes on which alpha is chosen, never test clips (default: the recipe's "
        "data.validation)",
    )


def _add_negative_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--negatives",
        nargs="+",
        metavar="KIND",
        help="measure at θ (cacl calibrate): silence noise off-screen, or 10dB: the own sound in noise",
    )
    add_draw_arguments(parser)


def main(arguments: argparse.Namespace) -> int:
    """Be one rank and print the numbers, or start several and wait for them."""
    check_words(arguments)
    from launch.jobs.environment import start_world, stop_world
    from launch.jobs.evaluate import evaluate
    from launch.jobs.measuring import open_test, read_ids
    from launch.jobs.negatives import Draws

    if arguments.signature is not None:
        follow_signature(arguments)
    quirks = [name for name in arguments.without_quirks.split(",") if name]
    if arguments.predictions is not None:
        return measure_predictions(arguments, quirks)
    if arguments.protocol == "retrieval":
        return measure_retrieval(arguments, rank_words(arguments))
    negatives = None
    if arguments.negatives:
        negatives = Draws(tuple(arguments.negatives), arguments.repetitions, arguments.seed)
    if arguments.model:
        return measure_tags(arguments, quirks, negatives)
    if arguments.nproc_per_node is not None:
        check_number(arguments.nproc_per_node)
        open_test(arguments.run, arguments.data, arguments.protocol, arguments.upsampling, quirks)
        return run_ranks(arguments.nproc_per_node, "evaluate", rank_words(arguments))
    world = start_world()
    try:
        record = evaluate(
            arguments.run,
            world,
            data=arguments.data,
            protocol=arguments.protocol,
            upsampling=arguments.upsampling,
            without_quirks=quirks,
            weights=arguments.weights,
            checkpoint=arguments.checkpoint,
            ids=read_ids(arguments.ids) if arguments.ids else None,
            object_guidance=arguments.object_guidance,
            object_weights=arguments.object_weights,
            alpha=read_alpha(arguments.alpha),
            validation=arguments.validation,
            negatives=negatives,
            labels=arguments.labels,
            tags=arguments.tags,
            say=lambda sentence: print(sentence, file=sys.stderr),
        )
        if record is not None:
            print(as_json(record) if arguments.json else table(record))
    finally:
        stop_world()
    return 0


def measure_predictions(arguments: argparse.Namespace, quirks: list[str]) -> int:
    """Measure what a file says and print the numbers."""
    from launch.jobs.measuring import read_ids
    from launch.jobs.predictions import evaluate_predictions

    record = evaluate_predictions(
        arguments.predictions,
        arguments.boxes,
        arguments.out,
        protocol=arguments.protocol or "vggss",
        upsampling=arguments.upsampling,
        without_quirks=quirks,
        ids=read_ids(arguments.ids) if arguments.ids else None,
        threshold=0.5 if arguments.threshold is None else arguments.threshold,
        say=lambda sentence: print(sentence, file=sys.stderr),
    )
    print(as_json(record) if arguments.json else table(record))
    return 0


def measure_tags(arguments: argparse.Namespace, quirks: list[str], negatives: Draws | None) -> int:
    """Measure the localizer without training and print the numbers."""
    from launch.jobs.evaluate_tags import evaluate_tags
    from launch.jobs.measuring import read_ids

    record = evaluate_tags(
        arguments.data,
        arguments.out,
        protocol=arguments.protocol or "vggss",
        upsampling=arguments.upsampling,
        without_quirks=quirks,
        ids=read_ids(arguments.ids) if arguments.ids else None,
        negatives=negatives,
        labels=arguments.labels,
        say=lambda sentence: print(sentence, file=sys.stderr),
    )
    assert record is not None  # this is the only rank
    print(as_json(record) if arguments.json else table(record))
    return 0


def rank_words(arguments: argparse.Namespace) -> list[str]:
    """Return the words that give a rank the same arguments."""
    given = {name: getattr(arguments, name) for name in RANK_WORDS}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
    if arguments.negatives:
        words += ["--negatives", *arguments.negatives]
    words += ["--json"] if arguments.json else []
    return [*words, f"--run-dir={arguments.run}"]
