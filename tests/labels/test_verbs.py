"""`cacl label` and `cacl labels` on real shards: tables, their report, and one sentence for what is wrong."""

import json
import re

import numpy as np
import pytest

from cacl.labels.table import LabelTable
from launch.main import main
from shards.store import open_store
from tests.launch.tiny import write_recipe


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "train"
    assert main(["pack", "generated", "--out", str(folder), "--clips", "48"]) == 0
    assert main(["label", str(folder), "--workers", "0", "--soft"]) == 0
    assert main(["labels", "cluster", str(folder), "--of", "fused", "--workers", "0", "--clusters", "6"]) == 0
    return folder


def table(shards, name):
    return LabelTable.load(shards / "labels" / f"{name}.parquet", open_store(shards).fingerprint)


def test_every_clip_has_a_label(shards):
    labels = table(shards, "efficientnet-lite0")
    assert labels.index.tolist() == list(range(48))
    assert labels.soft.shape == (48, 1000)
    np.testing.assert_array_equal(labels.soft.argmax(1), labels.label)
    np.testing.assert_allclose(labels.confidence, labels.soft.max(1))
    assert labels.header.classes == 1000 and labels.header.preprocessing["views"] == "whole"
    assert not list((shards / "labels").glob(".*")), "unfinished work was left behind"


def test_fused_clusters_keep_how_they_were_found(shards):
    labels = table(shards, "fused")
    assert set(labels.label) <= set(range(6)) and labels.header.classes == 6
    assert labels.header.parameters["seed"] == 0 and "correlation" in labels.header.parameters


def test_features_are_computed_once(shards, capsys):
    before = (shards / "labels" / "features.npz").stat().st_mtime_ns
    assert main(["labels", "cluster", str(shards), "--of", "sound", "--workers", "0"]) == 0
    assert (shards / "labels" / "features.npz").stat().st_mtime_ns == before
    assert re.search(r"48 clips in \d+ clusters", capsys.readouterr().out)


def test_the_report_tells_quality_and_difference(shards, tmp_path):
    files = [str(shards / "labels" / f"{name}.parquet") for name in ("efficientnet-lite0", "fused")]
    assert main(["labels", "report", *files, "--data", str(shards), "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "report.json").read_text())
    for name in ("efficientnet-lite0", "fused"):
        part = record["tables"][name]
        assert 0 < part["purity"] <= 1 and part["clips"] == 48 and part["true_classes"] > 1
        assert part["same_class_pairs"] == pytest.approx(part["measured"]["same_class_pairs"], rel=1e-6)
    assert record["pairs"][0]["clips"] == 48
    page = (tmp_path / "report.html").read_text()
    assert page.count('src="data:image/png;base64,') == 4
    assert not re.search(r'(src|href)="http', page)


def test_two_tables_are_fused(shards, tmp_path):
    files = [str(shards / "labels" / f"{name}.parquet") for name in ("efficientnet-lite0", "fused")]
    words = ["labels", "fuse", *files, "--data", str(shards), "--clusters", "5", "--soft"]
    assert main([*words, "--out", str(tmp_path / "both.parquet")]) == 0
    labels = LabelTable.load(tmp_path / "both.parquet")
    assert labels.header.parameters["tables"] == [
        table(shards, "efficientnet-lite0").fingerprint,
        table(shards, "fused").fingerprint,
    ]
    assert labels.soft.shape == (48, 5)


def test_a_second_round_from_a_trained_run(shards, tmp_path):
    recipe, run = write_recipe(tmp_path, shards), tmp_path / "run"
    assert main(["train", str(recipe), "--run-dir", str(run), "--max-steps", "1"]) == 0
    before = str(shards / "labels" / "fused.parquet")
    out = tmp_path / "again.parquet"
    words = ["labels", "relabel", before, "--data", str(shards), "--run", str(run), "--workers", "0"]
    assert main([*words, "--neighbors", "5", "--majority", "0.3", "--out", str(out)]) == 0
    change = json.loads(out.with_suffix(".json").read_text())
    after = LabelTable.load(out, open_store(shards).fingerprint)
    assert change["changed"] == (after.label != table(shards, "fused").label).sum()
    assert {"before", "after", "adjusted_rand"} <= change.keys()
    words = ["labels", "cluster", str(shards), "--run", str(run), "--workers", "0", "--clusters", "4"]
    assert main([*words, "--out", str(tmp_path / "own" / "run.parquet")]) == 0
    assert LabelTable.load(tmp_path / "own" / "run.parquet").header.preprocessing["sound"] == "run"
    words = ["label", str(shards), "--region", str(run), "--workers", "0"]
    assert main([*words, "--out", str(tmp_path / "localized.parquet")]) == 0


def loudness(rate):
    """A tagger as a user writes one."""
    return lambda waveforms: waveforms.unflatten(1, (20, -1)).square().mean(2).log1p()


def test_a_users_tagger_hears_the_sound(shards, tmp_path):
    words = ["labels", "cluster", str(shards), "--of", "sound", "--workers", "0", "--clusters", "3"]
    tagger = ["--tagger", "tests.labels.test_verbs:loudness", "--out", str(tmp_path / "t.parquet")]
    assert main([*words, *tagger]) == 0
    assert LabelTable.load(tmp_path / "t.parquet").header.preprocessing["sound"] == tagger[1]


def test_frames_and_a_taggers_sounds_are_fused_though_their_classes_differ(shards, tmp_path):
    name = "tests.labels.test_tagger:Bands"
    assert main(["label", str(shards), "--tagger", name, "--soft", "--workers", "0"]) == 0
    heard = table(shards, name.replace(":", "-"))
    assert heard.header.classes == 8 and heard.header.classifier == name and heard.header.weights
    files = [
        str(shards / "labels" / f"{stem}.parquet") for stem in ("efficientnet-lite0", name.replace(":", "-"))
    ]
    out = tmp_path / "both.parquet"
    assert main(["labels", "fuse", *files, "--data", str(shards), "--clusters", "5", "--out", str(out)]) == 0
    assert len(LabelTable.load(out, open_store(shards).fingerprint).label) == 48


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label", "{data}", "--classifier", "resnet18"], "--weights: name the file"),
        (["label", "{data}/nowhere"], "nowhere"),
        (["labels", "cluster", "{data}", "--clusters", "1"], "--clusters 1: give a number from 2 to 48"),
        (["labels", "cluster", "{data}", "--tagger", "nothing:here"], "expected MODULE:FUNCTION"),
        (["label", "{data}", "--tagger", "a:b", "--region", "ogl"], "--tagger: labels sounds; leave out"),
        (["label", "{data}", "--region", "{data}/nowhere"], "{data}/nowhere"),
        (["labels", "report", "{data}", "--data", "{data}", "--batch-size", "1"], "pairs need 2 clips"),
        (["labels", "report", "{data}/labels/no.parquet", "--data", "{data}"], "no such label table"),
        (
            ["labels", "relabel", "{data}/labels/fused.parquet", "--data", "{data}", "--run", "{data}"],
            "{data}",
        ),
        (
            ["labels", "relabel", "{data}", "--data", "{data}", "--run", "{data}", "--neighbors", "0"],
            "--neighbors must be 1 or more",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(shards, capsys, words, message):
    capsys.readouterr()
    assert main([word.replace("{data}", str(shards)) for word in words]) == 2
    error = capsys.readouterr().err.strip()
    last = error.splitlines()[-1]
    assert message.replace("{data}", str(shards)) in last and "Traceback" not in error


def test_labels_of_other_shards_are_refused(shards, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["pack", "generated", "--out", str(other), "--clips", "6", "--seed", "9"]) == 0
    assert main(["labels", "report", str(shards / "labels/fused.parquet"), "--data", str(other)]) == 2
    assert "fingerprint: these labels belong to the data set" in capsys.readouterr().err
