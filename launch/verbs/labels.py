"""Make label tables from sound, from both views or from a trained model, and say how good a table is.

    cacl labels cluster data/train --of fused
    cacl labels fuse data/train/labels/a.parquet data/train/labels/b.parquet --data data/train
    cacl labels relabel data/train/labels/fused.parquet --data data/train --run runs/first
    cacl labels report data/train/labels/fused.parquet data/train/labels/sound.parquet --data data/train

Clusters are those of sound alone (--of sound), of frames alone (--of image), or of both (--of fused).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cacl.errors import UserError
from launch.clips import forget_parts, over_clips, table_path, trained_model, true_classes
from launch.clusters import cluster, fuse
from launch.jobs.environment import start_world, stop_world

if TYPE_CHECKING:
    from cacl.resumable import Arrays
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
    # torchrun takes --run for an abbreviation of an option of its own: --run-dir is the name for it.
    cluster.add_argument(
        "--run",
        "--run-dir",
        metavar="RUN",
        help="use the embeddings of this trained run or exported file, for both views",
    )
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
    relabel.add_argument(
        "--run", "--run-dir", required=True, metavar="RUN", help="the trained run, or an exported file"
    )
    relabel.add_argument("--neighbors", type=int, default=20, metavar="K", help="that vote (default: 20)")
    relabel.add_argument(
        "--majority",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="of the vote, above which a clip takes its neighbors' label (default: 0.5)",
    )
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


def relabel(arguments: argparse.Namespace) -> None:
    """Write the table after one round of voting, and what changed beside it."""
    import numpy as np

    from cacl.labels.relabel import changes
    from cacl.labels.relabel import relabel as take_votes
    from cacl.labels.table import LabelTable
    from shards.store import open_store

    if arguments.neighbors < 1 or not 0 <= arguments.majority <= 1:
        raise UserError("--neighbors must be 1 or more, and --majority must lie in 0..1")
    store = open_store(arguments.data)
    table = LabelTable.load(arguments.table, store.fingerprint)
    out = table_path(arguments.data, arguments.out, f"{Path(arguments.table).stem}-relabeled")
    vectors, weights = embed(arguments, store, out)
    if vectors is None:
        return
    index, rows, known = np.intersect1d(vectors["index"], table.index, return_indices=True)
    both = np.concatenate([vectors["image"][rows], vectors["sound"][rows]], axis=1)
    before = table.label[known]
    after, confidence = take_votes(
        both, before, table.confidence[known], arguments.neighbors, arguments.majority
    )
    parameters = {
        "neighbors": arguments.neighbors,
        "majority": arguments.majority,
        "run": weights,
        "table": table.fingerprint,
    }
    header = replace(table.header, classifier=f"{table.header.classifier}, relabeled", parameters=parameters)
    LabelTable(index, after, confidence, header).write(out)
    forget_parts(out)
    change = changes(before, after, true_classes(store, index))
    out.with_suffix(".json").write_text(json.dumps(change, indent=1) + "\n")
    print(
        f"{out}: {change['changed']} of {change['clips']} labels changed; what changed is in "
        f"{out.with_suffix('.json')}"
    )


def embed(arguments: argparse.Namespace, store: Store, out: Path) -> tuple[Arrays | None, str]:
    """Return every clip's vectors by the trained model on rank 0, None elsewhere; and its weights' hash."""
    from cacl.labels.features import ModelFeatures

    world = start_world()
    try:
        model, weights = trained_model(arguments.run, world.device)
        identity = {"run": weights, "fingerprint": store.fingerprint, "kind": "relabel"}
        work = ModelFeatures(model)
        return over_clips(store, work, out, identity, world, arguments.workers, "embed"), weights
    finally:
        stop_world()


def short_names(paths: list[Path]) -> dict[str, Path]:
    """Return files by their bare names where these tell them apart, else by their paths."""
    stems = {path.stem: path for path in paths}
    return stems if len(stems) == len(paths) else {str(path): path for path in paths}


def report(arguments: argparse.Namespace) -> None:
    """Write report.json and report.html of one table or several."""
    from cacl.labels.report import build_report, count_labels
    from cacl.labels.table import LabelTable
    from cacl.viewing.label_report import write_label_report
    from shards.store import open_store

    if arguments.batch_size < 2:
        raise UserError(f"--batch-size {arguments.batch_size}: pairs need 2 clips or more")
    store = open_store(arguments.data)
    paths = short_names([Path(path) for path in arguments.tables])
    tables = {name: LabelTable.load(path, store.fingerprint) for name, path in paths.items()}
    truth = {name: true_classes(store, table.index) for name, table in tables.items()}
    record = build_report(tables, truth, arguments.batch_size)
    folder = Path(arguments.out) if arguments.out else table_path(arguments.data, None, "report").parent
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(record, indent=1) + "\n")
    write_label_report(folder / "report.html", record, count_labels(tables, truth))
    for name, part in record["tables"].items():
        line = f"{name}: {part['classes']} classes, {part['positives_per_clip']:.2f} positives a clip"
        if "pair_f1" in part:
            line += f", purity {part['purity']:.3f}, pair precision {part['pair_precision']:.3f}"
            line += f", recall {part['pair_recall']:.3f}, F1 {part['pair_f1']:.3f}"
        print(line)
    print(folder / "report.html")


if __name__ == "__main__":
    from launch.main import main as run_verb

    sys.exit(run_verb(["labels", *sys.argv[1:]]))
