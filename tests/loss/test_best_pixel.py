"""Promise 5: the maximum over pixels is one pixel's cosine; its price is one matrix product, its memory the budget."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.utils.flop_counter import FlopCounterMode

from cacl.loss import LossOptions, best_pixel, global_loss
from cacl.loss.best_pixel import best_pixel_gradients
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip
from cacl.loss.similarities import MaxSimilarity
from cacl.types import Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters

OPTIONS = LossOptions(similarity=MaxSimilarity(), positives=OwnClip(), objective=InfoNCE(), direction="both")


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(0, 7),
    sounds=st.integers(0, 9),
    pixels=st.sampled_from([1, 2, 9, 255, 256, 257, 300]),
    channels=st.sampled_from([1, 3, 128, 130]),
    tile=st.sampled_from([1, 2**12, 2**21]),
    seed=st.integers(0, 1000),
)
def test_the_lowest_of_the_best_pixels_has_the_score_and_all_of_the_gradient(
    images: int, sounds: int, pixels: int, channels: int, tile: int, seed: int
) -> None:
    """Small integers: many pixels are equal, and every sum is exact."""
    generator = torch.Generator().manual_seed(seed)

    def integers(*shape: int) -> torch.Tensor:
        return torch.randint(-1, 2, shape, generator=generator).float()

    maps, audio, gradient = (
        integers(images, pixels, channels),
        integers(sounds, channels),
        integers(images, sounds),
    )
    with mock.patch.object(best_pixel, "TILE", tile):
        scores, pixel = best_pixel.best_pixel(maps, audio)
        of_maps, of_audio = best_pixel_gradients(gradient, pixel, maps, audio)
    assert pixel.dtype == (torch.uint8 if pixels <= 256 else torch.int16)
    wanted_maps, wanted_audio = torch.zeros_like(maps), torch.zeros_like(audio)
    for i in range(images):
        for j in range(sounds):
            cosines = maps[i] @ audio[j]
            best = cosines.tolist().index(max(cosines.tolist()))
            assert (scores[i, j], pixel[i, j]) == (cosines[best], best)
            wanted_maps[i, best] += gradient[i, j] * audio[j]
            wanted_audio[j] += gradient[i, j] * maps[i, best]
    assert torch.equal(of_maps, wanted_maps)
    assert torch.equal(of_audio, wanted_audio)


def loss_and_gradients(options: LossOptions, n: int = 40, pixels: int = 6) -> list[torch.Tensor]:
    maps, audio, _ = random_parameters(n, 2, pixels)
    maps = maps[:, :, torch.arange(pixels) // 2]  # every pixel has a twin
    units = embed(maps, audio)
    leaves = units.image.float().requires_grad_(), units.audio.float().requires_grad_()
    terms = global_loss(Embeddings(*leaves), random_clips(n), options, World())
    return [terms.per_clip, *torch.autograd.grad(terms.loss, leaves)]


@pytest.mark.parametrize("memory_mib", [128, 0.04], ids=["one block", "blocks"])
def test_of_equal_pixels_the_first_learns_and_every_run_has_the_same_bits(memory_mib: float) -> None:
    options = replace(OPTIONS, memory_mib=memory_mib)
    first, again = loss_and_gradients(options), loss_and_gradients(options)
    of_maps = first[1]
    assert of_maps[:, :, 0::2].any() and not of_maps[:, :, 1::2].any()
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("memory_mib", "products"),
    [(128, 1), (0.1, 1), (0.01, 2)],
    ids=["one block", "all blocks are kept", "few blocks are kept"],
)
def test_pixels_meet_sounds_once_and_again_only_where_memory_is_short(
    memory_mib: float, products: int
) -> None:
    n, pixels = 60, 6
    maps, audio, _ = random_parameters(n, 1, pixels)
    embeddings = Embeddings(maps.float().requires_grad_(), audio.float().requires_grad_())
    once = 2 * n * n * pixels * maps.shape[-1]
    with FlopCounterMode(display=False) as counted:
        terms = global_loss(embeddings, random_clips(n), replace(OPTIONS, memory_mib=memory_mib), World())
        terms.loss.backward()
    kept_share = min(1, memory_mib * 2**20 / 2 / (n * n * 5)) if products == 2 else 0
    found = counted.get_total_flops() / once
    # Whole blocks are kept; a block here is a few rows of 60.
    assert found == pytest.approx(products - kept_share, abs=0.1)
