"""Make label tables from sound, from both views or from a trained model, and say how good a table is.

cacl labels cluster data/train --of fused                # sound alone: --of sound, frames alone: --of image
cacl labels fuse data/train/labels/a.parquet data/train/labels/b.parquet --data data/train
cacl labels relabel data/train/labels/fused.parquet --data data/train --run runs/first
cacl labels report data/train/labels/fused.parquet data/train/labels/sound.parquet --data data/train
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError
from launch.clips import IMAGE_SIZE, forget_parts, over_clips, table_path, true_classes, whole_clips
from launch.environment import start_world, stop_world

if TYPE_CHECKING:
    from cacl.labels.features import Features
    from cacl.labels.table import LabelHeader
    from shards.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="cluster|fuse|relabel|report")
    cluster = verbs.add_parser(
        "cluster", help="classes by clustering what is heard, seen, or both have in common"
    )
    cluster.add_argument("data", metavar="DIR", help="folder or URL of packed shards")
    cluster.add_argument("--of", choices=("sound", "image", "fused"), default="fused", help="default: fused")
    cluster.add_argument(
        "--classifier", default="efficientnet-lite0", metavar="NAME", help="as in cacl label"
    )
    cluster.add_argument("--weights", metavar="FILE", help="the classifier's weights")
    cluster.add_argument("--tagger", metavar="MODULE:FUNCTION", help="a frozen sound tagger (docs/labels.md)")
    cluster.add_argument("--run", metavar="RUN", help="use this trained run's embeddings, for both views")
    cluster.add_argument(
        "--workers", type=int, default=2, metavar="N", help="decoding processes (default: 2)"
    )
    fuse = verbs.add_parser("fuse", help="join the predictions of two tables")
    fuse.add_argument("tables", nargs=2, metavar="TABLE", help="one from frames, one from sound")
    for verb in (cluster, fuse):
        verb.add_argument("--clusters", type=int, metavar="K", help="default: the most stable number")
        verb.add_argument(
            "--soft", action="store_true", help="keep every clip's distribution over the clusters"
        )
        verb.add_argument("--seed", type=int, default=0)
    relabel = verbs.add_parser("relabel", help="let a trained model's nearest neighbors vote")
    relabel.add_argument("table", metavar="TABLE")
    relabel.add_argument("--run", required=True, metavar="RUN", help="the trained run")
    relabel.add_argument("--neighbors", type=int, default=20, metavar="K", help="default: 20")
    relabel.add_argument("--majority", type=float, default=0.5, metavar="SHARE", help="default: 0.5")
    relabel.add_argument(
        "--workers", type=int, default=2, metavar="N", help="decoding processes (default: 2)"
    )
    report = verbs.add_parser("report", help="say how good a table is, or what differs between two")
    report.add_argument("tables", nargs="+", metavar="TABLE")
    report.add_argument("--batch-size", type=int, default=128, metavar="B", help="default: 128")
    for verb in (fuse, relabel, report):
        verb.add_argument("--data", required=True, metavar="DIR", help="the shards that the tables belong to")
    for verb in (cluster, fuse, relabel):
        verb.add_argument("--out", metavar="FILE", help="the table (default: in DIR/labels)")
    report.add_argument(
        "--out", metavar="FOLDER", help="where report.json and report.html go (default: DIR/labels)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Do one of the four."""
    {"cluster": cluster, "fuse": fuse, "relabel": relabel, "report": report}[arguments.what](arguments)


def cluster(arguments: argparse.Namespace) -> None:
    """Write the table of clusters of sound, image or both."""
    from cacl.labels.table import LabelHeader
    from shards.store import open_store

    if arguments.run and arguments.tagger:
        raise UserError("--run and --tagger: give one of them, both say where the sound's vectors come from")
    store = open_store(arguments.data)
    out = table_path(arguments.data, arguments.out, arguments.of)
    features = _features(arguments, store, out.parent)
    if features is None:
        return
    header = LabelHeader(
        classifier=f"clusters of {arguments.of}",
        weights=features.header["weights"],
        fingerprint=store.fingerprint,
        classes=0,
        preprocessing={key: value for key, value in features.header.items() if key != "fingerprint"},
        parameters={"seed": arguments.seed, "clusters_asked": arguments.clusters},
    )
    views = {"image": features.image, "sound": features.sound}
    asked = views if arguments.of == "fused" else {arguments.of: views[arguments.of]}
    _write_clusters(asked, features.index, header, arguments, out)


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
    _write_clusters(views, index, header, arguments, out)


def relabel(arguments: argparse.Namespace) -> None:
    """Write the table after one round of voting, and what changed beside it."""
    import numpy as np

    from cacl.labels.features import ModelFeatures
    from cacl.labels.quality import agreement
    from cacl.labels.relabel import relabel as take_votes
    from cacl.labels.table import LabelTable
    from cacl.run import open_model
    from shards.store import open_store

    store = open_store(arguments.data)
    table = LabelTable.load(arguments.table, store.fingerprint)
    model, _ = open_model(arguments.run)
    out = table_path(arguments.data, arguments.out, f"{Path(arguments.table).stem}-relabeled")
    identity = {"run": _weights(model), "fingerprint": store.fingerprint, "kind": "relabel"}
    world = start_world()
    try:
        work = ModelFeatures(model.to(world.device))
        arrays = over_clips(store, work, out, identity, world, arguments.workers, "embed")
    finally:
        stop_world()
    if arrays is None:
        return
    rows = np.isin(arrays["index"], table.index)
    vectors = np.concatenate([arrays["image"][rows], arrays["sound"][rows]], axis=1)
    known = np.isin(table.index, arrays["index"])
    label, confidence = take_votes(
        vectors, table.label[known], table.confidence[known], arguments.neighbors, arguments.majority
    )
    parameters = {
        "neighbors": arguments.neighbors,
        "majority": arguments.majority,
        "run": identity["run"],
        "table": table.fingerprint,
    }
    header = replace(table.header, classifier=f"{table.header.classifier}, relabeled", parameters=parameters)
    LabelTable(table.index[known], label, confidence, header).write(out)
    forget_parts(out)
    changed = int((label != table.label[known]).sum())
    change: dict[str, Any] = {"clips": len(label), "changed": changed, **agreement(table.label[known], label)}
    truth = true_classes(store, table.index[known])
    if truth is not None:
        from cacl.labels.quality import compare

        change["before"] = compare(table.label[known], np.array(truth))
        change["after"] = compare(label, np.array(truth))
    out.with_suffix(".json").write_text(json.dumps(change, indent=1) + "\n")
    print(f"{out}: {changed} of {len(label)} labels changed; what changed is in {out.with_suffix('.json')}")


def report(arguments: argparse.Namespace) -> None:
    """Write report.json and report.html of one table or several."""
    from cacl.labels.report import build_report, write_html
    from cacl.labels.table import LabelTable
    from shards.store import open_store

    store = open_store(arguments.data)
    tables = {str(path): LabelTable.load(path, store.fingerprint) for path in arguments.tables}
    truth = {name: true_classes(store, table.index) for name, table in tables.items()}
    record = build_report(tables, truth, arguments.batch_size)
    folder = Path(arguments.out) if arguments.out else table_path(arguments.data, None, "report").parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(record, indent=1) + "\n")
    write_html(folder / "report.html", record, tables, truth)
    for name, part in record["tables"].items():
        line = f"{name}: {part['classes']} classes, {part['positives_per_clip']:.2f} positives a clip"
        if "pair_f1" in part:
            line += f", purity {part['purity']:.3f}, pair precision {part['pair_precision']:.3f}"
            line += f", recall {part['pair_recall']:.3f}, F1 {part['pair_f1']:.3f}"
        print(line)
    print(folder / "report.html")


def _features(arguments: argparse.Namespace, store: Store, folder: Path) -> Features | None:
    """Return every clip's vectors on rank 0 (None elsewhere), from an earlier call's file where it fits."""
    from cacl.labels.classify import ClassifyFrames, build_classifier
    from cacl.labels.features import ClipFeatures, Features, ModelFeatures, SoundStatistics, load_tagger
    from cacl.run import open_model

    header: dict[str, Any] = {"fingerprint": store.fingerprint, "image_size": IMAGE_SIZE}
    world = start_world()
    try:
        work: Any
        if arguments.run:
            model, _ = open_model(arguments.run)
            work = ModelFeatures(model.to(world.device))
            header |= {"image": "run", "sound": "run", "weights": _weights(model)}
        else:
            classifier = build_classifier(arguments.classifier, arguments.weights).to(world.device)
            rate = whole_clips(store).sample_rate
            sound = load_tagger(arguments.tagger, rate) if arguments.tagger else SoundStatistics(rate)
            work = ClipFeatures(ClassifyFrames(classifier, embeddings=True), sound)
            header |= {"image": classifier.name, "weights": classifier.weights}
            header |= {"sound": arguments.tagger or "log-mel statistics"}
        path = folder / "features.npz"
        if path.exists() and (found := Features.load(path)).header == header:
            return found if world.is_main else None
        arrays = over_clips(store, work, path, header, world, arguments.workers, "look and listen")
    finally:
        stop_world()
    if arrays is None:
        return None
    features = Features(arrays["index"], arrays["image"], arrays["sound"], header)
    features.write(path)
    forget_parts(path)
    return features


def _write_clusters(
    views: dict[str, Any], index: Any, header: LabelHeader, arguments: argparse.Namespace, out: Path
) -> None:
    """Cluster one view, or fuse two, and write the table."""
    from cacl.labels import cluster as clustering
    from cacl.labels.fuse import fuse as fuse_views
    from cacl.labels.table import LabelTable

    clusters, seed = arguments.clusters, arguments.seed
    if clusters is not None and not 2 <= clusters <= len(index):
        raise UserError(
            f"--clusters {clusters}: give a number from 2 to {len(index)}, the clips that there are"
        )
    if len(views) == 2:
        fusion = fuse_views(views["image"], views["sound"], clusters, seed)
        found, confidence = fusion.clustering, fusion.confidence
        kept = {
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


def _weights(model: Any) -> str:
    from cacl.encoders.weights import sha256

    return sha256(model.state_dict())


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["labels", *sys.argv[1:]]))
