"""Promises 1 and 3 for several data sets: offset indices, exact shares, and batches that no rank changes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, reject, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from shards.mixed_order import MixedOrder, apportion, spread
from shards.mixture import Mixture, Pairs, draw_partners
from shards.order import LaneOrder
from shards.plan import make_plan
from shards.store import Store, open_store
from tests.shards.classed import Classed, packed_here


def shards_of(clips: int, first: int = 0, size: int = 7) -> list[np.ndarray]:
    """`clips` indices from `first` on in shards of `size`, of which the last of each is missing."""
    index = first + np.arange(clips, dtype=np.int64) + np.arange(clips) // (size - 1)
    return [index[k : k + size - 1] for k in range(0, clips, size - 1)]


@st.composite
def orders(draw):
    """Up to four data sets of any sizes and weights, lanes and batches that fit them."""
    lanes, share = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    clips = draw(st.lists(st.integers(lanes * share, 90), min_size=1, max_size=4))
    weights = draw(st.lists(st.floats(0.1, 10), min_size=len(clips), max_size=len(clips)))
    sources = [shards_of(count, 1000 * number) for number, count in enumerate(clips)]
    names = [f"set {number}" for number in range(len(clips))]
    seed = draw(st.integers(0, 2**32))
    try:
        return MixedOrder(sources, names, weights, lanes * share, lanes, seed)
    except UserError:
        reject()


def epoch_of(order, epoch=0):
    return [order.batch(epoch, k) for k in range(order.batches_per_epoch)]


@given(orders(), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_shares_of_an_epoch_are_exact_and_what_the_log_counts(order, epoch):
    batches = epoch_of(order, epoch)
    assert len(batches) == sum(len(np.concatenate(s)) for s in order.sources) // order.global_batch_size
    counted = np.zeros(len(order.weights), np.int64)
    for number, batch in enumerate(batches):
        found = np.bincount(batch // 1000, minlength=len(order.weights))
        assert found.tolist() == order.counts(number).tolist()
        counted += found
    places = len(batches) * order.global_batch_size
    assert counted.tolist() == apportion(places, order.weights).tolist()


@given(orders(), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_no_batch_has_a_clip_twice_and_clips_of_a_set_come_equally_often(order, epoch):
    batches = epoch_of(order, epoch)
    assert all(len(set(batch.tolist())) == order.global_batch_size for batch in batches)
    times = Counter(np.concatenate(batches).tolist())
    for number, shards in enumerate(order.sources):
        clips = np.concatenate(shards)
        taken = apportion(len(batches) * order.global_batch_size, order.weights)[number]
        # Lanes differ by a clip in length and by two in what they are asked for.
        shortest = len(clips) // order.lanes
        slack = 3 / shortest + taken / order.lanes / shortest**2 + 1
        assert all(abs(times[int(clip)] - taken / len(clips)) <= slack for clip in clips)


@given(orders())
@settings(max_examples=100, deadline=None)
def test_every_lane_and_so_every_rank_has_its_own_clips_of_every_set(order):
    lane_of: dict[int, int] = {}
    each = order.global_batch_size // order.lanes
    for batch in epoch_of(order):
        for place, clip in enumerate(batch.tolist()):
            assert lane_of.setdefault(clip, place // each) == place // each
    for number in range(len(order.sources)):
        assert {lane for clip, lane in lane_of.items() if clip // 1000 == number} == set(range(order.lanes))


@given(st.integers(0, 400), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
@example(places=100, weights=[3.0, 1.0])
def test_places_go_to_weights_up_to_less_than_one(places, weights):
    counts = apportion(places, weights)
    assert counts.sum() == places
    quotas = places * np.array(weights) / sum(weights)
    assert (np.abs(counts - quotas) < 1 + 1e-9).all()


@given(st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_turns_are_spread_evenly(counts):
    """Of any first places a set has its share, but for one turn of each set."""
    turns = spread(np.array(counts))
    assert np.bincount(turns, minlength=len(counts)).tolist() == counts
    for place in range(len(turns)):
        seen = np.bincount(turns[:place], minlength=len(counts))
        assert (np.abs(seen - place * np.array(counts) / max(len(turns), 1)) <= len(counts)).all()


def test_three_to_one_is_three_to_one_in_every_batch():
    order = MixedOrder([shards_of(90), shards_of(70, 1000)], ["a", "b"], [3, 1], 16, 4, 0)
    assert all(order.counts(k).tolist() == [12, 4] for k in range(order.batches_per_epoch))
    assert (
        order.describe()
        == "75.0% from a (90 clips, each 1.33 times); 25.0% from b (70 clips, each 0.57 times)"
    )


def test_a_batch_has_the_mix_also_where_a_lane_gives_one_clip():
    """Lanes are at other turns: at the same one, whole batches would come from one set."""
    order = MixedOrder([shards_of(96), shards_of(96, 1000)], ["a", "b"], [3, 1], 12, 12, 0)
    assert all(order.counts(k).tolist() == [9, 3] for k in range(order.batches_per_epoch))


def test_epochs_and_seeds_have_their_own_order():
    def row(seed, epoch):
        order = MixedOrder([shards_of(90), shards_of(70, 1000)], ["a", "b"], [90, 70], 16, 4, seed)
        return np.concatenate(epoch_of(order, epoch))

    for other in (row(0, 1), row(1, 0)):
        assert (row(0, 0) != other).mean() > 0.7
    assert row(0, 0).tolist() == row(0, 0).tolist()


def test_one_set_alone_has_the_order_that_it_has_without_a_mixture():
    shards = shards_of(100)
    mixed, alone = MixedOrder([shards], ["a"], [1], 12, 4, 5), LaneOrder(shards, 12, 4, 5)
    assert mixed.batches_per_epoch == alone.batches_per_epoch

    def by_lane(order, lane):
        return [clip for batch in epoch_of(order, 2) for clip in batch.reshape(4, 3)[lane].tolist()]

    for lane in range(4):
        assert by_lane(mixed, lane) == by_lane(alone, lane)


@pytest.mark.parametrize(
    ("clips", "weights", "words"),
    [
        ((90, 8), (1, 1), "set 1: a batch takes up to 12 of its clips and it has 8"),
        ((90, 70), (1000, 1), "set 1: its weight gives it less than a clip"),
        ((5, 5), (1, 1), "global_batch_size: 24 is more than the 10 clips"),
    ],
)
def test_sets_that_do_not_fit_are_named(clips, weights, words):
    sources = [shards_of(count, 1000 * number) for number, count in enumerate(clips)]
    with pytest.raises(UserError, match=words):
        MixedOrder(sources, ["set 0", "set 1"], weights, 24, 4, 0)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> list[Store]:
    """Two packed sets, of thirty and of twenty clips, with gaps, in shards of eight and of nine."""
    folder = tmp_path_factory.mktemp("sets")
    for name, classes, size in (("a", "abcde" * 6, 8), ("b", "edcbx" * 4, 9)):
        packed_here(make_plan(Classed(classes=tuple(classes), broken=(1, 9)), size), folder / name)
    return [open_store(folder / name) for name in "ab"]


def test_indices_are_offset_by_the_room_of_the_sets_before(stores):
    """Promise 1: thirty clips in shards of eight have room for 32."""
    first, second = stores
    mixture = Mixture(stores)
    assert mixture.capacity == 32 + 27
    assert mixture.indices.tolist() == [*first.indices.tolist(), *(second.indices + 32).tolist()]
    for index in (0, 29, 32, 51):
        own = second.read(index - 32) if index >= 32 else first.read(index)
        assert mixture.read(index) == own
    assert mixture.where(33) == second.where(1)
    for outside in (-1, 59):
        with pytest.raises(UserError, match="not in any of the 2 data sets"):
            mixture.read(outside)
    mixture.prefetch(np.array([3, 40]))


def test_the_fingerprint_covers_the_list_and_its_order(stores):
    names = {Mixture(parts).fingerprint for parts in (stores, stores[::-1], stores[:1], stores * 2)}
    assert len(names) == 4


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_partners_have_the_label_and_depend_on_seed_and_index_alone(data):
    sounds = np.sort(data.draw(st.sets(st.integers(0, 200), max_size=30).map(list)))
    sounds = np.array(sounds, np.int64)
    frames = np.array(sorted(data.draw(st.sets(st.integers(0, 200), max_size=30))), np.int64)
    label = np.array([data.draw(st.integers(-1, 4)) for _ in frames], np.int64)
    heard = np.array([data.draw(st.integers(-1, 4)) for _ in sounds], np.int64)
    partner = draw_partners(frames, label, sounds, heard, 7)
    of_sound = dict(zip(sounds.tolist(), heard.tolist(), strict=True))
    for mine, other in zip(label.tolist(), partner.tolist(), strict=True):
        assert of_sound[other] == mine if other >= 0 else mine < 0 or mine not in of_sound.values()
    keep = np.array([data.draw(st.booleans()) for _ in frames], bool)
    assert draw_partners(frames[keep], label[keep], sounds, heard, 7).tolist() == partner[keep].tolist()


def test_pairs_have_the_frame_of_one_and_the_sound_of_the_other(stores):
    frames, sounds = stores
    classes = {
        store: np.array(["abcdex".index(store.annotation(i).class_name) for i in store.indices])
        for store in stores
    }
    partner = draw_partners(frames.indices, classes[frames], sounds.indices, classes[sounds], 3)
    pairs = Pairs(frames, sounds, partner, "a with b", ["", ""])
    heard_of = {name for name in classes[sounds].tolist()}
    assert pairs.indices.tolist() == frames.indices[np.isin(classes[frames], list(heard_of))].tolist()
    assert np.concatenate(pairs.shards).tolist() == pairs.indices.tolist()
    for index, sound in zip(pairs.indices.tolist(), pairs.partner.tolist(), strict=True):
        assert pairs.read(index) == {"jpg": frames.read(index)["jpg"], "wav": sounds.read(sound)["wav"]}
        assert frames.annotation(index).class_name == sounds.annotation(sound).class_name
    other = draw_partners(frames.indices, classes[frames], sounds.indices, classes[sounds], 4)
    assert Pairs(frames, sounds, other, "", ["", ""]).fingerprint != pairs.fingerprint
    assert "with the sound of" in pairs.where(int(pairs.indices[0]))
    left_out = set(frames.indices.tolist()) - set(pairs.indices.tolist())
    with pytest.raises(UserError, match="no sound has the label"):
        pairs.read(min(left_out))
