"""Whether a batch can be dealt to so many ranks, said before anything is started, as the data would say it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cacl.errors import UserError
from cacl.options import parse, plain
from launch.config import override
from launch.jobs.recipe import DataOptions, Recipe
from launch.jobs.sizes import check_sizes
from shards.mixed_order import mixed_order
from shards.order import ClassAware, Lanes
from tests.helpers.text import match_in

EMPTY = Recipe(DataOptions(train="x"))
CLIPS = np.arange(2000, dtype=np.int64)


def recipe(batch: int, micro: int, order: Lanes | ClassAware) -> Recipe:
    sizes = replace(EMPTY.training, global_batch_size=batch, micro_batch_size=micro)
    return replace(EMPTY, training=sizes, data=replace(EMPTY.data, order=order))


def refusal(batch: int, micro: int, order: Lanes | ClassAware, ranks: int) -> str:
    try:
        check_sizes(recipe(batch, micro, order), ranks, "mine.yaml")
    except UserError as error:
        return str(error)
    return ""


small = st.integers(1, 12)


@given(small, small, small, small, small, st.booleans())
@example(2, 3, 4, 2, 3, False)
@example(3, 4, 1, 3, 1, False)
@example(1, 1, 1, 1, 5, True)
def test_what_passes_can_be_dealt_and_what_can_be_dealt_passes(share, lanes, micro, ranks, more, class_aware):
    """The order itself is asked, of enough clips: its rows of every rank, and micro-batches that divide them."""
    batch = share * lanes + (more if more % 3 == 0 else 0)
    order = ClassAware(clips_per_class=1) if class_aware else Lanes(lanes=lanes)
    try:
        real = order.order([CLIPS], batch, 0, CLIPS // 2)
        shares = {len(range(batch)[real.rows(rank, ranks)]) for rank in range(ranks)}
        fits = len(shares) == 1 and not shares.pop() % micro
    except UserError:
        fits = False
    said = refusal(batch, micro, order, ranks)
    assert (said == "") == fits, said
    parts = batch if class_aware else lanes
    assert fits == (batch % parts == 0 and parts % ranks == 0 and batch // ranks % micro == 0)
    assert not said or said.startswith("mine.yaml: ")


@given(st.integers(1, 200), st.integers(1, 30))
def test_the_batch_size_that_is_proposed_fits(batch, lanes):
    said = refusal(batch, 1, Lanes(lanes=lanes), 1)
    assert bool(said) == bool(batch % lanes)
    if said:
        proposed = int(match_in(said, r"use (\d+), or other lanes; or let them be found: ")[1])
        assert batch < proposed < batch + lanes
        assert proposed % lanes == 0 and refusal(proposed, 1, Lanes(lanes=lanes), 1) == ""


@pytest.mark.parametrize(
    ("batch", "micro", "ranks", "said"),
    [
        (
            50,
            1,
            1,
            "training.global_batch_size: 50 is not a multiple of the 24 lanes of data.order.lanes; use 72",
        ),
        (48, 1, 5, "data.order.lanes: 24 lanes cannot be dealt to 5 ranks"),
        (
            48,
            5,
            2,
            "training.micro_batch_size: 5 does not divide the 24 clips that each of 2 rank(s) has of a batch",
        ),
        (48, 1, 0, "the number of ranks must be at least 1, got 0"),
    ],
)
def test_each_refusal_names_its_key(batch, micro, ranks, said):
    assert said in refusal(batch, micro, Lanes(lanes=24), ranks)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 30), st.integers(1, 40), st.integers(1, 16))
@example(240, 24, 30, 64)
@example(48, 24, 6, 5)
def test_the_options_that_a_refusal_ends_with_fit(batch, lanes, micro, ranks):
    """One sentence names the whole command: with auto nothing but the batch is left to be chosen."""
    said = refusal(batch, micro, Lanes(lanes=lanes), ranks)
    if not said:
        return
    options = match_in(said, r"; or let them be found: (--.*)$")[1].split()
    found = parse(Recipe, override(plain(recipe(batch, micro, Lanes(lanes=lanes))), options), "mine.yaml")
    check_sizes(found, ranks, "mine.yaml")
    assert batch <= found.training.global_batch_size < batch + 8 * 32 * ranks
    assert (found.data.order, found.training.micro_batch_size) == (Lanes(lanes="auto"), "auto")


@pytest.mark.parametrize(
    ("batch", "lanes", "micro"),
    [(8, 8, 8), (16, 16, 16), (96, 96, 32), (120, 120, 30), (240, 120, 30), (768, 96, 32), (131, 1, 131)],
)
def test_lanes_and_micro_batch_by_auto_follow_from_the_batch_alone(batch, lanes, micro):
    training = replace(EMPTY.training, global_batch_size=batch, micro_batch_size="auto")
    assert (Lanes(lanes="auto").parts(batch), training.micro_batch) == (lanes, micro)


def test_a_mixture_has_by_auto_as_many_lanes_as_leave_each_data_set_a_clip():
    """Of 6 clips among 120 no 24 lanes have one each; the data decide, and not the number of ranks."""
    sources = [[CLIPS[:114]], [CLIPS[114:120]]]
    order = mixed_order(sources, ["many", "few"], [114, 6], 24, Lanes(lanes="auto"), 0)
    assert order.lanes == 6
    assert (
        mixed_order([[CLIPS[:60]], [CLIPS[60:120]]], ["a", "b"], [1, 1], 24, Lanes("lanes", "auto"), 0).lanes
        == 24
    )
    with pytest.raises(UserError, match="few: its weight gives it less than a clip"):
        mixed_order(sources, ["many", "few"], [114, 6], 24, Lanes(lanes=24), 0)


def test_a_batch_that_is_too_large_is_answered_by_a_whole_command():
    with pytest.raises(UserError, match="120 is more than the 14 clips") as caught:
        Lanes().order([CLIPS[:14]], 120, 0)
    options = match_in(str(caught.value), "such as (--.*), or pack more clips")[1].split()
    found = parse(Recipe, override(plain(EMPTY), options), "mine.yaml")
    assert found.data.order.order([CLIPS[:14]], found.training.global_batch_size, 0).batches_per_epoch == 3
