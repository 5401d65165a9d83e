"""Fit the threshold θ of a run on clean validation clips, without boxes: above it, something sounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation.upsampling import Upsampling
from cacl.resumable import Arrays, kept
from cacl.runs import calibration
from cacl.runs.calibration import PLAIN, Calibration
from cacl.runs.directory import Run
from cacl.runs.load import find_checkpoint, measured_weights, open_model
from cacl.types import Batch
from cacl.world import World
from launch.jobs.fitting import fit, peaks
from launch.jobs.measuring import AnnotatedClips, data_options
from launch.jobs.negatives import NEGATIVE, OWN, Draws, Listening, Sounds, listen
from launch.jobs.recipe import DataOptions
from shards.store import open_store


def calibrate(
    run: str | Path,
    world: World | None = None,
    *,
    validation: str | None = None,
    negatives: Sequence[str] = NEGATIVE,
    repetitions: int = 10,
    seed: int = 0,
    weights: Literal["model", "ema"] | None = None,
    checkpoint: str = "latest",
    upsampling: Upsampling = PLAIN,
    labels: str | None = None,
) -> Calibration | None:
    """Fit θ to the sounds that nothing in view makes, write it into the run, and return it on rank 0.

    Every rank of `world` calls this. The clips are those of `validation`, or the recipe's `data.validation`;
    of each one the highest value of its map is taken, under every sound of `negatives`, `repetitions` times.
    `labels` names a label table of clips without classes. Raises UserError where there are no clips, or they
    are the test clips, and where the run has no such checkpoint.
    """
    world = world or World()
    directory = Run(run)
    options = data_options(run)
    draws = Draws(tuple(negatives), repetitions, seed)
    if len(draws.negative) < len(draws.kinds):
        raise UserError(
            f"--negatives: θ is fitted to {', '.join(NEGATIVE)} alone; leave out the own sound in noise"
        )
    clips = open_validation(options, validation, str(directory.folder))
    weights = weights or measured_weights(directory)
    model, _ = open_model(run, weights, checkpoint)
    step = world.broadcast_object(find_checkpoint(directory, checkpoint)).name
    table = labels or (options.validation_labels if validation is None else None)
    sounds = Sounds(draws, clips, table)
    listening = Listening(model.to(world.device), sounds)
    name = calibration.name_of(upsampling, weights, step)
    parts = calibration.folder(directory) / f".{name}.parts"
    with kept(parts, world):
        fitted = fit_to(listening, step, weights, upsampling, parts, world)
        if fitted is not None:
            calibration.write(directory, fitted)
    return fitted


def fit_to(
    listening: Listening, checkpoint: str, weights: str, upsampling: Upsampling, parts: Path, world: World
) -> Calibration | None:
    """Return the θ of a model on rank 0, of the highest pixels of its maps under the sounds that are drawn.

    Every rank calls this; the folder `parts` keeps what is done. Raises UserError for clips of which none can
    be decoded.
    """
    sounds = listening.sounds
    identity = {"checkpoint": checkpoint, "weights": weights, "upsampling": upsampling}
    found = listen(listening, partial(highest, upsampling), parts, identity, world)
    if found is None:
        return None
    store = sounds.clips.store
    if not len(found.get("index", ())):
        raise UserError(f"{store.files.location}: holds no clip that can be decoded; give another split")
    return Calibration(
        **fit({kind: found[kind] for kind in sounds.draws.kinds}, found[OWN]),
        checkpoint=checkpoint,
        weights=weights,
        upsampling=upsampling,
        data=store.fingerprint,
        clips=len(found["index"]),
        negatives=sounds.plain(),
    )


def highest(upsampling: Upsampling, maps: Mapping[str, Tensor], batch: Batch) -> Arrays:
    """Return the highest pixels of which θ is made: [n] of own maps, and [n, K] of each kind's."""
    found = {OWN: peaks(maps[OWN], upsampling)}
    for kind, heard in maps.items():
        if kind != OWN:
            found[kind] = torch.stack([peaks(one, upsampling) for one in heard], 1)
    return {kind: values.cpu().numpy() for kind, values in found.items()}


def open_validation(options: DataOptions, named: str | None, run: str) -> AnnotatedClips:
    """Return the clips on which θ is fitted: those that are named, else the recipe's validation split.

    Raises UserError if there are none, or if they are the test clips.
    """
    location = named or options.validation
    if location is None:
        raise UserError(
            f"{run}: its recipe has no data.validation to fit θ on; name clean clips by --validation DIR"
        )
    store = open_store(location)
    if options.test is not None and (location == options.test or store.fingerprint == tested(options.test)):
        raise UserError(
            f"--validation {location}: holds the run's test clips, on which no θ is fitted; name others"
        )
    return AnnotatedClips(store, options.decoder, options.workers, options.augmentation)


def tested(location: str) -> str | None:
    """Return the fingerprint of test clips, None where they are not there."""
    try:
        return open_store(location).fingerprint
    except (UserError, OSError):
        return None
