"""The scenes of `stamps` and `generated`: exact pixels, nothing shared between training and test, frozen bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from shards.clip import Clip, to_int16
from shards.sources.generated import Generated
from shards.sources.scenes import LEVELS, Scenes, Split
from shards.sources.stamps import Stamps, _load_bank
from tests.shards.stamps import stamps_at_hand

FROZEN = {
    "generated": "70b120ffb059632aeea0bdbd28307fe9661219e53052813708bd370c88994c8a",
    "stamps of 2022.06.04-1": "e0553deb9cc5802f16ce046255c09fbd0aa79580474e7e5d94e5ee1460e2e4b8",
    "stamps of 2025.03.31-1": "908bffd8496277d9cbad0ce613584b49c945471b62dc7cc22d2860ac1da47877",
}
"""Of frames, masks and sounds of three clips each way, before JPEG. A change means: raise scenes.VERSION.

The stamps are those of Debian 12 and 13; another release of the package has a line to come.
"""
STAMPS = {"2022.06.04-1": 84, "2025.03.31-1": 87}
"""Stamps by release of Debian's package."""


@pytest.fixture(params=[Generated, Stamps], ids=["generated", "stamps"])
def kind(request: pytest.FixtureRequest) -> type[Scenes]:
    if request.param is Stamps and not stamps_at_hand():
        pytest.skip("Debian's packages cannot be had")
    return request.param


def clips(kind: type[Scenes], split: Split, count: int, **options) -> list[Clip]:
    source = kind(split=split, clips=count, **options)
    return [source.read(id) for id in source.ids()]


def release_of_stamps() -> str:
    """Return the version of Debian's package of stamps at hand."""
    return _load_bank(16000).versions["tuxpaint-stamps-default"]


def content(clip: Clip) -> bytes:
    arrays = [clip.frame, clip.mask, to_int16(clip.audio)]
    if clip.other_audio is not None:
        arrays += [clip.other_mask, to_int16(clip.other_audio)]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def test_the_scenes_are_frozen(kind: type[Scenes]) -> None:
    every = [*clips(kind, "train", 3), *clips(kind, "test", 3)]
    found = sha256(b"".join(content(clip) for clip in every))
    release = f" of {release_of_stamps()}" if kind is Stamps else ""
    assert found.hexdigest() == FROZEN[kind.name + release]


def test_a_clip_depends_on_its_number_and_the_seed_alone(kind: type[Scenes]) -> None:
    again = kind(split="train", clips=8)
    for clip in reversed(clips(kind, "train", 8)):
        assert content(again.read(clip.id)) == content(clip)
    other = kind(split="train", clips=8, seed=1)
    assert content(other.read("train-000003")) != content(again.read("train-000003"))


def test_boxes_are_those_of_the_masks_and_no_two_objects_meet(kind: type[Scenes]) -> None:
    for clip in clips(kind, "test", 20):
        assert clip.mask is not None and clip.other_mask is not None
        for mask, box in [
            (clip.mask, clip.annotation["boxes"][0]),
            (clip.other_mask, clip.annotation["other"]["boxes"][0]),
        ]:
            x0, y0, x1, y1 = (round(edge * 224) for edge in box)
            inside = np.zeros_like(mask)
            inside[y0:y1, x0:x1] = True
            assert not mask[~inside].any()
            assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()
        assert not (clip.mask & clip.other_mask).any()


def test_what_lies_in_the_mask_is_the_object_and_what_lies_outside_is_not(kind: type[Scenes]) -> None:
    """Painting the same scene over two backgrounds changes everything but the opaque pixels."""
    from shards.sources import scenes

    bank = kind(clips=1).bank()
    objects = bank.objects[:2]
    frames, masks = [], []
    for background in (0, 255):
        frame = np.full((224, 224, 3), background, np.uint8)
        painted = scenes._paint(frame, objects, np.array([0.4, 0.3]), np.random.default_rng(3))
        frames.append(frame.astype(int))
        masks.append([each.mask for each in painted])
    np.testing.assert_array_equal(masks[0], masks[1])
    shines_through = np.abs(frames[0] - frames[1]).max(axis=-1) / 255
    assert (shines_through[~(masks[0][0] | masks[0][1])] >= 0.49).all()
    assert (shines_through[masks[0][0] | masks[0][1]] <= 0.51).all()


def test_every_test_frame_holds_a_silent_object_of_another_class_and_comparable_size(
    kind: type[Scenes],
) -> None:
    ratios = []
    for clip in clips(kind, "test", 40):
        assert clip.annotation["other"]["class_name"] != clip.annotation["class_name"]
        assert clip.other_audio is not None and not np.array_equal(clip.audio, clip.other_audio)
        areas = [
            (b[2] - b[0]) * (b[3] - b[1])
            for b in (clip.annotation["boxes"][0], clip.annotation["other"]["boxes"][0])
        ]
        ratios.append(max(areas) / min(areas))
    # A very long object is limited by the frame, so its area may be smaller.
    assert np.median(ratios) < 1.3 and max(ratios) < 3.5


def test_the_levels_are_what_they_say() -> None:
    from shards.sources import scenes

    bank = Generated(clips=1).bank().objects
    for name, level in LEVELS.items():
        casts = [scenes._cast(np.random.default_rng(k), bank, "train", level) for k in range(600)]
        counts = np.bincount([len(objects) - 1 for objects, _ in casts], minlength=4)
        assert counts[0] / 600 == pytest.approx(level.alone, abs=0.08), name  # four standard errors
        assert {k for k in (1, 2, 3) if counts[k]} == set(range(level.silent[0], level.silent[1] + 1))
        if level.same_size:
            assert all(0.9 <= size[1] / size[0] <= 1.1 for _, size in casts)


def test_training_and_test_share_no_background() -> None:
    if not stamps_at_hand():
        pytest.skip("Debian's packages cannot be had")
    bank = _load_bank(16000)
    hashes = {
        split: {sha256(image.tobytes()).hexdigest() for image in bank.backgrounds[split]}
        for split in ("train", "test")
    }
    assert len(hashes["train"]) == 14 and len(hashes["test"]) == 5
    assert not hashes["train"] & hashes["test"]


def test_training_and_test_share_no_random_stream(kind: type[Scenes]) -> None:
    training, test = clips(kind, "train", 10), clips(kind, "test", 10)
    for a, b in zip(training, test, strict=True):
        assert a.annotation["boxes"] != b.annotation["boxes"] and not np.array_equal(a.audio, b.audio)


def test_there_are_as_many_stamps_as_debian_has_and_none_is_taken_for_another_of_the_same_recording() -> None:
    if not stamps_at_hand():
        pytest.skip("Debian's packages cannot be had")
    objects = _load_bank(16000).objects
    assert len({each.class_name for each in objects}) == STAMPS[release_of_stamps()]
    for clip in clips(Stamps, "test", 60):
        voices = {each.class_name: each.voice for each in objects}
        assert voices[clip.annotation["class_name"]] != voices[clip.annotation["other"]["class_name"]]


def test_without_debian_packing_says_so_in_one_line_and_exits_3(tmp_path: Path) -> None:
    """No apt-get on the path is a machine that is no Debian; nothing is written then."""
    environment = {**os.environ, "PATH": str(tmp_path), "CACL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "launch.main", "pack", "stamps", "--out", str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1 and "apt-get: is not on this machine" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_archive_out_of_reach_is_one_line_too(tmp_path: Path) -> None:
    """Lists of no archive: apt-get runs, and cannot find the packages."""
    (tmp_path / "sources.list").write_text("")
    config = tmp_path / "apt.conf"
    config.write_text(f'Dir::Etc::sourcelist "{tmp_path}/sources.list";\nDir::Etc::sourceparts "-";\n')
    environment = {**os.environ, "APT_CONFIG": str(config), "CACL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "launch.main", "pack", "stamps", "--out", str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "cannot be had" in done.stderr.splitlines()[-1]
