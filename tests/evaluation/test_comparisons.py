"""Promise 16: rows that a page compares differ in what the page says and in nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.label_study import ARMS, LEVELS, METHOD
from benchmarks.miniature.cache import Prepared
from benchmarks.miniature.losses import ROWS, Row
from benchmarks.miniature.plan import setting
from benchmarks.reproduce import BATCHES, LABELS, SWEPT, TEMPERATURES, swept
from benchmarks.tagger_study import DIFFERENCES, Study, of_row, rows_of
from benchmarks.tagger_study import LEVELS as HEARD
from cacl.options import parse, plain
from launch.config import load_recipe
from launch.jobs.changes import flat
from launch.jobs.recipe import Recipe
from shards.order import LaneOrder

FOLDER = Path("study")


def differing(first: Any, second: Any) -> set[str]:
    """Return the keys in which two resolved recipes differ."""
    one, other = flat(plain(first)), flat(plain(second))
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def resolved(row: Row, seed: int) -> Recipe:
    return parse(Recipe, dict(row.setting(FOLDER, seed).recipe), row.title)


@pytest.mark.parametrize("row", [row for row in ROWS if row.beside], ids=lambda row: row.title)
def test_a_row_differs_from_the_one_that_it_is_compared_with_in_one_thing(row):
    said, keys = row.differs_in
    found = differing(resolved(row, 3), resolved(row.beside, 3))
    assert said and found, "two names of one row are no comparison"
    assert {key for key in found if not key.startswith(keys)} == set()


def test_names_of_rows_and_of_their_runs_are_their_own():
    assert len({row.title for row in ROWS}) == len({row.name() for row in ROWS}) == len(ROWS)
    assert all(row.beside is None or row.beside in ROWS for row in ROWS), "what is compared is measured"


def test_a_row_called_by_a_methods_name_has_the_loss_of_its_recipe():
    for row in (row for row in ROWS if row.title in ("SLAVC", "EZ-VSL", "LVS", "FNAC")):
        published, own = load_recipe(row.method, []), resolved(row, 0)
        assert own.loss == published.loss and own.training.target == published.training.target, row.title
        assert own.model.heads == published.model.heads, row.title
        assert own.model.image_dropout == published.model.image_dropout, row.title


def test_a_loss_of_two_views_has_them_of_the_cached_ones_and_others_every_epoch():
    """SSPL in the frame of the studies: the recipe resolves, and a clip's two views are of one epoch."""
    recipe = parse(Recipe, dict(setting(FOLDER, "two-object", "sspl", None, 0).recipe), "sspl")
    assert recipe.loss == load_recipe("sspl", []).loss
    number = np.arange(3 * 8, dtype=np.float16).reshape(3, 8, 1, 1, 1)
    cached = Prepared(np.arange(8), number, np.zeros((8, 1, 4, 5), np.float16))
    order = LaneOrder([np.arange(8)], global_batch_size=4, lanes=2, seed=0)
    batches = list(cached.batches(order, 3, recipe.loss.objective.views))
    assert [batch.images.shape for batch in batches] == [(4, 2, 1, 1, 1)] * 6
    for place, batch in enumerate(batches):
        views = batch.images.flatten(1) // 8
        assert views.unique(dim=0).tolist() == [[place // 2, (place // 2 + 1) % 3]]
        assert torch.equal(batch.images.flatten(1) % 8, batch.index[:, None].expand(4, 2).half())


@pytest.mark.parametrize("labels", [name for name in LABELS.values() if name])
def test_rows_of_the_table_of_labels_differ_in_positives_and_labels_alone(labels):
    rows = [setting(FOLDER, "two-object", "miniature", name, 1).recipe for name in (None, labels)]
    assert differing(*rows) == {"data.labels", "loss.positives.name"}


@pytest.mark.parametrize("level", LEVELS)
def test_arms_of_the_study_of_labels_differ_in_positives_and_labels_alone(level):
    base = setting(FOLDER, level, METHOD, None, 1).recipe
    for labels in ARMS.values():
        found = differing(base, setting(FOLDER, level, METHOD, labels, 1).recipe)
        assert found == ({"data.labels", "loss.positives.name"} if labels else set())


def test_cells_of_the_sweep_differ_in_temperature_and_batch_and_their_gain_in_positives():
    own_clip, _ = SWEPT
    base = swept(FOLDER, own_clip, TEMPERATURES[0], BATCHES[0], 1).recipe
    for temperature in TEMPERATURES:
        for batch in BATCHES:
            cells = [swept(FOLDER, row, temperature, batch, 1).recipe for row in SWEPT]
            assert differing(*cells) == {"data.labels", "loss.positives.name"}
            changed = {"loss.temperature", "training.global_batch_size", "training.micro_batch_size"}
            assert differing(base, cells[0]) <= changed


def test_the_class_aware_recipe_is_slavcs_with_other_labels_and_positives():
    found = differing(load_recipe("slavc", []), load_recipe("slavc-class-aware", []))
    assert found == {"data.labels", "loss.positives.name"}


@pytest.mark.parametrize("level", HEARD)
def test_differences_of_the_study_of_taggers_are_of_labels_or_of_the_sound_network(level):
    study = Study(FOLDER, [1], "stamps", 2000, 400, list(HEARD))
    for first, second in DIFFERENCES.values():
        if first in rows_of(level):
            found = differing(*(of_row(study, level, row, 1).recipe for row in (first, second)))
            if first[0] == second[0]:
                assert found - {"loss.positives.name"} == {"data.labels"}
            else:
                assert {".".join(key.split(".")[:2]) for key in found} == {"model.audio", "model.features"}
