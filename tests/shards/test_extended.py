"""The Extended form: the same frames, half of them with nothing in view sounding, and as a protocol measures them."""

from __future__ import annotations

import numpy as np
import pytest

from cacl.errors import UserError
from shards.sources import extended
from shards.sources.extended import Extended, ExtendedGenerated, ExtendedStamps
from shards.sources.scenes import Scenes, mix
from tests.shards.stamps import stamps_at_hand

CLIPS = 12


@pytest.fixture(params=[ExtendedGenerated, ExtendedStamps], ids=["generated", "stamps"])
def source(request: pytest.FixtureRequest) -> Extended:
    if request.param is ExtendedStamps and not stamps_at_hand():
        pytest.skip("Debian's packages cannot be had")
    return request.param(clips=CLIPS)


def base(source: Extended) -> Scenes:
    return source.scenes_class(split="test", clips=CLIPS)


def test_every_frame_stands_there_with_its_own_sound_and_with_none_of_it(source: Extended) -> None:
    ids = source.ids()
    assert ids == sorted(set(ids)) and len(ids) == 2 * CLIPS
    for number, id in enumerate(base(source).ids()):
        original, own, negative = base(source).read(id), source.read(id), source.read(ids[2 * number + 1])
        for clip in (own, negative):
            np.testing.assert_array_equal(clip.frame, original.frame)
            assert not clip.sounds and clip.image == id
        np.testing.assert_array_equal(own.audio, original.audio)
        assert own.sources == original.annotation.heard and own.annotation.boxes
        np.testing.assert_array_equal(own.annotation.mask, original.annotation.mask)
        kind = ("silence", "absent")[number % 2]
        assert negative.annotation.class_name == kind and len(negative.sources or ()) == (kind == "absent")
        assert negative.annotation.boxes == [] and negative.annotation.mask is None
        assert negative.id == f"{id}-{kind}"
        assert negative.audio.any() == (kind == "absent") and negative.audio.shape == own.audio.shape


def test_the_absent_sound_is_of_no_kind_and_no_recording_in_the_frame(
    source: Extended, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []

    def heard(random: np.random.Generator, recording: np.ndarray, samples: int) -> np.ndarray:
        played.append(recording)
        return mix(random, recording, samples)

    monkeypatch.setattr(extended, "mix", heard)
    objects = source.scenes.bank().objects
    for number in range(1, CLIPS, 2):
        source.read(f"test-{number:06d}-absent")
        scene = base(source).read(f"test-{number:06d}")
        names = {each.class_name for each in scene.sources or ()}
        shown = [each for each in objects if each.class_name in names]
        sounding = [each for each in objects if each.audio is played[-1]]
        assert len(sounding) == 1 and len(shown) == 2
        assert sounding[0].voice not in {each.voice for each in shown}
        assert sounding[0].family not in {each.family for each in shown}


def test_training_clips_have_no_extended_form() -> None:
    with pytest.raises(UserError, match="only test clips"):
        ExtendedGenerated(split="train").ids()
