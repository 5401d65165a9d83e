"""Write a run's report: one HTML file with numbers, curves and test frames, which needs no network.

    cacl report --run runs/demo
    cacl report --run runs/class-aware --beside runs/own-clip     # two models on the same frames

The runs have been evaluated before (`cacl evaluate --run runs/demo`). Writes report.html in the run.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.measuring import open_test, test_batches
from launch.verbs import compare

if TYPE_CHECKING:
    from cacl.evaluation.predict import Maps
    from cacl.evaluation.protocols import Protocol
    from cacl.viewing.gallery import Example
    from cacl.viewing.report import Beside, Measured
    from launch.jobs.recipe import Recipe
    from shards.store import Store

SOUNDS = {"wav": "own sound", "other.wav": "other sound"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("--run", required=True, metavar="RUN", help="a run directory that has been evaluated")
    parser.add_argument("--beside", metavar="RUN", help="another one, evaluated on the same clips")
    parser.add_argument("--data", metavar="DIR", help="packed test clips (default: the recipe's data.test)")
    parser.add_argument("--protocol", metavar="NAME", help="default: that of the newest evaluation")
    parser.add_argument("--weights", choices=["model", "ema"], default="model", help="default: model")
    parser.add_argument(
        "--clips", type=int, default=24, metavar="N", help="best, worst and random clips (default: 24)"
    )
    parser.add_argument(
        "--classes", type=int, default=8, metavar="N", help="classes with a clip of their own (default: 8)"
    )


def main(arguments: argparse.Namespace) -> None:
    """Read the evaluation, draw the gallery's clips anew, and write the page."""
    from cacl.evaluation.predict import maps_of
    from cacl.evaluation.results import read_record
    from cacl.runs.directory import Run
    from cacl.runs.load import open_model
    from cacl.viewing.gallery import choose
    from cacl.viewing.report import Page, write_report

    run = Run(arguments.run)
    record = read_record(run.folder, arguments.protocol)
    recipe, store, protocol = open_test(
        run.folder, arguments.data, record["protocol"], record["options"]["upsampling"]
    )
    measured = read_measured(run.folder, record)
    beside = read_beside(Path(arguments.beside), measured, protocol) if arguments.beside else None
    folders = [run.folder, *([Path(arguments.beside)] if beside else [])]
    models = {folder.name: maps_of(open_model(folder, arguments.weights)[0]) for folder in folders}
    chosen = choose(measured.systems["model"], protocol, arguments.clips, arguments.classes)
    gallery = {
        heading: list(examples(models, store, indices, recipe, protocol).values())
        for heading, indices in chosen.items()
    }
    path = run.folder / "report.html"
    rate = recipe.data.augmentation.sample_rate
    page = Page(run.records(), gallery, rate, facts(run, record), beside)
    write_report(path, measured, protocol, page)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def read_measured(folder: Path, record: Mapping[str, Any]) -> Measured:
    """Return a run's evaluation."""
    from cacl.evaluation.results import read_clips
    from cacl.viewing.report import Measured

    return Measured(folder.name, record, read_clips(folder, record["protocol"]))


def read_beside(folder: Path, measured: Measured, protocol: Protocol) -> Beside:
    """Return the other run's evaluation and what the comparison comes to.

    Raises UserError where it was measured otherwise, or has the same name.
    """
    from cacl.errors import UserError
    from cacl.evaluation.results import read_record
    from cacl.viewing.report import Beside

    record = read_record(folder, protocol.name)
    if folder.name == measured.name:
        raise UserError(f"--beside {folder}: is named like the run itself; name another, or rename one")
    compare.check_same(measured.record, record, Path(measured.name), folder)
    other = read_measured(folder, record)
    names = (other.name, measured.name)
    found = compare.compared([other.systems["model"]], [measured.systems["model"]], protocol)
    return Beside(other, [compare.sentence(names, metric, one) for metric, one in found.items()])


def examples(
    models: Mapping[str, Maps], store: Store, indices: list[int], recipe: Recipe, protocol: Protocol
) -> dict[int, Example]:
    """Return the gallery's clips by index.

    One model shows each frame with its own sound, then with the other one if any; of several each shows it
    with its own sound.
    """
    import numpy as np

    from cacl.viewing.gallery import Example, View

    found: dict[int, Example] = {}
    for sound, title in list(SOUNDS.items())[: 1 if len(models) > 1 else 2]:
        chosen = [index for index in indices if sound in store.read(index)]
        if not chosen:
            continue
        for batch in test_batches(store, np.array(chosen), len(chosen), recipe, sound):
            drawn = {
                name: protocol.scores(maps(batch.images, batch.waveforms)) for name, maps in models.items()
            }
            for row, note in enumerate(batch.annotations or []):
                index, class_name = int(batch.index[row]), note.get("class_name", "")
                example = found.setdefault(index, Example(note["id"], class_name, batch.images[row], []))
                heard = note["other"] if sound == "other.wav" else note
                for name, scores in drawn.items():
                    first = name if len(models) > 1 else title
                    label = ": ".join(filter(None, [first, heard.get("class_name", "")]))
                    boxes = heard.get("boxes", [])
                    example.views.append(View(label, scores[row], batch.waveforms[row], boxes))
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
        "commit": environment.get("commit"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "trained on": environment.get("platform"),
    }
    return {key: str(value) for key, value in listed.items() if value}
