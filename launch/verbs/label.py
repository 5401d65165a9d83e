"""Predict a pseudo-label for every clip with a frozen classifier of frames or sounds; write the label table.

    cacl label data/train
    cacl label data/train --classifier resnet18 --weights resnet18-f37072fd.pth --region ogl
    cacl label data/train --tagger mn04              # sounds, by AudioSet's classes (docs/labels.md)
    cacl label data/train --tagger ./mine.py:tagger  # sounds, by a tagger of yours
    torchrun --nproc-per-node 4 -m launch.main label data/train

The table is DIR/labels/<classifier>.parquet. A killed run goes on where it stopped; the number of ranks
changes no label.
"""

from __future__ import annotations

import argparse

from launch.as_json import as_json
from launch.verbs.arguments import add_json_argument, add_tagger_arguments, check_packed, check_run, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("data", metavar="DIR", help="folder or URL of packed shards")
    parser.add_argument(
        "--classifier",
        metavar="NAME",
        default="efficientnet-lite0",
        help="efficientnet-lite0 (default, needs no file), resnet18, alexnet, "
        "squeezenet1_0, squeezenet1_1, or timm:NAME",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="the classifier's or tagger's weights, where no package brings them and CACL_MODELS has none",
    )
    add_tagger_arguments(parser, "label the sounds instead, by the classes of this frozen tagger")
    parser.add_argument("--out", metavar="FILE", help="the table (default: DIR/labels/<classifier>.parquet)")
    parser.add_argument(
        "--views",
        choices=("whole", "mirrored", "crops"),
        default="whole",
        help="average over: the whole frame, its mirror image too, four crops too (default: whole)",
    )
    parser.add_argument(
        "--region",
        metavar="whole|ogl|RUN",
        default="whole",
        help="look at the whole frame (default), at what the classifier itself finds (OGL), or at what the "
        "trained model of this run or exported file localizes",
    )
    add_json_argument(parser)
    parser.add_argument("--soft", action="store_true", help="keep every clip's distribution over all classes")
    parser.add_argument(
        "--workers", type=count, default=2, metavar="N", help="decoding processes (default: 2)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Label as one rank."""
    check_packed(arguments.data)
    if arguments.region not in ("whole", "ogl"):
        check_run(arguments.region, or_file=True)
    from launch.jobs.environment import start_world, stop_world
    from launch.jobs.label import label
    from launch.jobs.tables import figures

    world = start_world()
    try:
        written = label(
            arguments.data,
            arguments.out,
            classifier=arguments.classifier,
            weights=arguments.weights,
            views=arguments.views,
            region=arguments.region,
            tagger=arguments.tagger,
            tagger_rate=arguments.tagger_rate,
            accept_rate=arguments.accept_rate,
            soft=arguments.soft,
            workers=arguments.workers,
            world=world,
        )
    finally:
        stop_world()
    if written is None:
        return
    if arguments.json:
        print(as_json(figures(written)))
        return
    if not written.is_new:
        print(f"{written.path}: is there already, of this classifier and these clips")
        return
    table = written.table
    used = len(set(table.label.tolist()))
    print(f"{written.path}: {len(table.index)} clips, {used} of {table.header.classes} classes used")
