"""Annotations in shards: version 2 there and back, version 1 read as ever, and what is neither in one sentence.

`version_1/` was packed, and measured (`numbers.json`), by the last code that wrote version 1.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cacl.annotation import Annotation, SoundSource
from cacl.errors import UserError
from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.measure import measure_batch
from cacl.evaluation.protocols import CONTROLS, PROTOCOLS, Protocol
from cacl.evaluation.summary import breakdown
from cacl.evaluation.systems import system_of
from shards.annotation import BrokenAnnotation, parse_annotation, read_annotation
from shards.clip import Clip, Storage, encode_mask, members
from shards.decoders.augmentation import Augmentation
from shards.decoders.clip import DecodeSpec, Request
from shards.decoders.torch import TorchDecoder, decode
from shards.loader import evaluation_batches
from shards.plan import make_plan
from shards.sources.extended import ExtendedGenerated
from shards.sources.generated import Generated
from shards.sources.scenes import SceneOptions
from shards.store import open_store
from shards.verify import verify
from tests.shards.classed import packed_here
from tests.shards.tiny import notes_of, tiny_store

OLD = Path(__file__).parent / "version_1"
NUMBERS = json.loads((OLD / "numbers.json").read_text())
SCENES: dict[str, type[SceneOptions]] = {"generated": Generated, "extended-generated": ExtendedGenerated}
SIZE = 6, 9
STORAGE = Storage(frame_side=16, sample_rate=1000, seconds=0.02)
MAPS = np.random.default_rng(3).uniform(-1, 1, (4, 7, 7)).astype(np.float32)

texts = st.text(max_size=9)
numbers = st.floats(-1e9, 1e9)
boxes = st.lists(st.tuples(*[st.floats(-1, 2)] * 4), max_size=3).map(tuple)
masks = st.lists(st.booleans(), min_size=54, max_size=54).map(lambda bits: np.array(bits).reshape(SIZE))
sources = st.builds(
    SoundSource, texts, st.none() | boxes, st.none() | masks, st.booleans(), st.booleans(),
    st.sampled_from(["", "other.wav"]), texts, texts, st.booleans(),
)  # fmt: skip
clips = st.builds(
    lambda id, found, image, film, time, seconds, tags: Clip(
        id, np.zeros((*SIZE, 3), np.uint8), np.zeros(20), found, {"other.wav": np.zeros(20)},
        image, film, time, seconds, tags,
    ),
    texts.filter(bool), st.none() | st.lists(sources, max_size=3).map(tuple),
    *[st.none() | texts.filter(bool)] * 2, *[st.none() | numbers] * 2, st.lists(texts, max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(clips, st.integers(0, 2**31))
def test_what_is_known_of_a_clip_is_the_same_after_it_was_stored(clip, index):
    stored = members(clip, index, STORAGE)
    found = read_annotation(stored, SIZE)
    assert found == replace(clip.annotation, index=index)
    assert parse_annotation(stored["json"]).annotation == found, "masks apart, the json alone says as much"
    for before, after in zip(clip.sources or (), found.sources or (), strict=True):
        assert (before.mask is None) == (after.mask is None)
        if before.mask is not None and after.mask is not None:
            assert after.mask.dtype == np.uint8 and set(np.unique(after.mask)) <= {0, 255}
            np.testing.assert_array_equal(before.mask, after.mask > 0)


def test_what_is_not_known_is_left_out_of_the_json():
    frame, audio = np.zeros((*SIZE, 3), np.uint8), np.zeros(20)
    bare = json.loads(members(Clip("a", frame, audio), 3, STORAGE)["json"])
    assert bare == {"format_version": 2, "id": "a", "index": 3}
    heard = SoundSource("dog", ((0, 0, 0.5, 1),), np.ones(SIZE, bool))
    stored = members(Clip("a", frame, audio, (heard, SoundSource(audible=False)), film="f"), 3, STORAGE)
    described = [{"class_name": "dog", "boxes": [[0, 0, 0.5, 1]], "mask": "0.mask.png"}, {"audible": False}]
    assert json.loads(stored["json"]) == bare | {"film": "f", "sources": described}
    assert sorted(stored) == ["0.mask.png", "jpg", "json", "wav"]


DOG = SoundSource("dog", ((0, 0, 0.5, 1),))
OLD_NOTES: dict[str, tuple[dict[str, Any], tuple[SoundSource, ...] | None]] = {
    "nothing": ({}, None),
    "a class": ({"class_name": "dog"}, (SoundSource("dog"),)),
    "boxes": ({"boxes": [[0, 0, 0.5, 1]]}, (SoundSource(boxes=DOG.boxes),)),
    "both": ({"class_name": "dog", "boxes": [[0, 0, 0.5, 1]]}, (DOG,)),
    "a pair": ({"boxes": [], "sounding": False}, (SoundSource(boxes=(), visible=False),)),
    "a pair without boxes": ({"sounding": False}, (SoundSource(boxes=(), visible=False),)),
    "absent": ({"class_name": "absent", "boxes": []}, (SoundSource("absent", (), visible=False),)),
    "two objects": (
        {
            "class_name": "dog",
            "boxes": [[0, 0, 0.5, 1]],
            "other": {"class_name": "cow", "boxes": [[0.5, 0, 1, 1]]},
        },
        (DOG, SoundSource("cow", ((0.5, 0, 1, 1),), audible=False, audio="other.wav")),
    ),
}


@pytest.mark.parametrize("kind", OLD_NOTES)
def test_version_1_says_the_same_in_other_words(kind):
    note, expected = OLD_NOTES[kind]
    data = json.dumps({"index": 4, "id": "a", "seconds": 2.5, "frame_seconds": 5, **note}).encode()
    assert parse_annotation(data).annotation == Annotation("a", 4, expected, time=5.0, seconds=2.5)


def measured(folder: Path, protocol: Protocol) -> ClipResults:
    """Fixed maps on all clips of a folder, as an evaluation goes through them."""
    store, view = open_store(folder), Augmentation(duration=0.02)
    (batch,) = evaluation_batches(
        store, store.indices, 9, TorchDecoder(), 0, augmentation=view, audio=protocol.audio
    )

    def maps(images: torch.Tensor, waveforms: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(MAPS[: len(images)])

    return measure_batch({"fixed": system_of(maps)}, batch, protocol, torch.device("cpu"))["fixed"].in_order()


EVERY = PROTOCOLS | {one.name: one for controls in CONTROLS.values() for one in controls.values()}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_give_the_numbers_that_version_1_gave(name, version, tmp_path):
    """Of the same clips: those that were packed then, and those that are packed now."""
    protocol, expected = EVERY[name], NUMBERS[name]
    folder = OLD / expected["data"]
    if version == 2:
        folder, storage = tmp_path / "now", Storage(frame_side=32, seconds=0.02)
        folder.mkdir()
        packed_here(make_plan(SCENES[expected["data"]](split="test", clips=2, storage=storage)), folder)
    results = measured(folder, protocol)
    columns = results.facts | dict(results.columns)
    assert columns.keys() >= expected["columns"].keys()
    for column, values in expected["columns"].items():
        if isinstance(values[0], str):
            assert columns[column].tolist() == values, column
        else:
            np.testing.assert_allclose(columns[column], np.array(values, float), atol=1e-6, err_msg=column)
    numbers = protocol.summarize(results)
    same = {metric: numbers[metric] for metric in expected["numbers"]}
    assert same == pytest.approx(expected["numbers"], abs=1e-6)
    if protocol.has_detection:
        found = json.loads(json.dumps(breakdown(results, protocol)))
        for part in found["by_size"].values():
            part.pop("possible", None)  # which sizes no map can find was not said then
        assert found == expected["breakdown"]
    assert list(verify(folder, 1)) == []


def altered(**changes) -> dict[str, bytes]:
    """A clip of version 2 with two sources, a mask and another sound, with other fields of its json."""
    one = SoundSource("dog", ((0, 0, 1, 1),), np.ones(SIZE, bool))
    two = SoundSource(audible=False, audio="other.wav")
    frame, audio = np.zeros((*SIZE, 3), np.uint8), np.zeros(20)
    found = members(Clip("film-7", frame, audio, (one, two), {"other.wav": audio}), 0, STORAGE)
    return found | {"json": json.dumps(json.loads(found["json"]) | changes).encode()}


def source(**fields) -> dict[str, bytes]:
    return altered(sources=[fields])


FAULTS = {
    "no list": (altered(sources="dog"), "sources: expected a list, got 'dog'"),
    "no object": (altered(sources=["dog"]), "sources[0]: expected an object, got 'dog'"),
    "a misspelled field": (source(audable=True), "sources[0]: has no 'audable'; its fields are class_name,"),
    "a class that is no text": (source(class_name=3), "sources[0]: class_name: expected text, got 3"),
    "a word for true": (source(audible="no"), "sources[0]: audible: expected true or false, got 'no'"),
    "boxes that are none": (source(boxes=7), "sources[0]: boxes: expected a list, got 7"),
    "three edges": (source(boxes=[[0, 0, 1]]), "sources[0]: [0, 0, 1] is not a box of four finite numbers"),
    "an edge that is text": (source(boxes=[[0, 0, "a", 1]]), "is not a box of four finite numbers"),
    "an edge that is true": (source(boxes=[[0, 0, True, 1]]), "is not a box of four finite numbers"),
    "an endless edge": (source(boxes=[[0, 0, math.inf, 1]]), "is not a box of four finite numbers"),
    "an edge of 400 digits": (source(boxes=[[0, 0, 10**400, 1]]), "is not a box of four finite numbers"),
    "a mask that is absent": (source(mask="7.mask.png"), "a member that the clip does not have: 7.mask.png"),
    "a sound that is absent": (source(audio="7.wav"), "a member that the clip does not have: 7.wav"),
    "a mask that is a sound": (source(mask="wav"), "wav: is no picture"),
    "an index of text": (altered(index="0"), "index: expected a number, got '0'"),
    "an id that is a number": (altered(id=7), "id: expected text, got 7"),
    "no id": (altered(id=None), "the annotation has no id"),
    "a time of text": (altered(time="5 s"), "time: expected a finite number, got '5 s'"),
    "no time": (altered(seconds=math.nan), "seconds: expected a finite number, got nan"),
    "tags that are a text": (altered(tags="static_image"), "tags: expected a list of texts, got 'static_im"),
    "a tag that is a number": (altered(tags=[3]), "tags: expected a list of texts, got [3]"),
    "a word for false": (source(aside="no"), "sources[0]: aside: expected true or false, got 'no'"),
    "a film that is a list": (altered(film=["a"]), "film: expected text, got ['a']"),
    "no json": ({"jpg": b""}, "has no annotation"),
    "half a json": (altered() | {"json": b'{"format_version": 2, "sou'}, "has no annotation"),
    "an old box": (altered() | {"json": b'{"id": "a", "boxes": [[1, 2]]}'}, "[1, 2] is not a box"),
    "an old object": (altered() | {"json": b'{"id": "a", "other": 3}'}, "other: expected an object, got 3"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_malformed_annotation_is_one_sentence_that_names_the_field(kind):
    stored, sentence = FAULTS[kind]
    with pytest.raises(BrokenAnnotation) as error:
        read_annotation(stored, SIZE)
    assert sentence in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 250


def test_a_mask_of_another_size_or_of_too_many_pixels_is_refused(monkeypatch):
    stored = altered() | {"0.mask.png": encode_mask(np.ones((9, 6), bool))}
    with pytest.raises(BrokenAnnotation, match=r"^0.mask.png is not of the frame's size"):
        read_annotation(stored, SIZE)
    monkeypatch.setattr("shards.annotation.MASK_PIXELS", 53)
    with pytest.raises(BrokenAnnotation, match="masks of more than 53 pixels"):
        read_annotation(altered(), SIZE)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["boxes", "mask", "class_name", "audio", "audible", "other", "x"]), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip
FIELDS = [
    "format_version",
    "id",
    "index",
    "sources",
    "boxes",
    "other",
    "class_name",
    "time",
    "film",
    "seconds",
    "tags",
]


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=6), st.sampled_from([1, 2, None]))
def test_no_json_does_anything_but_to_be_read_or_refused(note, version):
    """Promise 12: whoever wrote it."""
    if version == 2:
        note = note | {"format_version": 2, "id": "a"}
    elif version == 1:
        note.pop("format_version", None)
    try:
        found = read_annotation(altered() | {"json": json.dumps(note).encode()}, SIZE)
    except (BrokenAnnotation, UserError):
        return
    assert all(len(box) == 4 for box in found.boxes or [])
    assert isinstance(found.class_name, str) and isinstance(found.id, str)


@pytest.mark.parametrize("version", [3, 0, "2", None, True])
def test_an_unknown_version_ends_a_run_that_would_mask_broken_clips(version):
    """Promise 2. A set of another version is not a set of broken clips, of which none would be measured."""
    store = tiny_store(range(3))
    store.clips[1]["json"] = json.dumps({"format_version": version, "id": "film-7"}).encode()
    spec = DecodeSpec(
        Augmentation(size=32, short_side=40, duration=0.2, sample_rate=1000), "mask", annotated=True
    )
    with pytest.raises(
        UserError, match=r"^clip 'film-7': its annotation has the format_version .* reads 1 and 2"
    ):
        decode(store, Request(np.arange(3), None), spec)


def test_a_malformed_annotation_is_a_broken_clip():
    store = tiny_store(range(3))
    store.clips[1]["json"] = json.dumps({"format_version": 2, "id": "a", "sources": 3}).encode()
    view = Augmentation(size=32, short_side=40, duration=0.2, sample_rate=1000)
    batch = decode(store, Request(np.arange(3), None), DecodeSpec(view, "mask", annotated=True))
    assert batch.valid.tolist() == [True, False, True]
    assert [note.index for note in notes_of(batch)] == [0, 1, 2]
    with pytest.raises(
        UserError, match=r"000000001: the clip cannot be decoded \(sources: expected a list, got 3\)"
    ):
        decode(store, Request(np.arange(3), None), DecodeSpec(view, annotated=True))


def test_several_sources_are_one_truth():
    """What is heard counts, with all its boxes and pixels; what is silent or out of view has no part in it."""
    left, right = np.zeros(SIZE, bool), np.zeros(SIZE, np.uint8)
    left[:, :3], right[:, 6:] = True, 1
    dog = SoundSource("dog", ((0, 0, 0.3, 1),), left)
    cow = SoundSource("cow", ((0.6, 0, 1, 1),), right)
    rain = SoundSource("rain", boxes=(), visible=False)
    cat = SoundSource("cat", ((0, 0, 1, 1),), np.ones(SIZE, bool), audible=False, audio="other.wav")
    note = Annotation("a", sources=(dog, cat, rain, cow))
    assert note.boxes == [(0, 0, 0.3, 1), (0.6, 0, 1, 1)] and note.class_name == "dog"
    np.testing.assert_array_equal(note.mask, left | (right > 0))
    assert note.heard_in("other.wav") == (cat,) and note.heard_in("wav") == (dog, rain, cow)
    assert Annotation("a", sources=(rain,)).boxes == [] and Annotation("a", sources=(rain,)).mask is None
    unknown = replace(note, sources=(dog, SoundSource("bell")))
    assert unknown.boxes is None and unknown.mask is None, "half of a truth is none"
    told = replace(note, sources=(SoundSource("bell", mask=left, aside=True), dog))
    assert told.boxes == list(dog.boxes or ()) and told.class_name == "dog", "what stands aside is no truth"
    np.testing.assert_array_equal(told.mask, left)
    assert replace(note, sources=(SoundSource("bell", aside=True),)).heard == ()
    assert (Annotation("a").boxes, Annotation("a").class_name) == (None, "")
    assert (Annotation("a", sources=()).boxes, Annotation("a", sources=()).class_name) == ([], "silence")


def test_masks_may_be_any_png(tmp_path):
    """What packs elsewhere need not store them as we do: palettes, one bit, and alpha are read too."""
    for mode in ("1", "L", "P", "RGB"):
        file = io.BytesIO()
        Image.fromarray(np.eye(6, 9, dtype=np.uint8) * 255).convert(mode).save(file, "PNG")
        found = read_annotation(altered() | {"0.mask.png": file.getvalue()}, SIZE)
        np.testing.assert_array_equal(found.mask, np.eye(6, 9, dtype=bool))
