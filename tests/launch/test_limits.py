"""Promise 12: no recipe, exported file or manifest makes a model or a batch that fits no machine."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import cacl
from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from cacl.model.localizer import ModelOptions
from cacl.model.weights import timm_network
from cacl.options import parse
from launch.jobs.clips import whole_view
from launch.jobs.recipe import Recipe
from shards.annotation import ANNOTATION_LIMIT, BrokenAnnotation, parse_annotation, write_annotation
from shards.store import LocalFiles, Store

MODELS: dict[str, dict[str, Any]] = {
    "heads": {"heads": 10**7},
    "dimension": {"dimension": 10**9},
    "image.channels": {"image": {"name": "small-cnn", "channels": 20_000}},
    "audio.channels": {"audio": {"name": "small-cnn", "channels": 20_000}},
    "head.hidden": {"head": {"name": "mlp", "hidden": 10**9}},
    "model.heads: 64 of 4096 channels": {"heads": 64, "head": {"name": "decoder", "hidden": 4096}},
    "features.bands": {"features": {"name": "log-mel", "bands": 10**9}},
    "features.hop: 1e-300": {"features": {"name": "log-mel", "hop": 1e-300}},
    "channels: 100": {"image": {"name": "small-cnn", "channels": 100}},
}


def small(**model: Any) -> dict[str, Any]:
    trunks = {"image": {"name": "small-cnn"}, "audio": {"name": "small-cnn"}, "dimension": 16}
    return {"data": {"train": "none"}, "model": {**trunks, **model}}


@pytest.mark.parametrize("field", MODELS)
def test_an_exported_file_of_absurd_size_is_one_sentence_that_names_the_field(tmp_path, field):
    recipe = {**small(**MODELS[field]), "loss": {}, "training": {"seed": 0}}
    about = {"format_version": 1, "recipe": recipe, "weights": "model", "step": 1, "identity": None}
    file = tmp_path / "model.safetensors"
    save_file({"scalar": torch.zeros(1)}, file, metadata={"cacl": json.dumps(about)})
    began = time.monotonic()
    with pytest.raises(UserError, match=re.escape(field)):
        cacl.load(file)
    assert time.monotonic() - began < 10, "a head costs time, and ten million of them cost minutes"


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 10**9), ("duration", 1e300), ("duration", 1e9), ("sample_rate", 10**12), ("duration", 1100.0)],
)
def test_a_recipe_that_cuts_absurd_clips_is_one_sentence_that_names_the_field(key, value):
    with pytest.raises(UserError, match=rf"augmentation\.{key}: "):
        parse(Recipe, {"data": {"train": "none", "augmentation": {key: value}}}, "recipe.yaml")


@pytest.mark.parametrize("seconds", [1e9, 1e300])
def test_a_manifest_of_absurd_length_is_one_sentence_that_names_the_field(tmp_path, seconds):
    class Absurd:
        parameters = {"storage": {"sample_rate": 16_000, "seconds": seconds}}  # noqa: RUF012

    store = Store(Absurd(), LocalFiles(Path(tmp_path)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=rf"{tmp_path}: parameters.storage: duration"):
        whole_view(store)


def test_a_network_of_billions_of_parameters_is_refused_before_it_is_built():
    with pytest.raises(UserError, match=r"eva02_enormous_patch14_clip_224 has 4350556928 parameters"):
        timm_network("eva02_enormous_patch14_clip_224", "none")


def test_what_people_use_is_within_the_limits():
    """SLAVC's two heads of 512, SSPL's 512 without a head, a head for each of 16 classes."""
    for model in ({"heads": 2, "dimension": 512}, {"heads": 16, "dimension": 1024}):
        assert parse(ModelOptions, small(**model)["model"], "recipe.yaml").heads == model["heads"]


@pytest.mark.parametrize("entry", ["boxes", "sources"])
def test_an_annotation_without_measure_is_a_broken_clip(entry):
    box = b"[0,0,1,1]"
    many = {
        "boxes": b'[{"boxes":[' + b",".join([box] * 10**6) + b"]}]",
        "sources": b"[{}" + b",{}" * 10**6 + b"]",
    }
    note = b'{"format_version":2,"id":"a","sources":' + many[entry] + b"}"
    with pytest.raises(BrokenAnnotation, match=f"{len(note)} bytes; {ANNOTATION_LIMIT} are read"):
        parse_annotation(note)


def test_no_annotation_is_written_that_would_not_be_read():
    source = SoundSource("dog", boxes=((0.0, 0.0, 1.0, 1.0),) * 60_000)
    with pytest.raises(UserError, match=r"film-7: its annotation has .* give it fewer boxes"):
        write_annotation(Annotation("film-7", 0, (source,)))
