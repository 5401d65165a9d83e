"""Predict a pseudo-label for every clip with a frozen classifier of frames or sounds; write the label table.

    cacl label data/train
    cacl label data/train --classifier resnet18 --weights resnet18-f37072fd.pth --region ogl
    cacl label data/train --tagger mine:tagger       # sounds, by a tagger of yours (docs/labels.md)
    torchrun --nproc-per-node 4 -m launch.main label data/train

The table is DIR/labels/<classifier>.parquet. A killed run goes on where it stopped; the number of ranks
changes no label.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from cacl.errors import UserError
from launch.clips import (
    IMAGE_SIZE,
    forget_parts,
    over_clips,
    table_path,
    trained_model,
    user_tagger,
    whole_clips,
)
from launch.jobs.environment import start_world, stop_world

if TYPE_CHECKING:
    from pathlib import Path

    from cacl.labels.classify import ClassifyFrames
    from cacl.labels.regions import Region
    from cacl.labels.table import LabelHeader
    from cacl.labels.tag import ClassifySounds
    from cacl.world import World
    from shards.store import Store


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
    parser.add_argument(
        "--tagger",
        metavar="MODULE:FUNCTION",
        help="label the sounds instead, by this frozen tagger's classes",
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
        "trained model of this run or exported file localizes",
    )
    parser.add_argument("--soft", action="store_true", help="keep every clip's distribution over all classes")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="decoding processes (default: 2)")


def main(arguments: argparse.Namespace) -> None:
    """Label as one rank."""
    if arguments.tagger and (arguments.weights or (arguments.views, arguments.region) != ("whole", "whole")):
        raise UserError("--tagger: labels sounds; leave out --weights, --views and --region")
    world = start_world()
    try:
        label_rank(arguments, world)
    finally:
        stop_world()


def label_rank(arguments: argparse.Namespace, world: World) -> None:
    """Label this rank's share; rank 0 writes the table."""
    from cacl.labels.table import LabelTable
    from shards.store import open_store

    store = open_store(arguments.data)
    work, header = (sounds if arguments.tagger else frames)(arguments, store, world)
    name = header.classifier.replace(":", "-")
    out = table_path(arguments.data, arguments.out, name)
    if is_labeled(out, header, len(store.indices), arguments.soft):
        if world.is_main:
            print(f"{out}: is there already, of this classifier and these clips")
        return
    identity = {**vars(header), "soft": arguments.soft}
    arrays = over_clips(store, work, out, identity, world, arguments.workers, "label")
    if arrays is None:
        return
    table = LabelTable(header=header, **arrays)
    table.write(out)
    forget_parts(out)
    used = len(set(table.label.tolist()))
    print(f"{out}: {len(table.index)} clips, {used} of {header.classes} classes used")


def frames(arguments: argparse.Namespace, store: Store, world: World) -> tuple[ClassifyFrames, LabelHeader]:
    """Return the work of labeling frames, and the header of its table."""
    from cacl.labels.classify import ClassifyFrames, build_classifier
    from cacl.labels.table import LabelHeader

    classifier = build_classifier(arguments.classifier, arguments.weights).to(world.device)
    find, trained = region(arguments.region, world)
    header = LabelHeader(
        classifier=arguments.classifier,
        weights=classifier.weights,
        fingerprint=store.fingerprint,
        classes=classifier.classes,
        preprocessing={
            "image_size": IMAGE_SIZE,
            "views": arguments.views,
            "region": arguments.region,
            **({"region_weights": trained} if trained else {}),
            "mean": classifier.get_buffer("mean").flatten().tolist(),
            "std": classifier.get_buffer("std").flatten().tolist(),
        },
    )
    return ClassifyFrames(classifier, arguments.views, find, arguments.soft), header


def sounds(arguments: argparse.Namespace, store: Store, world: World) -> tuple[ClassifySounds, LabelHeader]:
    """Return the work of labeling sounds, and the header of its table."""
    from cacl.labels.table import LabelHeader
    from cacl.labels.tag import ClassifySounds

    view = whole_clips(store)
    tagger = user_tagger(arguments.tagger, store, world.device)
    header = LabelHeader(
        classifier=tagger.name,
        weights=tagger.weights,
        fingerprint=store.fingerprint,
        classes=tagger.width,
        preprocessing={"sample_rate": view.sample_rate, "duration": view.duration},
    )
    return ClassifySounds(tagger, arguments.soft), header


def is_labeled(path: Path, header: LabelHeader, clips: int, soft: bool) -> bool:
    """Say whether the table at `path` is what this command would write again."""
    from cacl.labels.table import LabelTable

    try:
        table = LabelTable.load(path)
    except UserError:
        return False
    return table.header == header and len(table.index) == clips and (table.soft is not None) == soft


def region(name: str, world: World) -> tuple[Region | None, str]:
    """Return what finds the region to look at (nothing for the whole frame), and its weights' sha256."""
    from cacl.labels.regions import Localized, object_guidance

    if name == "whole":
        return None, ""
    if name == "ogl":
        return object_guidance, ""
    model, weights = trained_model(name, world.device)
    return Localized(model), weights


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["label", *sys.argv[1:]]))
