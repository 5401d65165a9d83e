"""What must not matter does not, and the limits of the parts are each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from cacl.errors import UserError
from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import Contrast, InfoNCE, Sigmoid, SupCon
from cacl.loss.positives import FalseNegatives, OwnClip, SameClass, SoftOverlap
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import (
    AttentionSimilarity,
    LogSumExpSimilarity,
    MaxSimilarity,
    MeanSimilarity,
    TriMapSimilarity,
)
from cacl.loss.sspl import Sspl
from cacl.types import Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.combinations import SIMILARITIES, combinations, every_part, heads_of

N = 9
QUICK = settings(max_examples=10, deadline=None)


def any_options() -> st.SearchStrategy[LossOptions]:
    """Any combination, in any direction it has."""
    every = {name: list(combinations(name, True).values()) for name in SIMILARITIES}
    return st.sampled_from(sorted(every)).flatmap(lambda name: st.sampled_from(every[name]))


def inputs(options: LossOptions, seed: int) -> Embeddings:
    maps, audio, _ = random_parameters(N, heads_of(options), seed=seed)
    scalars = {name: torch.tensor(value, dtype=torch.float64) for name, value in options.scalars().items()}
    return embed(maps, audio, scalars)


def per_clip(embeddings: Embeddings, clips, options: LossOptions) -> torch.Tensor:
    return global_loss(embeddings, clips, options, World(), step=1).per_clip


@QUICK
@given(any_options(), st.integers(0, 1000), st.randoms())
def test_order_of_clips_does_not_matter(options: LossOptions, seed: int, random) -> None:
    order = torch.tensor(random.sample(range(N), N))
    embeddings, clips = inputs(options, seed), random_clips(N, seed=seed, invalid=(4,))
    moved = replace(embeddings, image=embeddings.image[order], audio=embeddings.audio[order])
    found = per_clip(moved, take(clips, order), options)
    torch.testing.assert_close(found, per_clip(embeddings, clips, options)[order])


@QUICK
@given(any_options(), st.integers(0, 1000))
def test_order_of_pixels_does_not_matter(options: LossOptions, seed: int) -> None:
    embeddings, clips = inputs(options, seed), random_clips(N, seed=seed)
    flipped = replace(embeddings, image=embeddings.image.flip(2))
    torch.testing.assert_close(per_clip(flipped, clips, options), per_clip(embeddings, clips, options))


@QUICK
@given(any_options(), st.integers(0, 1000), st.randoms())
def test_names_of_classes_do_not_matter(options: LossOptions, seed: int, random) -> None:
    names = torch.tensor([*random.sample(range(3), 3), -1])
    embeddings, clips = inputs(options, seed), random_clips(N, seed=seed)
    renamed = replace(clips, label=names[clips.label])
    torch.testing.assert_close(per_clip(embeddings, renamed, options), per_clip(embeddings, clips, options))


@QUICK
@given(any_options(), st.integers(0, 1000), st.floats(0.1, 10))
def test_scale_of_raw_vectors_does_not_matter(options: LossOptions, seed: int, factor: float) -> None:
    maps, audio, _ = random_parameters(N, heads_of(options), seed=seed)
    scalars = {name: torch.tensor(value, dtype=torch.float64) for name, value in options.scalars().items()}
    clips = random_clips(N, seed=seed)
    found = per_clip(embed(maps * factor, audio / factor, scalars), clips, options)
    torch.testing.assert_close(found, per_clip(embed(maps, audio, scalars), clips, options))


@QUICK
@given(any_options(), st.integers(0, 1000))
def test_a_clip_that_is_not_valid_is_as_if_it_were_not_there(options: LossOptions, seed: int) -> None:
    embeddings, clips = inputs(options, seed), random_clips(N, seed=seed, invalid=(0, 5))
    kept = clips.valid.nonzero()[:, 0]
    fewer = replace(embeddings, image=embeddings.image[kept], audio=embeddings.audio[kept])
    terms = global_loss(embeddings, clips, options, World(), step=1)
    expected = global_loss(fewer, take(clips, kept), options, World(), step=1)
    torch.testing.assert_close(terms.per_clip[kept], expected.per_clip)
    assert terms.per_clip[[0, 5]].tolist() == [0, 0]
    torch.testing.assert_close(terms.logged, expected.logged)
    torch.testing.assert_close(terms.mean, expected.mean)


def test_log_sum_exp_tends_to_mean_and_to_max() -> None:
    def loss(similarity):
        options = LossOptions(similarity=similarity, objective=InfoNCE(), direction="both")
        return per_clip(inputs(options, 3), random_clips(N), options)

    # Its distance from the mean is sharpness * variance / 2, from the maximum at most log(6 pixels) / sharpness,
    # both divided by the temperature of 0.07.
    near_mean, near_max = LogSumExpSimilarity(sharpness=1e-6), LogSumExpSimilarity(sharpness=1e6)
    torch.testing.assert_close(loss(near_mean), loss(MeanSimilarity()), rtol=0, atol=1e-4)
    torch.testing.assert_close(loss(near_max), loss(MaxSimilarity()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("average", ["out", "in"])
def test_supcon_with_one_positive_is_infonce(average: Literal["out", "in"]) -> None:
    def loss(objective):
        options = LossOptions(positives=OwnClip(), objective=objective, direction="both")
        return per_clip(inputs(options, 1), random_clips(N), options)

    torch.testing.assert_close(loss(SupCon(average=average)), loss(InfoNCE()))


def test_one_class_and_a_class_for_every_clip_are_the_ends_of_same_class() -> None:
    clips = random_clips(N)
    for objective in (Contrast(), InfoNCE(), SupCon()):
        options = LossOptions(objective=objective, direction="both")
        embeddings = inputs(options, 2)
        alone = replace(clips, label=torch.full((N,), -1))
        own = replace(options, positives=OwnClip())
        torch.testing.assert_close(per_clip(embeddings, alone, options), per_clip(embeddings, clips, own))
        terms = global_loss(embeddings, replace(clips, label=torch.zeros(N).long()), options, World())
        assert terms.per_clip.tolist() == [0] * N, "a class that fills the batch leaves no contrast"
        assert int(terms.logged["rows_without_negatives"]) == N
        assert int(terms.logged["same_class_pairs"]) == N * (N - 1) // 2


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradcheck_of_every_part(similarity: str) -> None:
    clips = random_clips(5, invalid=(1,))
    common: dict[str, Any] = {"temperature": 0.5, "learn_temperature": True, "memory_mib": 0.0005}
    every = every_part(similarity, **common)
    if SIMILARITIES[similarity].heads != 2:
        every["fnac"] = LossOptions(similarity=SIMILARITIES[similarity], regularizers=(Fnac(),), **common)
    for name, options in every.items():
        maps, audio, _ = random_parameters(5, heads_of(options), pixels=2, channels=3)
        values = [
            torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in options.scalars().values()
        ]

        def loss(maps, audio, *values, options=options):
            scalars = dict(zip(options.scalars(), values, strict=True))
            return global_loss(Embeddings(maps, audio, scalars), clips, options, World()).loss

        assert torch.autograd.gradcheck(loss, (maps.requires_grad_(), audio.requires_grad_(), *values)), name


SSPL: dict[str, Any] = {"objective": Sspl(), "positives": OwnClip()}
REFUSED: dict[str, dict[str, Any]] = {
    "objective sigmoid has no directions": {"objective": Sigmoid(), "direction": "both"},
    "sspl compares own pairs only: similarity": {**SSPL, "similarity": MaxSimilarity()},
    "sspl compares own pairs only: positives": {"objective": Sspl()},
    "sspl compares own pairs only: direction": {**SSPL, "direction": "audio-to-image"},
    "sspl compares own pairs only: learn_temperature": {**SSPL, "learn_temperature": True},
    "sspl compares own pairs only: regularizers": {**SSPL, "regularizers": (Fnac(),)},
    "similarity tri-map has only direction image-to-audio": {
        "similarity": TriMapSimilarity(),
        "direction": "both",
    },
    "attention and fnac need different numbers of heads": {
        "similarity": AttentionSimilarity(),
        "regularizers": (Fnac(),),
    },
    "positives.above must be below 0": {"similarity": AttentionSimilarity(), "positives": FalseNegatives()},
    "temperature must be above 0": {"temperature": 0.0},
    "minimum_temperature must lie in": {"learn_temperature": True, "minimum_temperature": 0.5},
    "memory_mib must be above 0": {"memory_mib": 0},
    "kernel triton computes similarity max alone, got mean": {"kernel": "triton"},
    "scores: there is no 'float16'; choose one of float32, tf32, bfloat16": {"scores": "float16"},
    "scores bfloat16 has no meaning with similarity mean and objective contrast": {"scores": "bfloat16"},
    "sspl compares own pairs only: scores": {**SSPL, "scores": "tf32"},
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_combination_without_meaning_is_one_clear_sentence(sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        LossOptions(**REFUSED[sentence])


def test_what_the_data_or_model_lack_is_said() -> None:
    options = LossOptions(positives=SoftOverlap())
    with pytest.raises(UserError, match="soft labels"):
        per_clip(inputs(options, 0), replace(random_clips(N), soft=None), options)
    with pytest.raises(UserError, match="there is the label 5, not below 5; set 6 or more"):
        SameClass(number_of_classes=5).check_labels(5, False)
    with pytest.raises(UserError, match="soft-overlap needs soft labels, and there are none"):
        SoftOverlap().check_labels(0, False)
    SameClass(number_of_classes=5).check_labels(4, False)
    with pytest.raises(UserError, match=r"attention needs 2 head\(s\) \(model\.heads\), got 1"):
        per_clip(one_head(), random_clips(N), LossOptions(similarity=AttentionSimilarity()))
    with pytest.raises(UserError, match=r"audio has shape \(9, 2, 4\), expected \(9, 2, 5\)"):
        broken = inputs(options, 0)
        per_clip(replace(broken, audio=broken.audio[..., :4]), random_clips(N), LossOptions())
    with pytest.raises(UserError, match=r"confidence has shape \(8,\), expected \(9,\)"):
        short = replace(random_clips(N), confidence=torch.ones(N - 1))
        per_clip(inputs(options, 0), short, LossOptions())
    with pytest.raises(
        UserError, match=r"maps has shape \(9, 6, 5\), expected \[clips, heads, pixels, channels\]"
    ):
        per_clip(replace(broken, image=broken.image[:, 0]), random_clips(N), LossOptions())
    with pytest.raises(UserError, match=r"target.audio has shape \(8, 2, 5\), expected \(9, 2, 5\)"):
        target = Embeddings(broken.image, broken.audio[1:])
        per_clip(replace(broken, target=target), random_clips(N), LossOptions())
    with pytest.raises(UserError, match="needs its head in the model, and two views"):
        per_clip(one_head(), random_clips(N), LossOptions(**SSPL))


def one_head() -> Embeddings:
    maps, audio, _ = random_parameters(N, 1)
    return embed(maps, audio)
