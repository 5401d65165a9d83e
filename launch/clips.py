"""One pass over every stored clip, for the verbs that make label tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError

if TYPE_CHECKING:
    from cacl.labels.tag import Tagger
    from cacl.model.localizer import Localizer
    from cacl.resumable import Arrays
    from cacl.types import Batch
    from cacl.world import World
    from shards.decoders.augmentation import Augmentation
    from shards.store import Store

IMAGE_SIZE = 224
"""Pixels of the side that whole frames are resized to, bicubic."""


def over_clips(
    store: Store,
    work: Callable[[Batch], Arrays],
    out: Path,
    identity: dict[str, Any],
    world: World,
    workers: int,
    description: str,
) -> Arrays | None:
    """Return what `work` makes of every stored clip in order, on rank 0 (None on others); shows progress.

    What is done is kept beside `out`, so that a killed run goes on; `identity` is what decides the result.
    """
    from cacl.resumable import UNIT, map_units
    from shards.decoders.torch import TorchDecoder
    from shards.loader import evaluation_batches
    from shards.progress import progress

    view = whole_clips(store)

    def batches(indices: Any) -> Iterator[Batch]:
        for batch in evaluation_batches(store, indices, UNIT, TorchDecoder(), workers, augmentation=view):
            images, waveforms = batch.images.to(world.device), batch.waveforms.to(world.device)
            yield replace(batch, images=images, waveforms=waveforms)

    total = -(-len(store.indices) // world.size)
    with progress(total=total, unit="clip", desc=description, disable=not world.is_main) as bar:
        return map_units(store.indices, batches, work, _parts(out), identity, world, bar.update)


def whole_clips(store: Store) -> Augmentation:
    """Return the view that shows whole frames and, where the manifest knows their length, whole sounds."""
    from shards.decoders.augmentation import Augmentation

    storage = store.manifest.parameters.get("storage") or {}
    names = {"sample_rate": "sample_rate", "seconds": "duration"}
    known = {ours: storage[theirs] for theirs, ours in names.items() if theirs in storage}
    return Augmentation(size=IMAGE_SIZE, **known)


def user_tagger(name: str, store: Store, device: Any) -> Tagger:
    """Return the user's tagger MODULE:FUNCTION for the sounds of `store`; a module may lie in this folder."""
    import os
    import sys

    from cacl.labels.tag import load_tagger

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    view = whole_clips(store)
    return load_tagger(name, view.sample_rate, view.samples, device)


def trained_model(run: str, device: Any) -> tuple[Localizer, str]:
    """Return the model of a run directory or an exported file, and the sha256 of its weights."""
    import cacl
    from cacl.model.weights import sha256

    model = cacl.load(run).model
    return model.to(device), sha256(model.state_dict())


def true_classes(store: Store, indices: Any) -> list[str] | None:
    """Return the annotated class of every clip, None unless every clip has one. For reports only."""
    import json

    annotations = (json.loads(store.read(int(index)).get("json", b"{}")) for index in indices)
    classes = [note.get("class_name") for note in annotations]
    return None if None in classes else classes


def forget_parts(out: Path) -> None:
    """Remove what `over_clips` kept, once the table at `out` is written."""
    from cacl.resumable import discard

    discard(_parts(out))


def table_path(data: str, out: str | None, name: str) -> Path:
    """Return where a table is written: `out`, or DIR/labels/<name>.parquet."""
    if out is None and "://" in data:
        raise UserError(f"{data}: --out: shards at a URL are not written to; name the table's file by --out")
    return Path(out) if out else Path(data) / "labels" / f"{name}.parquet"


def _parts(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")
