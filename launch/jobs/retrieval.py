"""Measure how well a run finds a picture's sound among all clips, and a sound's picture: no boxes are needed.

Axes: `n` clips of this rank, `N` of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation import results
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.compare import intervals
from cacl.evaluation.measure import clip_results
from cacl.evaluation.retrieval import PROTOCOL, ranked, ranked_numbers, ranked_statistics
from cacl.loss.options import LossOptions
from cacl.loss.similarities import Columns
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.resumable import UNIT
from cacl.runs.directory import Run
from cacl.runs.load import find_checkpoint, measured_weights, open_model, section
from cacl.training.validation import valid_rows
from cacl.world import World
from launch.jobs.measuring import AnnotatedClips, data_options, restrict_systems
from shards.progress import progress
from shards.store import open_store

_VERSION = 1
_IMAGES_AT_ONCE = 32
_MOST_CLIPS = 20_000
"""A number for every pair of clips is held: 1.6 GB of them."""


def measure_retrieval(
    run: str | Path,
    world: World | None = None,
    *,
    data: str | None = None,
    weights: Literal["model", "ema"] | None = None,
    checkpoint: str = "latest",
    ids: Sequence[str] | None = None,
) -> dict[str, Any] | None:
    """Measure a run, write evaluation/retrieval into it, and return the record on rank 0 (None on others).

    Every rank of `world` calls this. An image and a sound are as alike as the similarity says that the run's
    loss trains. The clips are those of `data`, or the recipe's test clips; of these, `ids` names those that
    are candidates. Raises UserError where there are none, or too many.
    """
    world, directory = world or World(), Run(run)
    options = data_options(run)
    location = data or options.test
    if location is None:
        raise UserError(f"{directory.recipe_file}: data.test names no test clips; give them with --data")
    clips = AnnotatedClips(open_store(location), options.decoder, options.workers, options.augmentation)
    weights = weights or measured_weights(directory)
    model, recipe = open_model(run, weights, checkpoint)
    loss = parse(LossOptions, section(recipe, str(directory.recipe_file), "loss"), "loss")
    step = world.broadcast_object(find_checkpoint(directory, checkpoint)).name
    rows, missing = compare_all(model.to(world.device), clips, loss, ids, world)
    if not world.is_main:
        return None
    asked = {"weights": weights, "checkpoint": checkpoint}
    named = [f",{key}={value}" for key, value in asked.items() if value not in ("model", "latest")]
    ends = intervals(ranked_statistics([rows.columns]))
    record = {
        "format_version": results.FORMAT_VERSION,
        "name": PROTOCOL + "".join(named),
        "protocol": PROTOCOL,
        "protocol_version": _VERSION,
        "options": {},
        "similarity": loss.similarity.name,
        "n": len(rows),
        "missing": missing,
        "data": clips.store.fingerprint,
        "checkpoint": step,
        "weights": weights,
        "asked": asked,
        "model": ranked_numbers(rows.columns),
        "intervals": {name: [one.low, one.high] for name, one in ends.items()},
    }
    results.write_files(directory.folder, record, {"model": rows})
    return record


@torch.no_grad()
def compare_all(
    model: Localizer, clips: AnnotatedClips, loss: LossOptions, ids: Sequence[str] | None, world: World
) -> tuple[ClipResults, list[Any]]:
    """Return a row of ranks a clip, and which clips are missing; every rank has the same.

    Raises UserError where no clip can be decoded, or more than a matrix of pairs is made for.
    """
    share = clips.store.indices[world.rank :: world.size]
    index, maps, audio = [], [], []
    scale: Tensor | float = 1.0
    with progress(total=len(share), unit="clip", desc=PROTOCOL, disable=not world.is_main) as bar:
        for batch in clips.batches(share, UNIT):
            seen = model(*model.prepare(batch.images.to(world.device), batch.waveforms.to(world.device)))
            index += valid_rows(batch.index, batch).tolist()
            maps.append(valid_rows(loss.similarity.prepare(seen.image), batch))
            audio.append(valid_rows(seen.audio, batch))
            scale = loss.scale(seen.scalars)
            bar.update(len(batch.index))
    every = [one for part in world.gather_objects(index) for one in part]
    rows, missing = candidates(clips, np.array(every, dtype=np.int64), ids)
    sounds = world.gather_rows(torch.cat(audio), world.shares(len(index)))
    place = {clip: row for row, clip in enumerate(every)}
    sounds = sounds[[place[clip] for clip in rows.index.tolist()]]
    similarity = _matrix(
        dict(zip(index, torch.cat(maps), strict=True)), rows.index, sounds, scale, loss, world
    )
    if not np.isfinite(similarity).all():
        raise UserError(
            "the model's similarities are not all finite: it has diverged; take an earlier checkpoint"
        )
    named = bool(rows.class_name.all())
    return replace(rows, columns=ranked(similarity, rows.class_name if named else None)), missing


def candidates(
    clips: AnnotatedClips, index: np.ndarray, ids: Sequence[str] | None
) -> tuple[ClipResults, list[Any]]:
    """Return the clips `index` [N] that count, by their index and without ranks, and which are missing."""
    store, index = clips.store, np.sort(index)
    if not len(index):
        raise UserError(f"{store.files.location}: holds no clip that could be decoded; name others by --data")
    notes = [store.annotation(one) for one in index.tolist()]
    rows, missing = restrict_systems({"model": clip_results(index, notes, {})}, ids, store)
    if len(rows["model"]) > _MOST_CLIPS:
        raise UserError(
            f"{store.files.location}: of {len(rows['model'])} clips no matrix of pairs is made, only of "
            f"{_MOST_CLIPS}; name fewer by --ids FILE"
        )
    return rows["model"], missing


def _matrix(
    maps: Mapping[int, Tensor],
    index: np.ndarray,
    sounds: Tensor,
    scale: Tensor | float,
    loss: LossOptions,
    world: World,
) -> np.ndarray:
    """Return float32 [N, N], the similarity of the image of each clip of `index` [N] to all `sounds`.

    `maps` are those of this rank's clips, as the similarity prepares them.
    """
    mine = [row for row, clip in enumerate(index.tolist()) if clip in maps]
    valid = torch.ones(len(index), dtype=torch.bool, device=world.device)
    parts = [sounds.new_zeros(0, len(index))]
    for first in range(0, len(mine), _IMAGES_AT_ONCE):
        some = mine[first : first + _IMAGES_AT_ONCE]
        images = torch.stack([maps[int(index[row])] for row in some])
        columns = Columns(torch.tensor(some, device=world.device), valid, loss.kernel)
        parts.append(loss.similarity.scores(images, sounds, columns, scale).pair)
    pairs = world.gather_rows(torch.cat(parts), world.shares(len(mine)))
    order = [row for part in world.gather_objects(mine) for row in part]
    return pairs[torch.tensor(order, device=world.device).argsort()].cpu().numpy()
