"""Whether a batch can be dealt to so many ranks, said before anything is started, as the data would say it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cacl.errors import UserError
from launch.jobs.recipe import DataOptions, Recipe
from launch.jobs.sizes import check_sizes
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
        proposed = int(match_in(said, r"use (\d+), or other lanes$")[1])
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
