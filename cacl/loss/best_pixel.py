"""Each pair's best pixel: the maximum of its cosines, with a gradient that needs no matrix product.

The forward remembers which pixel won. The gradient of a maximum touches that pixel alone, so the backward
sums one row for every pair, where a matrix product would sum P of them. Of equal pixels the lowest wins.
Every sum has one fixed order, so results are the same bits on every run.

Axes: `b` images of a block, `N` sounds of all ranks, `P` pixels, `D` channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

TILE = 2**23
"""Bytes of cosines that are computed at once: what a processor's cache holds."""
GATHERED = 32
"""Images whose gradients are gathered at once, for the same reason."""


def best_pixel(maps: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Return each pair's largest cosine [b, N] and its pixel [b, N], of maps [b, P, D] and sounds [N, D].

    The pixel is uint8, int16 for more than 256 pixels; of equal ones the lowest.

    >>> maps = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> best_pixel(maps, torch.tensor([[0.6, 0.8], [0.5, 0.5]]))
    (tensor([[0.8000, 0.5000]]), tensor([[1, 0]], dtype=torch.uint8))
    """
    images, pixels, _ = maps.shape
    scores = maps.new_empty(images, len(audio))
    pixel = torch.empty_like(scores, dtype=torch.uint8 if pixels <= 256 else torch.int16)
    rows = max(1, TILE // max(1, pixels * len(audio) * maps.itemsize))
    for tile, score, place in zip(maps.split(rows), scores.split(rows), pixel.split(rows), strict=True):
        cosine = (tile.flatten(0, 1) @ audio.T).view(*tile.shape[:2], len(audio))
        largest = cosine.max(1)
        score.copy_(largest.values)
        place.copy_(largest.indices)
    return scores, pixel


def best_pixel_gradients(
    gradient: Tensor, pixel: Tensor, maps: Tensor, audio: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of maps [b, P, D] and of sounds [N, D].

    `gradient` [b, N] is that of `best_pixel`'s scores, `pixel` [b, N] its second result.

    >>> maps, audio = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0.6, 0.8]])
    >>> best_pixel_gradients(torch.tensor([[2.0]]), torch.tensor([[1]], dtype=torch.uint8), maps, audio)
    (tensor([[[0.0000, 0.0000],
             [1.2000, 1.6000]]]), tensor([[0., 2.]]))
    """
    of_maps, of_audio = torch.empty_like(maps), torch.zeros_like(audio)
    parts = (x.split(GATHERED) for x in (gradient, pixel, maps, of_maps))
    for weight, place, tile, of_tile in zip(*parts, strict=True):
        of_tile.copy_(_sums_of_sounds(weight, place, audio, tile.shape[1]))
        of_audio += _sums_of_pixels(weight, place, tile)
    return of_maps, of_audio


def _sums_of_sounds(weight: Tensor, pixel: Tensor, audio: Tensor, pixels: int) -> Tensor:
    """Sum over the sounds that a pixel won, [b, P, D], by `weight` [b, N]."""
    images, sounds = weight.shape
    won = pixel.sort(dim=1, stable=True)
    numbers = torch.arange(pixels, device=pixel.device, dtype=pixel.dtype).expand(images, pixels)
    first = torch.arange(images, device=pixel.device)[:, None] * sounds
    starts = torch.searchsorted(won.values, numbers.contiguous()) + first
    sums = _weighted_sums(audio, won.indices.flatten(), weight.gather(1, won.indices).flatten(), starts)
    return sums.view(images, pixels, audio.shape[1])


def _sums_of_pixels(weight: Tensor, pixel: Tensor, maps: Tensor) -> Tensor:
    """Sum over images of the pixel that won a sound, [N, D], by `weight` [b, N]."""
    images, sounds = weight.shape
    first = torch.arange(images, device=pixel.device) * maps.shape[1]
    starts = torch.arange(sounds, device=pixel.device) * images
    places = pixel.T.long() + first
    return _weighted_sums(maps.flatten(0, 1), places.flatten(), weight.T.flatten(), starts)


def _weighted_sums(vectors: Tensor, chosen: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Sum the `chosen` of the vectors [., D] by `weights`, from each start to the next, in order.

    A product with a sparse matrix whose rows are given; on every device without atomics.
    """
    return F.embedding_bag(chosen, vectors, starts.flatten(), per_sample_weights=weights, mode="sum")


class BestPixel(torch.autograd.Function):
    """`best_pixel` with its gradient."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores [b, N] and pixels [b, N] of maps [b, P, D] and sounds [N, D]."""
        scores, pixel = best_pixel(maps, audio)
        ctx.save_for_backward(maps, audio, pixel)
        ctx.mark_non_differentiable(pixel)
        return scores, pixel

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Gather the gradients of maps and sounds from that of the scores [b, N]."""
        maps, audio, pixel = ctx.saved_tensors
        return best_pixel_gradients(gradients[0], pixel, maps, audio)
