"""The training data of a recipe: shards, labels and their identity, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.files import written
from cacl.labels.join import check_same_classes, join_tables
from cacl.labels.table import LabelTable
from cacl.runs import calibration
from cacl.runs.directory import Run
from cacl.training.ema import Ema
from cacl.training.engines import Engine
from cacl.training.trainer import Validation
from cacl.training.validation import retrieval
from cacl.types import Batch, ClipLabels
from cacl.world import World
from launch.jobs.fitting import Fitting
from launch.jobs.measuring import AnnotatedClips
from launch.jobs.negatives import Draws, Sounds
from launch.jobs.recipe import DataOptions, Recipe, TrainSource
from launch.jobs.sizes import check_lanes
from shards.exclusion import excluded
from shards.loader import evaluation_batches, training_batches
from shards.mixed_order import MixedOrder, mixed_order
from shards.mixture import Clips, Mixture, Pairs, Subset, draw_partners
from shards.order import Lanes, Order
from shards.store import open_store


@dataclass(frozen=True)
class TrainingData:
    """What a training reads."""

    recipe: Recipe
    store: Clips
    order: Order
    labels: LabelTable | None
    identity: dict[str, Any]
    """Fingerprints that a checkpoint records; another one is refused on resuming."""
    pairs: list[Pairs]
    """Data sets whose frames are heard with sounds of others."""
    lanes: int
    """Into how many parts a batch is cut for ranks."""

    def remark(self) -> str | None:
        """Return a sentence where the labels teach nothing: no two clips are alike, or none differ."""
        if self.labels is None:
            return None
        named = [source.labels for source in self.recipe.data.sources if source.labels is not None]
        file, label = " and ".join(named), self.labels.lookup(self.store.indices)
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

    def describe(self) -> list[str]:
        """Return a sentence on the mixture, and one on each data set whose frames hear others' sounds."""
        sentences = [
            f"{pairs.name}: {len(pairs.indices)} of {len(pairs.frames.indices)} frames are heard with "
            "a sound that has their label"
            for pairs in self.pairs
        ]
        if isinstance(self.order, MixedOrder):
            sentences.append(f"an epoch takes {self.order.describe()}")
        if "auto" in (getattr(self.recipe.data.order, "lanes", None), self.recipe.training.micro_batch_size):
            sentences.append(f"{self.lanes} lanes, micro-batches of {self.recipe.training.micro_batch} clips")
        return sentences

    def write_pairs(self, folder: Path) -> None:
        """Write which sound each frame is heard with to pairs.parquet, where any are paired."""
        if not self.pairs:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = np.repeat([pairs.name for pairs in self.pairs], [len(pairs.indices) for pairs in self.pairs])
        columns = {
            "source": pa.array(names),
            "frame": pa.array(np.concatenate([pairs.indices for pairs in self.pairs])),
            "sound": pa.array(np.concatenate([pairs.partner for pairs in self.pairs])),
        }
        with written(folder / "pairs.parquet") as partial:
            pq.write_table(pa.table(columns), partial)

    def counts(self, step: int) -> dict[str, int]:
        """Return how many clips of each data set the batch of a step (from 1) has, {} where there is one."""
        if not isinstance(self.order, MixedOrder):
            return {}
        counts = self.order.counts((step - 1) % self.order.batches_per_epoch)
        return dict(zip(self.order.names, counts.tolist(), strict=True))

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
    opened = [open_source(source, data.exclude, training.seed) for source in data.sources]
    parts, tables = [part for part, _ in opened], [table for _, table in opened]
    mixture, names = Mixture(parts), source_names(data)
    clips: Clips = parts[0]
    labels = tables[0]
    if len(parts) > 1:
        clips = mixture
        labels = join_tables(tables, names, mixture.offsets.tolist(), mixture.fingerprint)
    largest = -1 if labels is None else int(labels.label.max(initial=-1))
    recipe.loss.positives.check_labels(largest, soft=labels is not None and labels.soft is not None)
    identity = {"data": clips.fingerprint, "labels": None if labels is None else labels.fingerprint}
    size, weights = training.global_batch_size, [source.weight for source in data.sources]
    order: Order
    if len(parts) > 1 and isinstance(data.order, Lanes):
        shares = [weight or len(part.indices) for weight, part in zip(weights, parts, strict=True)]
        order = mixed_order(mixture.shards_of_parts, names, shares, size, data.order, training.seed)
        lanes = order.lanes
        identity["shares"] = (np.array(shares) / sum(shares)).tolist()
    else:
        by_clip = None if labels is None else labels.lookup(clips.indices)
        order = data.order.order(clips.shards, size, training.seed, by_clip)
        lanes = data.order.parts(size)
    check_lanes(recipe, lanes, world_size)
    pairs = [part for part in parts if isinstance(part, Pairs)]
    return TrainingData(recipe, clips, order, labels, identity, pairs, lanes)


def open_source(source: TrainSource, exclude: str | None, seed: int) -> tuple[Clips, LabelTable | None]:
    """Open one data set and its labels, without the clips of the list `exclude`.

    Raises UserError where they do not fit each other.
    """
    clips, labels = open_labeled(source.path, source.labels, exclude)
    if source.sounds is None or labels is None:
        return clips, labels
    sounds, heard = open_labeled(source.sounds.path, source.sounds.labels, exclude)
    assert heard is not None  # a recipe names them
    check_same_classes(labels, source.path, heard, source.sounds.path)
    partner = draw_partners(
        clips.indices, labels.lookup(clips.indices), sounds.indices, heard.lookup(sounds.indices), seed
    )
    name = f"{source.path} with sounds of {source.sounds.path}"
    pairs = Pairs(clips, sounds, partner, name, [labels.fingerprint, heard.fingerprint])
    if not len(pairs.indices):
        raise UserError(
            f"data.train: {source.path}: no frame has a label that a sound of {source.sounds.path} has; "
            "take sounds of classes that the frames show"
        )
    return pairs, labels


def open_labeled(path: str, labels: str | None, exclude: str | None) -> tuple[Clips, LabelTable | None]:
    """Open packed clips, less those of a list, and their label table."""
    store = open_store(path)
    table = None if labels is None else LabelTable.load(labels, fingerprint=store.fingerprint)
    if exclude is None:
        return store, table
    return Subset(store, excluded(store, Path(exclude))), table


def source_names(data: DataOptions) -> list[str]:
    """Return what messages and the log call the data sets: their paths, numbered where one comes twice."""
    paths = [source.path for source in data.sources]
    return [f"{path} #{k + 1}" if paths.count(path) > 1 else path for k, path in enumerate(paths)]


def validation_of(
    recipe: Recipe, engine: Engine, world: World, average: Ema | None = None, run: Run | None = None
) -> Validation | None:
    """Return what measures retrieval on the validation clips over all ranks; None where there are none.

    It measures the model or its `average`, as the recipe says, and leaves its θ in `run` if that is given.
    Raises UserError where the clips are not there, or fewer than ranks.
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
    size = recipe.training.micro_batch
    measured = average.module if average and recipe.training.measured == "ema" else engine.module
    sounds = None
    if run is not None and recipe.training.calibration and data.validation != data.test:
        clips = AnnotatedClips(store, data.decoder, data.workers, data.augmentation)
        sounds = Sounds(Draws(repetitions=recipe.training.calibration), clips, data.validation_labels)

    def measure(step: int, stop: Callable[[], int]) -> dict[str, float] | None:
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
            if sounds is None or run is None:
                return retrieval(embed, batches, join, recipe.loss, world, stop)
            fitting = Fitting(sounds, embed, partial(engine.hear_by, measured), world)
            figures = retrieval(fitting.embed, batches, join, recipe.loss, world, stop)
        fitted = figures and fitting.fit(f"step-{step}", recipe.training.measured)
        if fitted and world.is_main:
            calibration.write(run, fitted)
        return figures

    return measure
