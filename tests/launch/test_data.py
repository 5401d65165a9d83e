"""What a training reads: clips, order, labels and figures of one recipe, against the annotations in the shards."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cacl.errors import UserError
from cacl.labels.table import LabelHeader, LabelTable
from cacl.runs.directory import Run
from cacl.runs.load import build_model
from cacl.world import World
from launch.config import load_recipe
from launch.jobs.data import open_data, validation_of
from launch.jobs.train import build, train
from shards.decoders.clip import DecodeSpec, Request
from shards.decoders.torch import decode
from shards.plan import make_plan
from shards.store import Store, open_store
from tests.helpers.ranks import run_ranks
from tests.launch.tiny import write_recipe
from tests.shards.classed import Classed, packed_here

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")

CLIPS, EACH, BATCH = 80, 3, 12
CLASSES = tuple("abcdef"[k**2 // 3 % 6] for k in range(CLIPS))
REJECTED = (0, 7, 8, 23, 40)
UNLABELED = (11, 50)
VIEW = {"size": 32, "short_side": 36, "duration": 0.05}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Eighty clips of six classes in shards of nine, five of them rejected."""
    folder = tmp_path_factory.mktemp("classed") / "train"
    packed_here(make_plan(Classed(classes=CLASSES, broken=REJECTED), 9), folder)
    return open_store(folder)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, store) -> str:
    """Class-aware batches by a table of the true classes, which lacks two clips; validation by thirds."""
    folder = tmp_path_factory.mktemp("recipe")
    index = np.array([k for k in store.indices if k not in UNLABELED])
    header, sure = LabelHeader("truth", "", store.fingerprint, 6), np.full(len(index), 0.75, np.float32)
    label = np.array(["abcdef".index(CLASSES[k]) for k in index])
    LabelTable(index, label, sure, header).write(folder / "true.parquet")
    LabelTable(index, index % 3, sure, header).write(folder / "thirds.parquet")
    location = store.files.location
    own = {
        "labels": str(folder / "true.parquet"),
        "validation": location,
        "validation_labels": str(folder / "thirds.parquet"),
        "order": {"name": "class-aware", "clips_per_class": EACH},
        "augmentation": VIEW,
    }
    return str(write_recipe(folder, Path(location), data=own, training={"seed": 3, "epochs": 2}))


def streamed(recipe: str, *overrides: str, first_step: int = 0, rank: int = 0, size: int = 1) -> list:
    data = open_data(load_recipe(recipe, list(overrides)), size)
    return list(data.stream(World(rank, size), first_step))


def test_class_aware_batches_have_the_classes_that_the_clips_are_annotated_with(store, recipe):
    batches = streamed(recipe)
    assert len(batches) == 2 * (len(store.indices) // BATCH)
    for batch in batches:
        names = [store.annotation(int(index)).class_name for index in batch.index]
        assert sorted(Counter(names).values()) == [EACH] * (BATCH // EACH), names
        assert not set(batch.index.tolist()) & {*REJECTED, *UNLABELED}


def test_labels_join_clips_by_their_index(store, recipe):
    join_labels = open_data(load_recipe(recipe, []), 1).label_joiner(torch.device("cpu"))
    index, valid = torch.from_numpy(store.indices), torch.from_numpy(store.indices % 2 == 0)
    clips = join_labels(index, valid)
    known = [k not in UNLABELED for k in store.indices]
    expected = [
        "abcdef".index(CLASSES[k]) if here else -1 for k, here in zip(store.indices, known, strict=True)
    ]
    assert clips.label.tolist() == expected
    assert clips.confidence.tolist() == [0.75 * here for here in known]
    assert clips.index.equal(index) and clips.valid.equal(valid)


def test_without_a_table_every_clip_is_a_class_of_its_own_and_sure(store, recipe):
    lanes = ["--data.order", "lanes", "--data.order.lanes", "6", "--data.labels", "null"]
    data = open_data(load_recipe(recipe, lanes), 2)
    assert data.identity == {"data": store.fingerprint, "labels": None}
    clips = data.label_joiner(torch.device("cpu"))(torch.tensor([3, 1]), torch.tensor([True, False]))
    assert (clips.label.tolist(), clips.confidence.tolist()) == ([-1, -1], [1, 1])
    assert (clips.index.tolist(), clips.valid.tolist()) == ([3, 1], [True, False])


def test_a_stream_begins_anywhere_and_ends_with_the_last_epoch(recipe):
    """Step s is batch s % 6 of epoch s // 6, whatever rank asks."""
    order = open_data(load_recipe(recipe, []), 1).order
    assert order.batches_per_epoch == 6 and order.seed == 3
    expected = [order.batch(*divmod(step, 6)) for step in range(12)]
    assert len({tuple(sorted(batch)) for batch in expected}) == 12, "a case that can tell the steps apart"
    for first_step in (0, 5, 8):
        found = [b.index.tolist() for b in streamed(recipe, first_step=first_step)]
        assert found == [batch.tolist() for batch in expected[first_step:]]
        halves = [streamed(recipe, first_step=first_step, rank=rank, size=2) for rank in range(2)]
        together = [torch.cat([one.index, other.index]).tolist() for one, other in zip(*halves, strict=True)]
        assert together == found


def test_views_are_those_of_the_recipe(store, recipe):
    """Cut by hand as its seed, the epoch and its augmentation say."""
    batch = streamed(recipe, first_step=8)[0]
    options = load_recipe(recipe, []).data.augmentation
    assert (options.size, options.samples) == (32, 800)
    again = decode(store, Request(batch.index.numpy(), (3, 1)), DecodeSpec(options))
    assert batch.images.equal(again.images) and batch.waveforms.equal(again.waveforms)
    other = decode(store, Request(batch.index.numpy(), (3, 0)), DecodeSpec(options))
    assert not batch.images.equal(other.images), "a case that can tell the epochs apart"


@pytest.fixture
def spoiled(store, recipe, tmp_path) -> tuple[Path, int]:
    """The same shards, in which one clip's frame is zeros, and that clip: one of the third batch."""
    index = int(open_data(load_recipe(recipe, []), 1).order.batch(0, 2)[5])
    for path in Path(store.files.location).iterdir():
        frame = store.read(index)["jpg"]
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(frame, bytes(len(frame))))
    return tmp_path, index


def measured(recipe: str, *overrides: str, world: World | None = None) -> dict[str, float]:
    world, read = world or World(), load_recipe(recipe, list(overrides))
    engine, _ = build(read, world, None, print, build_model)
    validate = validation_of(read, engine, world)
    assert validate is not None, "the recipe names validation clips"
    figures = validate(0, lambda: False)
    assert figures is not None, "nothing stopped it"
    return figures


def test_a_clip_that_cannot_be_decoded_ends_or_is_masked_as_the_recipe_says(spoiled, recipe):
    folder, index = spoiled
    here = ["--data.train", str(folder), "--data.validation", str(folder)]
    for read in (streamed, measured):
        with pytest.raises(UserError, match=rf": {index:09d}: the clip cannot be decoded"):
            read(recipe, *here)
    masked = ["--data.broken-clips", "mask"]
    invalid = [int(i) for batch in streamed(recipe, *here, *masked) for i in batch.index[~batch.valid]]
    assert invalid and set(invalid) == {index}
    assert measured(recipe, *here, *masked)["clips"] == CLIPS - len(REJECTED) - 1


def measured_on_a_rank(world: World, recipe: str) -> dict[str, float]:
    return measured(recipe, world=world)


@pytest.mark.parametrize("size", [1, 2])
def test_validation_measures_every_clip_once_with_its_labels_on_any_number_of_ranks(store, recipe, size):
    """Against one loop over all pairs of whole frames and middles of sounds."""
    read = load_recipe(recipe, [])
    engine, _ = build(read, World(), None, print, build_model)
    batch = decode(store, Request(store.indices, None), DecodeSpec(read.data.augmentation))
    with torch.no_grad(), engine.evaluating() as embed:
        embedded = embed(batch)
    cosines = torch.einsum("npd,md->nmp", embedded.image[:, 0], embedded.audio[:, 0]).amax(2)
    places = [int((row >= row[k]).sum()) for k, row in enumerate(cosines)]
    best = store.indices[cosines.argmax(1).numpy()]
    pairs = [(own, found) for own, found in zip(store.indices, best, strict=True) if own not in UNLABELED]
    hits = [found not in UNLABELED and own % 3 == found % 3 for own, found in pairs]
    expected = {
        "recall_at_1": np.mean([place <= 1 for place in places]),
        "recall_at_5": np.mean([place <= 5 for place in places]),
        "clips": CLIPS - len(REJECTED),
        "class_recall_at_1": np.mean(hits),
    }
    assert 0 < expected["recall_at_5"] < 1 and 0 < expected["class_recall_at_1"] < 1
    for found in [measured(recipe)] if size == 1 else run_ranks(size, measured_on_a_rank, recipe):
        assert found == pytest.approx(expected, abs=1e-12)


def test_the_recipe_says_whether_the_model_or_its_average_is_validated(recipe):
    averaged = ["--training.ema-decay", "0.5", "--training.target.dropout", "true"]
    found = {}
    for which in ("model", "ema"):
        read = load_recipe(recipe, [*averaged, "--training.measured", which])
        engine, average = build(read, World(), None, print, build_model)
        assert average is not None
        modes = [part.training for part in average.module.modules()]
        with torch.no_grad():
            for parameter in engine.module.parameters():
                parameter.normal_()
        validate = validation_of(read, engine, World(), average)
        assert validate is not None
        found[which] = validate(0, lambda: False)
        assert [part.training for part in average.module.modules()] == modes, "targets go on as before"
    assert found["ema"] == measured(recipe), "the average is still what the model was at first"
    assert found["model"] != found["ema"]


def test_fewer_validation_clips_than_ranks_and_labels_of_other_clips_are_refused(store, recipe, tmp_path):
    few = tmp_path / "few"
    packed_here(make_plan(Classed(classes=("a", "b")), 2), few)
    read = load_recipe(recipe, ["--data.validation", str(few), "--data.validation-labels", "null"])
    engine, _ = build(read, World(), None, print, build_model)
    with pytest.raises(UserError, match=r"holds 2 clip\(s\), fewer than the 3 ranks"):
        validation_of(read, engine, World(2, 3))
    assert validation_of(read, engine, World(1, 2)) is not None
    for part in ("train", "validation"):
        read = load_recipe(recipe, [f"--data.{part}", str(few)])
        with pytest.raises(UserError, match="these labels belong to the data set"):
            open_data(read, 1) if part == "train" else validation_of(read, engine, World())


def test_validation_clips_that_are_not_there_are_named_with_the_way_out(recipe, tmp_path):
    """A recipe's base may name some that this machine does not have."""
    read = load_recipe(recipe, ["--data.validation", str(tmp_path / "none")])
    engine, _ = build(read, World(), None, print, build_model)
    with pytest.raises(
        UserError, match=r"^data\.validation: .*none/manifest\.json: .*--data\.validation null"
    ):
        validation_of(read, engine, World())


def test_labels_identify_the_training_data(store, recipe, tmp_path):
    """Resuming on other labels is refused by what `identity` says of them."""
    before = open_data(load_recipe(recipe, []), 1).identity
    table = LabelTable.load(yaml.safe_load(Path(recipe).read_text())["data"]["labels"])
    assert before == {"data": store.fingerprint, "labels": table.fingerprint}


@pytest.mark.parametrize(("size", "micro", "fits"), [(1, 4, True), (2, 4, False), (3, 4, True), (4, 3, True)])
def test_micro_batches_divide_a_ranks_share(recipe, size, micro, fits):
    read = load_recipe(recipe, ["--training.micro-batch-size", str(micro)])
    if fits:
        open_data(read, size)
    else:
        with pytest.raises(
            UserError, match=r"micro_batch_size: 4 does not divide the 6 clips that each of 2 "
        ):
            open_data(read, size)


ALIKE = {
    "one class": (lambda k: 3, r"all \d+ labeled ones have the label 3: no two of them differ"),
    "one class and some unknown": (
        lambda k: -1 if k % 2 else 3,
        r"of \d+ clips all \d+ labeled ones have the label 3",
    ),
    "unknown": (lambda k: -1, "none has a label"),
    "none": (None, "none has a label"),
    "all different": (lambda k: k, "no two have the same label"),
}


@pytest.mark.parametrize(("label", "sentence"), ALIKE.values(), ids=ALIKE.keys())
def test_labels_that_teach_nothing_are_said_at_the_start_on_the_terminal_and_in_the_log(
    store, recipe, tmp_path, label, sentence
):
    index = store.indices if label else store.indices[:0]
    labels = np.array([label(int(k)) for k in index] if label else [], np.int64)
    header = LabelHeader("x", "", store.fingerprint, 1000)
    LabelTable(index, labels, np.ones(len(index), np.float32), header).write(tmp_path / "t.parquet")
    words = ["--data.labels", str(tmp_path / "t.parquet"), "--data.order", "{name: lanes, lanes: 6}"]
    said: list[str] = []
    train(load_recipe(recipe, words), tmp_path / "run", max_steps=1, say=said.append)
    assert re.search(sentence, said[0]) and said[0].startswith(str(tmp_path / "t.parquet"))
    records = Run(tmp_path / "run").records()
    assert records[0] == {"step": 0, "remark": said[0]} and records[1]["step"] == 1


def test_labels_that_tell_clips_apart_need_no_remark(recipe):
    assert open_data(load_recipe(recipe, []), 1).remark() is None
    assert (
        open_data(
            load_recipe(recipe, ["--data.labels", "null", "--data.order", "{name: lanes, lanes: 6}"]), 1
        ).remark()
        is None
    )
