"""Clips and label tables of the studies, made by cacl's own verbs where there is one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.nn import functional

from cacl.annotation import Annotation
from cacl.labels.classifier import build_classifier
from cacl.labels.classify import ClassifyFrames
from cacl.labels.cluster import DIMENSIONS, whiten
from cacl.labels.features import Features
from cacl.labels.quality import compare
from cacl.labels.relabel import relabel
from cacl.labels.table import LabelHeader, LabelTable
from cacl.types import Batch
from cacl.world import World
from launch.jobs.clips import kept_parts, map_clips
from launch.jobs.tables import true_classes
from shards.store import open_store

STRONG, WEAK = "efficientnet-lite0", "weak"
TAGGER, FUSED_BY_TAGGER = "mn04", "tagged"
"""A tagger that hears in place of log-mel statistics, and the table that is fused with it."""
MADE_OF = ("--objects", "varied", "--sounds", "varied", "--backgrounds", "varied")
"""Words of a pack of scenes: its collections."""
TABLES = (STRONG, "sound", "fused", WEAK, "true")
"""Those of the study of labels."""
WEAK_SIDE = 48
"""Pixels that the weak classifier sees of a frame's side: the strong network, blinded."""
NEIGHBORS = 20
TESTS = {"stamps": "test", "extended-stamps": "extended", "scenes": "varied/test", "vggss": "vggss"}
"""The protocols, and where below a study's folder their clips lie."""
SCENE = ("--fewest", "2", "--most", "3", "--least-originals", "2")
"""Scenes of the level `varied`: a silent object in each, classes of two originals at least."""
VALIDATION_CLIPS, VALIDATION_SEED = 240, 1
"""Of what `cacl train miniature` validates on; the studies train on draw 0 and test on draw 2."""


def cacl(*words: str) -> None:
    """Run one command."""
    done = subprocess.run([sys.executable, "-m", "launch.main", *words], check=False)
    if done.returncode:
        raise SystemExit(f"cacl {' '.join(words)}: ended with {done.returncode}")


def pack_test(folder: Path, source: str, clips: int, seed: int) -> None:
    """Pack the test draw, and its Extended form of the same frames."""
    pack_plain_test(folder, source, clips, seed)
    pack_once(folder / TESTS["extended-stamps"], f"extended-{source}", _drawn(clips, seed))


def pack_plain_test(folder: Path, source: str, clips: int, seed: int, stored: Sequence[str] = ()) -> None:
    """Pack the test draw; `stored` are words of how."""
    pack_once(folder / TESTS["stamps"], source, [*_drawn(clips, seed), "--split", "test", *stored])


def pack_level(
    folder: Path, source: str, level: str, clips: int, seed: int, tables: Sequence[str] = TABLES
) -> None:
    """Pack a level's clips of stamps and label them."""
    for out, size, drawn in (("train", clips, seed), ("validation", VALIDATION_CLIPS, VALIDATION_SEED)):
        pack_stamps(folder / level / out, source, level, size, drawn)
    make_tables(folder / level / "train", tables)


def pack_stamps(
    out: Path, source: str, level: str, clips: int, seed: int, stored: Sequence[str] = ()
) -> None:
    """Pack training clips of a level; `stored` are words of how."""
    pack_once(out, source, ["--level", level, *_drawn(clips, seed), *stored])


def pack_varied(
    folder: Path, level: str, made_of: Sequence[str], clips: int, seed: int, originals: int = 0
) -> None:
    """Pack training scenes as `pack_scenes` does, and label them."""
    pack_scenes(folder, level, made_of, clips, seed, originals)
    make_tables(folder / level / "train", (STRONG, "fused", "true"))


def pack_scenes(
    folder: Path,
    level: str,
    made_of: Sequence[str],
    clips: int,
    seed: int,
    originals: int = 0,
    stored: Sequence[str] = (),
) -> None:
    """Pack training scenes of several originals a class, at most `originals` if that is not 0."""
    limit = ["--most-originals", str(originals)]
    pack_once(folder / level / "train", "scenes", [*made_of, *SCENE, *_drawn(clips, seed), *limit, *stored])


def pack_varied_test(
    folder: Path, made_of: Sequence[str], clips: int, seed: int, stored: Sequence[str] = ()
) -> None:
    """Pack the test draw of scenes: other pictures, recordings and photographs than those of training."""
    words = [*made_of, *SCENE, *_drawn(clips, seed), "--split", "test", *stored]
    pack_once(folder / TESTS["scenes"], "scenes", words)


def _drawn(clips: int, seed: int) -> list[str]:
    return ["--clips", str(clips), "--seed", str(seed)]


def pack_once(out: Path, source: str, words: Sequence[str]) -> None:
    """Pack a source unless that is done."""
    if not (out / "manifest.json").exists():
        cacl("pack", source, "--out", str(out), *words)


def make_tables(data: Path, wanted: Sequence[str]) -> None:
    """Make the label tables that are not there yet, by name."""
    made = {
        STRONG: lambda out: cacl("label", str(data)),
        "sound": lambda out: cacl("labels", "cluster", str(data), "--of", "sound"),
        "fused": lambda out: cacl("labels", "cluster", str(data), "--of", "fused"),
        FUSED_BY_TAGGER: lambda out: cacl(
            "labels", "cluster", str(data), "--of", "fused", "--tagger", TAGGER, "--out", str(out)
        ),
        WEAK: lambda out: write_weak(data, out),
        "true": lambda out: write_true(data, out),
    }
    for name in wanted:
        out = data / "labels" / f"{name}.parquet"
        if not out.exists():
            made[name](out)


def write_weak(data: Path, out: Path) -> None:
    """Write the labels of a weak classifier: the strong one on frames of `WEAK_SIDE` pixels."""
    store, classifier = open_store(data), build_classifier(STRONG)
    classify = ClassifyFrames(classifier)

    def work(batch: Batch) -> dict[str, np.ndarray]:
        small = functional.interpolate(batch.images.float(), (WEAK_SIDE, WEAK_SIDE), mode="area")
        blurred = functional.interpolate(small, batch.images.shape[-2:], mode="bicubic").clamp(0, 255)
        return classify(replace(batch, images=blurred.byte()))

    identity = {"fingerprint": store.fingerprint, "side": WEAK_SIDE}
    with kept_parts(out, World()):
        arrays = map_clips(store, work, out, identity, world=World(), workers=2, description="weak labels")
        assert arrays is not None  # one process
        header = LabelHeader(
            f"{STRONG} on {WEAK_SIDE} pixels", classifier.weights, store.fingerprint, classifier.classes
        )
        LabelTable(arrays["index"], arrays["label"], arrays["confidence"], header).write(out)


def write_true(data: Path, out: Path) -> None:
    """Write the table of annotated classes: the ceiling, not a method."""
    store = open_store(data)
    names, label = np.unique(annotated_classes(data), return_inverse=True)
    header = LabelHeader("annotated classes", "", store.fingerprint, len(names))
    confidence = np.ones(len(label), np.float32)
    LabelTable(store.indices, label.astype(np.int64), confidence, header).write(out)


def write_noisy(data: Path, share: float, seed: int) -> str:
    """Write true labels of which `share` are replaced by another class at random; return the table's name.

    Confidence is what can be known without true labels: how many of a clip's nearest neighbors by sound have
    its label.
    """
    name = noisy_name(share)
    out = data / "labels" / f"{name}.parquet"
    if not out.exists():
        true = LabelTable.load(data / "labels" / "true.parquet")
        random = np.random.default_rng(seed)
        wrong = random.random(len(true.label)) < share
        label = np.where(wrong, _by_chance(true, random), true.label)
        vectors = whiten(Features.load(data / "labels" / "features.npz").audio, DIMENSIONS["sound"])
        # Nobody is outvoted by all: labels stay, confidences come.
        _, confidence = relabel(vectors, label, np.ones(len(label), np.float32), NEIGHBORS, majority=1.0)
        header = replace(true.header, classifier=f"annotated classes, {share:.0%} replaced")
        LabelTable(true.index, label, confidence, header).write(out)
    return name


def noisy_name(share: float) -> str:
    """Return the name of the table with this share of labels replaced."""
    return f"noisy-{round(100 * share)}"


def write_wrong(data: Path, kind: str, share: float, seed: int) -> str:
    """Write true labels of which `share` are wrong; return the table's name.

    Wrong `random`ly: another class by chance; wrong as `other`: the class of a silent object in the frame.
    For one seed the same clips are wrong in both.
    """
    name = f"{kind}-{round(100 * share)}"
    out = data / "labels" / f"{name}.parquet"
    if not out.exists():
        store, true = open_store(data), LabelTable.load(data / "labels" / "true.parquet")
        random = np.random.default_rng(seed)
        wrong = random.random(len(true.label)) < share
        if kind == "random":
            instead = _by_chance(true, random)
        else:
            codes = dict(zip(annotated_classes(data), true.label.tolist(), strict=True))
            seen = [_silent_classes(store.annotation(int(index))) for index in store.indices]
            instead = np.array([codes[names[int(random.integers(len(names)))]] for names in seen])
        header = replace(true.header, classifier=f"annotated classes, {share:.0%} {kind}")
        confidence = np.ones(len(wrong), np.float32)
        LabelTable(true.index, np.where(wrong, instead, true.label), confidence, header).write(out)
    return name


def _by_chance(true: LabelTable, random: np.random.Generator) -> np.ndarray:
    """Return another class for every clip."""
    classes = true.header.classes
    return (true.label + random.integers(1, classes, len(true.label))) % classes


def _silent_classes(note: Annotation) -> list[str]:
    return [source.class_name for source in note.sources or () if source.visible and not source.audible]


def quality(data: Path, table: str) -> dict[str, float]:
    """Return a table's agreement with the annotated classes."""
    found = LabelTable.load(data / "labels" / f"{table}.parquet", open_store(data).fingerprint)
    return compare(found.label, np.array(annotated_classes(data)))


def annotated_classes(data: Path) -> list[str]:
    """Return the class of every clip's sounding object."""
    store = open_store(data)
    classes = true_classes(store, store.indices)
    if classes is None:
        raise SystemExit(f"{data}: not every clip is annotated with its class")
    return classes
