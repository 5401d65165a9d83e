"""What the jobs that measure or show test clips share: the clips of a run, and measuring them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cacl.errors import UserError, shorten
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.measure import measure
from cacl.evaluation.protocols import Protocol, get_protocol
from cacl.evaluation.systems import System
from cacl.evaluation.upsampling import Upsampling
from cacl.files import regular
from cacl.options import parse
from cacl.resumable import UNIT
from cacl.runs.directory import Run
from cacl.types import Batch
from cacl.world import World
from launch.jobs.recipe import DataOptions, Recipe
from shards.decoders import DecoderOptions
from shards.decoders.augmentation import Augmentation
from shards.loader import evaluation_batches
from shards.progress import progress
from shards.sources.lists import find_form, read_rows
from shards.store import Store, open_store


@dataclass(frozen=True)
class AnnotatedClips:
    """Packed test clips, and how they are decoded."""

    store: Store
    decoder: DecoderOptions
    workers: int
    augmentation: Augmentation

    def batches(self, indices: np.ndarray, batch_size: int, audio: str = "wav") -> Iterator[Batch]:
        """Yield annotated clips; one that cannot be decoded is masked, and so missing."""
        return evaluation_batches(
            self.store,
            indices,
            batch_size,
            self.decoder,
            self.workers,
            augmentation=self.augmentation,
            audio=audio,
            policy="mask",
        )

    def at(self, location: str) -> AnnotatedClips:
        """Return other clips, decoded in the same way."""
        return replace(self, store=open_store(location))


@dataclass(frozen=True)
class Measurement:
    """What all measurements of an evaluation share."""

    clips: AnnotatedClips
    parts: Path
    """The folder of what is done, so that a killed evaluation continues."""
    identity: Mapping[str, Any]
    """What decides the results next to the clips and the protocol."""
    world: World

    def measure(
        self, systems: Mapping[str, System], protocol: Protocol, indices: np.ndarray
    ) -> dict[str, ClipResults]:
        """Return each system's results on the clips `indices` [N] on rank 0, nothing elsewhere."""
        world, store = self.world, self.clips.store
        mine = sum(
            len(indices[k : k + UNIT]) for k in range(world.rank * UNIT, len(indices), world.size * UNIT)
        )
        with progress(total=mine, unit="clip", desc=protocol.name, disable=not world.is_main) as bar:
            results = measure(
                systems,
                protocol,
                indices,
                lambda some: self.clips.batches(some, UNIT, protocol.audio),
                self.parts / "-".join([protocol.name, *systems]),
                {"data": store.fingerprint, **self.identity},
                world,
                bar.update,
            )
        if world.is_main and not results:
            raise UserError(
                f"{store.files.location}: holds no clip whose {protocol.audio} could be decoded, "
                f"which {protocol.name} needs; give test clips with --data"
            )
        return results


def open_test(
    run: str | Path,
    data: str | None = None,
    protocol: str | None = None,
    upsampling: Upsampling | None = None,
    without_quirks: Collection[str] = (),
) -> tuple[AnnotatedClips, Protocol]:
    """Return a run's test clips and protocol, those of its recipe unless they are named.

    Raises UserError if one cannot be had.
    """
    options = data_options(run)
    location = data or options.test
    if location is None:
        raise UserError(f"{Run(run).recipe_file}: data.test names no test clips; give them with --data")
    measured_by = get_protocol(protocol or options.protocol).alter(upsampling, without_quirks)
    if data is None and "://" not in location and not Path(location).exists():
        raise UserError(
            f"{Run(run).recipe_file}: data.test: there is no {location} in {Path.cwd()}; name the test clips "
            f"by --data DIR, or pack them: cacl pack SOURCE --out {location}"
        )
    clips = AnnotatedClips(open_store(location), options.decoder, options.workers, options.augmentation)
    return clips, measured_by


def data_options(run: str | Path) -> DataOptions:
    """Return what a run's recipe says of its data."""
    return parse(Recipe, Run(run).recipe(), str(Run(run).recipe_file)).data


def read_ids(path: str) -> list[str]:
    """Return the clip ids of an official list: one a line (the first field of a CSV), or VGG-SS's JSON."""
    try:
        if path.endswith(".json"):
            return [
                str(clip["file"])
                for clip in json.loads(regular(Path(path), "give a file of JSON").read_bytes())
            ]
        return [row[0] for row in read_rows(Path(path)) if row[0]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"--ids {path}: cannot be read as a list of clip ids: {shorten(error)}") from error
    except UserError as error:
        raise UserError(f"--ids {error}") from error


def restrict_systems(
    systems: Mapping[str, ClipResults], ids: Sequence[str] | None, store: Store
) -> tuple[dict[str, ClipResults], list[Any]]:
    """Return the rows that count, and which clips of the set have none: ids of the list, or indices."""
    if ids is None:
        there = {*systems["model"].index.tolist(), *store.manifest.gaps.tolist()}
        return dict(systems), sorted(set(range(store.manifest.ids)) - there)
    known = set(systems["model"].id.tolist())
    ids = [find_form(id, known) for id in ids]
    _, missing = systems["model"].restrict(ids)
    if len(missing) == len(ids):
        raise UserError(f"none of the {len(ids)} listed ids, such as {ids[:1]}, is in the test set")
    return {name: results.restrict(ids)[0] for name, results in systems.items()}, missing
