"""Predict a pseudo-label for every clip with a frozen image classifier, and write the label table.

    cacl label data/train
    cacl label data/train --classifier resnet18 --weights resnet18-f37072fd.pth --region ogl
    torchrun --nproc-per-node 4 -m launch.label data/train

The table is DIR/labels/<classifier>.parquet. A killed run goes on where it stopped; the number of ranks
changes no label.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cacl.errors import UserError
from launch.clips import IMAGE_SIZE, forget_parts, over_clips, table_path
from launch.environment import start_world, stop_world

if TYPE_CHECKING:
    from pathlib import Path

    from cacl.labels.classify import Region
    from cacl.labels.table import LabelHeader
    from cacl.world import World


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("data", metavar="DIR", help="folder or URL of packed shards")
    parser.add_argument(
        "--classifier",
        metavar="NAME",
        default="efficientnet-lite0",
        help="efficientnet-lite0 (default, needs no file), resnet18, alexnet, squeezenet1_1, or timm:NAME",
    )
    parser.add_argument(
        "--weights", metavar="FILE", help="the classifier's weights, where no package brings them"
    )
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
        "trained run in this directory localizes",
    )
    parser.add_argument("--soft", action="store_true", help="keep every clip's distribution over all classes")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="decoding processes (default: 2)")


def main(arguments: argparse.Namespace) -> None:
    """Label as one rank."""
    from cacl.labels.classify import ClassifyFrames, build_classifier
    from cacl.labels.table import LabelHeader, LabelTable
    from shards.store import open_store

    store = open_store(arguments.data)
    out = table_path(arguments.data, arguments.out, arguments.classifier.replace(":", "-"))
    classifier = build_classifier(arguments.classifier, arguments.weights)
    header = LabelHeader(
        classifier=arguments.classifier,
        weights=classifier.weights,
        fingerprint=store.fingerprint,
        classes=classifier.classes,
        preprocessing={
            "image_size": IMAGE_SIZE,
            "views": arguments.views,
            "region": arguments.region,
            "mean": classifier.get_buffer("mean").flatten().tolist(),
            "std": classifier.get_buffer("std").flatten().tolist(),
        },
    )
    if arguments.region in ("whole", "ogl") and is_labeled(out, header, len(store.indices), arguments.soft):
        print(f"{out}: is there already, of this classifier and these clips")
        return
    world = start_world()
    try:
        classifier.to(world.device)
        find = region(arguments.region, world)
        work = ClassifyFrames(classifier, arguments.views, find, arguments.soft)
        identity = {**vars(header), "soft": arguments.soft}
        arrays = over_clips(store, work, out, identity, world, arguments.workers, "label")
    finally:
        stop_world()
    if arrays is None:
        return
    table = LabelTable(header=header, **arrays)
    table.write(out)
    forget_parts(out)
    used = len(set(table.label.tolist()))
    print(f"{out}: {len(table.index)} clips, {used} of {header.classes} classes used")


def is_labeled(path: Path, header: LabelHeader, clips: int, soft: bool) -> bool:
    """Say whether the table at `path` is what this command would write again."""
    from cacl.labels.table import LabelTable

    try:
        table = LabelTable.load(path)
    except UserError:
        return False
    return table.header == header and len(table.index) == clips and (table.soft is not None) == soft


def region(name: str, world: World) -> Region | None:
    """Return what finds the region to look at: nothing for the whole frame."""
    from cacl.labels.classify import object_guidance

    if name == "whole":
        return None
    if name == "ogl":
        return object_guidance
    from cacl.labels.classify import Localized
    from cacl.run import open_model

    model, _ = open_model(name)
    return Localized(model.to(world.device))


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["label", *sys.argv[1:]]))
