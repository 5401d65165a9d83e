"""Classes by clustering: `cacl labels cluster` and `cacl labels fuse`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from cacl.labels.features import Features
    from cacl.labels.table import LabelHeader
    from cacl.world import World
    from shards.store import Store


def cluster(arguments: argparse.Namespace) -> None:
    """Write the table of clusters of sound, image or both."""
    from cacl.labels.table import LabelHeader
    from shards.store import open_store

    if arguments.run and arguments.tagger:
        raise UserError("--run and --tagger: give one of them, both say where the sound's vectors come from")
    store = open_store(arguments.data)
    out = table_path(arguments.data, arguments.out, arguments.of)
    check_number(arguments.clusters, len(store.indices))
    world = start_world()
    try:
        features = find_features(arguments, store, out.parent / "features.npz", world)
    finally:
        stop_world()
    if features is None:
        return
    views = {"image": features.image, "sound": features.sound}
    asked = views if arguments.of == "fused" else {arguments.of: views[arguments.of]}
    header = LabelHeader(
        classifier=f"clusters of {arguments.of}",
        weights=features.header[f"{next(iter(asked))}_weights"],
        fingerprint=store.fingerprint,
        classes=0,
        preprocessing={key: value for key, value in features.header.items() if key != "fingerprint"},
        parameters={"seed": arguments.seed, "clusters_asked": arguments.clusters},
    )
    write_clusters(asked, features.index, header, arguments, out)


def fuse(arguments: argparse.Namespace) -> None:
    """Write the table that joins the predictions of two tables."""
    import numpy as np

    from cacl.labels.fuse import views_of_classes
    from cacl.labels.table import LabelHeader, LabelTable
    from shards.store import open_store

    store = open_store(arguments.data)
    tables = [LabelTable.load(path, store.fingerprint) for path in arguments.tables]
    index = np.intersect1d(tables[0].index, tables[1].index)
    if not len(index):
        raise UserError(f"{arguments.tables[0]} and {arguments.tables[1]}: have no clip in common")
    check_number(arguments.clusters, len(index))
    views = {}
    for name, table in zip(("image", "sound"), tables, strict=True):
        rows = np.isin(table.index, index)
        soft = None if table.soft is None else table.soft[rows]
        views[name] = views_of_classes(table.label[rows], soft)
    header = LabelHeader(
        classifier="fusion of two tables",
        weights="",
        fingerprint=store.fingerprint,
        classes=0,
        parameters={
            "seed": arguments.seed,
            "clusters_asked": arguments.clusters,
            "tables": [table.fingerprint for table in tables],
        },
    )
    out = table_path(arguments.data, arguments.out, "fused-tables")
    write_clusters(views, index, header, arguments, out)


def check_number(clusters: int | None, clips: int) -> None:
    """Raise UserError for a number of clusters that these clips cannot make."""
    if clusters is not None and not 2 <= clusters <= clips:
        raise UserError(f"--clusters {clusters}: give a number from 2 to {clips}, the clips that there are")


def find_features(arguments: argparse.Namespace, store: Store, path: Path, world: World) -> Features | None:
    """Return every clip's vectors on rank 0 (None elsewhere), from an earlier call's file where it fits."""
    from cacl.labels.features import Features

    work, encoders = trained(arguments, world) if arguments.run else frozen(arguments, store, world)
    header = {"fingerprint": store.fingerprint, "image_size": IMAGE_SIZE, **encoders}
    if path.exists() and (found := Features.load(path)).header == header:
        return found if world.is_main else None
    arrays = over_clips(store, work, path, header, world, arguments.workers, "look and listen")
    if arrays is None:
        return None
    features = Features(arrays["index"], arrays["image"], arrays["sound"], header)
    features.write(path)
    forget_parts(path)
    return features


def trained(arguments: argparse.Namespace, world: World) -> tuple[Any, dict[str, str]]:
    """Return the work that embeds clips by a trained model, and its names for the header."""
    from cacl.labels.features import ModelFeatures

    model, weights = trained_model(arguments.run, world.device)
    names = {"image": "run", "image_weights": weights, "sound": "run", "sound_weights": weights}
    return ModelFeatures(model), names


def frozen(arguments: argparse.Namespace, store: Store, world: World) -> tuple[Any, dict[str, str]]:
    """Return the work of a frozen classifier and a tagger or log-mel statistics, and their names."""
    from cacl.labels.classify import ClassifyFrames, build_classifier
    from cacl.labels.features import ClipFeatures, SoundStatistics

    classifier = build_classifier(arguments.classifier, arguments.weights).to(world.device)
    names = {"image": classifier.name, "image_weights": classifier.weights}
    sound: Any = SoundStatistics(whole_clips(store).sample_rate)
    names |= {"sound": "log-mel statistics", "sound_weights": ""}
    if arguments.tagger:
        sound = user_tagger(arguments.tagger, store, world.device)
        names |= {"sound": sound.name, "sound_weights": sound.weights}
    return ClipFeatures(ClassifyFrames(classifier, embeddings=True), sound), names


def write_clusters(
    views: dict[str, Any], index: Any, header: LabelHeader, arguments: argparse.Namespace, out: Path
) -> None:
    """Cluster one view, or fuse two, and write the table."""
    from cacl.labels import cluster as clustering
    from cacl.labels.fuse import fuse as fuse_views
    from cacl.labels.table import LabelTable

    clusters, seed = arguments.clusters, arguments.seed
    if len(views) == 2:
        fusion = fuse_views(views["image"], views["sound"], clusters, seed)
        found, confidence = fusion.clustering, fusion.confidence
        kept: dict[str, Any] = {
            "dimensions": fusion.space.dimensions,
            "correlation": fusion.space.correlation.round(4).tolist(),
        }
    else:
        ((name, vectors),) = views.items()
        dimensions = clustering.DIMENSIONS[name]
        found = clustering.cluster(clustering.whiten(vectors, dimensions), clusters, seed)
        confidence, kept = found.soft.max(1), {"dimensions": dimensions}
    stability = {str(number): round(value, 4) for number, value in found.stability.items()}
    header = replace(
        header,
        classes=len(found.centers),
        parameters={**header.parameters, **kept, "stability": stability},
    )
    soft = found.soft if arguments.soft else None
    LabelTable(index, found.label, confidence, header, soft=soft).write(out)
    print(f"{out}: {len(index)} clips in {len(found.centers)} clusters")
