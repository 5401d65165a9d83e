"""Numbers on labels against counting every pair."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.labels.quality import agreement, compare, confusion, describe, histogram, measure_batches

LABELS = st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 3)), min_size=2, max_size=30)


def same(a, b):
    return a == b and a != -1


@settings(deadline=None)
@given(LABELS)
def test_pairs_are_those_that_counting_finds(clips):
    pairs = list(combinations(clips, 2))
    labeled = [pair for pair in pairs if same(pair[0][0], pair[1][0])]
    true = [pair for pair in pairs if pair[0][1] == pair[1][1]]
    both = [pair for pair in labeled if pair[0][1] == pair[1][1]]
    label, truth = (np.array(column) for column in zip(*clips, strict=True))
    found = compare(label, truth)
    assert found["labeled_pairs"] == len(labeled) and found["true_pairs"] == len(true)
    assert found["pair_precision"] == pytest.approx(len(both) / len(labeled) if labeled else 1.0)
    assert found["pair_recall"] == pytest.approx(len(both) / len(true) if true else 1.0)
    harmonic = 2 * len(both) / (len(labeled) + len(true)) if both else 0.0
    assert found["pair_f1"] == pytest.approx(harmonic)


@settings(deadline=None)
@given(LABELS, st.integers(2, 40))
def test_expected_pairs_of_a_batch_are_those_of_all_batches(clips, size):
    label = np.array([label for label, _ in clips])
    ordered = sum(2 for a, b in combinations(label, 2) if same(a, b))
    n = len(label)
    size = min(size, n)
    expected = size * (size - 1) * ordered / (n * (n - 1))
    found = describe(label, size)
    assert found["same_class_pairs"] == pytest.approx(expected)
    assert found["positives_per_clip"] == pytest.approx(expected / size)
    assert found["classes"] == len(histogram(label)) and found["clips"] == n == histogram(label).sum()


def test_measured_pairs_come_near_the_expected_ones():
    label = np.random.default_rng(0).integers(0, 20, 1000)
    expected, found = describe(label, 64), measure_batches(label, 64, batches=400)
    error = found["same_class_pairs_deviation"] / 400**0.5
    assert abs(found["same_class_pairs"] - expected["same_class_pairs"]) < 4 * error
    assert found["rows_without_negatives"] == 0.0


def test_rows_without_negatives_are_those_of_a_batch_of_one_class():
    assert measure_batches(np.zeros(10, int), 4)["rows_without_negatives"] == 4.0
    assert measure_batches(np.full(10, -1), 4)["rows_without_negatives"] == 0.0


def test_purity_and_entropy_by_hand():
    label = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    truth = np.array(["a", "a", "b", "b", "b", "a", "c", "c"])
    found = compare(label, truth)
    assert found["purity"] == pytest.approx((2 + 2 + 2) / 8)
    share = np.array([3, 2, 3]) / 8
    assert describe(label, 4)["entropy"] == pytest.approx(-(share * np.log2(share)).sum())
    assert compare(label, label)["nmi"] == pytest.approx(1.0)


@settings(deadline=None)
@given(LABELS)
def test_names_of_classes_do_not_matter(clips):
    label = np.array([label for label, _ in clips])
    renamed = np.where(label >= 0, 7 - label, label)
    found = agreement(label, renamed)
    assert found["adjusted_rand"] == pytest.approx(1.0)
    assert found["pairs_kept"] == 1.0 and found["pairs_new"] == 0.0


def test_the_confusion_has_every_clip_and_stands_in_order():
    label = np.array([5, 5, 3, 3, 3, 9])
    truth = np.array(["b", "b", "a", "a", "b", "c"])
    counts, rows, columns = confusion(label, truth)
    assert rows.tolist() == ["a", "b", "c"] and columns.tolist() == [3, 5, 9]
    assert counts.tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 1]]
