"""Promise 5: every combination, in one block and in blocks of few rows, is the loss of its formulas."""

from __future__ import annotations

import pytest
import torch

from cacl.loss import LossOptions, global_loss
from cacl.types import Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters
from tests.loss.combinations import SIMILARITIES, combinations, heads_of
from tests.loss.oracle import oracle

N = 7


def value_and_gradients(loss, options: LossOptions, with_target: bool):
    maps, audio, _ = random_parameters(N, heads_of(options), pixels=3, channels=4)
    leaves = [maps.requires_grad_(), audio.requires_grad_()]
    scalars = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in options.scalars().items()
    }
    target = None
    if with_target:
        other_maps, other_audio, _ = random_parameters(N, heads_of(options), 3, 4, seed=9)
        target = embed(other_maps, other_audio)
    units = embed(maps, audio)
    value = loss(Embeddings(units.maps, units.audio, scalars, target))
    return value.detach(), torch.autograd.grad(value, [*leaves, *scalars.values()], allow_unused=True)


def check(similarity: str, every_direction: bool, targets: list[bool]) -> None:
    clips = random_clips(N, invalid=(2,))
    common = {"temperature": 0.3, "learn_temperature": True}
    whole = combinations(similarity, every_direction, **common, memory_mib=64)
    cut = combinations(similarity, every_direction, **common, memory_mib=0.001)
    for number, (name, options) in enumerate(whole.items()):
        for target in targets[number % 2 :: 2] or targets:
            expected = value_and_gradients(lambda e, o=options: oracle(e, clips, o, step=2), options, target)
            for blocks in (options, cut[name]):
                found = value_and_gradients(
                    lambda e, o=blocks: global_loss(e, clips, o, World(), step=2).backward_scalar,
                    blocks,
                    target,
                )
                # float64; logits reach 30, so that sums of exponentials agree to about 1e-13 relatively.
                torch.testing.assert_close(
                    found, expected, rtol=1e-10, atol=1e-10, msg=lambda m, k=name: f"{k}: {m}"
                )


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_parts_in_one_block_and_in_blocks_are_their_formulas(similarity: str) -> None:
    check(similarity, False, [False, True])


@pytest.mark.slow
@pytest.mark.parametrize("target", [False, True], ids=["alone", "target"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_parts_in_every_direction_are_their_formulas(similarity: str, target: bool) -> None:
    check(similarity, True, [target])
