"""Batches at the edge of what there is: values and gradients stay finite, and what has no contrast adds nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import Contrast, InfoNCE, Sigmoid
from cacl.loss.positives import OwnClip, SameClass
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import MaxSimilarity, TriMapSimilarity
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters
from tests.loss.combinations import SIMILARITIES, combinations, every_part, heads_of, named

N = 6
RANDOM = random_clips(N)
CLIPS = {
    "one class": replace(RANDOM, label=torch.zeros(N).long()),
    "no labels": replace(RANDOM, label=torch.full((N,), -1)),
    "no confidence": replace(RANDOM, confidence=torch.zeros(N)),
    "nothing valid": replace(RANDOM, valid=torch.zeros(N).bool()),
    "one valid": replace(RANDOM, valid=torch.arange(N) == 2),
    "a single clip": random_clips(1),
}
VECTORS = {
    "any": lambda maps, audio: (maps, audio),
    "equal": lambda maps, audio: (torch.ones_like(maps), torch.ones_like(audio)),
    "opposite": lambda maps, audio: (torch.ones_like(maps), -torch.ones_like(audio)),
}


def loss_of(clips: ClipLabels, vectors: str, options: LossOptions, dtype=torch.float32):
    """The loss's terms, and its gradients with regard to unit vectors and scalars."""
    maps, audio, _ = random_parameters(len(clips.label), heads_of(options))
    units = embed(*VECTORS[vectors](maps, audio))
    scalars = {
        name: torch.tensor(v, dtype=dtype, requires_grad=True) for name, v in options.scalars().items()
    }
    image, audio = units.image.to(dtype).requires_grad_(), units.audio.to(dtype).requires_grad_()
    terms = global_loss(Embeddings(image, audio, scalars), clips, options, World(), step=1)
    gradients = torch.autograd.grad(terms.loss, [image, audio, *scalars.values()], allow_unused=True)
    return terms, [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("vectors", VECTORS)
@pytest.mark.parametrize("clips", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_part_is_finite_in_float32_at_a_temperature_of_a_thousandth(
    similarity: str, clips: ClipLabels, vectors: str
) -> None:
    common = {"temperature": 1e-3, "learn_temperature": True, "minimum_temperature": 1e-3}
    every = {**every_part(similarity, **common), **every_part(similarity, **common, memory_mib=0.001)}
    for name, options in every.items():
        regularizers = (Fnac(),) if SIMILARITIES[similarity].heads != 2 else ()
        terms, gradients = loss_of(clips, vectors, replace(options, regularizers=regularizers))
        for value in (terms.per_clip, terms.mean, *gradients):
            assert value.isfinite().all(), name
        assert terms.per_clip[~clips.valid].tolist() == [0.0] * int((~clips.valid).sum()), name


def test_far_logits_are_those_of_float64() -> None:
    for name, options in combinations("max", False, temperature=1e-3).items():
        single, _ = loss_of(RANDOM, "any", options)
        double, _ = loss_of(RANDOM, "any", options, torch.float64)
        # Logits of 1000 in float32 carry errors of 1000 * 2^-23; the sigmoid's sum has N of them.
        torch.testing.assert_close(
            single.per_clip.double(), double.per_clip, rtol=1e-3, atol=1e-3, msg=named(name)
        )


@pytest.mark.parametrize("objective", [Contrast(), Sigmoid(bias=0.0)])
def test_nothing_is_left_out_of_a_logarithm_in_float64(objective) -> None:
    """torch's softplus returns x above 20, 2e-9 less than log(1 + e^x)."""
    options = LossOptions(objective=objective, positives=OwnClip(), temperature=1 / 21.0)
    clips = random_clips(2)
    maps = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]], dtype=torch.float64)
    audio = maps[:, :, 0].flip(0)
    scalars = {"bias": torch.zeros((), dtype=torch.float64)}
    found = global_loss(Embeddings(maps, audio, scalars), clips, options, World()).per_clip
    expected = math.log1p(math.exp(21.0)) + (math.log(2) if options.objective.name == "sigmoid" else 0)
    assert found.tolist() == pytest.approx([expected] * 2, rel=1e-15)


def test_pixels_that_all_sound_or_all_rest_have_a_tri_map() -> None:
    """A quotient of sums of sigmoids is 0 / 0 in float32 once a whole map is above 0.9, as it is when learned."""
    for softness in (0.03, 0.001):
        options = LossOptions(
            similarity=TriMapSimilarity(softness=softness), objective=InfoNCE(), positives=OwnClip()
        )
        for vectors in ("equal", "opposite"):
            terms, gradients = loss_of(RANDOM, vectors, options)
            assert all(value.isfinite().all() for value in (terms.per_clip, *gradients))


@pytest.mark.parametrize("bound", [0.1, 0.07, 0.03, 0.02, 0.01, 0.001])
def test_a_temperature_at_its_bound_can_leave_it(bound: float) -> None:
    options = LossOptions(
        similarity=MaxSimilarity(),
        objective=InfoNCE(),
        temperature=bound,
        minimum_temperature=bound,
        learn_temperature=True,
    )
    scalars = {"logit_scale": torch.tensor(-math.log(bound / 2)).requires_grad_()}

    def gradient() -> float:
        scale = options.scale(scalars)
        assert isinstance(scale, torch.Tensor), "a learned scale is a tensor"
        assert scale.item() <= 1 / bound * (1 + 1e-6)
        return float(torch.autograd.grad(scale, scalars["logit_scale"])[0])

    assert gradient() == 0, "beyond the bound there is nothing to gain"
    options.clamp_(scalars)
    assert gradient() == pytest.approx(1 / bound, rel=1e-6)


def test_a_class_that_fills_the_batch_has_no_contrast_and_is_counted() -> None:
    for positives in (SameClass(), SameClass(number_of_classes=1)):
        terms, gradients = loss_of(
            CLIPS["one class"], "any", LossOptions(positives=positives, direction="both")
        )
        assert terms.per_clip.tolist() == [0.0] * N
        assert int(terms.logged["rows_without_negatives"]) == N
        assert not any(gradient.any() for gradient in gradients)
