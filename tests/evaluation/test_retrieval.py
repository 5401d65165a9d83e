"""Retrieval in both directions: golden values, and ties that favor nobody."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.evaluation.retrieval import class_ranks, entries, ranks, retrieval_numbers, similarities
from tests.evaluation.golden import cases, check_numbers

DIRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sound_to_image": lambda matrix: matrix,
    "image_to_sound": np.transpose,
}


@pytest.fixture(scope="module")
def golden(golden_dir):
    return cases(golden_dir / "retrieval.npz")


def check(similarity, labels, clean, compat):
    """Both forms of both directions."""
    for name, turn in DIRECTIONS.items():
        matrix, expected = turn(similarity), clean[name]
        np.testing.assert_allclose(ranks(matrix), expected["rank"], rtol=0, atol=1e-6, err_msg=name)
        check_numbers(retrieval_numbers(ranks(matrix)), expected["summary"])
        by_class = class_ranks(matrix, labels)
        np.testing.assert_allclose(by_class, expected["class_rank"], rtol=0, atol=1e-6, err_msg=name)
        check_numbers(retrieval_numbers(by_class), expected["class_summary"])
        check_numbers(retrieval_numbers(entries(matrix)), compat[name])


def test_golden_ranks_of_similarities(golden):
    coarse = golden["coarse"]
    check(coarse["similarity"], coarse["label"], coarse["clean"], coarse["compat"])


@pytest.mark.parametrize("name", ["distinct", "duplicates"])
def test_golden_ranks_of_slices_by_every_strategy(golden, name):
    case = golden[name]
    audio, video = (torch.from_numpy(case[key]) for key in ("audio", "video"))
    for strategy, clean in case["clean"].items():
        compat = case["compat"][strategy]
        reference = compat["similarity_sound_to_image"]
        found = similarities(audio, video, strategy).numpy()
        # the reference's are float32 sums of T × T cosines in another order
        np.testing.assert_allclose(found, reference, rtol=0, atol=1e-6, err_msg=strategy)
        check(reference, case["label"], clean, compat)
        check(found, case["label"], clean, compat)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6))
def test_the_mean_rank_of_ties_is_the_mean_over_their_orders(clips, seed):
    """A matrix of few values, its ties broken at random very often."""
    draw = np.random.default_rng(seed)
    similarity, labels = draw.integers(0, 3, (clips, clips)).astype(float), draw.integers(0, 3, clips)
    broken = similarity[None] + draw.random((4000, clips, clips)) / 2
    alone = np.stack([ranks(one) for one in broken])
    by_class = np.stack([class_ranks(one, labels) for one in broken])
    error = 6 * clips / np.sqrt(12 * len(broken))  # six deviations of the mean of places among all clips
    np.testing.assert_allclose(alone.mean(0), ranks(similarity), rtol=0, atol=error)
    np.testing.assert_allclose(by_class.mean(0), class_ranks(similarity, labels), rtol=0, atol=error)


def test_a_model_that_finds_everything_alike_is_in_the_middle():
    found = retrieval_numbers(ranks(np.zeros((21, 21))))
    assert found == {"r1": 0, "r5": 0, "r10": 0, "median_rank": 11, "mean_rank": 11}
    best = retrieval_numbers(ranks(np.eye(21)))
    assert best == {"r1": 1, "r5": 1, "r10": 1, "median_rank": 1, "mean_rank": 1}
