"""Promise 5 in less than float32: factors are rounded and nothing else, and gradients keep their direction."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.precision import RECIPES, cosine, gradients, vectors
from cacl.loss import LossOptions, precision
from cacl.loss.best_pixel import best_pixel
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip
from cacl.loss.precision import Precision, flags_of, multiply, product, round_to
from cacl.loss.similarities import Columns
from cacl.options import parse
from launch.config import find, load_recipe
from tests.loss.batches import at_best_pixels
from tests.loss.combinations import SIMILARITIES

LESS: list[Precision] = ["tf32", "bfloat16"]
SCALE = 16.0
"""A power of two: rounding before it or after it is the same."""


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this processor round to tf32 too."""
    monkeypatch.setattr(precision, "in_effect", lambda asked, device: asked)


def rounded(name: Precision, x: Tensor) -> Tensor:
    return round_to(name, x).double()


def unit_vectors(similarity: str) -> tuple[Tensor, Tensor]:
    return vectors("seen", 9, SIMILARITIES[similarity].heads or 2, 5, 64, seed=0)


@pytest.mark.parametrize("name", LESS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scores_are_those_of_rounded_vectors_in_float64(similarity, name, everywhere):
    """To 64 sums' errors in float32. The own pairs of `max` are not rounded, nor is the choice of its pixels."""
    part, (maps, audio) = SIMILARITIES[similarity], unit_vectors(similarity)
    columns = Columns(torch.arange(9), torch.ones(9, dtype=torch.bool), precision=name)
    rows = part.prepare(maps)
    found = part.scores(rows, audio, columns, SCALE).pair
    plain = replace(columns, precision="float32")
    inside, around = rounded(name, rows), rounded(name, audio)
    wanted = part.scores(inside, around, plain, SCALE).pair
    if part.name == "max":
        wanted = at_best_pixels(inside, around, of=(rows, audio))
    exact = part.scores(rows.double(), audio.double(), columns, SCALE).pair
    if part.name == "max":
        wanted.diagonal().copy_(exact.diagonal())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    assert (exact - wanted).abs().max() > 2e-5, "rounding shows"


@pytest.mark.parametrize("name", LESS)
@pytest.mark.parametrize("channels", [16, 64, 512])
def test_a_pair_keeps_its_best_pixel_where_rounding_exchanges_the_two_best(name, channels, everywhere):
    """A third pixel may be better still, which is rare: one exchange in twenty may stay."""
    draw = torch.Generator().manual_seed(channels)
    maps, audio = (
        functional.normalize(torch.randn(*shape, channels, generator=draw), dim=-1)
        for shape in ((30, 49), (1000,))
    )
    exact = (maps.double() @ audio.double().T).argmax(1)
    by_rounded = (rounded(name, maps) @ rounded(name, audio).T).argmax(1)
    scores, pixel = best_pixel(maps, audio, precision=name)
    exchanged = (by_rounded != exact).sum()
    assert exchanged >= 5
    assert (pixel.long() != exact).sum() <= exchanged / 20
    chosen = rounded(name, maps)[torch.arange(30)[:, None], pixel.long()]
    torch.testing.assert_close(scores.double(), (chosen * rounded(name, audio)).sum(2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LESS)
def test_equal_pixels_leave_the_choice_to_the_lowest_and_one_alone_is_chosen(name, everywhere):
    """Twins have the same products in every precision."""
    maps, audio = (x[:, 0] for x in vectors("seen", 9, 1, 5, 64, seed=1))
    scores, pixel = best_pixel(maps, audio, precision=name)
    again, twin = best_pixel(maps.repeat_interleave(2, 1), audio, precision=name)
    assert torch.equal(twin.long(), 2 * pixel.long())
    torch.testing.assert_close(scores, again)
    alone, first = best_pixel(maps[:, :1], audio, precision=name)
    assert not first.any() and alone.isfinite().all()


@pytest.mark.parametrize("name", LESS)
def test_a_products_gradient_is_the_product_of_rounded_factors(name, everywhere):
    draw = torch.Generator().manual_seed(0)
    a, b, gradient = (torch.randn(*shape, generator=draw) for shape in ((7, 33), (5, 33), (5, 7)))
    a.requires_grad_(), b.requires_grad_()
    found = torch.autograd.grad(product(a, b, name), [a, b], gradient.T)
    a, b, gradient = (rounded(name, x.detach()) for x in (a, b, gradient.T))
    for value, wanted in zip(found, (gradient @ b, gradient.T @ a), strict=True):
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=1e-5)


TEMPERATURES = sorted(
    {load_recipe(find(name), []).loss.temperature for name in (*RECIPES, "paper-literal", "sspl")}
)


@pytest.mark.parametrize("name", LESS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradients_keep_their_direction_at_every_temperature_of_a_recipe(similarity, name):
    assert TEMPERATURES == [0.03, 0.07, 1.0]
    for temperature in TEMPERATURES:
        part = SIMILARITIES[similarity]
        loss = LossOptions(similarity=part, positives=OwnClip(), objective=InfoNCE(), temperature=temperature)
        for kind in ("random", "seen"):
            given = vectors(kind, 48, part.heads or 1, 16, 128, seed=0)
            assert cosine(loss, name, *given) > 0.999, (temperature, kind)


@pytest.mark.parametrize("name", LESS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_gradients_of_every_recipe_keep_their_direction(recipe, name):
    """Of 64 channels, as `miniature` has; docs/loss.md has 512."""
    loss = load_recipe(recipe, []).loss
    given = vectors("random", 200, loss.similarity.heads or 1, 25, 64, seed=0)
    assert cosine(loss, name, *given) > 0.9999


def test_float32_resolves_a_loss_whose_positives_outweigh_all_negatives():
    """`margin-nce` on clips that are told apart: the loss is 1e-6, and 1 beside it would round it away."""
    loss = load_recipe("margin-nce", []).loss
    given = vectors("seen", 48, 1, 16, 512, seed=0)
    assert cosine(loss, "float32", *given) > 0.999999


def test_float32_is_what_a_recipe_gets_unasked_and_its_products_are_torchs():
    assert parse(LossOptions, {}, "a recipe").scores == "float32"
    maps, audio = unit_vectors("mean")
    a, b = maps[:, 0, 0].requires_grad_(), audio[:, 0].requires_grad_()
    offset = torch.arange(9.0)
    for ours, plain in (
        (product(a, b), a @ b.T),
        (product(a, b, offset=offset), torch.addmm(offset, a, b.T)),
    ):
        assert torch.equal(ours, plain)
        assert all(map(torch.equal, *(torch.autograd.grad(x, [a, b], x.detach()) for x in (ours, plain))))


@pytest.mark.parametrize("similarity", ["max", "attention"])
def test_float64_is_never_rounded(similarity):
    loss = LossOptions(similarity=SIMILARITIES[similarity], objective=InfoNCE())
    units = [x.double() for x in unit_vectors(similarity)]
    for name in get_args(Precision):
        assert all(map(torch.equal, gradients(replace(loss, scores=name), *units), gradients(loss, *units)))


@pytest.mark.parametrize("similarity", ["max", "log-sum-exp"])
def test_blocks_and_runs_have_one_result(similarity):
    """The shifts of sums differ between blocks by float32's rounding, which bfloat16's then makes 2^-8 of."""
    loss = LossOptions(
        similarity=SIMILARITIES[similarity], objective=InfoNCE(), direction="both", scores="bfloat16"
    )
    units = unit_vectors(similarity)
    whole, cut = gradients(loss, *units), gradients(replace(loss, memory_mib=0.001), *units)
    assert all(map(torch.equal, whole, gradients(loss, *units)))
    torch.testing.assert_close(cut, whole, rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("before", ["none", "bf16", "ieee"])
def test_torchs_flag_is_put_back_whatever_happens(before):
    flags, a = flags_of(is_cuda=False), torch.ones(2, 3)
    first, flags.fp32_precision = flags.fp32_precision, before
    try:
        product(a.requires_grad_(), a, "bfloat16").sum().backward()
        assert flags.fp32_precision == before
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            multiply("bfloat16", a, a)
        assert flags.fp32_precision == before
    finally:
        flags.fp32_precision = first
