"""The training data of a recipe: shards, labels and their identity, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.labels.table import LabelTable
from cacl.training.ema import Ema
from cacl.training.engines import Engine
from cacl.training.trainer import Validation
from cacl.training.validation import retrieval
from cacl.types import Batch, ClipLabels
from cacl.world import World
from launch.jobs.recipe import Recipe
from shards.loader import evaluation_batches, training_batches
from shards.order import Order, check_division
from shards.store import Store, open_store


@dataclass(frozen=True)
class TrainingData:
    """What a training reads."""

    recipe: Recipe
    store: Store
    order: Order
    labels: LabelTable | None
    identity: dict[str, Any]
    """Fingerprints that a checkpoint records; another one is refused on resuming."""

    def remark(self) -> str | None:
        """Return a sentence where the labels teach nothing: no two clips are alike, or none differ."""
        if self.labels is None:
            return None
        file, label = self.recipe.data.labels, self.labels.lookup(self.store.indices)
        known, counts = np.unique(label[label >= 0], return_counts=True)
        clips = f"{file}: of {len(label)} clips"
        if not len(known):
            return f"{clips} none has a label: every clip is a class of its own, as without labels"
        if len(known) == 1:
            return f"{clips} all {counts[0]} labeled ones have the label {known[0]}: no two of them differ"
        if counts.max() == 1:
            return f"{clips} no two have the same label: every clip is a class of its own, as without labels"
        return None

    def stream(self, world: World, first_step: int) -> Iterator[Batch]:
        """Yield this rank's share of every global batch from `first_step` on, to the last epoch's end."""
        data = self.recipe.data
        return training_batches(
            self.store,
            self.order,
            position=divmod(first_step, self.order.batches_per_epoch),
            epochs=self.recipe.training.epochs,
            rank=world.rank,
            size=world.size,
            decoder=data.decoder,
            augmentation=data.augmentation,
            workers=data.workers,
            policy=data.broken_clips,
        )

    def label_joiner(self, device: torch.device) -> Callable[[Tensor, Tensor], ClipLabels]:
        """Return the function that joins labels to `index` [n] and `valid` [n]."""
        return label_joiner(self.labels, device)


def label_joiner(labels: LabelTable | None, device: torch.device) -> Callable[[Tensor, Tensor], ClipLabels]:
    """Return `(index [n], valid [n]) → ClipLabels`; without a table every clip is a class of its own."""

    def join(index: Tensor, valid: Tensor) -> ClipLabels:
        if labels is None:
            unknown = torch.full_like(index, -1)
            return ClipLabels(index, unknown, torch.ones(len(index)), valid).to(device)
        return labels.clips(index, valid).to(device)

    return join


def open_data(recipe: Recipe, world_size: int) -> TrainingData:
    """Open shards and labels. Raises UserError where they do not fit the recipe, the ranks or each other."""
    data, training = recipe.data, recipe.training
    store = open_store(data.train)
    identity: dict[str, Any] = {"data": store.fingerprint, "labels": None}
    labels, by_clip = None, None
    if data.labels is not None:
        labels = LabelTable.load(data.labels, fingerprint=store.fingerprint)
        identity["labels"] = labels.fingerprint
        by_clip = labels.lookup(store.indices)
    largest = -1 if labels is None else int(labels.label.max(initial=-1))
    recipe.loss.positives.check_labels(largest, soft=labels is not None and labels.soft is not None)
    order = data.order.order(store.shards, training.global_batch_size, training.seed, by_clip)
    size = training.global_batch_size
    check_division(size, data.order.parts(size), world_size, training.micro_batch_size)
    return TrainingData(recipe, store, order, labels, identity)


def validation_of(
    recipe: Recipe, engine: Engine, world: World, average: Ema | None = None
) -> Validation | None:
    """Return what measures retrieval on the validation clips over all ranks; None where there are none.

    It measures the model or its `average`, as the recipe says. Raises UserError where the clips are not
    there, or fewer than ranks.
    """
    data = recipe.data
    if data.validation is None:
        return None
    try:
        store = open_store(data.validation)
    except UserError as error:
        raise UserError(f"data.validation: {error}; or train without one: --data.validation null") from error
    labels = data.validation_labels and LabelTable.load(data.validation_labels, fingerprint=store.fingerprint)
    if len(store.indices) < world.size:
        raise UserError(
            f"data.validation: {data.validation} holds {len(store.indices)} clip(s), fewer than the "
            f"{world.size} ranks; give a larger split"
        )
    share = store.indices[world.rank :: world.size]
    size = recipe.training.micro_batch_size
    measured = average.module if average and recipe.training.measured == "ema" else engine.module

    def measure(stop: Callable[[], int]) -> dict[str, float] | None:
        batches = evaluation_batches(
            store,
            share,
            size,
            data.decoder,
            data.workers,
            augmentation=data.augmentation,
            policy=data.broken_clips,
        )
        join = label_joiner(labels or None, world.device)
        with engine.evaluating(measured) as embed:
            return retrieval(embed, batches, join, recipe.loss, world, stop)

    return measure
