"""Promises 1, 2, 12 and 14 of photographs with recordings of what they show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cacl.errors import UserError
from launch.jobs.pack import pack
from shards.clip import Clip, Rejection
from shards.scenes.photographs import LEAST_SHARE, Photographs
from shards.scenes.specs import NOTHING, open_backgrounds, open_photographs, open_pictures, open_sounds
from shards.scenes.split import SPLITS, divide
from tests.launch.tiny import cacl
from tests.shards import collected


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Photographs:
    """Photographs a and b with recordings of dogs and persons, of all sides."""
    monkeypatch.setenv("CACL_CACHE", str(tmp_path / "cache"))
    for opener in (open_pictures, open_sounds, open_backgrounds, open_photographs):
        opener.cache_clear()
    sounds = collected.recordings(tmp_path / "sounds", {"dog": 4, "person": 4, "cat": 1, "_rain": 1})
    specs = (f"coco:{collected.coco(tmp_path / 'coco')}",)
    return Photographs(photographs=specs, sounds=(str(sounds),), split="all")


def read(source: Photographs, id: str) -> Clip:
    clip = source.read(id)
    assert isinstance(clip, Clip)
    return clip


def test_every_photograph_is_paired_with_each_class_that_it_shows_and_can_be_heard(
    source: Photographs,
) -> None:
    """The small dog of b counts with the large one; nobody recorded a bowl, no photograph shows a cat."""
    assert source.ids() == ["a+dog", "a+person", "b+dog", "b+person"]
    assert [source.group(id) for id in source.ids()] == ["a", "a", "b", "b"]


def test_truth_are_the_masks_of_all_of_the_class(source: Photographs) -> None:
    """At 224 pixels of 240: areas to a pixel along the outlines. A group of persons is of its class too."""
    scale = 224 / 240
    for id, area, boxes in (
        ("a+dog", 80 * 80, [[100 / 320, 60 / 240, 180 / 320, 140 / 240]]),
        (
            "b+dog",
            80 * 80 + 20 * 20,
            [[290 / 320, 10 / 240, 310 / 320, 30 / 240], [0, 60 / 240, 80 / 320, 140 / 240]],
        ),
        ("b+person", 150 * 100, [[150 / 320, 100 / 240, 300 / 320, 200 / 240]]),
    ):
        clip = read(source, id)
        mask = clip.annotation.mask
        assert clip.frame.shape == (224, 299, 3) and mask is not None and mask.shape == (224, 299)
        assert mask.sum() == pytest.approx(area * scale**2, rel=0.03)
        assert sorted(map(list, clip.annotation.boxes or ())) == pytest.approx(np.array(sorted(boxes)))
        assert clip.annotation.class_name == id.rpartition("+")[2] and clip.image == id[0]
        silent = {one.class_name for one in clip.sources or () if not one.audible}
        assert silent == {"dog", "person"} - {clip.annotation.class_name}


def test_what_is_heard_is_a_recording_of_the_class(source: Photographs) -> None:
    """Tones of dogs lie at 300 to 330 Hz, of persons at 400 to 430."""
    for id, lowest in (("a+dog", 300), ("a+person", 400), ("b+dog", 300), ("b+person", 400)):
        audio = read(source, id).audio
        assert audio.shape == (48_000,) and audio.dtype == np.float32
        strongest = np.argmax(np.abs(np.fft.rfft(audio))) / 3
        assert lowest - 5 <= strongest <= lowest + 35


def test_a_clip_hangs_on_its_name_and_the_seed(source: Photographs) -> None:
    one, again = read(source, "b+dog"), read(replace(source, clips=3), "b+dog")
    assert np.array_equal(one.audio, again.audio) and np.array_equal(one.frame, again.frame)
    other = read(replace(source, seed=1), "b+dog")
    assert not np.array_equal(one.audio, other.audio) and np.array_equal(one.frame, other.frame)


def test_a_class_of_one_s_own_is_paired_too(source: Photographs, tmp_path: Path) -> None:
    """Nobody's table has a sounding bowl; who recorded one hears it."""
    bowls = collected.recordings(tmp_path / "bowls", {"bowl": 1})
    clip = read(replace(source, sounds=(*source.sounds, str(bowls))), "c+bowl")
    assert [one.class_name for one in clip.sources or ()] == ["bowl"]


def test_some_are_drawn_by_seed(source: Photographs) -> None:
    drawn = {tuple(replace(source, clips=2, seed=seed).ids()) for seed in range(20)}
    assert len(drawn) > 1 and all(len(ids) == 2 and list(ids) == sorted(ids) for ids in drawn)
    with pytest.raises(UserError, match="--clips 5: there are 4 pairs"):
        replace(source, clips=5).ids()


def test_what_scenes_show_on_another_side_is_left_out(source: Photographs, tmp_path: Path) -> None:
    """A cut-out was made of photograph a, none of b: a is used on its side alone, b on all."""
    objects = collected.cut_outs(tmp_path / "objects", {"dog": 6})
    (objects / "origins.csv").write_text("file,origin\ndog/0.png,a\n")
    division = divide(open_pictures((str(objects),)), open_sounds(source.sounds), NOTHING)
    for split in SPLITS:
        ids = replace(source, split=split, objects=(str(objects),)).ids()
        shown = {one.origin for one in division[split].pictures}
        assert {"b+dog", "b+person"} <= set(ids) and ("a+dog" in ids) == ("a" in shown)


def test_it_is_packed_the_same_by_any_number_of_workers(source: Photographs, tmp_path: Path) -> None:
    (tmp_path / "coco/images/b.jpg").write_bytes(b"no photograph")
    one = pack(source, tmp_path / "one", workers=1, max_rejected=0.5)
    two = pack(source, tmp_path / "two", workers=2, max_rejected=0.5)
    assert one is not None and two is not None and one.fingerprint == two.fingerprint
    rejected = [json.loads(line) for line in (tmp_path / "two/rejected.jsonl").read_text().splitlines()]
    assert [(row["id"], row["file"]) for row in rejected] == [("b+dog", "b.jpg"), ("b+person", "b.jpg")]
    assert str(tmp_path) not in (tmp_path / "two/manifest.json").read_text()


def test_a_photograph_that_is_too_small_an_object_is_not_paired(source: Photographs) -> None:
    index = open_photographs(source.photographs)[0].index
    small = index.area[index.ids == 10] / (320 * 240)
    assert 0 < small < LEAST_SHARE


def test_a_rejection_names_the_file(source: Photographs, tmp_path: Path) -> None:
    Image.new("RGB", (100, 100)).save(tmp_path / "coco/images/a.jpg")
    rejection = source.read("a+dog")
    assert (
        isinstance(rejection, Rejection) and rejection.file == "a.jpg" and "other picture" in rejection.reason
    )


def test_no_class_with_both_sides_is_one_sentence(tmp_path: Path) -> None:
    sounds = collected.recordings(tmp_path / "sounds", {"cat": 1})
    words = ["--photographs", f"coco:{collected.coco(tmp_path)}", "--sounds", str(sounds)]
    answer = cacl("pack", "photographs", *words, "--out", str(tmp_path / "out"))
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1
    assert "no recording is of a class that the photographs show" in answer.stderr
