"""Each pair's best pixel: a maximum whose gradient needs no matrix product.

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

from cacl.loss.kernel import Kernel, by_triton
from cacl.loss.precision import Precision, factor, multiply, nearness, precision_of
from cacl.loss.sums import FLOATS_OF_OBJECTIVE

TILE = 2**23
"""Bytes that are worked on at once: few enough for a processor's cache, enough for all of its cores."""
CHANNELS = 128
"""Channels that are gathered at once: vectors of all sounds then stay in that cache."""


def best_pixel(
    maps: Tensor, audio: Tensor, kernel: Kernel = "auto", precision: Precision = "float32"
) -> tuple[Tensor, Tensor]:
    """Return each pair's largest cosine [b, N] and its pixel [b, N].

    `maps` [b, P, D], `audio` [N, D]. The pixel is uint8, int16 for more than 256 pixels; of equal ones the
    lowest. In less than float32 the pixel is that one of the best two that is better in float32.

    >>> maps = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> best_pixel(maps, torch.tensor([[0.6, 0.8], [0.5, 0.5]]))
    (tensor([[0.8000, 0.5000]]), tensor([[1, 0]], dtype=torch.uint8))
    """
    images, pixels, _ = maps.shape
    scores = maps.new_empty(images, len(audio))
    pixel = torch.empty_like(scores, dtype=torch.uint8 if pixels <= 256 else torch.int16)
    precision = precision_of(precision, maps)
    if by_triton(kernel, maps):
        from cacl.loss import best_pixel_triton

        best_pixel_triton.best_pixel(maps, audio, scores, pixel, precision)
        return scores, pixel
    factors = factor(precision, audio)
    # A tile takes no more memory than half of what the objective will for the same pairs.
    rows = max(1, min(_rows(pixels * len(audio), maps), images * FLOATS_OF_OBJECTIVE // (2 * pixels)))
    for tile, score, place in zip(*(x.split(rows) for x in (maps, scores, pixel)), strict=True):
        vectors = tile.flatten(0, 1)
        products = multiply(precision, factor(precision, vectors), factors.T)
        cosine = products.view(len(tile), pixels, len(audio))
        if precision == "float32":
            best = cosine.amax(1)
            where = _lowest_of(cosine, best)
        else:
            best, where = _better_of_two(vectors, audio, cosine, nearness(precision, audio.shape[1]))
        score.copy_(best)
        place.copy_(where)
    return scores, pixel


def _lowest_of(cosine: Tensor, best: Tensor) -> Tensor:
    """Return the lowest pixel [t, N] whose cosine is the `best`, as a float.

    The cosines [t, P, N] are overwritten. On a CPU it is several times faster than `max`, whose loop is not
    vectorized.
    """
    pixels = cosine.shape[1]
    from_last = torch.arange(pixels - 1, -1, -1, device=cosine.device, dtype=cosine.dtype)[:, None]
    return pixels - 1 - cosine.eq_(best[:, None]).mul_(from_last).amax(1)


def _better_of_two(vectors: Tensor, audio: Tensor, cosine: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Return scores and, of the two best pixels, the better in float32, [t, N] each.

    `vectors` [t P, D] and `audio` [N, D] are not rounded; `cosine` [t, P, N] is of rounded ones, which the
    scores stay, and is overwritten. Only where the two are `near` may rounding have exchanged them.
    """
    pixels, sounds = cosine.shape[1:]
    best, second = _best_two(cosine)
    is_near = (best - second < near).flatten()
    # The host may not wait for a GPU to say which pairs are near: there all are compared.
    pair = torch.arange(len(is_near), device=is_near.device) if is_near.is_cuda else is_near.nonzero()[:, 0]
    image, sound = pair // sounds, pair % sounds
    of_pair = cosine[image, :, sound]
    where = _lowest_of(cosine, best)
    first = where.view(-1)[pair].long()
    other = of_pair.scatter_(1, first[:, None], float("-inf")).argmax(1)
    chosen = torch.stack([first, other]) + image * pixels
    found, rival = _dot_products(vectors, chosen, audio, sound.repeat(2))
    is_other = is_near[pair] & ((rival > found) | ((rival == found) & (other < first)))
    where.view(-1)[pair] = torch.where(is_other, other, first).to(where.dtype)
    best.view(-1)[pair] = torch.where(is_other, second.view(-1)[pair], best.view(-1)[pair])
    return best, where


def _best_two(cosine: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest and second largest of cosines [t, P, N] over pixels, [t, N].

    One pass, which a CPU does in a sixteenth of the time of `topk`.
    """
    best, second = cosine[:, 0].clone(), torch.full_like(cosine[:, 0], float("-inf"))
    lesser = torch.empty_like(best)
    for pixel in range(1, cosine.shape[1]):
        torch.minimum(best, cosine[:, pixel], out=lesser)
        torch.maximum(second, lesser, out=second)
        torch.maximum(best, cosine[:, pixel], out=best)
    return best, second


def _dot_products(vectors: Tensor, chosen: Tensor, audio: Tensor, sounds: Tensor) -> Tensor:
    """Return the products [2, k] of `chosen` [2, k] vectors and `sounds` [2 k].

    They are the gradient of the weights of `_weighted_sums`: no copies are gathered.
    """
    products = torch.ops.aten._embedding_bag_per_sample_weights_backward
    found: Tensor = products(audio, vectors, chosen.flatten(), sounds[:0], sounds, 0)
    return found.view_as(chosen)


def best_pixel_gradients(
    gradient: Tensor, pixel: Tensor, maps: Tensor, audio: Tensor, kernel: Kernel = "auto"
) -> tuple[Tensor, Tensor]:
    """Return the gradients of maps [b, P, D] and of sounds [N, D].

    `gradient` [b, N] is that of `best_pixel`'s scores, `pixel` [b, N] its second result.

    >>> maps, audio = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[0.6, 0.8]])
    >>> best_pixel_gradients(torch.tensor([[2.0]]), torch.tensor([[1]], dtype=torch.uint8), maps, audio)
    (tensor([[[0.0000, 0.0000],
             [1.2000, 1.6000]]]), tensor([[0., 2.]]))
    """
    if by_triton(kernel, maps):
        from cacl.loss import best_pixel_triton

        won, starts = _by_pixel(pixel, maps.shape[1])
        return best_pixel_triton.best_pixel_gradients(gradient, pixel, won, starts, maps, audio)
    of_maps, of_audio = torch.empty_like(maps, memory_format=torch.contiguous_format), torch.zeros_like(audio)
    pixels, channels = maps.shape[1:]
    tiles = (x.split(_rows(4 * pixels * CHANNELS, maps)) for x in (gradient, pixel, maps, of_maps))
    for weight, place, tile, of_tile in zip(*tiles, strict=True):
        vectors, of_vectors = tile.flatten(0, 1), of_tile.flatten(0, 1)
        by_pixel = _in_order_of_pixels(weight, place, pixels)
        by_sound = _in_order_of_sounds(weight, place, pixels)
        for first in range(0, channels, CHANNELS):
            some = slice(first, first + CHANNELS)
            of_vectors[:, some] = _weighted_sums(audio[:, some], *by_pixel)
            of_audio[:, some] += _weighted_sums(vectors[:, some], *by_sound)
    return of_maps, of_audio


def _rows(values: int, like: Tensor) -> int:
    """Return how many rows of so many values fit a tile: one at least, all on a GPU."""
    return max(1, len(like)) if like.is_cuda else max(1, TILE // max(1, values * like.itemsize))


def _in_order_of_pixels(weight: Tensor, pixel: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return sounds [b N] by the pixel that won them, weights, and starts [b P]."""
    images, sounds = weight.shape
    won, starts = _by_pixel(pixel, pixels)
    first = torch.arange(images, device=pixel.device)[:, None] * sounds
    return won.flatten(), weight.gather(1, won).flatten(), (starts + first).flatten()


def _by_pixel(pixel: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Order each image's sounds [b, N] by pixel; say where each pixel's begin [b, P]."""
    won = pixel.sort(dim=1, stable=True)
    numbers = torch.arange(pixels, device=pixel.device, dtype=pixel.dtype).expand(len(pixel), pixels)
    return won.indices, torch.searchsorted(won.values, numbers.contiguous())


def _in_order_of_sounds(weight: Tensor, pixel: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixels [N b] by the sound that they won, weights, and starts [N]."""
    images, sounds = weight.shape
    first = torch.arange(images, device=pixel.device) * pixels
    starts = torch.arange(sounds, device=pixel.device) * images
    return (pixel.T.long() + first).flatten(), weight.T.flatten(), starts


def _weighted_sums(vectors: Tensor, chosen: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """Sum the `chosen` of the vectors [., d] by `weights`, a sum from each start on.

    It is the product with a sparse matrix whose rows are given: in order, and without atomics on any device.
    """
    return F.embedding_bag(chosen, vectors, starts, per_sample_weights=weights, mode="sum")


def score_own_pairs(maps: Tensor, audio: Tensor, own: Tensor, scores: Tensor, pixel: Tensor) -> None:
    """Write each image's own pair into scores and pixels [b, N], in float32.

    Its gradient outweighs those of the other pairs, and rounding would move it to another pixel.
    """
    top = (maps @ audio[own].unsqueeze(2)).squeeze(2).max(1)
    scores.scatter_(1, own[:, None], top.values[:, None])
    pixel.scatter_(1, own[:, None], top.indices[:, None].to(pixel.dtype))


class BestPixel(torch.autograd.Function):
    """`best_pixel` with its gradient; known results are not computed again."""

    @staticmethod
    def forward(
        ctx: Any,
        maps: Tensor,
        audio: Tensor,
        own: Tensor,
        kernel: Kernel = "auto",
        precision: Precision = "float32",
        scores: Tensor | None = None,
        pixel: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return scores [b, N] and pixels [b, N] of maps [b, P, D] and sounds [N, D].

        `own` [b] is the column of each image's own sound.
        """
        if scores is None or pixel is None:
            scores, pixel = best_pixel(maps, audio, kernel, precision)
            if precision_of(precision, maps) != "float32":
                score_own_pairs(maps, audio, own, scores, pixel)
        ctx.kernel = kernel
        ctx.save_for_backward(maps, audio, pixel)
        ctx.mark_non_differentiable(pixel)
        return scores, pixel

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None, None]:
        """Gather the gradients of maps and sounds from that of the scores [b, N]."""
        maps, audio, pixel = ctx.saved_tensors
        found = best_pixel_gradients(gradients[0], pixel, maps, audio, ctx.kernel)
        return *found, None, None, None, None, None
