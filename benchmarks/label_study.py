"""The analysis of labels: do trainings on fused labels find the sounding object better, and by how much?

    python -m benchmarks.label_study [--levels two-object middle hard] [--seeds 0 1 2 3 4] [--clips 3000]

Fixed before any result was seen: levels, arms, the metric `peak_in_box` (share of test clips whose map's peak
lies in the sounding object's box), and one test draw of stamps (seed 1), measured once per training. Arms:
none (own clip only), image (ImageNet, whole frame), sound (clusters), fused (clusters), true (the annotated
classes: the ceiling). Per level the figures are means over seeds, intervals of differences resample seeds and
clips (`cacl compare`), and `recovered` is (fused - none) / (true - none). The result is written whatever its
sign to docs/labels.json. What is done already is not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cacl.labels.quality import compare
from cacl.labels.table import LabelHeader, LabelTable
from launch.clips import true_classes
from shards.store import open_store

ARMS = ("none", "image", "sound", "fused", "true")
METRIC = "peak_in_box"
RECIPE = "launch/recipes/demo.yaml"


def cacl(*words: str) -> str:
    """Run one command and return what it prints."""
    done = subprocess.run([sys.executable, "-m", "launch.main", *words], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"cacl {' '.join(words)}: ended with {done.returncode}")
    return done.stdout


def prepare(folder: Path, source: str, level: str, clips: int, test_clips: int) -> dict[str, Path | None]:
    """Pack a level and the test draw, make every arm's table, and return the tables."""
    train, test = folder / level / "train", folder / "test"
    for out, words in (
        (train, ["--level", level, "--clips", str(clips)]),
        (test, ["--split", "test", "--seed", "1", "--clips", str(test_clips)]),
    ):
        if not (out / "manifest.json").exists():
            cacl("pack", source, "--out", str(out), *words)
    cacl("label", str(train))
    for view in ("sound", "fused"):
        if not (train / "labels" / f"{view}.parquet").exists():
            cacl("labels", "cluster", str(train), "--of", view)
    names = {"image": "efficientnet-lite0", "sound": "sound", "fused": "fused", "true": "true"}
    tables: dict[str, Path | None] = {
        arm: train / "labels" / f"{name}.parquet" for arm, name in names.items()
    }
    if not (train / "labels" / "true.parquet").exists():
        write_truth(train, train / "labels" / "true.parquet")
    return {"none": None, **tables}


def write_truth(data: Path, out: Path) -> None:
    """Write the table of annotated classes: the ceiling, not a method."""
    store = open_store(data)
    classes = true_classes(store, store.indices)
    if classes is None:
        raise SystemExit(f"{data}: not every clip is annotated with its class")
    names, label = np.unique(classes, return_inverse=True)
    header = LabelHeader("annotated classes", "", store.fingerprint, len(names))
    LabelTable(store.indices, label.astype(np.int64), np.ones(len(label), np.float32), header).write(out)


def train(folder: Path, level: str, arm: str, table: Path | None, seed: int, more: list[str]) -> float:
    """Train and evaluate once, and return the metric."""
    run = folder / "runs" / f"{level}-{arm}-{seed}"
    if not (run / "metrics.json").exists():
        words = ["--data.train", str(folder / level / "train"), "--data.test", str(folder / "test")]
        words += ["--training.seed", str(seed), *more]
        words += ["--data.labels", str(table) if table else "null"]
        words += [] if table else ["--loss.positives.name", "own-clip"]
        cacl("train", RECIPE, "--run-dir", str(run), "--resume", "--nproc-per-node", "2", *words)
        cacl("evaluate", "--run", str(run))
    return float(json.loads((run / "metrics.json").read_text())["model"][METRIC])


def quality(folder: Path, level: str, tables: dict[str, Path | None]) -> dict[str, Any]:
    """Return every table's agreement with the annotated classes."""
    data = folder / level / "train"
    store = open_store(data)
    found = {}
    for arm, path in tables.items():
        if path is not None:
            table = LabelTable.load(path, store.fingerprint)
            truth = true_classes(store, table.index)
            found[arm] = compare(table.label, np.array(truth))
    return found


def main() -> None:
    """Run the study, or what is left of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--levels", nargs="+", default=["two-object", "middle", "hard"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--test-clips", type=int, default=400)
    parser.add_argument(
        "--source", default="stamps", help="stamps, or generated for a trial without a network"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/label-study"))
    parser.add_argument("--out", type=Path, default=Path("docs/labels.json"))
    arguments, more = parser.parse_known_args()
    folder, record = arguments.folder, {}
    for level in arguments.levels:
        tables = prepare(folder, arguments.source, level, arguments.clips, arguments.test_clips)
        values = {
            arm: [train(folder, level, arm, tables[arm], seed, more) for seed in arguments.seeds]
            for arm in ARMS
        }
        means = {arm: statistics.mean(each) for arm, each in values.items()}
        distance = means["true"] - means["none"]
        seeds = [str(seed) for seed in arguments.seeds]
        differences = {}
        for other in ("none", "image", "sound"):
            runs = [str(folder / "runs" / f"{level}-{arm}-{{}}") for arm in (other, "fused")]
            differences[f"fused - {other}"] = json.loads(cacl("compare", *runs, "--seeds", *seeds, "--json"))
        record[level] = {
            "metric": METRIC,
            "values": values,
            "means": means,
            "recovered": (means["fused"] - means["none"]) / distance if distance > 0 else None,
            "differences": differences,
            "quality": quality(folder, level, tables),
        }
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
        print(
            level,
            {arm: round(mean, 3) for arm, mean in means.items()},
            "recovered",
            record[level]["recovered"],
        )


if __name__ == "__main__":
    main()
