"""Clips a second of a whole training beside SLAVC's own loop: the same model, clips and batch.

    python -m benchmarks.train --json [--clips 512] [--batch 64] [--repeats 2]

The reference is `benchmarks.public_loop`: files, a stock DataLoader, float32. Ours is `cacl train slavc` on
the same clips packed, with targets in eval mode and the loss in both directions, which is more work than the
reference's. Both are commands in processes of their own, timed from start to exit: imports, workers and one
checkpoint included. Weights are random (the public ones are a download), packing is not counted, and neither
side measures a split. One epoch, in turns. Rows:

`train/float32`: as a recipe's defaults are, in float32.
`train/float32-channels-last`: with `training.channels_last`.
`train/bfloat16`: with `training.channels_last` and `training.precision: bfloat16`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.loader import write_clips
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.sources.prepared import Prepared

FORMS = {
    "float32": ["--training.precision", "float32"],
    "float32-channels-last": ["--training.precision", "float32", "--training.channels_last", "true"],
    "bfloat16": ["--training.precision", "bfloat16", "--training.channels_last", "true"],
}
"""Name of a row → what it adds to our command."""


def public_command(root: Path, batch: int, cores: int) -> list[str]:
    """The public loop on the files."""
    sizes = ["--batch", str(batch), "--workers", str(cores)]
    return ["-m", "benchmarks.public_loop", str(root / "files"), *sizes]


def our_command(root: Path, batch: int, cores: int, run_dir: Path, form: list[str]) -> list[str]:
    """`cacl train` on the shards."""
    same = {
        "data.train": root / "shards",
        "data.validation": "null",
        "data.workers": cores,
        "data.order.lanes": 8,
        "model.image.weights": "none",
        "loss.direction": "both",
        "training.target": "{statistics: running, dropout: false}",
        "training.global_batch_size": batch,
        "training.micro_batch_size": batch,
        "training.epochs": 1,
    }
    overrides = [word for key, value in same.items() for word in (f"--{key}", str(value))]
    return ["-m", "launch.main", "train", "slavc", "--run-dir", str(run_dir), *overrides, *form]


def seconds_of(command: list[str], threads: int) -> tuple[float, str]:
    """Run a command to its end; return its seconds and what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environment, text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started, done.stdout


def measure(root: Path, arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Run every side in turns; return their clips a second, and those of their steps alone."""
    found: dict[str, dict[str, list[float]]] = {}

    def add(side: str, whole: float, steps: float) -> None:
        of_side = found.setdefault(side, {"whole": [], "steps": []})
        of_side["whole"].append(arguments.clips / whole)
        of_side["steps"].append(steps)

    for repeat in range(arguments.repeats):
        whole, printed = seconds_of(public_command(root, arguments.batch, arguments.cores), arguments.cores)
        result = json.loads(printed.splitlines()[-1])
        assert result["clips"] == arguments.clips, result["clips"]
        add("public", whole, result["clips"] / result["seconds"])
        for name, form in FORMS.items():
            run_dir = root / f"run-{name}-{repeat}"
            whole, _ = seconds_of(
                our_command(root, arguments.batch, arguments.cores, run_dir, form), arguments.cores
            )
            lines = [json.loads(line) for line in (run_dir / "train.jsonl").read_text().splitlines()]
            taken = [line["step_seconds"] for line in lines if "step_seconds" in line]
            assert len(taken) * arguments.batch == arguments.clips, len(taken)
            add(name, whole, arguments.clips / sum(taken))
    return found


def rows(found: dict[str, dict[str, list[float]]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row a form of ours: medians, ratios of neighbors in time, and their spread."""
    result = []
    reference = found["public"]
    for name in FORMS:
        ratios = [ours / other for ours, other in zip(found[name]["whole"], reference["whole"], strict=True)]
        steps = statistics.median(found[name]["steps"]) / statistics.median(reference["steps"])
        result.append(
            {
                "benchmark": f"train/{name}",
                "ours": round(statistics.median(found[name]["whole"]), 2),
                "reference": round(statistics.median(reference["whole"]), 2),
                "unit": "clips/s",
                "ratio": round(statistics.median(ratios), 2),
                "spread": [round(min(ratios), 2), round(max(ratios), 2)],
                "ratio_of_steps": round(steps, 2),
                "clips": arguments.clips,
                "batch": arguments.batch,
                "threads": arguments.cores,
                "repeats": arguments.repeats,
            }
        )
    return result


def main() -> None:
    """Print one JSON object a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line (the only form there is)")
    parser.add_argument("--clips", type=int, default=512, help="a multiple of the batch")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--cores", type=int, default=len(os.sched_getaffinity(0)), help="threads, and workers"
    )
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_clips(root / "files", arguments.clips)
        plan = make_plan(Prepared(root=root / "files"))
        pack(plan, root / "shards", workers=arguments.cores)
        merge(plan.head, root / "shards", 0.0)
        for row in rows(measure(root, arguments), arguments):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
