"""`best_pixel` and its gradients as Triton kernels, for NVIDIA's tensor cores.

The only module that imports Triton. The forward multiplies a tile of sounds by the pixels of a few images and
takes each image's maximum before the tile leaves the chip, so that no products of pixels are ever in memory.
The backward gathers: a program owns the rows of a gradient that it writes and sums them in one order, so that
results are the same bits on every run.

Tiles are those that docs/loss.md measured. They fit the shared memory of every GPU from Ampere on.

Axes: `b` images of a block, `N` sounds of all ranks, `P` pixels, `D` channels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from cacl.loss.precision import Precision, nearness, round_to

PRODUCTS = {"float32": "tf32x3", "tf32": "tf32", "bfloat16": "tf32"}
"""How a precision multiplies: float32 as three products of tf32 parts, whose errors are those of float32."""


def best_pixel(maps: Tensor, audio: Tensor, scores: Tensor, pixel: Tensor, precision: Precision) -> None:
    """Write each pair's largest cosine and its pixel, of equal ones the lowest.

    They go to `scores` [b, N] and `pixel` [b, N], of any integers. `maps` [b, P, D], `audio` [N, D] and
    `scores` are float32. Of rounded vectors the pixel is that one of the best two that is better in float32.
    """
    images, pixels, channels = maps.shape
    sounds = len(audio)
    rows = [_with_dense_rows(round_to(precision, x)) for x in (maps, audio)]
    rounds = precision != "float32"
    second, other = (torch.empty_like(x) if rounds else x for x in (scores, pixel))
    tile = tile_of(pixels, precision)
    programs = triton.cdiv(images, tile["IMAGES"]) * triton.cdiv(sounds, tile["SOUNDS"])
    with torch.cuda.device_of(maps):
        score_kernel[(programs,)](
            *rows, scores, pixel, second, other,
            images, sounds, rows[0].stride(0), rows[1].stride(0), pixels, channels,
            **tile, PRODUCTS=PRODUCTS[precision], TWO=rounds, GROUP=8, num_warps=8, num_stages=3,
        )  # fmt: skip
        if rounds:
            maps, audio = _with_dense_rows(maps), _with_dense_rows(audio)
            choice_kernel[(images, triton.cdiv(sounds, 32))](
                maps, audio, scores, pixel, second, other, nearness(precision, channels),
                sounds, maps.stride(0), audio.stride(0), channels,
                SOUNDS=32, CHANNELS=min(64, triton.next_power_of_2(channels)), num_warps=4,
            )  # fmt: skip


def best_pixel_gradients(
    gradient: Tensor, pixel: Tensor, won: Tensor, starts: Tensor, maps: Tensor, audio: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of maps [b, P, D] and of sounds [N, D], float32.

    `gradient` [b, N] is that of the scores. `won` [b, N] int64 are each image's sounds in the order of their
    `pixel` [b, N], and `starts` [b, P] int64 says where in them a pixel begins.
    """
    images, pixels, channels = maps.shape
    sounds = len(audio)
    maps, audio = _with_dense_rows(maps), _with_dense_rows(audio)
    gradient, pixel = gradient.contiguous(), pixel.contiguous()
    of_maps, of_audio = maps.new_empty(maps.shape), audio.new_empty(audio.shape)
    wide, narrow = (min(size, triton.next_power_of_2(channels)) for size in (256, 128))
    with torch.cuda.device_of(maps):
        maps_kernel[(images * pixels, triton.cdiv(channels, wide))](
            gradient, won, starts, audio, of_maps, sounds, audio.stride(0), pixels, channels,
            ROWS=16, CHANNELS=wide, num_warps=4,
        )  # fmt: skip
        audio_kernel[(triton.cdiv(sounds, 32), triton.cdiv(channels, narrow))](
            gradient, pixel, maps, of_audio, images, sounds, maps.stride(0), channels,
            SOUNDS=32, CHANNELS=narrow, num_warps=4,
        )  # fmt: skip
    return of_maps, of_audio


def tile_of(pixels: int, precision: Precision) -> dict[str, int]:
    """Return a program's sounds, images, pixels at a time and channels at a time."""
    columns = 128 if precision == "float32" else 256
    together = min(64, 32, key=lambda size: triton.cdiv(pixels, size) * size)
    return {
        "SOUNDS": 128,
        "IMAGES": columns // together,
        "PIXELS": together,
        "CHANNELS": 64 if precision == "bfloat16" else 32,
    }


def _with_dense_rows(x: Tensor) -> Tensor:
    """Copy `x`, unless it is contiguous but for its first stride."""
    return x if x[:1].is_contiguous() else x.contiguous()


@triton.jit(do_not_specialize=["images"])
def score_kernel(
    maps: tl.tensor, audio: tl.tensor,
    scores: tl.tensor, pixel: tl.tensor, second: tl.tensor, other: tl.tensor,
    images: tl.tensor, sounds: tl.tensor, map_stride: tl.tensor, audio_stride: tl.tensor,
    pixels: tl.constexpr, channels: tl.constexpr,
    SOUNDS: tl.constexpr, IMAGES: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
    PRODUCTS: tl.constexpr, TWO: tl.constexpr, GROUP: tl.constexpr,
) -> None:  # fmt: skip
    """Score a tile of sounds against a few images, PIXELS of each at a time.

    With TWO the second best pixel and its score are written too.
    """
    tiles_i, tiles_j = tl.cdiv(images, IMAGES), tl.cdiv(sounds, SOUNDS)
    program = tl.program_id(0)
    # programs that run at the same time share rows, which then come from the cache
    tile_i, tile_j = tl.swizzle2d(program // tiles_j, program % tiles_j, tiles_i, tiles_j, GROUP)
    column = tl.arange(0, IMAGES * PIXELS)
    image = tl.minimum(tile_i * IMAGES + column // PIXELS, images - 1).to(tl.int64)
    sound = tile_j * SOUNDS + tl.arange(0, SOUNDS)
    channel = tl.arange(0, CHANNELS)
    audio_rows = audio + tl.minimum(sound, sounds - 1).to(tl.int64)[:, None] * audio_stride
    best = tl.full([SOUNDS, IMAGES], float("-inf"), tl.float32)
    where = tl.zeros([SOUNDS, IMAGES], tl.int32)
    next_best, next_where = best, where
    for first in range(0, pixels, PIXELS):
        place = tl.minimum(first + column % PIXELS, pixels - 1)  # the last pixel again fills the tile
        map_rows = maps + (image * map_stride + place * channels)[None, :]
        products = tl.zeros([SOUNDS, IMAGES * PIXELS], tl.float32)
        for k in range(0, channels, CHANNELS):
            inside = k + channel < channels
            a = tl.load(audio_rows + (k + channel)[None, :], mask=inside[None, :], other=0.0)
            m = tl.load(map_rows + (k + channel)[:, None], mask=inside[:, None], other=0.0)
            products = tl.dot(a, m, products, input_precision=PRODUCTS)
        products = tl.where(products == products, products, float("inf"))  # max would pass over NaN
        by_image = tl.reshape(products, [SOUNDS, IMAGES, PIXELS])
        top = tl.max(by_image, 2)
        numbers = tl.arange(0, PIXELS)[None, None, :]
        index = tl.min(tl.where(by_image == top[:, :, None], numbers, PIXELS), 2)
        if TWO:
            is_rest = (numbers != index[:, :, None]) & (first + numbers < pixels)
            rest = tl.where(is_rest, by_image, float("-inf"))
            runner = tl.max(rest, 2)
            runner_index = tl.min(tl.where(rest == runner[:, :, None], numbers, PIXELS), 2)
            runner_where = tl.minimum(first + runner_index, pixels - 1)
            # the loser of the two best beside the second best of the winner; of equal ones the former
            is_better = top > best
            loser, loser_where = tl.minimum(top, best), tl.where(is_better, where, first + index)
            runner = tl.where(is_better, runner, next_best)
            runner_where = tl.where(is_better, runner_where, next_where)
            loser_comes_first = (loser > runner) | ((loser == runner) & (loser_where < runner_where))
            next_best = tl.maximum(loser, runner)
            next_where = tl.where(loser_comes_first, loser_where, runner_where)
        where = tl.where(top > best, tl.minimum(first + index, pixels - 1), where)
        best = tl.maximum(best, top)
    i = (tile_i * IMAGES + tl.arange(0, IMAGES)).to(tl.int64)
    at = i[None, :] * sounds + sound[:, None]
    inside = (i < images)[None, :] & (sound < sounds)[:, None]
    tl.store(scores + at, tl.where(best == float("inf"), float("nan"), best), mask=inside)
    tl.store(pixel + at, where.to(pixel.dtype.element_ty), mask=inside)
    if TWO:
        tl.store(second + at, next_best, mask=inside)
        tl.store(other + at, next_where.to(other.dtype.element_ty), mask=inside)


@triton.jit
def choice_kernel(
    maps: tl.tensor, audio: tl.tensor,
    scores: tl.tensor, pixel: tl.tensor, second: tl.tensor, other: tl.tensor,
    near: tl.tensor, sounds: tl.tensor, map_stride: tl.tensor, audio_stride: tl.tensor,
    channels: tl.constexpr,
    SOUNDS: tl.constexpr, CHANNELS: tl.constexpr,
) -> None:  # fmt: skip
    """Exchange the best two pixels where they are `near` and float32 says so."""
    image = tl.program_id(0).to(tl.int64)
    sound = tl.program_id(1) * SOUNDS + tl.arange(0, SOUNDS)
    at, inside = image * sounds + sound, sound < sounds
    best = tl.load(scores + at, mask=inside, other=0.0)
    next_best = tl.load(second + at, mask=inside, other=float("-inf"))
    is_near = best - next_best < near
    where = tl.load(pixel + at, mask=inside, other=0).to(tl.int32)
    next_where = tl.load(other + at, mask=inside, other=0).to(tl.int32)
    maps += image * map_stride
    lead = tl.zeros([SOUNDS], tl.float32)
    end = tl.max(is_near.to(tl.int32), 0) * channels
    for k in range(0, end, CHANNELS):
        channel = k + tl.arange(0, CHANNELS)
        here = is_near[:, None] & (channel < channels)[None, :]
        mine = tl.load(maps + where[:, None] * channels + channel[None, :], mask=here, other=0.0)
        others = tl.load(maps + next_where[:, None] * channels + channel[None, :], mask=here, other=0.0)
        rows = audio + sound.to(tl.int64)[:, None] * audio_stride + channel[None, :]
        lead += tl.sum((mine - others) * tl.load(rows, mask=here, other=0.0), 1)
    is_other = is_near & ((lead < 0) | ((lead == 0) & (next_where < where)))
    tl.store(scores + at, next_best, mask=is_other)
    tl.store(pixel + at, next_where.to(pixel.dtype.element_ty), mask=is_other)


@triton.jit
def maps_kernel(
    gradient: tl.tensor, won: tl.tensor, starts: tl.tensor, audio: tl.tensor, of_maps: tl.tensor,
    sounds: tl.tensor, audio_stride: tl.tensor,
    pixels: tl.constexpr, channels: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
) -> None:  # fmt: skip
    """Sum the sounds that one pixel won, ROWS at a time."""
    image, place = (tl.program_id(0) // pixels).to(tl.int64), tl.program_id(0) % pixels
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channel < channels
    start = tl.load(starts + image * pixels + place)
    end = tl.load(starts + image * pixels + place + 1, mask=place + 1 < pixels, other=sounds)
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    for k in range(start, end, ROWS):
        at = k + tl.arange(0, ROWS)
        here = at < end
        sound = tl.load(won + image * sounds + at, mask=here, other=0)
        weight = tl.load(gradient + image * sounds + sound, mask=here, other=0.0)
        rows = audio + sound[:, None] * audio_stride + channel[None, :]
        total += weight[:, None] * tl.load(rows, mask=here[:, None] & inside[None, :], other=0.0)
    row = of_maps + (image * pixels + place) * channels + channel
    tl.store(row, tl.sum(total, 0), mask=inside)


@triton.jit(do_not_specialize=["images"])
def audio_kernel(
    gradient: tl.tensor, pixel: tl.tensor, maps: tl.tensor, of_audio: tl.tensor,
    images: tl.tensor, sounds: tl.tensor, map_stride: tl.tensor,
    channels: tl.constexpr,
    SOUNDS: tl.constexpr, CHANNELS: tl.constexpr,
) -> None:  # fmt: skip
    """Sum over all images the pixel that each sound chose."""
    sound = tl.program_id(0) * SOUNDS + tl.arange(0, SOUNDS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    here, inside = sound < sounds, channel < channels
    total = tl.zeros([SOUNDS, CHANNELS], tl.float32)
    gradient, pixel, maps = gradient + sound, pixel + sound, maps + channel[None, :]
    for _ in tl.range(0, images, loop_unroll_factor=2):
        weight = tl.load(gradient, mask=here, other=0.0)
        place = tl.load(pixel, mask=here, other=0).to(tl.int32)
        rows = tl.load(maps + place[:, None] * channels, mask=inside[None, :], other=0.0)
        total += weight[:, None] * rows
        gradient, pixel, maps = gradient + sounds, pixel + sounds, maps + map_stride
    rows = of_audio + sound.to(tl.int64)[:, None] * channels + channel[None, :]
    tl.store(rows, total, mask=here[:, None] & inside[None, :])
