"""Classes by clustering what is heard, seen, or both have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from cacl.errors import UserError
from cacl.labels.classifier import build_classifier
from cacl.labels.classify import ClassifyFrames
from cacl.labels.features import AudioStatistics, ClipFeatures, Features, ModelFeatures
from cacl.labels.pseudo_classes import check_clusters, cluster_table
from cacl.labels.table import LabelHeader
from cacl.resumable import Arrays
from cacl.types import Batch
from cacl.world import World
from launch.jobs.clips import IMAGE_SIZE, kept_parts, map_clips, whole_view
from launch.jobs.encoders import AskedTagger, load_asked_tagger, load_localizer
from launch.jobs.tables import TableFile, table_path
from shards.store import Store, open_store

Work = Callable[[Batch], Arrays]


def cluster(
    data: str,
    out: str | Path | None = None,
    *,
    of: Literal["sound", "image", "fused"] = "fused",
    clusters: int | None = None,
    soft: bool = False,
    seed: int = 0,
    classifier: str = "efficientnet-lite0",
    weights: str | None = None,
    tagger: str | None = None,
    tagger_weights: str | None = None,
    tagger_rate: int | None = None,
    accept_rate: bool = False,
    run: str | None = None,
    workers: int = 2,
    world: World | None = None,
) -> TableFile | None:
    """Write the table of clusters of sound, image or both; return it on rank 0, None on other ranks.

    Every rank of `world` calls this and computes its share of the vectors, which are kept in features.npz
    next to the table. They come from `classifier` (with the file `weights`) and from log-mel statistics or
    a `tagger` (with its file, and what rate it hears or accepts, as in `label`), or both from the trained
    `run`. `clusters` None takes the most stable number. Raises UserError for what cannot be opened, or does
    not fit.
    """
    if run and tagger:
        raise UserError("--run and --tagger: give one of them, both say where the sound's vectors come from")
    if not tagger and (tagger_weights or tagger_rate or accept_rate):
        raise UserError(
            "--tagger-weights, --tagger-rate and --accept-rate: say which tagger they belong to by --tagger"
        )
    world = world or World()
    store = open_store(data)
    out = table_path(data, out, of)
    check_clusters(clusters, len(store.indices))
    if run:
        work, encoders = prepare_model_features(run, world)
    else:
        hears = AskedTagger(tagger, tagger_weights, tagger_rate, accept_rate) if tagger else None
        work, encoders = prepare_clip_features(store, world, classifier, weights, hears)
    features = find_features(store, work, encoders, out.parent / "features.npz", world, workers)
    if features is None:
        return None
    views = {"image": features.image, "sound": features.audio}
    asked = {name: vectors for name, vectors in views.items() if of in (name, "fused")}
    header = LabelHeader(
        classifier=f"clusters of {of}",
        weights=features.header[f"{next(iter(asked))}_weights"],
        fingerprint=store.fingerprint,
        classes=0,
        preprocessing={key: value for key, value in features.header.items() if key != "fingerprint"},
    )
    table = cluster_table(features.index, asked, header, clusters=clusters, seed=seed, soft=soft)
    table.write(out)
    return TableFile(out, table)


def find_features(
    store: Store, work: Work, encoders: dict[str, str], path: Path, world: World, workers: int
) -> Features | None:
    """Return every clip's vectors on rank 0 (None elsewhere), from an earlier call's file if it fits."""
    header: dict[str, Any] = {"fingerprint": store.fingerprint, "image_size": IMAGE_SIZE, **encoders}
    if path.exists() and (stored := Features.load(path)).header == header:
        return stored if world.is_main else None
    with kept_parts(path, world):
        arrays = map_clips(
            store, work, path, header, world=world, workers=workers, description="look and listen"
        )
        if arrays is None:
            return None
        features = Features(arrays["index"], arrays["image"], arrays["sound"], header)
        features.write(path)
    return features


def prepare_model_features(run: str, world: World) -> tuple[Work, dict[str, str]]:
    """Return the work that embeds clips by a trained model, and its names for the header."""
    model, weights = load_localizer(run, world.device)
    names = {"image": "run", "image_weights": weights, "sound": "run", "sound_weights": weights}
    return ModelFeatures(model), names


def prepare_clip_features(
    store: Store,
    world: World,
    classifier: str,
    weights: str | None = None,
    tagger: AskedTagger | None = None,
) -> tuple[Work, dict[str, str]]:
    """Return the work of a frozen classifier and a tagger or log-mel statistics, and their names."""
    network = build_classifier(classifier, weights).to(world.device)
    names = {"image": network.name, "image_weights": network.weights}
    audio: Any = AudioStatistics(whole_view(store).sample_rate)
    names |= {"sound": "log-mel statistics", "sound_weights": ""}
    if tagger:
        heard = load_asked_tagger(tagger, store, world.device)
        audio = heard.embedding
        names |= {"sound": heard.name, "sound_weights": heard.weights}
    return ClipFeatures(ClassifyFrames(network, embeddings=True), audio), names
