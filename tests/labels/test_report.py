"""The report joins tables and their true classes by clip, not by row."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cacl.labels.members import choose_members
from cacl.labels.report import build_report
from cacl.labels.table import LabelHeader, LabelTable
from launch.jobs.label_report import report_labels
from launch.main import main
from shards.store import Store, open_store

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


def test_labels_are_shown_by_clips_that_have_them_the_most_frequent_first():
    label = np.repeat([4, 2, 7, 0, 5, -1], [9, 6, 4, 2, 1, 3])
    tables = LabelTable(np.arange(100, 125), label, np.full(25, 0.5, np.float32), HEADER)
    found = choose_members(tables, None, labels=4, each=3)
    assert [one.name for one in found[:2]] == ["label 4", "label 2"]
    assert {one.name for one in found[2:]} == {"label 7", "label 0"}, "one clip alone shows nothing"
    for one in found:
        rows = np.array(one.shown) - 100
        assert set(label[rows]) == {int(one.name.split()[1])} and len(set(rows)) == min(3, one.clips)
        assert one.clips == (label == label[rows[0]]).sum() and one.true == "" and one.confidence == 0.5
    assert found == choose_members(tables, None, labels=4, each=3)
    truth = ["dog"] * 7 + ["cat"] * 18
    assert choose_members(tables, truth, labels=2)[0].true == "dog, 7 of 9"


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (replace(HEADER, classifier="efficientnet-lite0", classes=1000), "tench"),
        (replace(HEADER, classifier="timm:some.net, relabeled", classes=1000), "tench"),
        (replace(HEADER, classifier="mn04", parameters={"class_names": ["Speech", "Dog"]}), "Speech"),
        (replace(HEADER, classifier="timm:some.net", classes=21843), "label 0"),
        (replace(HEADER, classifier="clusters of fused", classes=1000), "label 0"),
    ],
)
def test_a_class_is_called_by_its_name_where_it_has_one(header, name):
    one = LabelTable(np.arange(2), np.zeros(2, np.int64), np.ones(2, np.float32), header)
    assert choose_members(one, None)[0].name == name


def test_the_page_plays_clips_of_a_label_one_at_a_time_and_leaves_out_what_is_broken(tmp_path, monkeypatch):
    data = tmp_path / "data"
    assert main(["pack", "generated", "--out", str(data), "--clips", "6", "--workers", "1"]) == 0
    store = open_store(str(data))
    read = Store.read
    broken = {"jpg": b"none"}
    monkeypatch.setattr(Store, "read", lambda self, index: read(self, index) | (broken if index == 3 else {}))
    labels = LabelTable(
        store.indices,
        np.zeros(6, np.int64),
        np.ones(6, np.float32),
        replace(HEADER, fingerprint=store.fingerprint),
    )
    labels.write(data / "labels/t.parquet")
    page = report_labels([data / "labels/t.parquet"], str(data)).page.read_text()
    shown = choose_members(labels, ["x"] * 6)[0].shown
    sounds = re.findall(r"<audio[^>]*>", page)
    assert 3 in shown and len(sounds) == len(shown) - 1
    assert all("data:audio/ogg;base64," in one and "other.pause()" in one for one in sounds)
