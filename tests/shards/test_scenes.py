"""Scenes: exact truth, the same bytes however made, and no original on two sides of a split."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cacl.annotation import OTHER_SOUND
from cacl.errors import UserError
from launch.jobs.pack import pack
from shards.clip import Rejection, Storage
from shards.scenes.paint import tight_box
from shards.scenes.paste import NATURAL, PLAIN, blend, fit
from shards.scenes.source import Scenes
from tests.shards.collected import RATE, cut_outs, photographs, recordings

CLASSES = ("bell", "drum", "horn", "whistle")
TONES = {name: 300 + 100 * number for number, name in enumerate(CLASSES)}
"""Hz of the first recording of each class; the k-th is 10 k higher (`collected.recordings`)."""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Scenes:
    """Four classes of four pictures and recordings each, rain, and six photographs."""
    tree = tmp_path_factory.mktemp("tree")
    sounds = recordings(tree / "sounds", {**dict.fromkeys(CLASSES, 4), "_rain": 1})
    return Scenes(
        storage=Storage(frame_side=64, sample_rate=RATE, seconds=0.5),
        objects=(str(cut_outs(tree / "objects", dict.fromkeys(CLASSES, 4))),),
        sounds=(str(sounds),),
        backgrounds=(str(photographs(tree / "photographs", 6)),),
        clips=12,
    )


def clips_of(scenes: Scenes, **changes: Any) -> list[Any]:
    """Return all clips of the scenes with some options changed."""
    changed = dataclasses.replace(scenes, **changes)
    found = [changed.read(id) for id in changed.ids()]
    assert not any(isinstance(clip, Rejection) for clip in found)
    return found


def loudest(audio: np.ndarray) -> float:
    """Return the strongest frequency, Hz."""
    return float(np.fft.rfftfreq(len(audio), 1 / RATE)[np.abs(np.fft.rfft(audio)).argmax()])


def test_the_truth_of_a_scene_is_what_was_pasted_and_mixed(scenes):
    for clip in clips_of(scenes):
        heard = [source for source in clip.sources if source.audible]
        assert len(heard) == 1 and 1 <= len(clip.sources) <= 4
        assert len({source.class_name for source in clip.sources}) == len(clip.sources)
        # Four recordings of a class lie within 30 Hz, classes 100 Hz apart; half a second tells 2 Hz.
        assert abs(loudest(clip.audio) - TONES[heard[0].class_name] - 15) < 25
        for source in clip.sources:
            assert source.boxes == (tight_box(source.mask > 0),)
            assert source.picture.split("/")[-2] == source.class_name == source.recording.split("/")[-2]
        covered = np.sum([source.mask > 0 for source in clip.sources], axis=0)
        assert covered.max() == 1, "every pixel shows one object"


def test_scenes_are_the_same_bytes_from_any_number_of_processes(scenes, tmp_path):
    one = pack(scenes, tmp_path / "one", shard_size=5)
    two = pack(scenes, tmp_path / "two", shard_size=5, workers=2)
    assert one is not None and two is not None and one.fingerprint == two.fingerprint
    other = pack(dataclasses.replace(scenes, seed=1), tmp_path / "other", shard_size=5)
    assert other is not None and other.fingerprint != one.fingerprint


def test_no_picture_recording_or_photograph_lies_on_two_sides(scenes):
    sides = ("train", "validation", "test")
    used = {}
    for split in sides:
        clips = clips_of(scenes, split=split, clips=40)
        sources = [source for clip in clips for source in clip.sources]
        used[split] = {source.picture for source in sources} | {source.recording for source in sources}
        assert {source.class_name for source in sources} == set(CLASSES)
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not used[first] & used[second]


def test_originals_can_be_required_and_limited(scenes):
    for most in (1, 2):
        clips = clips_of(scenes, most_originals=most, clips=40)
        for name in CLASSES:
            sources = [s for clip in clips for s in clip.sources if s.class_name == name]
            assert len({source.picture for source in sources}) == most
            assert len({source.recording for source in sources}) == most
    with pytest.raises(
        UserError, match="needs 4 classes that have a picture and a recording, and there are 0"
    ):
        dataclasses.replace(scenes, least_originals=5).ids()


def test_silence_and_what_is_out_of_view_have_no_place_in_the_frame(scenes):
    silent = clips_of(scenes, silence=1.0)
    assert all(clip.annotation.boxes == [] and clip.annotation.class_name == "silence" for clip in silent)
    assert max(np.abs(clip.audio).max() for clip in silent) < 0.3  # rain at most
    away = clips_of(scenes, off_screen=1.0, most=3)
    for clip in away:
        (heard,) = clip.annotation.heard
        assert not heard.visible and clip.annotation.boxes == []
        assert heard.class_name not in {source.class_name for source in clip.sources if source.visible}
        assert abs(loudest(clip.audio) - TONES[heard.class_name] - 15) < 25
    mixed = clips_of(scenes, silence=0.5, off_screen=0.25, most=3, clips=200)
    shares = [sum(clip.annotation.class_name == "silence" for clip in mixed) / 200]
    shares.append(sum(any(not one.visible for one in clip.annotation.heard) for clip in mixed) / 200)
    assert np.allclose(shares, [0.5, 0.25], atol=0.1)  # three deviations of 200 draws


def test_each_object_of_a_frame_gets_its_clip_under_one_image_key(scenes):
    frames: dict[str, list[Any]] = {}
    for clip in clips_of(scenes, clip_per_object=True, fewest=2):
        assert clip.image is not None and clip.id.startswith(f"{clip.image}-")
        frames.setdefault(clip.image, []).append(clip)
    assert len(frames) == 12
    for clips in frames.values():
        assert len(clips) == len(clips[0].sources)
        assert all((clip.frame == clips[0].frame).all() for clip in clips)
        assert [clip.annotation.heard[0] for clip in clips] == [
            dataclasses.replace(source, audible=True) for source in clips[0].sources
        ]


def test_several_objects_can_be_heard_at_once(scenes):
    counts = {len(clip.annotation.heard) for clip in clips_of(scenes, fewest=3, sounding=3, clips=40)}
    assert counts == {1, 2, 3}


def test_a_test_clip_brings_the_sound_of_a_silent_object(scenes):
    for clip in clips_of(scenes, split="test", fewest=2):
        (other,) = (source for source in clip.sources if source.audio)
        assert other.audio == OTHER_SOUND and not other.audible
        assert abs(loudest(clip.sounds[OTHER_SOUND]) - TONES[other.class_name] - 15) < 25


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fewest": 3, "most": 2}, "--fewest 3 --most 2: both must be 1 to 8"),
        ({"most": 5}, "--most 5: needs 5 classes"),
        ({"off_screen": 0.5}, "--most 4: needs 5 classes"),
        ({"sounding": 5}, "--sounding 5: must be 1 to --most 4"),
        ({"sounding": 2, "clip_per_object": True}, "--clip-per-object"),
        ({"silence": 1.5}, "--silence 1.5: is not a share"),
        ({"silence": 0.6, "off_screen": 0.6, "most": 3}, "more than 1 together"),
        ({"clips": -1}, "--clips must lie in"),
    ],
)
def test_scenes_that_cannot_be_are_refused_by_their_option(scenes, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(scenes, **changes).ids()


def test_a_pasted_picture_takes_on_light_and_texture_of_its_place():
    random = np.random.default_rng(0)
    place = np.float32(60) + 12 * random.standard_normal((64, 64, 3), np.float32)
    picture = np.full((32, 32, 4), 220, np.uint8)
    picture[..., 3] = 255
    corner = (16, 16)
    plain = fit(picture, place, corner, PLAIN, random)
    natural = fit(picture, place, corner, NATURAL, random)
    assert (plain[..., :3] == 220).all()
    # Half of the way from 220 to 60.
    assert abs(natural[..., :3].mean() - 140) < 2
    # A flat picture gets as much grain as there is, up to the limit of 8 levels.
    assert 6 < natural[..., :3].std() < 10


@settings(deadline=None, max_examples=50)
@given(x=st.integers(-40, 70), y=st.integers(-40, 70), feather=st.floats(0, 2), shade=st.floats(0, 0.5))
def test_only_the_surroundings_of_a_picture_change_and_its_mask_is_exact(x, y, feather, shade):
    frame = np.full((64, 64, 3), 100, np.float32)
    fitted = np.full((20, 30, 4), 255, np.float32)
    mask = blend(frame, fitted, (x, y), dataclasses.replace(NATURAL, feather=feather), shade)
    expected = np.zeros((64, 64), bool)
    expected[max(0, y) : max(0, y + 20), max(0, x) : max(0, x + 30)] = True
    assert (mask == expected).all()
    # Feathers end 4 sigmas away; a shadow reaches as far as a third of the height and its own softness.
    reach = 16 if shade else int(4 * feather * 64 / 224 + 2)
    near = np.zeros((64, 64), bool)
    near[max(0, y - reach) : max(0, y + 20 + reach), max(0, x - reach) : max(0, x + 30 + reach)] = True
    assert (frame[~near] == 100).all()
