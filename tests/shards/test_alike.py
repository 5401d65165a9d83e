"""Prints and their search: what is alike is found, in any order and at any time, and what has no print is like none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import resample_poly

from shards.alike import FRAME_BITS, alike_frames, alike_sounds
from shards.prints import frame_print, sound_print

RATE = 16_000


def naive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return by how many bits each print [N, 4] differs from each [M, 4], bit by bit."""
    bits = [np.unpackbits(one.view(np.uint8), axis=1).astype(int) for one in (a, b)]
    return (bits[0][:, None] != bits[1][None]).sum(2)


def frames(draw: st.DrawFn, number: int, random: np.random.Generator) -> np.ndarray:
    """Return prints of which many differ by bits around the limit, and some are none."""
    base = random.integers(0, 2**64, (2, 4), dtype=np.uint64)
    found = base[random.integers(0, 2, number)]
    for row in found:
        for bit in random.choice(256, draw(st.integers(0, FRAME_BITS)), replace=False):
            row[bit // 64] ^= np.uint64(1) << np.uint64(bit % 64)
    found[random.random(number) < 0.1] = 0
    return found


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(0, 150), st.integers(0, 30), st.integers(0, 2**32))
def test_frames_are_those_of_a_search_bit_by_bit(data, mine: int, others: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = (frames(data.draw, number, random) for number in (mine, others))
    near = (naive(a, b) <= FRAME_BITS) & np.outer(a.any(1), b.any(1))
    found = alike_frames(a, b, workers=2)
    assert found.pairs.tolist() == np.argwhere(near).tolist() and found.count == near.sum()
    assert np.array_equal(found.left, near.any(1)) and np.array_equal(found.right, near.any(0))
    itself = np.tril(naive(a, a) <= FRAME_BITS, -1) & np.outer(a.any(1), a.any(1))
    assert alike_frames(a).pairs.tolist() == np.argwhere(itself).tolist()


def test_frames_are_found_in_every_block_and_opposite_ones_are_not_alike() -> None:
    random = np.random.default_rng(0)
    a, b = (random.integers(0, 2**64, (number, 4), dtype=np.uint64) for number in (300, 9000))
    planted = [(0, 0), (127, 4095), (128, 4096), (299, 8999)]
    for i, j in planted:
        b[j] = a[i]
    b[1] = ~a[0]  # differs by all 256 bits, which a byte cannot hold
    assert [tuple(pair) for pair in alike_frames(a, b).pairs.tolist()] == planted


def words(number: int, length: int, random: np.random.Generator) -> np.ndarray:
    """Return words that change as those of sounds do: neighbors differ by an eighth of their bits."""
    changes = random.integers(0, 2**32, (number, length), dtype=np.uint32)
    for _ in range(2):
        changes[:, 1:] &= random.integers(0, 2**32, (number, length - 1), dtype=np.uint32)
    return np.maximum(np.bitwise_xor.accumulate(changes, axis=1), 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(-600, 600), st.integers(0, 2**32))
def test_a_sound_is_found_at_any_time_of_another(shift: int, seed: int) -> None:
    """Of 830 words 230 to 830 are shared; each bit is wrong with a chance of 1/16."""
    random = np.random.default_rng(seed)
    a, b = words(6, 830, random), words(5, 830, random)
    wrong = np.bitwise_and.reduce(random.integers(0, 2**32, (4, 830), dtype=np.uint32))
    begin, end = max(0, shift), min(830, 830 + shift)
    b[3, begin - shift : end - shift] = (a[4] ^ wrong)[begin:end]
    assert alike_sounds(a, b).pairs.tolist() == [[4, 3]]
    assert alike_sounds(np.concatenate([a, b])).pairs.tolist() == [[9, 4]]


def test_a_sound_of_many_clips_is_found_in_each_of_them() -> None:
    """More clips than places of a word that are looked at."""
    random = np.random.default_rng(0)
    a = np.concatenate([words(50, 300, random), np.tile(words(1, 300, random), (200, 1))])
    found = alike_sounds(a)
    assert np.flatnonzero(found.left).tolist() == list(range(51, 250)) and not found.right[:50].any()


def sound(seed: int, seconds: float = 4.0) -> np.ndarray:
    """Return noise whose loudness and color wander, [T] float32."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 0.1, round(seconds * RATE))
    return (noise * np.interp(np.arange(len(noise)), np.arange(0, len(noise), 2000), random.uniform(0.2, 1, -(-len(noise) // 2000)))).astype(np.float32)  # fmt: skip


CHANGES = {
    "quieter": lambda x: (0.1 * x, RATE),
    "later": lambda x: (x[round(0.43 * RATE) :], RATE),
    "22050 Hz": lambda x: (resample_poly(x, 441, 320).astype(np.float32), 22_050),
    "8 kHz": lambda x: (resample_poly(x, 1, 2).astype(np.float32), 8000),
    "16 bits": lambda x: (np.rint(x * 2**15).astype(np.float32) / 2**15, RATE),
    "noise, 20 dB below": lambda x: (x + np.random.default_rng(9).normal(0, x.std() / 10, len(x)).astype(np.float32), RATE),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_sound_that_was_changed_is_the_same_sound(change: str) -> None:
    kept = np.stack([sound_print(sound(seed), RATE) for seed in range(4)])
    changed = sound_print(*CHANGES[change](sound(2)))
    assert alike_sounds(kept, changed[None]).pairs.tolist() == [[2, 0]]


@pytest.mark.parametrize("level", [0.0, 3e-6, 1e-5])
def test_silent_and_quiet_sounds_have_no_print_and_are_like_none(level: float) -> None:
    """1e-5 is a third of the last of 16 bits."""
    quiet = [
        (level * np.random.default_rng(seed).normal(0, 1, 4 * RATE)).astype(np.float32) for seed in range(2)
    ]
    prints = np.stack([sound_print(one, RATE) for one in quiet])
    assert not prints.any()
    found = alike_sounds(prints)
    assert found.count == found.compared == 0


@pytest.mark.parametrize("samples", [0, 1, 400, 6000])
def test_very_short_sounds_have_an_empty_print(samples: int) -> None:
    found = sound_print(np.ones(samples, np.float32), RATE)
    assert found.shape in {(0,), (1,)}
    assert alike_sounds(np.zeros((3, len(found)), np.uint32)).count == 0


@pytest.mark.parametrize("color", [0, 128, 255])
def test_frames_of_one_color_have_no_print_and_are_like_none(color: int) -> None:
    """A little noise, as a codec leaves it, is no picture either."""
    random = np.random.default_rng(color)
    for deviation in (0, 2):
        pixels = np.clip(color + random.normal(0, deviation, (90, 160, 3)), 0, 255).astype(np.uint8)
        prints = np.stack([frame_print(Image.fromarray(pixels))] * 2)
        assert not prints.any() and alike_frames(prints).count == 0
