"""A second round of labels: a trained model's nearest neighbors vote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cacl.errors import UserError
from cacl.files import write_json
from cacl.labels.features import ModelFeatures
from cacl.labels.relabel import changes, relabel_table
from cacl.labels.table import LabelTable
from cacl.world import World
from launch.jobs.clips import kept_parts, map_clips
from launch.jobs.encoders import load_localizer
from launch.jobs.tables import table_path, true_classes
from shards.store import open_store


@dataclass(frozen=True)
class Relabeling:
    """What a round of voting has written."""

    path: Path
    """The new table."""
    changes_path: Path
    changes: dict[str, Any]
    """What `changes_path` holds (see `cacl.labels.relabel.changes`)."""


def relabel(
    table: str | Path,
    data: str,
    run: str,
    out: str | Path | None = None,
    *,
    neighbors: int = 20,
    majority: float = 0.5,
    workers: int = 2,
    world: World | None = None,
) -> Relabeling | None:
    """Write the table after one round of voting, and what changed next to it.

    Every rank of `world` calls this and embeds its share of the clips by the model of `run`; returns None on
    other ranks than 0. Raises UserError for what cannot be opened, or does not fit.
    """
    if neighbors < 1 or not 0 <= majority <= 1:
        raise UserError("--neighbors must be 1 or more, and --majority must lie in 0..1")
    world = world or World()
    store = open_store(data)
    before = LabelTable.load(table, store.fingerprint)
    out = table_path(data, out, f"{Path(table).stem}-relabeled")
    model, weights = load_localizer(run, world.device)
    identity = {"run": weights, "fingerprint": store.fingerprint, "kind": "relabel"}
    work = ModelFeatures(model)
    with kept_parts(out, world):
        arrays = map_clips(store, work, out, identity, world=world, workers=workers, description="embed")
        if arrays is None:
            return None
        vectors = np.concatenate([arrays["image"], arrays["sound"]], axis=1)
        after = relabel_table(
            before, arrays["index"], vectors, neighbors=neighbors, majority=majority, weights=weights
        )
        after.write(out)
    record = changes(before.lookup(after.index), after.label, true_classes(store, after.index))
    changes_path = out.with_suffix(".json")
    write_json(changes_path, record)
    return Relabeling(out, changes_path, record)
