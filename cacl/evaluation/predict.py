"""Run models over a test set: each clip once over all ranks, one row a clip.

Axes: `n` clips of a batch on this rank, `N` clips of the test set, `h`, `w` cells of a map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation import protocols
from cacl.evaluation.protocols import Columns
from cacl.model.localizer import localization_map
from cacl.types import Batch, Embeddings
from cacl.world import World

CENTERED_BOX = "centered_box"
Rows = dict[str, np.ndarray]
"""Rows of several systems at once: `<fact>` [n] of the clips, and `<system>/<column>` [n]."""


class SoundLocalizer(Protocol):
    """What is evaluated. `cacl.model.localizer.Localizer` is one."""

    def prepare(self, images: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 frames [n, 3, S, S] and waveforms [n, T] into what the model takes."""

    def __call__(self, images: Tensor, sounds: Tensor) -> Embeddings:
        """Embed a batch."""


Maps = Callable[[Tensor, Tensor], Tensor]
"""From frames [n, 3, S, S] uint8 and waveforms [n, T] to maps [n, h, w] of cosines, in -1..1."""


def maps_of(model: SoundLocalizer) -> Maps:
    """Return a model's maps: the mean over heads of cosines."""

    @torch.inference_mode()
    def maps(images: Tensor, waveforms: Tensor) -> Tensor:
        embeddings = model(*model.prepare(images, waveforms))
        return localization_map(embeddings.image, embeddings.audio)

    return maps


def predict(
    model: SoundLocalizer, batches: Iterable[Batch], protocol: protocols.Protocol, world: World | None = None
) -> Columns:
    """Return a protocol's per-clip columns of one model, on every rank, sorted by index.

    `batches` are this rank's share; the shares are disjoint and cover the test set, in any sizes. Clips that
    could not be decoded (`valid` False) get no row. Raises UserError for a clip that is seen twice, an
    annotation that does not suffice, or a map with NaN.
    """
    world = world or World()
    rows = [measure_batch({"model": maps_of(model)}, batch, protocol, world.device) for batch in batches]
    every = [part for rank in world.gather_objects(rows) for part in rank]
    if not every:
        raise UserError("the test set holds no clip that could be decoded")
    return by_system({name: np.concatenate([part[name] for part in every]) for name in every[0]})["model"]


def measure_batch(
    systems: Mapping[str, Maps], batch: Batch, protocol: protocols.Protocol, device: torch.device
) -> Rows:
    """Return what a protocol measures of `systems` and of the centered box on a batch's valid clips."""
    valid = batch.valid.cpu()
    notes = [note for note, good in zip(batch.annotations or [], valid.tolist(), strict=True) if good]
    rows = _facts(batch.index[batch.valid], notes)
    truths = _truths(notes, protocol, device)
    images, waveforms = batch.images[batch.valid].to(device), batch.waveforms[batch.valid].to(device)
    measured = {CENTERED_BOX: protocol.measure_centered_box(truths)}
    for name, maps_of_system in systems.items():
        maps = maps_of_system(images, waveforms).float() if notes else torch.zeros(0, 1, 1, device=device)
        try:
            measured[name] = protocol.measure_maps(maps, truths)
        except ValueError as error:
            where = f"clips {rows['id'][0]} to {rows['id'][-1]}"
            raise UserError(f"{where}: {error}; the model has diverged or is not whole") from error
    for name, columns in measured.items():
        rows |= {f"{name}/{column}": values.cpu().numpy() for column, values in columns.items()}
    return rows


def _truths(
    notes: Sequence[Mapping[str, Any]], protocol: protocols.Protocol, device: torch.device
) -> dict[str, Tensor]:
    maps = [protocol.truths(note) for note in notes]
    empty = torch.zeros(0, protocol.size, protocol.size, dtype=torch.bool)
    found = {name: torch.stack([m[name] for m in maps]) if maps else empty for name in protocol.compared}
    return {name: truth.to(device) for name, truth in found.items()}


def by_system(rows: Rows) -> dict[str, Columns]:
    """Take rows apart into the columns of each system, sorted by index; every clip must be there once."""
    order = np.argsort(rows["index"], kind="stable")
    rows = {name: column[order] for name, column in rows.items()}
    _once(rows["index"], rows["id"])
    facts = {name: column for name, column in rows.items() if "/" not in name}
    systems: dict[str, dict[str, np.ndarray]] = {}
    for name, column in rows.items():
        system, slash, metric = name.partition("/")
        if slash:
            systems.setdefault(system, dict(facts))[metric] = column
    return dict(systems)


def restrict(columns: Columns, ids: Sequence[str]) -> tuple[Columns, list[str]]:
    """Return the rows of the clips that an official list names, and the ids of the list that have no row.

    Raises UserError for an id that the list holds twice.
    """
    repeated = [clip for clip, count in Counter(ids).items() if count > 1]
    if repeated:
        raise UserError(f"the list of ids holds {repeated[0]!r} twice; every clip counts once")
    known = set(columns["id"].tolist())
    rows = np.isin(columns["id"], list(ids))
    return {name: column[rows] for name, column in columns.items()}, [
        clip for clip in ids if clip not in known
    ]


def _facts(index: Tensor, notes: Sequence[Mapping[str, Any]]) -> Rows:
    return {
        "index": index.cpu().numpy(),
        "id": np.array([str(note["id"]) for note in notes], dtype=str),
        "class_name": np.array([str(note.get("class_name", "")) for note in notes], dtype=str),
        "boxes": np.array([len(note.get("boxes", [])) for note in notes], dtype=np.int64),
    }


def _once(index: np.ndarray, ids: np.ndarray) -> None:
    again = index[1:] == index[:-1]
    if again.any():
        raise UserError(f"clip {index[1:][again][0]} was measured twice; every clip counts once")
    repeated = [clip for clip, count in Counter(ids.tolist()).items() if count > 1]
    if repeated:
        raise UserError(f"the test set holds the id {repeated[0]!r} twice; every clip counts once")
