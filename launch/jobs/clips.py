"""One pass over every stored clip, for the jobs that make label tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cacl.options import parse
from cacl.resumable import UNIT, Arrays, kept, resumable_map
from cacl.types import Batch
from cacl.world import World
from shards.decoders.augmentation import Augmentation
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches
from shards.progress import progress
from shards.store import Store

IMAGE_SIZE = 224
"""Pixels of the side that whole frames are resized to, bicubic."""


def map_clips(
    store: Store,
    work: Callable[[Batch], Arrays],
    out: Path,
    identity: dict[str, Any],
    *,
    world: World,
    workers: int,
    description: str,
) -> Arrays | None:
    """Return what `work` makes of every stored clip in order, on rank 0 (None on others); shows progress.

    What is done lies next to `out`, so that a killed run continues; `identity` is what decides the result.
    Call it within `kept_parts(out, world)`.
    """
    view = whole_view(store)

    def batches(indices: Any) -> Iterator[Batch]:
        for batch in evaluation_batches(store, indices, UNIT, TorchDecoder(), workers, augmentation=view):
            images, waveforms = batch.images.to(world.device), batch.waveforms.to(world.device)
            yield replace(batch, images=images, waveforms=waveforms)

    total = -(-len(store.indices) // world.size)
    with progress(total=total, unit="clip", desc=description, disable=not world.is_main) as bar:
        return resumable_map(store.indices, batches, work, _parts(out), identity, world, bar.update)


def kept_parts(out: Path, world: World) -> AbstractContextManager[None]:
    """Keep what `map_clips` has done until this ends well, with the file `out` written."""
    return kept(_parts(out), world)


def whole_view(store: Store) -> Augmentation:
    """Return the view of whole frames and, if the manifest knows their length, of whole sounds."""
    given = store.manifest.parameters.get("storage")
    storage = given if isinstance(given, dict) else {}
    names = {"sample_rate": "sample_rate", "seconds": "duration"}
    known = {ours: storage[theirs] for theirs, ours in names.items() if theirs in storage}
    return parse(Augmentation, {"size": IMAGE_SIZE, **known}, f"{store.files.location}: parameters.storage")


def _parts(out: Path) -> Path:
    return out.with_name(f".{out.name}.parts")
