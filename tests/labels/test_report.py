"""The report joins tables and their true classes by clip, not by row."""

import numpy as np
import pytest

from cacl.labels.report import build_report
from cacl.labels.table import LabelHeader, LabelTable

HEADER = LabelHeader(classifier="test", weights="", fingerprint="f" * 64, classes=3)


def table(first, label):
    clips = np.arange(first, first + len(label))
    return LabelTable(clips, np.array(label), np.linspace(0, 1, len(label), dtype=np.float32), HEADER)


def pairs(label, clips):
    return {(a, b) for a in clips for b in clips if a < b and label[a] == label[b]}


def test_tables_of_other_clips_are_compared_on_those_that_both_have():
    a, b = table(0, [0, 0, 1, 1, 1, 2]), table(2, [5, 5, 5, 5, 7, 7])
    record = build_report({"a": a, "b": b}, {"a": None, "b": None}, batch_size=4)
    (found,) = record["pairs"]
    both = [2, 3, 4, 5]
    of_a, of_b = ({int(i): int(x) for i, x in zip(t.index, t.label, strict=True)} for t in (a, b))
    in_a, in_b = pairs(of_a, both), pairs(of_b, both)
    assert (found["first"], found["second"], found["clips"]) == ("a", "b", 4)
    assert found["pairs_kept"] == pytest.approx(len(in_a & in_b) / len(in_a)) == 1
    assert found["pairs_new"] == pytest.approx(len(in_b - in_a) / len(in_b)) == 0.5
    assert "purity" not in record["tables"]["a"] and record["tables"]["a"][
        "mean_confidence"
    ] == pytest.approx(0.5)


def test_each_table_is_held_against_the_true_classes_of_its_own_clips():
    a, b = table(0, [0, 0, 1, 1]), table(1, [0, 0, 1, 1])
    truth = {"a": ["x", "x", "y", "y"], "b": ["x", "y", "y", "z"]}
    found = build_report({"a": a, "b": b}, truth, batch_size=2)["tables"]
    assert (found["a"]["purity"], found["a"]["pair_f1"], found["a"]["true_classes"]) == (1, 1, 2)
    assert (found["b"]["purity"], found["b"]["pair_f1"], found["b"]["true_classes"]) == (0.5, 0, 3)
