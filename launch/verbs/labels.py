"""Make label tables from sound, from both views or from a trained model, and say how good a table is.

    cacl labels cluster data/train --of fused
    cacl labels fuse data/train/labels/a.parquet data/train/labels/b.parquet --data data/train
    cacl labels relabel data/train/labels/fused.parquet --data data/train --run runs/first
    cacl labels report data/train/labels/fused.parquet data/train/labels/sound.parquet --data data/train

Clusters are those of sound alone (`--of sound`), of frames alone (`--of image`), or of both (`--of fused`).
"""

from __future__ import annotations

import argparse
import warnings
from typing import TYPE_CHECKING, Any

from cacl.errors import Remark
from launch.as_json import as_json
from launch.verbs.arguments import (
    add_json_argument,
    add_tagger_arguments,
    add_verb,
    check_packed,
    check_run,
    count,
    share,
)

if TYPE_CHECKING:
    from launch.jobs.tables import TableFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="cluster|fuse|relabel|report")
    cluster = _add_cluster(verbs)
    fuse = add_verb(
        verbs,
        "fuse",
        "join the predictions of two tables",
        "cacl labels fuse seen.parquet heard.parquet --data data/train",
    )
    fuse.add_argument("tables", nargs=2, metavar="TABLE", help="one from frames, one from sound")
    for verb in (cluster, fuse):
        verb.add_argument("--clusters", type=int, metavar="K", help="default: the most stable number")
        verb.add_argument(
            "--soft", action="store_true", help="keep every clip's distribution over the clusters"
        )
        verb.add_argument("--seed", type=count, default=0, help="of the clustering (default: 0)")
    relabel = _add_relabel(verbs)
    report = add_verb(
        verbs,
        "report",
        "say how good a table is, or what differs between two",
        "cacl labels report fused.parquet sound.parquet --data data/train",
    )
    report.add_argument("tables", nargs="+", metavar="TABLE", help="label tables of the shards")
    report.add_argument("--batch-size", type=count, default=128, metavar="B", help="default: 128")
    for verb in (cluster, fuse, relabel, report):
        add_json_argument(verb)
    for verb in (fuse, relabel, report):
        verb.add_argument("--data", required=True, metavar="DIR", help="the shards that the tables belong to")
    for verb in (cluster, fuse, relabel):
        verb.add_argument("--out", metavar="FILE", help="the table (default: in DIR/labels)")
    report.add_argument(
        "--out", metavar="FOLDER", help="where report.json and report.html go (default: DIR/labels)"
    )


def _add_cluster(verbs: Any) -> argparse.ArgumentParser:
    cluster = add_verb(
        verbs,
        "cluster",
        "make classes by clustering what is heard, seen, or both have in common",
        "cacl labels cluster data/train --of fused",
    )
    cluster.add_argument("data", metavar="DIR", help="folder or URL of packed shards")
    cluster.add_argument("--of", choices=("sound", "image", "fused"), default="fused", help="default: fused")
    cluster.add_argument(
        "--classifier", default="efficientnet-lite0", metavar="NAME", help="as in cacl label"
    )
    cluster.add_argument("--weights", metavar="FILE", help="the classifier's weights")
    add_tagger_arguments(cluster, "cluster what this frozen tagger makes of the sounds")
    cluster.add_argument(
        "--tagger-weights", metavar="FILE", help="the tagger's weights, where CACL_MODELS has none"
    )
    # torchrun takes --run for an abbreviation of an option of its own: --run-dir is the name for it.
    cluster.add_argument(
        "--run",
        "--run-dir",
        metavar="RUN",
        help="use the embeddings of this trained run or exported file, for both views",
    )
    cluster.add_argument(
        "--workers", type=count, default=2, metavar="N", help="decoding processes (default: 2)"
    )
    return cluster


def _add_relabel(verbs: Any) -> argparse.ArgumentParser:
    relabel = add_verb(
        verbs,
        "relabel",
        "let a trained model's nearest neighbors vote",
        "cacl labels relabel fused.parquet --data data/train --run runs/first",
    )
    relabel.add_argument("table", metavar="TABLE", help="the labels to start from")
    relabel.add_argument(
        "--run", "--run-dir", required=True, metavar="RUN", help="the trained run, or an exported file"
    )
    relabel.add_argument("--neighbors", type=count, default=20, metavar="K", help="that vote (default: 20)")
    relabel.add_argument(
        "--majority",
        type=share,
        default=0.5,
        metavar="SHARE",
        help="of the vote, above which a clip takes its neighbors' label (default: 0.5)",
    )
    relabel.add_argument(
        "--workers", type=count, default=2, metavar="N", help="decoding processes (default: 2)"
    )
    return relabel


def main(arguments: argparse.Namespace) -> None:
    """Do one of the four."""
    check_packed(arguments.data)
    if getattr(arguments, "run", None):
        check_run(arguments.run, or_file=True)
    {"cluster": cluster, "fuse": fuse, "relabel": relabel, "report": report}[arguments.what](arguments)


def cluster(arguments: argparse.Namespace) -> None:
    """Cluster as one rank."""
    from launch.jobs.cluster import cluster
    from launch.jobs.environment import start_world, stop_world

    world = start_world()
    try:
        written = cluster(
            arguments.data,
            arguments.out,
            of=arguments.of,
            clusters=arguments.clusters,
            soft=arguments.soft,
            seed=arguments.seed,
            classifier=arguments.classifier,
            weights=arguments.weights,
            tagger=arguments.tagger,
            tagger_weights=arguments.tagger_weights,
            tagger_rate=arguments.tagger_rate,
            accept_rate=arguments.accept_rate,
            run=arguments.run,
            workers=arguments.workers,
            world=world,
        )
    finally:
        stop_world()
    if written is not None:
        show_clusters(written, arguments.json)


def fuse(arguments: argparse.Namespace) -> None:
    """Fuse two tables."""
    from launch.jobs.fuse import fuse

    image, audio = arguments.tables
    written = fuse(
        image,
        audio,
        arguments.data,
        arguments.out,
        clusters=arguments.clusters,
        soft=arguments.soft,
        seed=arguments.seed,
    )
    show_clusters(written, arguments.json)


def show_clusters(written: TableFile, json: bool) -> None:
    """Print where a table is and what it holds."""
    from launch.jobs.tables import figures

    table = written.table
    clips, clusters = len(table.index), table.header.classes
    sentence = f"{written.path}: {clips} clips in {clusters} cluster{'s' if clusters > 1 else ''}"
    print(as_json(figures(written)) if json else sentence)
    if clusters == 1 < clips:
        warnings.warn(
            "all clips are of one cluster, so training with these labels has nothing to tell apart: "
            f"label more clips, or say how many clusters there are, such as --clusters {min(clips, 10)}",
            Remark,
            2,
        )


def relabel(arguments: argparse.Namespace) -> None:
    """Let neighbors vote, as one rank."""
    from launch.jobs.environment import start_world, stop_world
    from launch.jobs.relabel import relabel

    world = start_world()
    try:
        written = relabel(
            arguments.table,
            arguments.data,
            arguments.run,
            arguments.out,
            neighbors=arguments.neighbors,
            majority=arguments.majority,
            workers=arguments.workers,
            world=world,
        )
    finally:
        stop_world()
    if written is not None:
        changes = written.changes
        sentence = f"{written.path}: {changes['changed']} of {changes['clips']} labels changed; what changed "
        print(as_json(written) if arguments.json else f"{sentence}is in {written.changes_path}")


def report(arguments: argparse.Namespace) -> None:
    """Write the report and print its main figures."""
    from launch.jobs.label_report import report_labels

    written = report_labels(arguments.tables, arguments.data, arguments.out, batch_size=arguments.batch_size)
    if arguments.json:
        print(as_json({**written.record, "page": written.page}))
        return
    for name, part in written.record["tables"].items():
        line = f"{name}: {part['classes']} classes, {part['positives_per_clip']:.2f} positives a clip"
        if "pair_f1" in part:
            line += f", purity {part['purity']:.3f}, pair precision {part['pair_precision']:.3f}"
            line += f", recall {part['pair_recall']:.3f}, F1 {part['pair_f1']:.3f}"
        print(line)
    print(written.page)
