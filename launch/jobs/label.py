"""Predict a pseudo-label for every clip with a frozen classifier of frames or sounds."""

from __future__ import annotations

from pathlib import Path

from cacl.errors import UserError
from cacl.labels.classifier import build_classifier
from cacl.labels.classify import ClassifyFrames, Views
from cacl.labels.regions import ModelRegion, Region, object_region
from cacl.labels.table import LabelHeader, LabelTable
from cacl.labels.tag import ClassifyAudio
from cacl.world import World
from launch.jobs.clips import IMAGE_SIZE, kept_parts, map_clips, whole_view
from launch.jobs.encoders import AskedTagger, load_asked_tagger, load_localizer
from launch.jobs.tables import TableFile, table_path
from shards.store import Store, open_store


def label(
    data: str,
    out: str | Path | None = None,
    *,
    classifier: str = "efficientnet-lite0",
    weights: str | None = None,
    views: Views = "whole",
    region: str = "whole",
    tagger: str | None = None,
    tagger_rate: int | None = None,
    accept_rate: bool = False,
    soft: bool = False,
    workers: int = 2,
    world: World | None = None,
) -> TableFile | None:
    """Write the label table of the shards at `data`; return it on rank 0, None on other ranks.

    Every rank of `world` calls this and labels its share. Frames are labeled by `classifier` with the file
    `weights`, in the `views` and the `region` ("whole", "ogl", or the run whose model localizes one) that are
    asked for; with a `tagger`, whose file `weights` then is, sounds are labeled instead. It hears
    `tagger_rate` Hz where nothing else says so; `accept_rate` takes sounds of a lower rate. A table that is
    there already, of the same classifier and clips, is kept. Raises UserError for what cannot be opened, or
    does not fit.
    """
    if tagger and (views, region) != ("whole", "whole"):
        raise UserError("--tagger: labels sounds; leave out --views and --region")
    if not tagger and (tagger_rate or accept_rate):
        raise UserError("--tagger-rate and --accept-rate: are for sounds; name what hears them by --tagger")
    world = world or World()
    store = open_store(data)
    work: ClassifyFrames | ClassifyAudio
    if tagger:
        asked = AskedTagger(tagger, weights, tagger_rate, accept_rate)
        work, header = prepare_audio(store, world, asked, soft)
    else:
        work, header = prepare_frames(store, world, classifier, weights, views, region, soft)
    out = table_path(data, out, header.classifier.replace(":", "-"))
    if is_labeled(out, header, len(store.indices), soft):
        return TableFile(out, LabelTable.load(out), is_new=False) if world.is_main else None
    identity = {**vars(header), "soft": soft}
    with kept_parts(out, world):
        arrays = map_clips(store, work, out, identity, world=world, workers=workers, description="label")
        if arrays is None:
            return None
        table = LabelTable(header=header, **arrays)
        table.write(out)
    return TableFile(out, table)


def prepare_frames(
    store: Store,
    world: World,
    classifier: str,
    weights: str | None = None,
    views: Views = "whole",
    region: str = "whole",
    soft: bool = False,
) -> tuple[ClassifyFrames, LabelHeader]:
    """Return the work of labeling frames, and the header of its table."""
    network = build_classifier(classifier, weights).to(world.device)
    find, trained = find_region(region, world)
    header = LabelHeader(
        classifier=classifier,
        weights=network.weights,
        fingerprint=store.fingerprint,
        classes=network.classes,
        preprocessing={
            "image_size": IMAGE_SIZE,
            "views": views,
            "region": region,
            **({"region_weights": trained} if trained else {}),
            "mean": network.get_buffer("mean").flatten().tolist(),
            "std": network.get_buffer("std").flatten().tolist(),
        },
    )
    return ClassifyFrames(network, views, find, soft), header


def prepare_audio(
    store: Store, world: World, tagger: AskedTagger, soft: bool = False
) -> tuple[ClassifyAudio, LabelHeader]:
    """Return the work of labeling sounds, and the header of its table."""
    view = whole_view(store)
    network = load_asked_tagger(tagger, store, world.device)
    header = LabelHeader(
        classifier=network.name,
        weights=network.weights,
        fingerprint=store.fingerprint,
        classes=network.width,
        preprocessing={
            "sample_rate": view.sample_rate,
            "duration": view.duration,
            **({"heard": network.sample_rate} if network.sample_rate else {}),
        },
        parameters={"class_names": list(network.classes)} if network.classes else {},
    )
    return ClassifyAudio(network, soft), header


def is_labeled(path: Path, header: LabelHeader, clips: int, soft: bool) -> bool:
    """Say whether the table at `path` is what this job would write again."""
    try:
        table = LabelTable.load(path)
    except UserError:
        return False
    return table.header == header and len(table.index) == clips and (table.soft is not None) == soft


def find_region(name: str, world: World) -> tuple[Region | None, str]:
    """Return what finds the region to look at (None for the whole frame), and its weights' sha256."""
    if name == "whole":
        return None, ""
    if name == "ogl":
        return object_region, ""
    model, weights = load_localizer(name, world.device)
    return ModelRegion(model), weights
