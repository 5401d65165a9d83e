"""What the verbs that measure or show test clips share: the clips of a run, and measuring in fixed units."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cacl.errors import UserError

if TYPE_CHECKING:
    import argparse

    import numpy as np

    from cacl.evaluation.predict import Maps
    from cacl.evaluation.protocols import Columns, Protocol
    from cacl.types import Batch
    from cacl.world import World
    from launch.jobs.recipe import Recipe
    from shards.store import Store


def add_protocol_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what is measured on, and how."""
    parser.add_argument("--data", metavar="DIR", help="packed test clips (default: the recipe's data.test)")
    parser.add_argument("--protocol", metavar="NAME", help="default: the recipe's data.protocol")
    parser.add_argument(
        "--upsampling",
        choices=["bicubic", "bilinear", "bicubic-corners", "bilinear-corners", "nearest"],
        help="from map to pixels (default: the protocol's)",
    )
    parser.add_argument(
        "--without-quirks",
        default="",
        metavar="NAME,NAME",
        help="slavc-compat: the sane number in place of these quirks",
    )


def open_test(
    run: str | Path, data: str | None, protocol: str | None, upsampling: Any = None, without_quirks: str = ""
) -> tuple[Recipe, Store, Protocol]:
    """Return the run's recipe, its test clips and the protocol, the latter two the recipe's unless named.

    Raises UserError where one is not to be had.
    """
    from cacl.evaluation.protocols import get_protocol
    from cacl.options import parse
    from cacl.runs.directory import Run
    from launch.jobs.recipe import Recipe
    from shards.store import open_store

    file = Run(run).recipe_file
    recipe = parse(Recipe, Run(run).recipe(), str(file))
    location = data or recipe.data.test
    if location is None:
        raise UserError(f"{file}: data.test names no test clips; give them with --data")
    quirks = [name for name in without_quirks.split(",") if name]
    measured_by = get_protocol(protocol or recipe.data.protocol).altered(upsampling, quirks)
    return recipe, open_store(location), measured_by


@dataclass(frozen=True)
class Work:
    """What all measurements of an evaluation share. What is done is kept in `parts`: a killed one goes on."""

    recipe: Recipe
    store: Store
    parts: Path
    identity: dict[str, Any]
    world: World

    def measure(
        self, systems: Mapping[str, Maps], protocol: Protocol, indices: np.ndarray
    ) -> dict[str, Columns]:
        """Return per-clip columns of the systems and of the centered box on rank 0, nothing elsewhere."""
        from cacl.evaluation.predict import by_system, measure_batch
        from cacl.resumable import UNIT, resumable_map
        from shards.progress import progress

        world = self.world
        name = protocol.name.replace("/", "-")
        mine = sum(
            len(indices[k : k + UNIT]) for k in range(world.rank * UNIT, len(indices), world.size * UNIT)
        )
        with progress(total=mine, unit="clip", desc=name, disable=not world.is_main) as bar:
            rows = resumable_map(
                indices,
                lambda some: test_batches(self.store, some, UNIT, self.recipe, protocol.sound),
                lambda batch: measure_batch(systems, batch, protocol, world.device),
                self.parts / "-".join([name, *systems]),
                {
                    **self.identity,
                    "protocol": protocol.name,
                    "version": protocol.version,
                    **protocol.options(),
                },
                world,
                bar.update,
            )
        if rows is not None and not len(rows.get("index", ())):
            raise UserError(f"{self.store.files.location}: holds no clip that could be decoded")
        return by_system(rows) if rows is not None else {}


def read_ids(path: str) -> list[str]:
    """Return the clip ids of an official list: one a line (the first field of a CSV), or VGG-SS's JSON."""
    try:
        text = Path(path).read_text()
        if path.endswith(".json"):
            return [str(clip["file"]) for clip in json.loads(text)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--ids {path}: cannot be read as a list of clip ids: {error}") from error
    return [row[0].strip() for row in csv.reader(text.splitlines()) if row and row[0].strip()]


def chosen(
    systems: dict[str, Columns], ids: list[str] | None, store: Store, reserved: list[int]
) -> tuple[dict[str, Columns], list[Any]]:
    """Return the rows that count, and which clips of the set have none: ids of the list, or indices.

    `reserved` clips were left out on purpose, and are not missing.
    """
    from cacl.evaluation.predict import restrict

    if ids is None:
        known = set(systems["model"]["index"].tolist()) | set(reserved)
        return systems, sorted(set(range(store.manifest.ids)) - known)
    _, missing = restrict(systems["model"], ids)
    if len(missing) == len(ids):
        raise UserError(f"none of the {len(ids)} listed ids, such as {ids[:1]}, is in the test set")
    return {name: restrict(columns, ids)[0] for name, columns in systems.items()}, missing


def test_batches(
    store: Store, indices: np.ndarray, batch_size: int, recipe: Recipe, sound: str = "wav"
) -> Iterator[Batch]:
    """Yield the clips `indices` with annotations; one that cannot be decoded is masked, and so missing."""
    from shards.loader import evaluation_batches

    data = recipe.data
    return evaluation_batches(
        store,
        indices,
        batch_size,
        data.decoder,
        data.workers,
        augmentation=data.augmentation,
        sound=sound,
        policy="mask",
    )
