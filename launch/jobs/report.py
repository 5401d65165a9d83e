"""Write a run's report: its evaluation, perhaps next to another run's, and test clips drawn anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cacl.annotation import OTHER_SOUND, OWN_SOUND, join_boxes
from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.protocols import Protocol
from cacl.evaluation.summary import compare
from cacl.evaluation.systems import Maps, maps_of
from cacl.files import read_json
from cacl.runs.directory import Run
from cacl.runs.load import open_model
from cacl.viewing.gallery import Example, View, choose
from cacl.viewing.report import Evaluation, Page, Rival, write_report
from launch.jobs.compare import check_same, read_alike
from launch.jobs.curves import losses
from launch.jobs.look import show_clips
from launch.jobs.measuring import AnnotatedClips, open_test
from shards.store import open_store

SOUNDS = {OWN_SOUND: "own sound", OTHER_SOUND: "other sound"}


def report(
    run: str | Path,
    *,
    out: str | Path | None = None,
    beside: str | Path | None = None,
    data: str | None = None,
    protocol: str | None = None,
    weights: Literal["model", "ema"] | None = None,
    clips: int = 24,
    classes: int = 8,
) -> Path:
    """Write report.html into an evaluated run, or to `out`, and return its path.

    Of `data` on which the run was not evaluated it is a page without numbers, clips.html. `beside` is another
    run that was evaluated on the same clips. `protocol` is an evaluation's name or its protocol's alone; None
    is the newest. `clips` (best, worst, random) and as many `classes` with a clip of their own are drawn with
    the maps of `weights`. Raises UserError if a run has no such evaluation.
    """
    directory = Run(run)
    if data is not None and not is_evaluated(directory, data, protocol):
        if beside is not None:
            raise UserError(
                f"--beside {beside}: {directory.folder} was not evaluated on {data}; evaluate both there"
            )
        return show_clips(run, data, out, weights=weights, clips=clips)
    record = results.read_record(directory.folder, protocol)
    test, measured_by = open_test(run, data, record["protocol"], record["options"]["upsampling"])
    evaluation = read_evaluation(directory.folder, record)
    rival = read_rival(Path(beside), evaluation, measured_by) if beside else None
    folders = [directory.folder, *([Path(beside)] if beside else [])]
    models = {folder.name: maps_of(open_model(folder, weights)[0]) for folder in folders}
    chosen = choose(evaluation.systems["model"], measured_by, clips, classes)
    page = Page(
        losses=losses(directory),
        gallery={
            heading: list(examples(models, test, indices, measured_by).values())
            for heading, indices in chosen.items()
        },
        sample_rate=test.augmentation.sample_rate,
        facts=facts(directory.folder, record),
        rival=rival,
    )
    path = Path(out or directory.folder / "report.html")
    write_report(path, evaluation, measured_by, page)
    return path


def is_evaluated(run: Run, data: str, protocol: str | None) -> bool:
    """Say whether an evaluation of the run, by its name or the newest, was on the packed clips `data`."""
    if protocol is None and not (run.folder / "metrics.json").exists():
        return False
    return bool(results.read_record(run.folder, protocol)["data"] == open_store(data).fingerprint)


def read_evaluation(folder: Path, record: Mapping[str, Any]) -> Evaluation:
    """Return a run's evaluation of this record."""
    return Evaluation(folder.name, record, results.read_clips(folder, record["name"]))


def read_rival(folder: Path, own: Evaluation, protocol: Protocol) -> Rival:
    """Return the other run's evaluation and what the comparison comes to.

    Raises UserError if it was measured otherwise, or has the same name.
    """
    record = read_alike(folder, own.record["name"])
    if folder.name == own.name:
        raise UserError(f"--beside {folder}: is named like the run itself; name another, or rename one")
    check_same(own.record, record, Path(own.name), folder)
    other = read_evaluation(folder, record)
    names = (other.name, own.name)
    found = compare([other.systems["model"]], [own.systems["model"]], protocol)
    return Rival(other, [one.sentence(names, metric) for metric, one in found.items()])


def examples(
    models: Mapping[str, Maps], test: AnnotatedClips, indices: Sequence[int], protocol: Protocol
) -> dict[int, Example]:
    """Return the gallery's clips by index.

    One model shows each frame with its own sound, then with the other one if any; of several each shows it
    with its own sound.
    """
    found: dict[int, Example] = {}
    for audio, title in list(SOUNDS.items())[: 1 if len(models) > 1 else 2]:
        stored = [index for index in indices if audio in test.store.read(index)]
        if not stored:
            continue
        for batch in test.batches(np.array(stored), len(stored), audio):
            frames = batch.images.cpu()  # where the models are, whatever decoded them
            drawn = {
                name: protocol.score_maps(maps(frames, batch.waveforms)) for name, maps in models.items()
            }
            for row, note in enumerate(batch.annotations or []):
                index = int(batch.index[row])
                example = found.setdefault(index, Example(note.id, note.class_name, frames[row], []))
                heard = note.heard_in(audio)
                boxes, names = join_boxes(heard) or [], [source.class_name for source in heard]
                for name, scores in drawn.items():
                    first = name if len(models) > 1 else title
                    label = ": ".join(filter(None, [first, ", ".join(filter(None, names))]))
                    example.views.append(View(label, scores[row], batch.waveforms[row], boxes))
    return found


def facts(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Return what else a reader must know to repeat the numbers."""
    environment_file = folder / "environment.json"
    remedy = "it only says with what was trained: delete it"
    environment = read_json(environment_file, remedy) if environment_file.exists() else {}
    versions = environment.get("versions") or {}
    listed = {
        "signature": record.get("signature"),
        "checkpoint": record["checkpoint"],
        "test set (fingerprint)": record["data"],
        "commit": environment.get("commit"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
        "trained on": environment.get("platform"),
    }
    return {key: str(value) for key, value in listed.items() if value}
