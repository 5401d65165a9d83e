"""Triton's kernels of the `max` loss on every device: by Triton's interpreter on the processor, and on a GPU."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.loss.best_pixel import best_pixel, best_pixel_gradients
from cacl.loss.kernel import by_triton
from cacl.loss.objectives import InfoNCE
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import MaxSimilarity
from cacl.types import Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters

pytest.importorskip("triton", reason="Triton is not installed here")

Run = Callable[..., Any]
"""Call a function with a device and further arguments, where Triton can compute."""


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """On the processor Triton runs as Python and NumPy, if that is said before it is imported: in a process."""
    if request.param == "cuda":
        yield lambda function, *arguments: function("cuda", *arguments)
        return
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            process.submit(torch.set_num_threads, 1).result()
        yield lambda function, *arguments: process.submit(function, "cpu", *arguments).result()


FORWARDS = [
    (1, 1, 1, 1), (3, 2, 5, 5), (5, 31, 20, 33), (2, 32, 128, 32), (3, 33, 7, 16), (5, 49, 129, 40), (2, 64, 3, 64),
    (9, 65, 2, 8), (2, 196, 5, 70), (3, 256, 4, 4), (2, 257, 4, 4), (1, 300, 130, 65), (0, 4, 3, 4), (3, 4, 0, 4),
]  # fmt: skip
"""Images, pixels, sounds, channels: around the tiles' 32 and 64 pixels, 128 sounds, and 32 and 64 channels."""
BACKWARDS = [
    (1, 1, 1, 1), (3, 5, 33, 40), (2, 4, 70, 129), (2, 3, 20, 257), (2, 49, 9, 16), (1, 257, 9, 4), (0, 4, 3, 4),
    (3, 4, 0, 4),
]  # fmt: skip
"""The same: around the tiles' 32 sounds, and 128 and 256 channels."""


def whole_numbers(*shape: int, seed: int) -> Tensor:
    """Of -1 to 1: products are exact in every precision and order, and most maxima are tied."""
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(seed)).float()


def layout(number: int, x: Tensor) -> Tensor:
    """The same numbers [..., D]: contiguous, the second of two heads, or channels before pixels."""
    heads = torch.stack([x + 1, x], 1).unbind(1)[1]
    return (x, heads, x.transpose(-1, -2).contiguous().transpose(-1, -2))[number % 3]


def check_scores(device: str) -> None:
    from cacl.loss import best_pixel_triton

    for number, (b, pixels, n, channels) in enumerate(FORWARDS):
        maps = whole_numbers(b, pixels, channels, seed=number)
        audio = whole_numbers(n, channels, seed=-number)
        given = layout(number, maps.to(device)), layout(number, audio.to(device))
        scores, pixel = best_pixel(*given, "triton")
        assert scores.shape == pixel.shape == (b, n)
        assert pixel.dtype == (torch.uint8 if pixels <= 256 else torch.int16)
        for precision in ("tf32", "bfloat16") if device == "cuda" else ("tf32",):
            again = torch.empty_like(scores), torch.empty_like(pixel)
            best_pixel_triton.best_pixel(*given, *again, precision)
            assert torch.equal(again[0], scores) and torch.equal(again[1], pixel)
        if b and n:
            largest = torch.einsum("ipd,jd->ijp", maps, audio).max(2)
            assert torch.equal(scores.cpu(), largest.values), (b, pixels, n, channels)
            assert torch.equal(pixel.cpu().long(), largest.indices), (b, pixels, n, channels)


def test_a_score_is_the_maximum_and_its_pixel_the_lowest_of_equals(run):
    """Triton's interpreter takes bfloat16 for whole numbers, so a GPU alone is asked for it."""
    run(check_scores)


def check_choice(device: str) -> None:
    from cacl.loss import precision

    draw = torch.Generator().manual_seed(0)
    for pixels, channels in ((49, 64), (70, 40), (300, 16), (2, 8)):
        maps, audio = (
            functional.normalize(torch.randn(*shape, channels, generator=draw), dim=-1)
            for shape in ((5, pixels), (150,))
        )
        exact = torch.einsum("ipd,jd->ijp", maps.double(), audio.double()).argmax(2)
        with mock.patch.object(precision, "in_effect", lambda asked, device: asked):
            for name in ("tf32", "bfloat16") if device == "cuda" else ("tf32",):
                rounded = (precision.round_to(name, x).double() for x in (maps, audio))
                products = torch.einsum("ipd,jd->ijp", *rounded)
                scores, pixel = best_pixel(maps.to(device), audio.to(device), "triton", name)
                pixel = pixel.cpu().long()
                assert (pixel != exact).sum() <= (products.argmax(2) != exact).sum() / 20
                of_pixel = products.gather(2, pixel[..., None])[..., 0]
                torch.testing.assert_close(scores.cpu().double(), of_pixel, rtol=1e-5, atol=1e-6)


def test_of_the_best_two_pixels_of_rounded_vectors_float32_chooses(run):
    """As `tests/loss/test_precision.py` says of torch's; a third pixel is rarely better."""
    run(check_choice)


def check_gradients(device: str) -> None:
    for number, (b, pixels, n, channels) in enumerate(BACKWARDS):
        draw = torch.Generator().manual_seed(number)
        maps, audio, gradient = (
            torch.randn(*shape, generator=draw) for shape in ((b, pixels, channels), (n, channels), (b, n))
        )
        pixel = torch.randint(0, pixels, (b, n), generator=draw)
        chosen = torch.zeros(b, n, pixels, dtype=torch.float64)
        chosen.scatter_(2, pixel[..., None], gradient.double()[..., None])
        expected = (
            torch.einsum("ijp,jd->ipd", chosen, audio.double()),
            torch.einsum("ijp,ipd->jd", chosen, maps.double()),
        )
        small = pixel.to(device, torch.uint8 if pixels <= 256 else torch.int16)
        weights, images, sounds = (layout(number, x.to(device)) for x in (gradient, maps, audio))
        found = best_pixel_gradients(weights, small, images, sounds, "triton")
        for value, wanted in zip(found, expected, strict=True):
            assert value.is_contiguous()
            torch.testing.assert_close(value.cpu().double(), wanted, rtol=1e-5, atol=1e-5)


def test_gradients_are_sums_over_the_chosen_pixels(run):
    """Of 70 terms, each rounded to 6e-8 of the sum so far."""
    run(check_gradients)


def test_tf32_is_the_nearest_number_of_ten_bits():
    from cacl.loss.precision import round_to

    exact = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    rounded = round_to("tf32", exact)
    assert not (rounded.view(torch.int32) & (2**13 - 1)).any()
    assert ((rounded - exact).abs() <= 2**-11 * exact.abs()).all()
    assert round_to("tf32", torch.tensor(torch.nan)).isnan()


def check_not_a_number(device: str) -> None:
    maps, audio = torch.ones(3, 40, 8), torch.ones(5, 8)
    maps[0, 39, 2] = maps[1, 0, 3] = audio[2, 1] = torch.nan
    scores, pixel = best_pixel(maps.to(device), audio.to(device), "triton")
    assert scores[:2].isnan().all() and scores[2].isnan().tolist() == [False, False, True, False, False]
    assert (pixel < 40).all()


def test_one_value_that_is_not_a_number_reaches_its_scores(run):
    run(check_not_a_number)


def loss_and_gradients(options: LossOptions, maps: Tensor, audio: Tensor) -> tuple[Tensor, ...]:
    maps, audio = (x.detach().requires_grad_() for x in (maps, audio))
    clips = random_clips(len(maps), invalid=(3,)).to(maps.device)
    clips = replace(clips, confidence=clips.confidence.to(maps.dtype), soft=None)
    terms = global_loss(Embeddings(maps, audio), clips, options, World(device=maps.device))
    return terms.per_clip.detach(), *torch.autograd.grad(terms.loss, [maps, audio])


def count_calls(module: ModuleType, name: str) -> list[str]:
    """A list that grows with every call of a module's function."""
    calls, function = [], getattr(module, name)

    def called(*arguments: Any) -> Any:
        calls.append(name)
        return function(*arguments)

    setattr(module, name, called)
    return calls


def check_losses(device: str) -> None:
    from cacl.loss import best_pixel_triton

    forwards, backwards = (count_calls(best_pixel_triton, n) for n in ("best_pixel", "best_pixel_gradients"))
    for options, heads in LOSSES:
        maps, audio, _ = random_parameters(7, heads, 5, 8)
        units = embed(maps.float().to(device), audio.float().to(device))
        options = replace(options, kernel="triton")
        found = loss_and_gradients(options, units.image, units.audio)
        rounds = heads * (1 if options.memory_mib is None else 7) * (1 + len(options.regularizers))
        assert len(backwards) == rounds and rounds <= len(forwards) <= 2 * rounds
        wanted = loss_and_gradients(replace(options, kernel="torch"), units.image, units.audio)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        exact = [x.double() for x in (units.image, units.audio)]
        wanted = loss_and_gradients(replace(options, kernel="torch"), *exact)
        assert all(map(torch.equal, loss_and_gradients(options, *exact), wanted)), "float64 is torch's"
        assert len(backwards) == rounds
        forwards.clear()
        backwards.clear()


MAX: dict[str, Any] = {"similarity": MaxSimilarity(), "objective": InfoNCE(), "temperature": 0.2}
LOSSES = [
    (LossOptions(**MAX, direction="both"), 2),
    (LossOptions(**MAX, direction="both", memory_mib=1e-6), 2),
    (LossOptions(**MAX, regularizers=(Fnac(),), memory_mib=1e-6), 1),
]
"""Options and heads, in one block and in a block a row."""


def test_whole_losses_are_computed_by_triton_and_are_those_of_torch(run):
    """Forward and backward, in every part and block. Rounding alone differs, and float64 is always torch's."""
    run(check_losses)


def check_precisions(device: str) -> None:
    """Triton's interpreter rounds to tf32 where this processor is told to; see above for bfloat16."""
    from cacl.loss import precision

    for scores in ("tf32", "bfloat16") if device == "cuda" else ("tf32",):
        for options, heads in LOSSES:
            maps, audio, _ = random_parameters(7, heads, 5, 8)
            units = embed(maps.float().to(device), audio.float().to(device))
            options = replace(options, scores=scores, kernel="triton")
            with mock.patch.object(precision, "in_effect", lambda asked, device: asked):
                found = loss_and_gradients(options, units.image, units.audio)
                by_torch = loss_and_gradients(replace(options, kernel="torch"), units.image, units.audio)
            exact = loss_and_gradients(options, units.image.double(), units.audio.double())
            torch.testing.assert_close(found, by_torch, rtol=1e-4, atol=1e-5)
            for value, wanted in zip(found[1:], exact[1:], strict=True):
                both = value.double().flatten(), wanted.flatten()
                assert torch.cosine_similarity(*both, dim=0) > 0.999, (scores, options)


def test_losses_of_rounded_scores_are_torchs_and_keep_the_direction_of_their_gradients(run):
    run(check_precisions)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "bound"), [("float32", 3e-7), ("tf32", 2e-4), ("bfloat16", 1.5e-3)])
def test_scores_of_unit_vectors_are_as_exact_as_their_precision(precision, bound):
    """Factors are rounded by 2^-24, 2^-11 or 2^-8 of themselves; over 512 channels that evens out."""
    from cacl.loss import best_pixel_triton

    draw = torch.Generator().manual_seed(0)
    for pixels in (49, 196):
        maps, audio = (
            functional.normalize(torch.randn(n, 512, generator=draw), dim=-1) for n in (80 * pixels, 320)
        )
        maps, audio = maps.view(80, pixels, 512).cuda(), audio.cuda()
        scores, pixel = torch.empty(80, 320).cuda(), torch.empty(80, 320, dtype=torch.uint8).cuda()
        best_pixel_triton.best_pixel(maps, audio, scores, pixel, precision)
        products = torch.einsum("ipd,jd->ijp", maps.double(), audio.double())
        chosen = products.gather(2, pixel.long()[..., None])[..., 0]
        assert (scores - chosen).abs().max() < bound
        assert (products.amax(2) - chosen).max() < 2 * bound


@pytest.mark.gpu
def test_a_gpu_chooses_triton_never_waits_for_it_and_repeats_every_bit():
    maps, audio, _ = random_parameters(64, 1, 49, 512)
    units = embed(maps.float().cuda(), audio.float().cuda())
    assert by_triton("auto", units.image) and not by_triton("auto", units.image.double())
    images, sounds = units.image[:, 0], units.audio[:, 0]

    def compute() -> tuple[Tensor, ...]:
        scores, pixel = best_pixel(images, sounds)
        return scores, pixel, *best_pixel_gradients(scores, pixel, images, sounds)

    first = compute()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        again = compute()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(map(torch.equal, first, again))


SHARED = {86: 99, 90: 227}
"""KiB of shared memory that a program may have, by compute capability: the least from 8.0 on, and Hopper's."""


@pytest.mark.parametrize(("capability", "precision"), [(86, "float32"), (90, "bfloat16")])
def test_kernels_compile_for_gpus_that_are_not_here_and_fit_them(
    capability, precision, tmp_path, monkeypatch
):
    from cacl.loss import best_pixel_triton as kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    shape = {"pixels": 49, "channels": 512}
    tile = {**kernels.tile_of(49, precision), "PRODUCTS": kernels.PRODUCTS[precision], "GROUP": 8}
    tile["TWO"] = precision != "float32"
    vectors = {"float32": "*fp32", "bfloat16": "*bf16"}[precision]
    results = {"scores": "*fp32", "pixel": "*u8", "second": "*fp32", "other": "*u8"}
    types = {"maps": vectors, "audio": vectors, **results}
    scores = compile_for(capability, kernels.score_kernel, types, shape | tile, 8)
    assert "mma" in scores.asm["ptx"], "tensor cores multiply"
    assert scores.metadata.shared <= SHARED[capability] * 1024
    types = {name: "*fp32" for name in ("gradient", "maps", "audio", "of_maps", "of_audio")}
    types |= {"won": "*i64", "starts": "*i64", "near": "fp32", **results}
    compile_for(capability, kernels.choice_kernel, types, {"channels": 512, "SOUNDS": 32, "CHANNELS": 64}, 4)
    compile_for(capability, kernels.maps_kernel, types, {**shape, "ROWS": 16, "CHANNELS": 256}, 4)
    compile_for(capability, kernels.audio_kernel, types, {"channels": 512, "SOUNDS": 32, "CHANNELS": 128}, 4)


def compile_for(
    capability: int, kernel: Any, types: dict[str, str], constants: dict[str, Any], warps: int
) -> Any:
    """Compile a kernel for a GPU; what has no type is a whole number divisible by 16."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {n: types.get(n, "constexpr" if n in constants else "i32") for n in names}
    not_whole = {"near", *constants}
    aligned = {(k,): [["tt.divisibility", 16]] for k, n in enumerate(names) if n not in not_whole}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": warps, "num_stages": 3}
    return compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def test_a_processor_is_torchs_and_says_so_where_triton_is_asked_for():
    maps, audio = torch.ones(2, 3, 4), torch.ones(5, 4)
    assert not by_triton("auto", maps)
    with pytest.raises(
        UserError, match=r"^loss\.kernel: triton cannot run here: it needs a GPU, and .* cpu; choose auto"
    ):
        best_pixel(maps, audio, "triton")
