"""Write a run's report: one HTML file with numbers, training curve and test frames, which needs no network.

    cacl report --run runs/demo

The run has been evaluated before (`cacl evaluate --run runs/demo`). Writes report.html in the run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.measuring import open_test, test_batches

if TYPE_CHECKING:
    from cacl.evaluation.protocols import Protocol
    from cacl.report import Example
    from launch.recipe import Recipe
    from shards.store import Store

SOUNDS = {"wav": "own sound", "other.wav": "other sound"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--run", required=True, metavar="RUN", help="a run directory that has been evaluated")
    parser.add_argument("--data", metavar="DIR", help="packed test clips (default: the recipe's data.test)")
    parser.add_argument("--protocol", metavar="NAME", help="default: that of the newest evaluation")
    parser.add_argument("--weights", choices=["model", "ema"], default="model", help="default: model")
    parser.add_argument(
        "--clips", type=int, default=24, metavar="N", help="clips in the gallery (default: 24)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Read the evaluation, draw the gallery's clips anew, and write the page."""
    from cacl.evaluation.results import read_clips, read_record
    from cacl.report import choose, write_report
    from cacl.run import Run, open_model

    run = Run(arguments.run)
    record = read_record(run.folder, arguments.protocol)
    recipe, store, protocol = open_test(
        run.folder, arguments.data, record["protocol"], record["options"]["upsampling"]
    )
    model, _ = open_model(run.folder, arguments.weights)
    systems = read_clips(run.folder, protocol.name)
    chosen = choose(systems["model"], protocol.ranked_by, arguments.clips)
    gallery = {
        heading: list(examples(model, store, indices, recipe, protocol).values())
        for heading, indices in chosen.items()
    }
    path = run.folder / "report.html"
    rate = recipe.data.augmentation.sample_rate
    write_report(path, run.folder.name, record, systems, run.records(), gallery, rate, facts(run, record))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def examples(
    model: Any, store: Store, indices: list[int], recipe: Recipe, protocol: Protocol
) -> dict[int, Example]:
    """Return the gallery's clips by index: each frame with its own sound, then with the other one if any."""
    import numpy as np

    from cacl.evaluation.predict import maps_of
    from cacl.report import Example, View

    found: dict[int, Example] = {}
    for sound, title in SOUNDS.items():
        chosen = [index for index in indices if sound in store.read(index)]
        if not chosen:
            continue
        for batch in test_batches(store, np.array(chosen), len(chosen), recipe, sound):
            scores = protocol.scores(maps_of(model)(batch.images, batch.waveforms))
            for row, note in enumerate(batch.annotations or []):
                index, class_name = int(batch.index[row]), note.get("class_name", "")
                example = found.setdefault(index, Example(note["id"], class_name, batch.images[row], []))
                heard = note["other"] if sound == "other.wav" else note
                label = ": ".join(filter(None, [title, heard.get("class_name", "")]))
                example.views.append(View(label, scores[row], batch.waveforms[row], heard.get("boxes", [])))
    return found


def facts(run: Any, record: Mapping[str, Any]) -> dict[str, str]:
    """Return what else a reader must know to repeat the numbers."""
    import json

    environment_file = Path(run.folder) / "environment.json"
    environment = json.loads(environment_file.read_text()) if environment_file.exists() else {}
    versions = environment.get("versions", {})
    listed = {
        "checkpoint": record["checkpoint"],
        "test set (fingerprint)": record["data"],
        "clips without a result": ", ".join(map(str, record["missing"])),
        "commit": environment.get("commit"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "trained on": environment.get("platform"),
    }
    return {key: str(value) for key, value in listed.items() if value}
