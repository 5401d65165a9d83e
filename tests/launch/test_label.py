"""Labeling what is labeled already costs nothing; labels of other settings are made anew."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from cacl.labels.table import LabelHeader, LabelTable
from launch.jobs.label import is_labeled
from launch.main import main


def test_a_table_that_is_there_is_kept_and_another_is_written_over(tmp_path, data, capsys):
    folder = tmp_path / "train"
    shutil.copytree(data, folder)
    table = folder / "labels" / "efficientnet-lite0.parquet"
    words = ["label", str(folder), "--workers", "0"]
    assert main(words) == 0
    assert "72 clips" in capsys.readouterr().out
    first = table.stat().st_mtime_ns
    assert main(words) == 0
    assert "is there already" in capsys.readouterr().out and table.stat().st_mtime_ns == first
    assert main([*words, "--soft"]) == 0
    assert table.stat().st_mtime_ns > first
    table.write_bytes(b"PAR1")
    assert main(words) == 0
    assert "72 clips" in capsys.readouterr().out


HEADER = LabelHeader("efficientnet-lite0", "w" * 64, "f" * 64, 1000, {"views": "whole"})


@pytest.mark.parametrize(
    "change",
    [
        {"classifier": "resnet18"},
        {"weights": "v" * 64},
        {"fingerprint": "e" * 64},
        {"preprocessing": {"views": "crops"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_table_counts_only_where_network_weights_clips_and_view_are_the_same(tmp_path, change):
    """Another classifier written to the same --out must not be mistaken for done."""
    path = tmp_path / "table.parquet"
    columns = np.arange(3), np.zeros(3, np.int64), np.ones(3, np.float32)
    LabelTable(*columns, HEADER).write(path)
    assert is_labeled(path, HEADER, 3, False)
    assert not is_labeled(path, dataclasses.replace(HEADER, **change), 3, False)
    assert not is_labeled(path, HEADER, 4, False) and not is_labeled(path, HEADER, 3, True)
    assert not is_labeled(tmp_path / "none.parquet", HEADER, 3, False)
    assert not is_labeled(path, HEADER, 3, False, heard=True), "it lacks the probabilities"
    LabelTable(*columns, HEADER, np.full((3, 2), 0.5, np.float32)).write(path)
    assert is_labeled(path, HEADER, 3, True) and not is_labeled(path, HEADER, 3, False)


@pytest.fixture
def sounds(tmp_path, data):
    folder = tmp_path / "train"
    shutil.copytree(data, folder)
    return folder


def label(*words):
    return main(["label", *map(str, words), "--workers", "0"])


def test_sounds_are_labeled_by_name_at_the_rate_that_is_stored(sounds, real_dir, monkeypatch, capsys):
    """Shards hold 16 kHz, and mn04 hears 32: that is refused, unless it is asked for in so many words."""
    monkeypatch.setenv("CACL_MODELS", str(real_dir / "models"))
    for verb in ("label", "labels cluster"):
        assert main([*verb.split(), str(sounds), "--tagger", "mn04"]) == 2
        told = capsys.readouterr().err
        assert "stores 16000; pack it again with: cacl pack … --sample-rate 32000" in told
    assert not (sounds / "labels").exists()
    assert label(sounds, "--tagger", "mn04", "--accept-rate") == 0
    assert label(sounds, "--tagger", "yamnet", "--weights", real_dir / "models/yamnet.tflite") == 0
    for name, classes in (("mn04", 527), ("yamnet", 521)):
        table = LabelTable.load(sounds / f"labels/{name}.parquet")
        assert table.probability is not None and table.probability.shape == (72, classes)
        np.testing.assert_array_equal(table.probability.max(1), table.confidence.astype(np.float16))
        assert table.header.parameters["class_names"][:1] == ["Speech"] and table.soft is None
    assert table.header.preprocessing == {"sample_rate": 16000, "duration": 3.0, "heard": 16000}
    assert (
        main(["labels", "cluster", str(sounds), "--of", "sound", "--tagger", "yamnet", "--clusters", "3"])
        == 0
    )
    assert LabelTable.load(sounds / "labels/sound.parquet").header.preprocessing["sound"] == "yamnet"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--accept-rate"], "--tagger-rate and --accept-rate: are for sounds"),
        (["--tagger", "mn04", "--views", "crops"], "--tagger: labels sounds; leave out --views and --region"),
        (["--tagger", "mn04", "--tagger-rate", "8000"], "--tagger mn04: knows the rate that it hears"),
        (["--tagger", "./a.py:f", "--accept-rate"], "--tagger ./a.py:f: a function loads its own weights"),
        (["--tagger", "mn10"], "mn10: no address of its weights is known"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(sounds, capsys, words, message):
    assert label(sounds, *words) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1


def test_clusters_say_which_tagger_options_belong_to(sounds, capsys):
    assert main(["labels", "cluster", str(sounds), "--tagger-weights", "w.pt"]) == 2
    assert "say which tagger they belong to by --tagger" in capsys.readouterr().err
