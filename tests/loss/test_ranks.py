"""Promise 5: value, gradients and one SGD step on any number of ranks are those of one process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from cacl.loss import LossOptions
from cacl.loss.objectives import InfoNCE, Sigmoid
from cacl.loss.positives import OwnClip, SameClass
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import MaxSimilarity
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.loss.cases import Case, sgd_step
from tests.loss.combinations import SIMILARITIES, combinations, named

SHARES = {2: (10, 14), 3: (7, 9, 8), 4: (5, 8, 2, 9)}


def steps(world: World, cases: list[Case], shares: Sequence[int] | None) -> list[dict[str, torch.Tensor]]:
    """`sgd_step` for each of the cases."""
    return [sgd_step(world, case, shares) for case in cases]


def check(cases: dict[str, Case], size: int, shares: Sequence[int] | None) -> None:
    expected = steps(World(), list(cases.values()), None)
    for result in run_ranks(size, steps, list(cases.values()), shares):
        for name, found, wanted in zip(cases, result, expected, strict=True):
            # Only the order of sums differs in float64, of a few hundred terms of size 1.
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10, msg=named(name))


COMMON: dict[str, Any] = {"temperature": 0.2, "learn_temperature": True}


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_parts_on_three_unequal_ranks_are_one_process(similarity: str) -> None:
    """With and without targets, in one direction each; `make test-slow` has every direction and size."""
    every = combinations(similarity, False, **COMMON, memory_mib=0.02)
    cases = {name: Case(each, i % 4 in (1, 2)) for i, (name, each) in enumerate(every.items())}
    check(cases, 3, SHARES[3])


FEW = {
    "mean eq. (3) both": LossOptions(direction="both"),
    "mean eq. (3) both, class sums": LossOptions(positives=SameClass(number_of_classes=3), direction="both"),
    "max multi-positive infonce both": LossOptions(
        similarity=MaxSimilarity(), objective=InfoNCE(), direction="both", learn_temperature=True
    ),
    "sigmoid": LossOptions(objective=Sigmoid(), learn_temperature=True),
} | {
    f"{name} fnac": LossOptions(
        similarity=similarity,
        objective=InfoNCE(),
        positives=OwnClip(),
        regularizers=(Fnac(),),
        memory_mib=0.02,
        **COMMON,
    )
    for name, similarity in SIMILARITIES.items()
    if similarity.heads != 2
}


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_ranks_is_one_process(size: int, equal: bool) -> None:
    check({name: Case(each) for name, each in FEW.items()}, size, None if equal else SHARES[size])


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("target", [False, True], ids=["alone", "target"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_parts_in_every_direction_on_ranks_are_one_process(
    similarity: str, target: bool, size: int
) -> None:
    every = combinations(similarity, True, **COMMON)
    check({name: Case(each, target) for name, each in every.items()}, size, SHARES[size])


@st.composite
def dealt(draw: st.DrawFn) -> tuple[Case, list[int]]:
    """Any loss of any clips, dealt over two to four ranks of which some may hold nothing, or nothing valid."""
    shares = draw(st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any))
    similarity = draw(st.sampled_from(sorted(SIMILARITIES)))
    options = draw(st.sampled_from(list(combinations(similarity, True, **COMMON).values())))
    invalid = draw(st.sets(st.integers(0, sum(shares) - 1)))
    case = Case(options, draw(st.booleans()), sum(shares), tuple(invalid), draw(st.integers(0, 1000)))
    return case, shares


@settings(max_examples=30, deadline=None)
@given(dealt())
def test_the_split_over_ranks_does_not_matter(dealt: tuple[Case, list[int]]) -> None:
    case, shares = dealt
    check({str(case): case}, len(shares), shares)
