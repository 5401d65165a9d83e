"""Measure systems on a test set by a protocol: each clip once over all ranks, a row a clip.

Axes: `n` clips of a batch on this rank, `N` clips of the test set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.annotation import OTHER_SOUND, Annotation, SoundSource
from cacl.errors import UserError
from cacl.evaluation.clip_results import FACTS, ClipResults
from cacl.evaluation.protocols.base import Protocol, Truths
from cacl.evaluation.systems import System, measure_maps
from cacl.resumable import Arrays, resumable_map
from cacl.types import Batch
from cacl.world import World

_FORMAT_VERSION = 3
"""Of the files in which a killed measurement leaves what it has done."""


def measure(
    systems: Mapping[str, System],
    protocol: Protocol,
    indices: np.ndarray,
    batches: Callable[[np.ndarray], Iterator[Batch]],
    parts: Path,
    identity: Mapping[str, Any],
    world: World,
    progress: Callable[[int], Any] = lambda clips: None,
) -> dict[str, ClipResults]:
    """Return the results of each system on the clips `indices` [N], sorted, on rank 0.

    Nothing on other ranks, and if no clip could be decoded.

    `batches(some)` yields annotated clips in this order, `cacl.resumable.UNIT` at a time; one that could not
    be decoded (`valid` False) gets no row. The folder `parts` keeps what is done, so that a killed
    measurement continues; `identity` names what decides the results next to the protocol. Raises UserError
    for a clip that is there twice, an annotation that does not suffice, or a map with NaN.
    """
    named = {"protocol": protocol.name, "version": protocol.version, **protocol.options()}

    def work(batch: Batch) -> Arrays:
        results = measure_batch(systems, batch, protocol, world.device)
        return {name: _pack(one, batch.valid) for name, one in results.items()}

    rows = resumable_map(
        indices,
        batches,
        work,
        parts,
        {"format_version": _FORMAT_VERSION, **identity, **named},
        world,
        progress,
    )
    if rows is None or not len(rows.get("index", ())):
        return {}
    return {name: _unpack(rows["index"], rows[name]).in_order() for name in systems}


def measure_batch(
    systems: Mapping[str, System], batch: Batch, protocol: Protocol, device: torch.device
) -> dict[str, ClipResults]:
    """Return what a protocol measures of each system on a batch's valid clips."""
    valid = batch.valid.cpu()
    notes = [note for note, good in zip(batch.annotations or [], valid.tolist(), strict=True) if good]
    index = batch.index.cpu()[valid].numpy()
    truths = stack_truths(notes, protocol, device)
    rows = valid.nonzero().flatten().to(device)
    images, waveforms = batch.images.to(device)[rows], batch.waveforms.to(device)[rows]
    results = {}
    for name, system in systems.items():
        try:
            columns = system(images, waveforms, truths, protocol)
        except ValueError as error:
            where = f"clips {notes[0].id} to {notes[-1].id}"
            raise UserError(f"{where}: {error}; the model has diverged or is not whole") from error
        results[name] = clip_results(index, notes, columns)
    return results


def measure_annotated(maps: Tensor, annotations: Sequence[Annotation], protocol: Protocol) -> ClipResults:
    """Return the results of `maps` [n, h, w] of any origin, cosines, on clips with these annotations.

    Raises ValueError for maps that are not finite or not as many, UserError for an annotation that does not
    suffice.
    """
    truths = stack_truths(annotations, protocol, maps.device)
    return clip_results(np.arange(len(maps)), annotations, measure_maps(maps, truths, protocol))


def stack_truths(notes: Sequence[Annotation], protocol: Protocol, device: torch.device) -> Truths:
    """Return the maps [n, S, S] that clips are compared with; n may be 0."""
    maps = [protocol.truth(note, protocol.size) for note in notes or [_NOBODY]]
    return {name: torch.stack([one[name] for one in maps])[: len(notes)].to(device) for name in maps[0]}


_NOBODY = Annotation("", sources=(SoundSource(boxes=(), audio=OTHER_SOUND, visible=False),))
"""A silent clip, which says what maps a protocol compares with if there is no other."""


def clip_results(
    index: np.ndarray, notes: Sequence[Annotation], columns: Mapping[str, Tensor]
) -> ClipResults:
    """Return the results of clips `index` [n] with these annotations."""
    return ClipResults(
        index=index,
        id=np.array([note.id for note in notes], dtype=str),
        class_name=np.array([note.class_name for note in notes], dtype=str),
        boxes=np.array([_places(note) for note in notes], dtype=np.int64),
        image=np.array([note.image or "" for note in notes], dtype=str),
        columns={name: values.cpu().numpy() for name, values in columns.items()},
    )


def _places(note: Annotation) -> int:
    """Return how many boxes a clip has; where they are not known, one if a mask shows what is heard."""
    if note.boxes is not None:
        return len(note.boxes)
    return int(note.mask is not None and bool(note.mask.any()))


def _pack(results: ClipResults, valid: Tensor) -> np.ndarray:
    """Return a record for every clip of a batch, empty where the clip is not valid: facts and columns."""
    fields = results.facts | dict(results.columns)
    del fields["index"]
    shapes = [(name, values.dtype, values.shape[1:]) for name, values in fields.items()]
    records = np.zeros(len(valid), shapes)
    for name, values in fields.items():
        records[name][valid.cpu().numpy()] = values
    return records


def _unpack(index: np.ndarray, records: np.ndarray) -> ClipResults:
    """Return the results of clips `index` [n] whose records these are."""
    fields = {name: np.ascontiguousarray(records[name]) for name in records.dtype.names or ()}
    facts = {name: fields.pop(name) for name in FACTS if name != "index"}
    return ClipResults(index, **facts, columns=fields)
