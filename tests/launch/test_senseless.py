"""Values that no verb can mean are refused by name; names are no formulas and no programs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cacl.errors import UserError
from cacl.labels.report import build_report, count_labels
from cacl.labels.table import LabelHeader, LabelTable
from cacl.labels.tag import load_tagger
from cacl.viewing.label_report import Part, Sample, write_label_report
from launch.jobs.clips import whole_view
from launch.main import main
from launch.verbs.arguments import count, nonnegative, share
from shards import manifest as manifests
from shards.manifest import Manifest
from shards.pack import merge, pack
from shards.plan import make_plan
from shards.sources.generated import Generated
from shards.store import open_store

NO_NUMBER = ["nan", "inf", "-inf", "1e999", "1_0", "", "two", "-1", "9" * 5000]


@pytest.mark.parametrize("text", NO_NUMBER)
def test_a_number_of_the_command_line_is_finite_and_in_its_range(text):
    for read in (nonnegative, share):
        with pytest.raises(argparse.ArgumentTypeError) as caught:
            read(text)
        assert len(str(caught.value)) < 200
    assert nonnegative("2.5") == 2.5 and share("1") == 1 and share("1e-3") == 1e-3


@pytest.mark.parametrize("text", ["-1", "1.5", "nan", "1e3", "", "²", "9" * 5000, str(2**31)])
def test_a_count_is_a_whole_number_that_fits(text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        count(text)
    assert len(str(caught.value)) < 200 and count("0") == 0 and count(str(2**31 - 1)) == 2**31 - 1


OPTIONS = [
    ["pack", "videos", "--root", "r", "--out", "o", "--frame-at"],
    ["pack", "videos", "--root", "r", "--out", "o", "--shortest"],
    ["pack", "vggsound", "--root", "r", "--out", "o", "--frame-at"],
    ["pack", "generated", "--out", "o", "--max-rejected"],
    ["pack", "generated", "--out", "o", "--validation-share"],
    ["shards", "audit", "list.txt", "--share"],
    ["labels", "relabel", "t.parquet", "--data", "d", "--run", "r", "--majority"],
    ["evaluate", "--run", "r", "--alpha"],
    ["label", "d", "--workers"],
    ["labels", "cluster", "d", "--seed"],
    ["labels", "report", "t.parquet", "--data", "d", "--batch-size"],
    ["report", "--run", "r", "--clips"],
    ["report", "--run", "r", "--classes"],
]


@pytest.mark.parametrize("words", OPTIONS, ids=lambda words: " ".join([*words[:2], words[-1]]))
@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_every_verb_refuses_what_is_no_number(words, value, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code: object
    try:
        code = main([*words[:-1], f"{words[-1]}={value}"])
    except SystemExit as error:  # argparse's way
        code = error.code
    told = capsys.readouterr().err
    assert code == 2 and words[-1] in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["os:getpid", "os:system", "os:nothing", ":", "os", "json:", "nowhere:f", "this.that:f"]
)
def test_a_tagger_that_is_none_is_a_sentence(name):
    with pytest.raises(UserError, match=rf"^--tagger {name}: "):
        load_tagger(name, 16000, 100, torch.device("cpu"))


def test_a_tagger_that_fails_says_where(tmp_path, monkeypatch):
    (tmp_path / "my_tagger_that_fails.py").write_text(
        "def make(rate):\n    def hear(waves):\n        return waves.nothing\n    return hear\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UserError, match=r"waveforms \[1, 100\] it raised AttributeError: .*my_tagger_that_fails\.py, line 3"
    ):
        load_tagger("my_tagger_that_fails:make", 16000, 100, torch.device("cpu"))


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ["$x_$", "$\\frac{$", "a$b", "\\alpha", "<b>", "강아지"])
def test_a_class_name_is_no_formula(tmp_path, name):
    tables = {
        "t": LabelTable(np.arange(3), np.arange(3), np.ones(3, np.float32), LabelHeader("x", "", "", 3))
    }
    truth = {"t": [name, "b", "c"]}
    part = Part(
        tables["t"].confidence, *count_labels(tables, truth)["t"], [name] * 3, [Sample(name, name, [])]
    )
    write_label_report(tmp_path / "r.html", build_report(tables, truth, 2), {"t": part})
    assert (tmp_path / "r.html").read_text().count("data:image/png") == 2


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "g"
    plan = make_plan(Generated(split="test", clips=3), 3)
    pack(plan, out)
    merge(plan.head, out, 0.0)
    return out


def forged(packed: Path, **changes: object) -> str:
    """Return a manifest with other values whose fingerprint fits them."""
    values = json.loads((packed / manifests.NAME).read_text()) | changes
    named = [values[key] for key in ("source", "parameters", "ids", "ids_sha256", "shard_size")]
    content = [[shard["sha256"], shard["missing"]] for shard in values["shardlist"]]
    values["fingerprint"] = manifests.digest([manifests.FORMAT_VERSION, named, content])
    return json.dumps(values)


@pytest.mark.parametrize(
    ("key", "value"),
    [("shard_size", 3.0), ("shard_size", True), ("shard_size", "3"), ("ids", 3.0), ("source", 3), ("source", None),
     ("parameters", []), ("parameters", "x"), ("ids_sha256", 0), ("environment", []), ("environment", {"a": 1})],
)  # fmt: skip
def test_a_manifest_of_odd_types_is_a_sentence(packed, key, value):
    with pytest.raises(UserError, match=rf"here: is damaged .*{key}"):
        Manifest.from_json(forged(packed, **{key: value}), "here")
    assert Manifest.from_json(forged(packed), "here").ids == 3


@pytest.mark.parametrize(
    "storage", [{"seconds": "x"}, {"sample_rate": None}, {"seconds": float("inf")}, "seconds", [1]]
)
def test_odd_parameters_of_shards_are_a_sentence_or_unknown(packed, tmp_path, storage):
    for file in packed.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / manifests.NAME).write_text(forged(packed, parameters={"storage": storage}))
    store = open_store(tmp_path)
    if isinstance(storage, dict):
        with pytest.raises(UserError, match=r"parameters\.storage: "):
            whole_view(store)
    else:
        assert whole_view(store).duration == 3.0


def test_a_folder_in_place_of_a_manifest_is_a_sentence(tmp_path):
    (tmp_path / manifests.NAME).mkdir()
    with pytest.raises(UserError, match=r"manifest\.json: there is no manifest"):
        open_store(tmp_path)
