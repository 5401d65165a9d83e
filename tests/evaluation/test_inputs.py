"""The library's door takes pictures and sounds as people have them: the same map, or one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import cacl
from cacl.errors import UserError
from cacl.viewing.inputs import picture_of, sound_of
from tests.launch.tiny import write_recipe

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (24, 32, 3), np.uint8)
GRAY = RGB[..., 0]
ALPHA = np.where(np.arange(32) < 16, np.uint8(255), np.uint8(0))[None, :, None].repeat(24, 0)
SEEN = np.where(ALPHA == 255, RGB, np.uint8(255))
"""What is seen of RGB through ALPHA on white."""
GRAY_SEEN = GRAY[..., None].repeat(3, 2)
PICTURES: dict[str, tuple[Any, np.ndarray]] = {
    "RGB": (RGB, RGB),
    "channels first": (np.moveaxis(RGB, 2, 0), RGB),
    "tensor": (torch.from_numpy(RGB).permute(2, 0, 1), RGB),
    "floats": (RGB / 255, RGB),
    "float32": ((RGB / 255).astype(np.float32), RGB),
    "uint16": (RGB.astype(np.uint16) * 257, RGB),
    "int64": (RGB.astype(np.int64), RGB),
    "view with strides": (RGB[::-1, ::-1], RGB[::-1, ::-1]),
    "gray": (GRAY, GRAY_SEEN),
    "gray with an axis": (GRAY[..., None], GRAY_SEEN),
    "gray and alpha": (np.concatenate([GRAY[..., None], ALPHA], 2), np.where(ALPHA == 255, GRAY_SEEN, 255)),
    "RGBA": (np.concatenate([RGB, ALPHA], 2), SEEN),
    "booleans": (GRAY > 127, np.where(GRAY > 127, 255, 0)[..., None].repeat(3, 2)),
    "Pillow's RGBA": (Image.fromarray(np.concatenate([RGB, ALPHA], 2)), SEEN),
    "Pillow's gray": (Image.fromarray(GRAY), GRAY_SEEN),
    "Pillow's 1": (
        Image.fromarray(GRAY > 127),
        np.where(GRAY > 127, 255, 0)[..., None].repeat(3, 2),
    ),
    "Pillow's 16 bits": (Image.fromarray(GRAY.astype(np.uint16) * 257), GRAY_SEEN),
    "Pillow's F": (Image.fromarray((GRAY / 255).astype(np.float32)), GRAY_SEEN),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_every_kind_are_the_same_picture(kind):
    given, seen = PICTURES[kind]
    found = picture_of(given)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, seen)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "LAB", "HSV"])
def test_pillows_other_modes_are_shown_as_pillow_shows_them(mode):
    image = Image.fromarray(np.full((8, 8, 3), 200, np.uint8))
    image = (
        Image.new("LAB", (8, 8), (200, 128, 128))
        if mode == "LAB"
        else image.convert(mode, palette=Image.Palette.ADAPTIVE)
    )
    try:
        assert abs(picture_of(image).astype(int) - 200).max() < 8
    except UserError as error:  # Pillow itself cannot
        assert mode == "LAB" and "the picture cannot be made RGB from LAB" in str(error)


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    """440 Hz that grows louder, [T] float64."""
    time = np.arange(round(rate * seconds)) / rate
    return 0.5 * time / seconds * np.sin(2 * np.pi * 440 * time)


MONO = tone(16000)
WHOLE = np.round(MONO * 2**15).astype(np.int16)
SOUNDS: dict[str, tuple[Any, float, float | None]] = {
    "float64": (MONO, 16000, 1e-7),
    "float32": (MONO.astype(np.float32), 16000, 1e-7),
    "tensor": (torch.from_numpy(MONO), 16000, 1e-7),
    "int16": (WHOLE, 16000, 2**-15),
    "int32": (WHOLE.astype(np.int32) << 16, 16000, 2**-15),
    "uint8": (np.round(MONO * 127 + 128).astype(np.uint8), 16000, 2**-6),
    "stereo": (np.stack([0.5 * MONO, 1.5 * MONO], 1), 16000, 1e-7),
    "stereo, channels first": (np.stack([0.5 * MONO, 1.5 * MONO]), 16000, 1e-7),
    "one channel, first": (MONO[None], 16000, 1e-7),
    "as loud as 16 bits": (MONO * 2**15, 16000, None),
    "44.1 kHz": (tone(44100), 44100, 2e-3),
    "stereo int16 at 48 kHz": (np.round(tone(48000)[:, None] * [2**15, 2**15]).astype(np.int16), 48000, 2e-3),
    "8 kHz": (tone(8000), 8000.0, 2e-3),
}


@pytest.mark.parametrize("kind", SOUNDS)
def test_sounds_of_every_kind_are_the_same_sound(kind):
    given, rate, near = SOUNDS[kind]
    found = sound_of(given, rate, 16000)
    assert found.dtype == np.float32 and abs(len(found) - 16000) <= 16
    expected = MONO / np.abs(MONO).max() if near is None else MONO
    length = min(len(found), 16000) - 100  # filters end in the last samples
    np.testing.assert_allclose(found[:length], expected[:length], rtol=0, atol=1e-4 if near is None else near)


def test_an_array_is_heard_as_its_file_is(tmp_path):
    stereo = np.stack([tone(44100), 0.3 * tone(44100)], 1)
    soundfile.write(tmp_path / "sound.wav", stereo, 44100, subtype="FLOAT")
    samples, rate = soundfile.read(tmp_path / "sound.wav")
    from_file = sound_of(tmp_path / "sound.wav", None, 16000)
    np.testing.assert_allclose(sound_of(samples, rate, 16000), from_file, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (RGB * 1.0, "floats of a picture are 0..1, these go from 0 to 255; scale them, or give uint8"),
        (RGB.astype(np.int32) * 300, "whole numbers of a picture are 0..255"),
        (RGB / 255 * np.nan, "the picture holds NaN or infinity"),
        (
            np.zeros((2, 24, 32, 3)),
            r"a picture is \[H, W\], \[H, W, 3\] or \[3, H, W\], not \[2, 24, 32, 3\]",
        ),
        (np.zeros((24, 32, 7)), r"not \[24, 32, 7\]"),
        (np.zeros((0, 32, 3)), "the picture is empty"),
        (np.zeros((4, 4)) * 1j, "a picture is an array of numbers, not of complex128"),
        (None, "a picture is a file, an array of numbers or a tensor, not None"),
        ("nowhere.jpg", "nowhere.jpg: cannot be read as a picture: No such file"),
        (__file__, r"test_inputs.py: cannot be read as a picture: undecodable picture"),
    ],
)
def test_what_is_no_picture_is_one_sentence(given, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        picture_of(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "rate", "sentence"),
    [
        (MONO, None, "sample_rate: an array does not say its own; give it, such as sample_rate=16000"),
        (MONO, 0, "sample_rate: 0 is not a whole number of Hz"),
        (MONO, 44100.5, "sample_rate: 44100.5 is not a whole number of Hz"),
        (MONO, float("nan"), "sample_rate: nan is not a whole number of Hz"),
        (MONO + np.inf, 16000, "the sound holds NaN or infinity"),
        (MONO[:0], 16000, "the sound is empty"),
        (MONO > 0, 16000, "a sound is .* of floats or integers, not .* of bool"),
        (np.zeros((100, 100)), 16000, r"not \[100, 100\] of float64"),
        (np.zeros((2, 2, 100)), 16000, r"not \[2, 2, 100\]"),
        ([None], 16000, "a sound is a file, an array of numbers or a tensor, not"),
        ("sound.wav", 16000, "sound.wav: sample_rate: a file says its own; leave it out"),
        ("nowhere.wav", None, "nowhere.wav"),
    ],
)
def test_what_is_no_sound_is_one_sentence(given, rate, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        sound_of(given, rate, 16000)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def finder(data: Path, tmp_path_factory):
    """A finder of a run of two steps."""
    folder = tmp_path_factory.mktemp("inputs")
    cacl.train(write_recipe(folder, data), folder / "run", max_steps=2)
    return cacl.load(folder / "run")


def test_a_finder_maps_what_people_have(finder, tmp_path):
    """A photograph and a stereo recording at 44.1 kHz, as files, as images and as arrays: one map."""
    Image.fromarray(RGB).save(tmp_path / "frame.png")
    stereo = np.stack([tone(44100), 0.3 * tone(44100)], 1)
    soundfile.write(tmp_path / "sound.wav", stereo, 44100, subtype="FLOAT")
    expected = finder.map(str(tmp_path / "frame.png"), tmp_path / "sound.wav")
    assert expected.ndim == 2 and expected.dtype == np.float32
    found = finder.map(Image.open(tmp_path / "frame.png"), stereo.T, sample_rate=44100)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert not np.allclose(finder.map(RGB, stereo, sample_rate=16000), expected, atol=1e-5), "the rate tells"


def test_a_finder_says_in_three_lines_what_it_is(finder, data):
    first, second, third = repr(finder).split("\n")
    assert first.startswith("SoundFinder: ") and "small-cnn and small-cnn" in first and "parameters" in first
    assert second.strip() == "sees 32 × 32 pixels, hears 3 s at 16000 Hz"
    assert third.strip() == f"no θ (cacl calibrate fits it); trained on {data}"
