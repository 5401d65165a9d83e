"""A training on several data sets: the same batches and, resumed, the same model to the bit, on any ranks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from cacl.errors import UserError
from cacl.labels.table import LabelHeader, LabelTable
from cacl.runs import checkpoint
from cacl.runs.directory import Run
from cacl.world import World
from launch.config import load_recipe
from launch.jobs.data import open_data
from shards.plan import make_plan
from shards.store import open_store
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import RECIPE, train_rank
from tests.shards.classed import Classed, packed_here

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

NAMES = "abcdef"
SETS = {"one": "abcdef" * 8, "two": "cdefcdabef" * 5}
STEPS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two packed sets of 48 and 50 clips, two of the second rejected, with tables of their true classes."""
    folder = tmp_path_factory.mktemp("sets")
    for name, classes in SETS.items():
        broken = (4, 17) if name == "two" else ()
        packed_here(make_plan(Classed(classes=tuple(classes), broken=broken), 9), folder / name)
        write_labels(folder, name)
    return folder


def write_labels(folder: Path, name: str, out: str = "", **header: Any) -> Path:
    store = open_store(folder / name)
    label = np.array([NAMES.index(SETS[name][index]) for index in store.indices])
    sure = np.full(len(label), 0.5, np.float32)
    values = {"classifier": "truth", "weights": "", "classes": 6, **header}
    path = folder / f"{out or name}.parquet"
    LabelTable(store.indices, label, sure, LabelHeader(fingerprint=store.fingerprint, **values)).write(path)
    return path


def source(folder: Path, name: str, **more: Any) -> dict[str, Any]:
    return {"path": str(folder / name), "labels": str(folder / f"{name}.parquet"), **more}


def write(path: Path, train: Any, **data: Any) -> str:
    values = {
        **RECIPE,
        "data": {**RECIPE["data"], "train": train, "order": {"name": "lanes", "lanes": 8}, **data},
        "loss": {**RECIPE["loss"], "positives": {"name": "same-class"}},
        "training": {**RECIPE["training"], "global_batch_size": 16, "epochs": 2, "checkpoint_every": 5},
    }
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(scope="module")
def recipe(folder) -> str:
    """Three clips of the first set to one of the second."""
    train = [source(folder, "one", weight=3), source(folder, "two", weight=1)]
    return write(folder / "mixed.yaml", train)


@pytest.fixture(scope="module")
def runs(recipe, tmp_path_factory) -> dict[int, Run]:
    """The same training on 1, 2 and 4 ranks, undisturbed."""
    folder = tmp_path_factory.mktemp("runs")
    for size in (1, 2, 4):
        options = {"max_steps": STEPS}
        run_ranks(size, train_rank, recipe, str(folder / str(size)), options)
    return {size: Run(folder / str(size)) for size in (1, 2, 4)}


def weights(run: Run, step: int = STEPS) -> dict[str, torch.Tensor]:
    return checkpoint.read_tensors(run.checkpoints / f"step-{step}" / "model.safetensors")


def test_batches_have_both_sets_at_three_to_one_on_any_number_of_ranks(recipe, folder):
    room = open_store(folder / "one").capacity
    data = open_data(load_recipe(recipe, []), 1)
    alone = [batch.index for batch in data.stream(World(), 0)]
    assert len(alone) == 2 * (96 // 16)
    for index in alone:
        assert int((index < room).sum()) == 12 and len(set(index.tolist())) == 16
    for size in (2, 4):
        ranks = [
            open_data(load_recipe(recipe, []), size).stream(World(rank, size), 0) for rank in range(size)
        ]
        together = [torch.cat([batch.index for batch in batches]) for batches in zip(*ranks, strict=True)]
        assert all(one.equal(other) for one, other in zip(alone, together, strict=True))
        for batches in zip(*[open_data(load_recipe(recipe, []), size).stream(World(rank, size), 0)
                             for rank in range(size)], strict=True):  # fmt: skip
            assert all(3 <= int((batch.index >= room).sum()) * size <= 5 for batch in batches), (
                "each rank sees both"
            )


def test_seed_and_weights_decide_the_order(recipe):
    def row(*words):
        order = open_data(load_recipe(recipe, list(words)), 1).order
        return np.concatenate([order.batch(0, k) for k in range(order.batches_per_epoch)]).tolist()

    assert row() == row() != row("--training.seed", "1")


def test_frames_sounds_and_labels_are_those_of_their_set(recipe, folder):
    data = open_data(load_recipe(recipe, []), 1)
    stores = {name: open_store(folder / name) for name in SETS}
    room = stores["one"].capacity
    join = data.label_joiner(torch.device("cpu"))
    index = torch.from_numpy(data.store.indices)
    labels = join(index, torch.ones(len(index), dtype=torch.bool)).label
    assert len(index) == 48 + 48 and data.labels is not None and data.labels.header.classes == 6
    for clip, label in zip(index.tolist(), labels.tolist(), strict=True):
        name, own = ("one", clip) if clip < room else ("two", clip - room)
        assert NAMES[label] == SETS[name][own]
        assert data.store.read(clip) == stores[name].read(own)


def test_the_log_tells_how_many_clips_each_set_gave(runs, folder):
    expected = {str(folder / "one"): 12, str(folder / "two"): 4}
    assert [line["sources"] for line in runs[1].records()] == [expected] * STEPS


def test_ranks_learn_the_same_from_a_mixture(runs):
    """Sums over ranks come in other orders, which float32 shows in its last digits."""
    alone = [line["loss"] for line in runs[1].records()]
    for size in (2, 4):
        assert [line["loss"] for line in runs[size].records()] == pytest.approx(alone, rel=2e-4)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_stopped_mixture_goes_on_to_the_same_model_to_the_bit(recipe, runs, size, tmp_path):
    run = Run(tmp_path / "run")
    options: dict[str, Any] = {"max_steps": STEPS, "stop_at": 7}
    run_ranks(size, train_rank, recipe, str(run.folder), options)
    assert run.records()[-1]["step"] < STEPS
    run_ranks(size, train_rank, recipe, str(run.folder), {"max_steps": STEPS, "resume": True})
    assert [line["loss"] for line in run.records() if "loss" in line] == [
        line["loss"] for line in runs[size].records()
    ]
    after, before = weights(run), weights(runs[size])
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("changed", ["weight", "order", "less"])
def test_a_run_does_not_go_on_with_another_mixture(runs, folder, changed, tmp_path):
    train = {
        "weight": [source(folder, "one", weight=2), source(folder, "two", weight=1)],
        "order": [source(folder, "two", weight=3), source(folder, "one", weight=1)],
        "less": str(folder / "one"),
    }[changed]
    shutil.copytree(runs[1].folder, tmp_path / "run")
    with pytest.raises(UserError, match=r"trained on another (data|shares|labels)"):
        train_rank(World(), write(tmp_path / "other.yaml", train), str(tmp_path / "run"), {"resume": True})


def test_without_weights_each_clip_comes_once_an_epoch(folder, tmp_path):
    train = [source(folder, "one"), source(folder, "two")]
    data = open_data(load_recipe(write(tmp_path / "r.yaml", train), []), 1)
    clips = np.concatenate([data.order.batch(0, k) for k in range(data.order.batches_per_epoch)])
    assert sorted(clips.tolist()) == data.store.indices.tolist()


def test_class_aware_batches_are_drawn_from_all_sets(folder, tmp_path):
    train = [source(folder, "one"), source(folder, "two")]
    order = {"name": "class-aware", "clips_per_class": 4}
    data = open_data(load_recipe(write(tmp_path / "r.yaml", train, order=order), []), 1)
    labels = data.labels
    assert labels is not None
    both = 0
    for number in range(data.order.batches_per_epoch):
        batch = data.order.batch(0, number)
        assert sorted(np.unique(labels.lookup(batch), return_counts=True)[1]) == [4] * 4
        both += len(set(batch >= open_store(folder / "one").capacity)) == 2
    assert both == data.order.batches_per_epoch


def test_frames_hear_sounds_of_their_class_from_another_set(folder, tmp_path):
    """What training on made pictures needs: recorded in the run, drawn by the seed."""
    sounds = {"path": str(folder / "two"), "labels": str(folder / "two.parquet")}
    paired = write(tmp_path / "r.yaml", [source(folder, "one", sounds=sounds), source(folder, "two")])
    said: list[str] = []
    from launch.jobs.train import train

    train(load_recipe(paired, []), tmp_path / "run", max_steps=2, say=said.append)
    table = pq.read_table(tmp_path / "run" / "pairs.parquet").to_pydict()
    assert table["frame"] == list(range(48)) and any("48 of 48 frames" in sentence for sentence in said)
    heard = [SETS["two"][sound] for sound in table["sound"]]
    assert heard == list(SETS["one"]) and not {4, 17} & set(table["sound"])
    assert len(set(table["sound"])) > 20, "not always the same sound"
    data = open_data(load_recipe(paired, []), 1)
    two, one = open_store(folder / "two"), open_store(folder / "one")
    for frame, sound in zip(table["frame"], table["sound"], strict=True):
        assert data.store.read(frame) == {"jpg": one.read(frame)["jpg"], "wav": two.read(sound)["wav"]}
    other = open_data(load_recipe(paired, ["--training.seed", "1"]), 1)
    assert other.identity["data"] != data.identity["data"]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no list": ([], {}, "data.train: the list is empty"),
    "a number": (5, {}, r"data\.train: input should be a valid string, got 5"),
    "a key": ([{"path": "x", "weigth": 2}], {}, r"data\.train\.0\.weigth: unknown key"),
    "no path": ([{"weight": 2}], {}, r"data\.train\.0\.path: missing"),
    "a weight of nothing": ([{"path": "x", "weight": 0}], {}, r"data\.train\.0\.weight: .*greater than 0"),
    "half the weights": ([{"path": "x", "weight": 2}, {"path": "y"}], {}, "some data sets have a weight"),
    "labels beside": ([{"path": "x"}, {"path": "y"}], {"labels": "t.parquet"}, "names its own"),
    "sounds without labels": ([{"path": "x", "sounds": {"path": "y", "labels": "z"}}], {}, "x: labels: missing"),
    "weights by class": (
        [{"path": "x", "weight": 2}, {"path": "y", "weight": 1}],
        {"order": {"name": "class-aware"}},
        "leave the weights out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_lists_that_say_nothing_or_too_much_are_one_sentence(case, tmp_path):
    train, data, words = REFUSED[case]
    with pytest.raises(UserError, match=words) as error:
        load_recipe(write(tmp_path / "r.yaml", train, **data), [])
    assert re.match(r"^[^\n]+$", str(error.value))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"classifier": "other"}, r"classifier is truth and other"),
        ({"weights": "f" * 64}, r"weights is .*label both with the same classifier"),
        ({"classes": 9}, r"classes is 6 and 9"),
        ({"classifier": "clusters of fused"}, r"each was found in its own clips"),
    ],
)
def test_tables_of_other_classes_are_refused_with_both_names(folder, tmp_path, header, words):
    """Promise 1: a label means the same class in every clip of a training."""
    tables = [write_labels(folder, "two", "other", **header)]
    if "clusters" in words or "found" in words:
        tables.append(write_labels(folder, "one", "mine", **header))
    mine = str(tables[1]) if len(tables) > 1 else str(folder / "one.parquet")
    train = [{**source(folder, "one"), "labels": mine}, {**source(folder, "two"), "labels": str(tables[0])}]
    with pytest.raises(UserError, match=words) as error:
        open_data(load_recipe(write(tmp_path / "r.yaml", train), []), 1)
    assert str(folder / "one") in str(error.value) and str(folder / "two") in str(error.value)


def test_a_set_without_labels_has_a_class_for_every_clip(folder, tmp_path):
    train = [source(folder, "one"), {"path": str(folder / "two")}]
    data = open_data(load_recipe(write(tmp_path / "r.yaml", train), []), 1)
    assert data.labels is not None
    assert (data.labels.lookup(data.store.indices) == -1).sum() == 48


def test_excluded_clips_are_trained_on_nowhere(folder, tmp_path):
    """Neither as frames nor as sounds, of one data set or of several; and it is another training."""
    names = ["clip-003", "clip-010", "clip-047", "of-another-set"]
    (tmp_path / "exclude.txt").write_text("\n".join(names) + "\n")
    one, two = source(folder, "one"), source(folder, "two")
    left = [["--data.exclude", str(tmp_path / "exclude.txt")], []]
    for train in (str(folder / "one"), [one, two], [{**one, "sounds": two}, two]):
        recipe = write(tmp_path / "r.yaml", train)
        without, whole = (open_data(load_recipe(recipe, words), 1) for words in left)
        room = open_store(folder / "one").capacity
        gone = set(whole.store.indices.tolist()) - set(without.store.indices.tolist())
        assert {index % room for index in gone} == {3, 10, 47}
        drawn = [without.order.batch(0, k) for k in range(without.order.batches_per_epoch)]
        assert not gone & set(np.concatenate(drawn).tolist())
        assert all(not {3, 10, 47} & set(pairs.partner.tolist()) for pairs in without.pairs)
        assert without.identity["data"] != whole.identity["data"]
