"""What of a clip needs no learned gradient, computed once: features of the frozen trunk, and the spectrogram.

Axes: `V` random views, `N` clips, `C` channels of the trunk, `h` × `w` places, `F` bands, `t` frames.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.model.localizer import Localizer, ModelOptions
from cacl.options import plain
from cacl.resumable import UNIT
from cacl.types import Batch
from launch.jobs.clips import whole_view
from launch.jobs.recipe import DataOptions
from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import DecodeSpec, Request, annotation
from shards.decoders.torch import TorchDecoder
from shards.mixture import Mixture
from shards.order import Order
from shards.progress import progress
from shards.store import Store, open_store

_UNIT = 100
"""Clips of one pass through the trunk."""


class PreparedLocalizer(Localizer):
    """The model on inputs that are prepared already."""

    def prepare(self, images: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Return cached features [n, C, h, w] and spectrograms [n, 1, F, t] as float32."""
        return images.float(), waveforms.float()


@dataclass(frozen=True)
class Prepared:
    """Cached inputs of a data set's clips, float16, in the order of `indices`."""

    indices: np.ndarray
    """[N] int64, sorted."""
    images: np.ndarray
    """[V, N, C, h, w]."""
    spectrograms: np.ndarray
    """[N, 1, F, t]."""

    def batch(self, index: np.ndarray, *views: int) -> Batch:
        """Return clips `index` [n] as a batch, whose images and waveforms are the prepared ones.

        Images are [n, C, h, w], and [n, views, C, h, w] of several views.
        """
        rows = np.searchsorted(self.indices, index)
        seen = [self.images[view][rows] for view in views]
        return Batch(
            index=torch.from_numpy(index),
            images=torch.from_numpy(seen[0] if len(seen) == 1 else np.stack(seen, 1)),
            waveforms=torch.from_numpy(self.spectrograms[rows]),
            valid=torch.ones(len(index), dtype=torch.bool),
        )

    def batches(self, order: Order, epochs: int, views: int) -> Iterator[Batch]:
        """Yield every global batch of a training on one rank; epoch e sees views e, e + 1 … modulo V."""
        for epoch in range(epochs):
            seen = [(epoch + number) % len(self.images) for number in range(views)]
            for number in range(order.batches_per_epoch):
                yield self.batch(order.batch(epoch, number), *seen)


def prepare_inputs(
    data: str | Path, model: ModelOptions, folder: Path, *, views: int, audio: str = "wav"
) -> Prepared:
    """Return the cached inputs of packed clips, made at the first call.

    `views` random crops and flips of every frame; 0 is the whole frame, once, as evaluation sees it. `sound`
    names the member that is heard. Files are named after what decides their content.
    """
    store = open_store(str(data))
    images = folder / f"{_hash(store.fingerprint, plain(model.image), views)}.npy"
    frozen = [plain(model.audio)] if hasattr(model.audio, "hears") else []
    spectrograms = folder / f"{_hash(store.fingerprint, plain(model.features), *frozen, audio)}.npy"
    if not images.exists():
        _write(images, np.stack([_see(store, model, views, view) for view in range(max(1, views))]))
    if not spectrograms.exists():
        _write(spectrograms, _hear(store, model, audio))
    return Prepared(store.indices, np.load(images, mmap_mode="r"), np.load(spectrograms, mmap_mode="r"))


def prepare_sources(data: DataOptions, model: ModelOptions, folder: Path, *, views: int) -> Prepared:
    """Return the cached inputs of all data sets of a training, under the indices of their mixture."""
    parts = [prepare_inputs(source.path, model, folder, views=views) for source in data.sources]
    if len(parts) == 1:
        return parts[0]
    offsets = Mixture([open_store(source.path) for source in data.sources]).offsets
    return Prepared(
        np.concatenate([part.indices + offset for part, offset in zip(parts, offsets, strict=True)]),
        np.concatenate([part.images for part in parts], axis=1),
        np.concatenate([part.spectrograms for part in parts]),
    )


def _see(store: Store, model: ModelOptions, views: int, view: int) -> np.ndarray:
    """Return the trunk's features of one view of all frames, [N, C, h, w]."""
    trunk = model.image.build().eval()
    key = (0, view) if views else None
    batches = _decoded(store, key, "wav", f"{store.files.location}: features, view {view}")
    return np.concatenate([trunk(trunk.normalize(batch.images)).half().numpy() for batch in batches])


def _hear(store: Store, model: ModelOptions, audio: str) -> np.ndarray:
    """Return the spectrograms of all sounds, [N, 1, F, t], or what a frozen network makes of them."""
    trunk = model.audio.build()
    batches = _decoded(store, None, audio, f"{store.files.location}: {audio}")
    return np.concatenate(
        [trunk.prepare(model.features(batch.waveforms)).half().numpy() for batch in batches]
    )


def _decoded(store: Store, key: tuple[int, int] | None, audio: str, title: str) -> Iterator[Batch]:
    """Yield all clips in order, `_UNIT` at a time."""
    starts = range(0, len(store.indices), _UNIT)
    requests = (Request(store.indices[start : start + _UNIT], key) for start in starts)
    view = Augmentation(sample_rate=whole_view(store).sample_rate)
    stream = TorchDecoder().stream(store, requests, DecodeSpec(view, "raise", audio), 2)
    return iter(progress(stream, total=len(starts), desc=title))


def _hash(*key: Any) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _write(path: Path, array: np.ndarray) -> None:
    """Write a file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.replace(path)


def annotate(store: Store, found: Prepared) -> list[Batch]:
    """Return the test clips of a store as batches of cached inputs with annotations and decoded masks.

    They are the units in which clips are measured.
    """
    batches = []
    for start in range(0, len(found.indices), UNIT):
        index = np.asarray(found.indices[start : start + UNIT])
        notes = [annotation(store.read(int(k))) for k in index]
        batches.append(replace(found.batch(index, 0), annotations=notes))
    return batches
