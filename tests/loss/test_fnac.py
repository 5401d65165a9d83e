"""FNAC against its sentences: a loop over clips in float64, of which some are not valid, on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import InfoNCE
from cacl.loss.options import SimilarityOptions
from cacl.loss.positives import OwnClip
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import MaxSimilarity, MeanSimilarity
from cacl.types import ClipLabels, Embeddings
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.oracle import oracle

N, INVALID = 11, (2, 3, 8)
SHARES = {2: (4, 7), 3: (5, 2, 4)}
TEMPERATURE = 0.3
FNAC = Fnac(suppression_by_sound=2.0, suppression_by_image=3.0, enhancement=5.0, foreground_threshold=0.4)


def options_of(similarity, memory_mib: float = 64) -> LossOptions:
    return LossOptions(
        similarity=similarity,
        objective=InfoNCE(),
        positives=OwnClip(),
        temperature=TEMPERATURE,
        regularizers=(FNAC,),
        memory_mib=memory_mib,
    )


def shares_of(logits: list[Tensor]) -> list[Tensor]:
    total = sum(logit.exp() for logit in logits)
    return [logit.exp() / total for logit in logits]


def foreground(pixels: Tensor, audio: Tensor) -> Tensor:
    """Mean over all pixels, those that are faint on the own map left out as zeros."""
    own = [float(pixel.detach() @ audio.detach()) / TEMPERATURE for pixel in pixels]
    low, high = min(own), max(own)
    bright = [(value - low) / (high - low + 1e-5) > FNAC.foreground_threshold for value in own]
    return sum(pixel * kept for pixel, kept in zip(pixels, bright, strict=True)) / len(pixels)


def fnac_by_loop(embeddings: Embeddings, valid: list[bool], pool) -> Tensor:
    """Mean over valid clips; a clip's row has the valid clips as columns, and nothing else."""
    maps, audio = embeddings.image[:, 0], embeddings.audio[:, 0]
    there = [i for i in range(len(valid)) if valid[i]]
    front = {i: foreground(maps[i], audio[i]) for i in there}
    whole = {i: maps[i].sum(0) / len(maps[i]) for i in there}
    total = torch.zeros((), dtype=torch.float64)
    for i in there:
        pair = shares_of([pool([pixel @ audio[j] for pixel in maps[i]]) / TEMPERATURE for j in there])
        heard = shares_of([audio[i] @ audio[j] / TEMPERATURE for j in there])
        seen = shares_of([whole[i] @ whole[j] / TEMPERATURE for j in there])
        sounding = shares_of([front[i] @ front[j] / TEMPERATURE for j in there])
        for p, h, s, f in zip(pair, heard, seen, sounding, strict=True):
            terms = 2.0 * abs(h - p) + 3.0 * abs(s - p) + 5.0 * abs(h - f)
            total = total + terms / len(there)
    return total / len(there)


POOLS: dict[str, tuple[SimilarityOptions, Callable[[list[Tensor]], Tensor]]] = {
    "max": (MaxSimilarity(), lambda cosines: torch.stack(cosines).max()),
    "mean": (MeanSimilarity(), lambda cosines: torch.stack(cosines).mean()),
}


def inputs() -> tuple[Tensor, Tensor, ClipLabels]:
    maps, audio, _ = random_parameters(N, pixels=5, channels=4)
    return maps.requires_grad_(), audio.requires_grad_(), random_clips(N, invalid=INVALID)


def expected_of(name: str) -> list[Tensor]:
    """The loss and its gradients with regard to raw maps and sounds."""
    similarity, pool = POOLS[name]
    maps, audio, clips = inputs()
    units = embed(maps, audio)
    contrast = oracle(units, clips, LossOptions(similarity=similarity, objective=InfoNCE(),
                      positives=OwnClip(), temperature=TEMPERATURE))  # fmt: skip
    fnac = fnac_by_loop(units, clips.valid.tolist(), pool)
    assert 0.1 < float((fnac / contrast).detach()) < 10, "neither part hides the other"
    return [(contrast + fnac).detach(), *torch.autograd.grad(contrast + fnac, [maps, audio])]


def found_on(world: World, name: str, shares: Sequence[int] | None, memory_mib: float) -> list[Tensor]:
    """The same of this rank's clips; gradients as DDP leaves them, those of all ranks' clips joined."""
    maps, audio, clips = inputs()
    sizes = shares or (N,)
    rows = slice(sum(sizes[: world.rank]), sum(sizes[: world.rank + 1]))
    units = embed(maps[rows], audio[rows])
    options = options_of(POOLS[name][0], memory_mib)
    terms = global_loss(units, take(clips, rows), options, world, shares=shares)
    gradients = torch.autograd.grad(terms.loss, [maps, audio])
    return [terms.mean, *(world.sum(gradient) / world.size for gradient in gradients)]


def check(found: list[Tensor], name: str) -> None:
    # float64, sums of at most a hundred terms of size 10
    torch.testing.assert_close(found, expected_of(name), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("memory_mib", [64, 0.002], ids=["one block", "blocks"])
@pytest.mark.parametrize("name", POOLS)
def test_fnac_is_the_loop_over_valid_clips(name: str, memory_mib: float) -> None:
    check(found_on(World(), name, None, memory_mib), name)


@pytest.mark.parametrize("size", SHARES)
def test_fnac_on_unequal_ranks_is_the_loop_over_all_their_valid_clips(size: int) -> None:
    for found in run_ranks(size, found_on, "max", SHARES[size], 64):
        check(found, "max")


def test_a_single_valid_clip_agrees_with_itself() -> None:
    maps, audio, _ = inputs()
    clips = random_clips(N, invalid=range(1, N))
    terms = global_loss(embed(maps, audio), clips, options_of(MaxSimilarity()), World())
    assert math.isclose(float(terms.mean), 0, abs_tol=1e-12)


def test_the_terms_are_left_out_before_their_first_epoch() -> None:
    maps, audio, clips = inputs()
    units, options = embed(maps, audio), options_of(MaxSimilarity())
    later = replace(options, regularizers=(replace(FNAC, first_epoch=2),))
    losses = [global_loss(units, clips, later, World(), epoch=epoch).mean for epoch in range(4)]
    assert (
        losses[0] == losses[1] == global_loss(units, clips, replace(options, regularizers=()), World()).mean
    )
    assert losses[2] == losses[3] == global_loss(units, clips, options, World()).mean > losses[1]
