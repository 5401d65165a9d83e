"""Measure a run by a protocol: the trained model, the untrained one, mere objects, the centered box."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cacl
from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols import CONTROLS, Protocol
from cacl.evaluation.signature import Signature
from cacl.evaluation.systems import Maps, centered_box, system_of
from cacl.evaluation.upsampling import Upsampling
from cacl.resumable import Arrays, kept
from cacl.runs.directory import Run
from cacl.runs.load import find_checkpoint, measured_weights, open_model
from cacl.world import World
from launch.jobs import Say
from launch.jobs.baselines import (
    Alpha,
    Guidance,
    Mixing,
    mix_objects,
    object_maps,
    trained_and_untrained,
)
from launch.jobs.leaks import training_leaks, warning
from launch.jobs.measuring import AnnotatedClips, Measurement, data_options, open_test, restrict_systems
from launch.jobs.negative_numbers import (
    Negatives,
    measure_negatives,
    open_negatives,
    record_of,
    results_of,
)
from launch.jobs.negatives import SYSTEM, Draws
from launch.jobs.tags import Beside


def evaluate(
    run: str | Path,
    world: World | None = None,
    *,
    data: str | None = None,
    protocol: str | None = None,
    upsampling: Upsampling | None = None,
    without_quirks: Collection[str] = (),
    weights: Literal["model", "ema"] | None = None,
    checkpoint: str = "latest",
    ids: Sequence[str] | None = None,
    object_guidance: Mixing | None = None,
    object_weights: str | None = None,
    alpha: Alpha = 0.4,
    validation: str | None = None,
    negatives: Draws | None = None,
    labels: str | None = None,
    tags: str | None = None,
    say: Say = lambda sentence: None,
) -> dict[str, Any] | None:
    """Measure a run, write the results into it, and return the record on rank 0 (None on others).

    Every rank of `world` calls this. The test clips `data`, the `protocol` and the `weights` are the recipe's
    unless they are named. `ids` restricts what is reported to an official list. `object_guidance` measures
    mixed maps too: the sound's weigh `alpha`, those of any object the rest; `choose` takes the best alpha on
    annotated clips that are not tested: `validation`, or the recipe's `data.validation`. `negatives` measures
    also how the model answers sounds that nothing in view makes, at its θ; `labels` tell which those are
    where clips have no classes. `tags` names the same clips at a rate that the localizer without training
    hears, which is then measured too. The record says what the training data share with the test clips by
    their names, None where that is not known. Raises UserError if run, clips and options do not fit each
    other.
    """
    world = world or World()
    weights = weights or measured_weights(Run(run))
    clips, measured_by = open_test(run, data, protocol, upsampling, without_quirks)
    check_size(measured_by, len(clips.store.indices if ids is None else ids))
    check_alpha(alpha, object_guidance, validation)
    if negatives and object_guidance:
        raise UserError("--negatives: θ is fitted to maps without objects; leave out --object-guidance")
    chosen_on = open_validation(run, validation, clips) if alpha == "choose" else None
    guidance = Guidance(object_guidance, object_weights, alpha, chosen_on)
    beside = Beside.open(tags, clips.workers) if tags else None
    leaks = training_leaks(data_options(run), clips.store, ids) if world.is_main else None
    if leaks:
        say(warning(leaks, clips.store))
    maps = trained_and_untrained(run, weights, checkpoint, world.device)
    step = world.broadcast_object(str(find_checkpoint(Run(run), checkpoint)))
    options = {"weights": str(weights), "checkpoint": str(checkpoint), **guidance.options()}
    asked = None
    if negatives:
        data, name = clips.store.fingerprint, Path(step).name
        asked = open_negatives(negatives, run, name, weights, checkpoint, measured_by, data, labels)
        options |= asked.options()
    parts = Path(run) / "evaluation" / f".{results.evaluation_name(measured_by, options)}.parts"
    identity = {"checkpoint": step, "weights": weights, "objects": object_weights}
    work = Measurement(clips, parts, identity, world)
    with kept(parts, world):
        measured, said = measure_systems(maps, guidance, work, measured_by, say)
        if beside:
            measured |= beside.measure(work, measured_by, measured.get("model"))
        heard = None
        if asked:
            model, _ = open_model(run, weights, checkpoint)
            heard = measure_negatives(asked, model, work, measured_by)
        if not world.is_main:
            return None
        measured, missing = restrict_systems(measured, ids, clips.store)
        subject = results.Subject(measured_by, clips.store.fingerprint, Path(step).name, missing, options)
        more = {"object_guidance": said, "shared_with_training": leaks}
        return write_record(run, subject, measured, more, asked, heard)


def write_record(
    folder: str | Path,
    subject: results.Subject,
    measured: dict[str, ClipResults],
    more: Mapping[str, Any],
    asked: Negatives | None,
    heard: tuple[Arrays, dict[str, Any]] | None,
) -> dict[str, Any]:
    """Write what was measured into a run's `folder`, and return the record.

    `more` goes into the record too; `heard` is what `measure_negatives` returned of what was `asked`.
    """
    record = {**results.summarize(subject, measured), **more}
    if asked and heard:
        measured = {**measured, SYSTEM: results_of(heard[0], measured["model"])}
        record[SYSTEM] = record_of(asked, measured[SYSTEM], heard[1])
    record["signature"] = str(Signature.of(record, cacl.__version__))
    results.write(Path(folder), record, measured)
    return record


def measure_systems(
    maps: dict[str, Maps], guidance: Guidance, work: Measurement, protocol: Protocol, say: Say
) -> tuple[dict[str, ClipResults], dict[str, Any]]:
    """Return what `maps`, the baselines and the controls get, and what the record says of objects."""
    world, indices = work.world, work.clips.store.indices
    said: dict[str, Any] = {}
    try:
        objects, network = object_maps(guidance.weights, world.device)
        maps, said = {**maps, "objects": objects}, {"network": network}
    except UserError as error:
        if guidance.wanted:
            raise
        if world.is_main:
            say(f"objects alone are not measured: {error}")
    if guidance.mixing:
        mixed, more = mix_objects(guidance, work, maps["model"], maps["objects"], protocol)
        maps, said = {**maps, "guided": mixed}, said | more
    # What was measured with another mixing must not be taken over by an evaluation that continues.
    work = replace(work, identity={**work.identity, "guidance": said})
    systems = {"centered_box": centered_box} | {name: system_of(one) for name, one in maps.items()}
    measured = work.measure(systems, protocol, indices)
    for name, control in CONTROLS.get(protocol.name, {}).items():
        heard = work.measure({"model": systems["model"]}, control, indices)
        if world.is_main:
            measured[name] = heard["model"]
    return measured, said


def open_validation(run: str | Path, named: str | None, test: AnnotatedClips) -> AnnotatedClips:
    """Return the clips on which alpha is chosen: those that are named, else the recipe's validation split.

    Raises UserError if there are none, if they are the test clips, or if one has no boxes to choose by.
    """
    location = named or data_options(run).validation
    instead = "name annotated clips by --validation DIR, or give alpha a number, such as --alpha 0.4"
    if location is None:
        raise UserError(f"--alpha choose: the run's recipe has no data.validation to choose on; {instead}")
    clips = test.at(location)
    if clips.store.fingerprint == test.store.fingerprint:
        raise UserError(f"--alpha choose: {location} holds the test clips, which choose nothing; {instead}")
    for index in clips.store.indices:
        if clips.store.annotation(index).boxes is None:
            where = clips.store.where(index)
            raise UserError(f"--alpha choose: {where} has no boxes to choose by; {instead}")
    return clips


def check_size(protocol: Protocol, clips: int) -> None:
    """Raise UserError if more clips would be measured than the official test set has."""
    if protocol.official_clips and clips > protocol.official_clips:
        raise UserError(
            f"--protocol {protocol.name}: the official set has {protocol.official_clips} clips, these are "
            f"{clips}; name the official list with --ids FILE"
        )


def check_alpha(alpha: Alpha, mixing: Mixing | None, validation: str | None) -> None:
    """Raise UserError unless alpha is in 0..1, or is to be chosen for maps that are mixed."""
    if alpha != "choose" and not 0 <= alpha <= 1:
        raise UserError(f"--alpha {alpha:g}: give a number in 0..1, or choose")
    if alpha == "choose" and mixing is None:
        raise UserError("--alpha choose: it weighs mixed maps; ask for them by --object-guidance")
    if alpha != "choose" and validation is not None:
        raise UserError(f"--validation {validation}: it is for --alpha choose; add that, or leave it out")
