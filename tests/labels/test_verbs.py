"""`cacl label` and `cacl labels` on real shards: tables, their report, and one sentence for what is wrong."""

import json
import re
import shutil
from itertools import combinations

import numpy as np
import pytest
import torch

import cacl
from cacl.labels import cluster as clustering
from cacl.labels.features import Features
from cacl.labels.fuse import fuse
from cacl.labels.regions import object_region
from cacl.labels.relabel import relabel
from cacl.labels.table import LabelTable
from launch.jobs import label as label_job
from launch.jobs.clips import whole_view
from launch.jobs.cluster import cluster as cluster_job
from launch.main import main
from shards.decoders.torch import TorchDecoder
from shards.loader import evaluation_batches
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


def cluster_to(shards, name, *words):
    """Cluster what `features.npz` beside the tables holds, and return the table."""
    out = shards / "labels" / f"{name}.parquet"
    assert main(["labels", "cluster", str(shards), "--workers", "0", "--out", str(out), *words]) == 0
    return table(shards, name), Features.load(shards / "labels" / "features.npz")


def test_one_cluster_tells_nothing_apart_and_says_so(tmp_path, capsys):
    assert main(["pack", "generated", "--out", str(tmp_path), "--clips", "12", "--workers", "1"]) == 0
    words = ["labels", "cluster", str(tmp_path), "--of", "sound", "--workers", "0"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "12 clips in 1 cluster\n" in said.out and "such as --clusters 10" in said.err
    assert main([*words, "--clusters", "2"]) == 0
    said = capsys.readouterr()
    assert "12 clips in 2 clusters\n" in said.out and "such as" not in said.err


def test_fused_clusters_are_those_of_both_views_by_the_seed_that_is_named(shards):
    found, features = cluster_to(shards, "seed", "--of", "fused", "--clusters", "7", "--seed", "3")
    expected, other = (fuse(features.image, features.audio, 7, seed) for seed in (3, 0))
    np.testing.assert_array_equal(found.label, expected.clustering.label)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    assert not np.array_equal(found.label, other.clustering.label), "the case tells the seeds apart"
    assert found.index.tolist() == features.index.tolist() == list(range(48)) and found.header.classes == 7


@pytest.mark.parametrize(("view", "dimensions"), [("sound", 20), ("image", 50)])
def test_clusters_of_one_view_are_its_own_and_name_its_weights(shards, view, dimensions):
    found, features = cluster_to(shards, view, "--of", view, "--clusters", "5", "--soft", "--seed", "2")
    vectors = {"image": features.image, "sound": features.audio}[view]
    white = clustering.whiten(vectors, dimensions)
    expected = clustering.cluster(white, 5, 2)
    np.testing.assert_array_equal(found.label, expected.label)
    np.testing.assert_array_equal(found.soft, expected.soft)
    np.testing.assert_array_equal(found.confidence, expected.soft.max(1))
    assert found.header.classifier == f"clusters of {view}"
    weights = table(shards, "efficientnet-lite0").header.weights if view == "image" else ""
    assert found.header.weights == weights
    assert found.header.parameters["dimensions"] == dimensions


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


def test_the_report_counts_pairs_of_the_batches_that_are_named(shards, tmp_path):
    file = shards / "labels" / "fused.parquet"
    words = [
        "labels",
        "report",
        str(file),
        "--data",
        str(shards),
        "--out",
        str(tmp_path),
        "--batch-size",
        "8",
    ]
    assert main(words) == 0
    part = json.loads((tmp_path / "report.json").read_text())["tables"]["fused"]
    label = table(shards, "fused").label.tolist()
    ordered = 2 * sum(a == b for a, b in combinations(label, 2))
    assert part["batch_size"] == 8
    assert part["same_class_pairs"] == pytest.approx(8 * 7 * ordered / (48 * 47))
    error = part["measured"]["same_class_pairs_deviation"] / part["measured"]["batches"] ** 0.5
    assert abs(part["measured"]["same_class_pairs"] - part["same_class_pairs"]) < 4 * error


def test_frames_are_looked_at_as_the_options_say(shards, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        label_job, "map_clips", lambda store, work, out, header, **_: given.append((work, header))
    )
    words = ["label", str(shards), "--out", str(tmp_path / "table.parquet")]
    options = ["--views", "crops", "--region", "ogl", "--soft"]
    for more, expected in ((options, ("crops", object_region, True)), ([], ("whole", None, False))):
        assert main([*words, *more]) == 0
        work, header = given.pop()
        assert (work.views, work.region, work.soft) == expected
        assert (header["preprocessing"]["views"], header["classes"]) == (expected[0], 1000)


def test_jobs_are_functions_that_print_nothing(shards, tmp_path, capsys):
    capsys.readouterr()
    written = cluster_job(str(shards), tmp_path / "own" / "t.parquet", of="image", clusters=3, workers=0)
    assert written is not None, "the main rank has the table"
    assert written.path.exists() and written.is_new and written.table.header.classes == 3
    stored = LabelTable.load(written.path, open_store(shards).fingerprint)
    np.testing.assert_array_equal(stored.label, written.table.label)
    assert capsys.readouterr().out == ""


def test_two_tables_are_fused(shards, tmp_path):
    files = [str(shards / "labels" / f"{name}.parquet") for name in ("efficientnet-lite0", "fused")]
    words = ["labels", "fuse", *files, "--data", str(shards), "--clusters", "5", "--soft"]
    assert main([*words, "--out", str(tmp_path / "both.parquet")]) == 0
    labels = LabelTable.load(tmp_path / "both.parquet")
    assert labels.header.parameters["tables"] == [
        table(shards, "efficientnet-lite0").fingerprint,
        table(shards, "fused").fingerprint,
    ]
    assert labels.soft is not None and labels.soft.shape == (48, 5)


def part_of(whole, kept, path):
    """Write the rows of a table whose clips are `kept`, and return them."""
    rows = np.isin(whole.index, kept)
    columns = {name: getattr(whole, name)[rows] for name in ("index", "label", "confidence")}
    part = LabelTable(header=whole.header, **columns)
    part.write(path)
    return part


def test_tables_are_fused_clip_by_clip_where_each_has_others(shards, tmp_path):
    seen = part_of(table(shards, "efficientnet-lite0"), range(5, 48), tmp_path / "seen.parquet")
    heard = part_of(table(shards, "fused"), range(0, 40), tmp_path / "heard.parquet")
    words = ["labels", "fuse", str(tmp_path / "seen.parquet"), str(tmp_path / "heard.parquet")]
    words += [
        "--data",
        str(shards),
        "--clusters",
        "4",
        "--seed",
        "1",
        "--out",
        str(tmp_path / "both.parquet"),
    ]
    assert main(words) == 0
    found, both = LabelTable.load(tmp_path / "both.parquet"), list(range(5, 40))
    vectors = []
    for one in (seen, heard):
        label = dict(zip(one.index.tolist(), one.label.tolist(), strict=True))
        names = sorted({label[clip] for clip in both})
        vectors.append(np.array([[float(label[clip] == name) for name in names] for clip in both]))
    of_image, of_audio = vectors
    expected = fuse(of_image, of_audio, 4, 1)
    assert found.index.tolist() == both
    np.testing.assert_array_equal(found.label, expected.clustering.label)
    np.testing.assert_array_equal(found.confidence, expected.confidence)


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    """A run of one step."""
    folder = tmp_path_factory.mktemp("trained")
    recipe, run = write_recipe(folder, shards), folder / "run"
    assert main(["train", str(recipe), "--run-dir", str(run), "--max-steps", "1"]) == 0
    return run


def vectors_of(run, shards):
    """What `cacl labels relabel` compares, clip by clip: the place that is heard most, and the sound."""
    store, model = open_store(shards), cacl.load(run).model
    view, found = whole_view(store), []
    for batch in evaluation_batches(store, store.indices, 48, TorchDecoder(), 0, augmentation=view):
        with torch.no_grad():
            embeddings = model(*model.prepare(batch.images, batch.waveforms))
        for maps, audio in zip(embeddings.image, embeddings.audio, strict=True):
            place = (maps[0] @ audio[0]).argmax()
            found.append(torch.cat([maps[0, place], audio[0]]).numpy())
    return np.stack(found)


def test_neighbors_vote_on_the_clips_of_the_table_as_the_options_say(shards, trained, tmp_path):
    """The table lacks clips of which the run has vectors."""
    kept = [k for k in range(48) if k not in (0, 3, 10, 11, 12, 30)]
    before = part_of(table(shards, "fused"), kept, tmp_path / "part.parquet")
    words = [
        "labels",
        "relabel",
        str(tmp_path / "part.parquet"),
        "--data",
        str(shards),
        "--run",
        str(trained),
    ]
    words += [
        "--workers",
        "0",
        "--neighbors",
        "4",
        "--majority",
        "0.3",
        "--out",
        str(tmp_path / "after.parquet"),
    ]
    assert main(words) == 0
    found, vectors = LabelTable.load(tmp_path / "after.parquet"), vectors_of(trained, shards)[kept]
    given = vectors, before.label, before.confidence
    label, confidence = relabel(*given, 4, 0.3)
    assert found.index.tolist() == kept
    np.testing.assert_array_equal(found.label, label)
    np.testing.assert_allclose(found.confidence, confidence, atol=1e-4)
    assert found.header.parameters["table"] == before.fingerprint
    for others in ((4, 0.5), (20, 0.3)):
        assert not np.array_equal(relabel(*given, *others)[0], label), "the case tells the options apart"


def test_a_second_round_from_a_trained_run(shards, trained, tmp_path):
    run = trained
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
    shutil.copy(shards / "labels" / "features.npz", tmp_path)  # of another ear: not to be taken for these
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
        (
            ["labels", "cluster", "{data}", "--tagger", "nothing:here"],
            "expected ./FILE.py:FUNCTION, or MODULE:FUNCTION",
        ),
        (["label", "{data}", "--tagger", "a:b", "--region", "ogl"], "--tagger: labels sounds; leave out"),
        (["label", "{data}", "--region", "{data}/nowhere"], "{data}/nowhere"),
        (["labels", "report", "{data}", "--data", "{data}", "--batch-size", "1"], "pairs need 2 clips"),
        (["labels", "report", "{data}/labels/no.parquet", "--data", "{data}"], "no such label table"),
        (
            ["labels", "relabel", "{data}/labels/fused.parquet", "--data", "{data}", "--run", "{data}"],
            "{data}",
        ),
        (
            [
                *("labels", "relabel", "{data}", "--data", "{data}"),
                *("--run", "{data}/manifest.json", "--neighbors", "0"),
            ],
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
