"""Promise 3: a batch is a pure function of shards, seed, epoch and number; world size changes nothing."""

from __future__ import annotations

import hashlib
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from shards.order import ClassAware, ClassOrder, LaneOrder, Lanes, batches_per_epoch, global_batch, rank_rows


@st.composite
def data_sets(draw):
    """Shards of any sizes (rejected clips leave gaps, a shard may be empty), lanes and a batch that fits."""
    sizes = draw(st.lists(st.integers(0, 30), min_size=1, max_size=12))
    lanes = draw(st.integers(1, 12))
    share = draw(st.integers(1, 4))
    shards = [1000 * number + 3 * np.arange(size, dtype=np.int64) for number, size in enumerate(sizes)]
    if sum(sizes) < lanes * share:
        shards.append(10**6 + np.arange(lanes * share, dtype=np.int64))
    return shards, lanes, lanes * share


def epoch_of(shards, lanes, size, seed=0, epoch=0):
    options = {"global_batch_size": size, "lanes": lanes, "seed": seed, "epoch": epoch}
    return [global_batch(shards, k, **options) for k in range(batches_per_epoch(shards, size, lanes))]


@given(data_sets(), st.integers(0, 2**32), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_an_epoch_holds_every_clip_at_most_once_and_leaves_few_out(data, seed, epoch):
    shards, lanes, size = data
    seen = np.concatenate(epoch_of(shards, lanes, size, seed, epoch))
    stored = np.concatenate(shards)
    assert len(np.unique(seen)) == len(seen)
    assert np.isin(seen, stored).all()
    assert len(stored) - len(seen) <= size + lanes


@given(data_sets(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_every_lane_gives_its_own_clips_and_equally_many(data, seed):
    shards, lanes, size = data
    row = np.concatenate(shards)
    for batch in epoch_of(shards, lanes, size, seed):
        place = np.searchsorted(row, batch).reshape(lanes, size // lanes)
        for lane in range(lanes):
            inside = (place[lane] >= lane * len(row) // lanes) & (
                place[lane] < (lane + 1) * len(row) // lanes
            )
            assert inside.all()


@given(data_sets(), st.integers(0, 100))
@settings(max_examples=100, deadline=None)
def test_a_lane_reads_its_shards_one_after_another(data, seed):
    shards, lanes, size = data
    number_of = {int(index): number for number, shard in enumerate(shards) for index in shard}
    batches = epoch_of(shards, lanes, size, seed)
    for lane in range(lanes):
        share = size // lanes
        numbers = [number_of[int(i)] for batch in batches for i in batch[lane * share : (lane + 1) * share]]
        changes = 1 + sum(a != b for a, b in pairwise(numbers))
        assert changes == len(set(numbers)), "a shard was left and come back to"


def test_epochs_and_seeds_differ_and_the_left_over_clips_change():
    shards = [np.arange(100 * s, 100 * s + 100, dtype=np.int64) for s in range(5)]
    seen = [np.concatenate(epoch_of(shards, 4, 48, seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (seen[one] != seen[other]).mean() > 0.9
        assert set(seen[one]) != set(seen[other])


def test_clips_are_mixed_like_a_random_permutation():
    """The mean rank distance of neighbors in a uniform shuffle of n is (n + 1) / 3."""
    shards = [np.arange(1000 * s, 1000 * s + 1000, dtype=np.int64) for s in range(2)]
    row = np.concatenate([batch for batch in epoch_of(shards, 1, 100)])
    first, second = row[:1000] % 1000, row[1000:] % 1000
    for part in (first, second):
        assert abs(np.abs(np.diff(part)).mean() - 1001 / 3) < 25  # 3 standard errors
    assert len(set(row[:1000] // 1000)) == 1


def test_the_order_never_changes_between_releases():
    """Runs that were interrupted before an upgrade go on after it: the stream of indices is frozen."""
    shards = [np.arange(37 * s, 37 * s + 37 - s, dtype=np.int64) for s in range(7)]
    row = np.concatenate([b for epoch in range(3) for b in epoch_of(shards, 6, 24, seed=5, epoch=epoch)])
    assert row[:6].tolist() == FIRST_CLIPS
    assert hashlib.sha256(row.astype("<i8").tobytes()).hexdigest() == FROZEN


FIRST_CLIPS = [0, 24, 34, 10, 55, 39]
FROZEN = "5858265e07f45b7d2af64919abf587adc23127696935e5de147e6a0e74e40c44"


def test_the_order_that_trainings_use_is_the_frozen_one():
    """`LaneOrder`, as the recipe's options build it, must go on where a release before it stopped."""
    shards = [np.arange(37 * s, 37 * s + 37 - s, dtype=np.int64) for s in range(7)]
    order = Lanes(lanes=6).order(shards, 24, seed=5)
    numbers = [(epoch, batch) for epoch in range(3) for batch in range(order.batches_per_epoch)]
    row = np.concatenate([order.batch(*number) for number in numbers])
    assert hashlib.sha256(row.astype("<i8").tobytes()).hexdigest() == FROZEN
    assert order.seed == 5


@pytest.mark.parametrize("options", [Lanes(lanes=4), ClassAware()], ids=["lanes", "class-aware"])
def test_every_seed_and_every_epoch_has_an_order_of_its_own(options):
    """Seeds of a study must not share their batches; 240 clips in a new order keep one place in 240."""
    shards = np.array_split(np.arange(240, dtype=np.int64), 5)
    labels = np.arange(240) % 24
    rows = {
        (seed, epoch): np.concatenate(
            [options.order(shards, 24, seed, labels).batch(epoch, number) for number in range(10)]
        )
        for seed in (0, 1, 2**40)
        for epoch in (0, 1, 2)
    }
    for one, other in combinations(rows, 2):
        assert (rows[one] != rows[other]).mean() > 0.9, (one, other)


def test_global_random_state_neither_matters_nor_moves():
    shards = [np.arange(50, dtype=np.int64)]
    np.random.seed(1)
    before = np.random.get_state(legacy=False)["state"]["key"].copy()
    one = epoch_of(shards, 2, 10)
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all()
    np.random.seed(2)
    assert all((a == b).all() for a, b in zip(one, epoch_of(shards, 2, 10), strict=True))


@given(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
def test_ranks_cut_the_batch_without_changing_it(size):
    slices = [rank_rows(120, 24, rank, size) for rank in range(size)]
    assert np.concatenate([np.arange(120)[part] for part in slices]).tolist() == list(range(120))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: batches_per_epoch(s, 100, 24), r"global_batch_size: 100 .*24 lanes.*use 120"),
        (lambda s: batches_per_epoch(s, 240, 24), r"240 is more than the 100 clips"),
        (lambda s: rank_rows(120, 24, 0, 5), r"24 lanes cannot be dealt to 5 ranks.*such as 25"),
        (lambda s: LaneOrder(s, 24, 0, 0), r"24 is not a multiple of the 0 lanes"),
    ],
)
def test_what_does_not_fit_is_named_with_the_fix(call, message):
    with pytest.raises(UserError, match=message):
        call([np.arange(50, dtype=np.int64), np.arange(50, 100, dtype=np.int64)])


def test_a_batch_beyond_the_epoch_is_an_error():
    with pytest.raises(IndexError):
        global_batch([np.arange(50)], 5, global_batch_size=10, lanes=2, seed=0, epoch=0)


@st.composite
def labeled_sets(draw):
    """Shards with labels of uneven classes, unknown (-1) ones among them, and a batch that fits."""
    counts = draw(st.lists(st.integers(1, 25), min_size=3, max_size=12))
    each = draw(st.integers(1, 3))
    labels = np.repeat(np.arange(len(counts)) - 1, counts)
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    row = 5 * np.arange(len(labels), dtype=np.int64)
    eligible = sum(count >= each for label, count in enumerate(counts, -1) if label >= 0)
    shards = np.array_split(row, 3)
    return shards, labels, each, draw(st.integers(1, eligible)) * each if eligible else None


@given(labeled_sets(), st.integers(0, 2**32), st.integers(0, 100))
@settings(max_examples=200, deadline=None)
def test_class_aware_batches_hold_so_many_clips_of_so_many_classes(data, seed, epoch):
    shards, labels, each, size = data
    if size is None:
        return
    order = ClassOrder(shards, size, each, seed, labels)
    label_of = dict(zip(np.concatenate(shards).tolist(), labels.tolist(), strict=True))
    for number in range(order.batches_per_epoch):
        batch = order.batch(epoch, number)
        assert (batch == order.batch(epoch, number)).all()
        assert len(np.unique(batch)) == size
        _, counts = np.unique([label_of[index] for index in batch.tolist()], return_counts=True)
        assert len(counts) == size // each and set(counts.tolist()) == {each}
        assert all(label_of[index] >= 0 for index in batch.tolist())


def test_the_class_aware_order_never_changes_between_releases():
    """As for lanes: the stream of indices is frozen."""
    row = 3 * np.arange(150, dtype=np.int64)
    order = ClassAware().order(np.array_split(row, 4), 24, 5, np.arange(150) ** 2 // 7 % 18 - 1)
    numbers = [(epoch, batch) for epoch in range(3) for batch in range(order.batches_per_epoch)]
    stream = np.concatenate([order.batch(*number) for number in numbers])
    assert hashlib.sha256(stream.astype("<i8").tobytes()).hexdigest() == FROZEN_BY_CLASS
    assert order.seed == 5


FROZEN_BY_CLASS = "c62fddbfb076dae9b672112242ac785aa9fe33ab81785db02e3f9d2bb6b0d4b6"


def test_class_aware_epochs_use_every_class_and_cycle_through_its_clips():
    labels = np.repeat(np.arange(10), 12)
    row = np.arange(120, dtype=np.int64)
    order = ClassOrder([row], 20, 2, 0, labels)
    seen = np.concatenate([order.batch(0, number) for number in range(order.batches_per_epoch)])
    assert sorted(seen.tolist()) == row.tolist(), "equal classes: each clip once"
    again = np.concatenate([order.batch(1, number) for number in range(order.batches_per_epoch)])
    assert (seen != again).mean() > 0.9


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8])
def test_class_aware_batches_are_cut_for_any_rank(size):
    order = ClassOrder([np.arange(200, dtype=np.int64)], 24, 2, 0, np.arange(200) % 50)
    parts = [order.batch(0, 3)[order.rows(rank, size)] for rank in range(size)]
    assert np.concatenate(parts).tolist() == order.batch(0, 3).tolist()


@pytest.mark.parametrize(
    ("size", "each", "labels", "message"),
    [
        (10, 3, np.zeros(20), "batches of 10 clips cannot hold 3 of every class"),
        (10, 2, np.arange(20) // 5, "a batch needs 5 classes, and 4 have 2 clips or more"),
        (10, 2, np.zeros(3), "3 labels do not fit the stored clips"),
    ],
)
def test_class_aware_batches_that_cannot_be_are_refused(size, each, labels, message):
    with pytest.raises(UserError, match=message):
        ClassOrder([np.arange(20, dtype=np.int64)], size, each, 0, labels.astype(np.int64))


def test_class_aware_needs_labels_and_ranks_that_divide():
    with pytest.raises(UserError, match=r"need data.labels"):
        ClassAware().order([np.arange(20)], 10, 0)
    with pytest.raises(UserError, match=r"10 clips cannot be dealt to 4 ranks; use 12"):
        ClassAware().order([np.arange(20)], 10, 0, np.arange(20) // 2).rows(0, 4)
    assert Lanes(lanes=2).order([np.arange(20)], 10, 0).batches_per_epoch == 2
