"""Promise 5: every combination, in one block and in blocks of few rows, is the loss of its formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cacl.loss import LossOptions, global_loss
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import Curriculum, FalseNegatives, OwnClip, SameClass
from cacl.types import Embeddings
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters
from tests.loss.combinations import SIMILARITIES, combinations, heads_of, named
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
    value = loss(Embeddings(units.image, units.audio, scalars, target))
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
                    lambda e, o=blocks: global_loss(e, clips, o, World(), step=2).loss,
                    blocks,
                    target,
                )
                # float64; logits reach 30, so that sums of exponentials agree to about 1e-13 relatively.
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=named(name))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_parts_in_one_block_and_in_blocks_are_their_formulas(similarity: str) -> None:
    check(similarity, False, [False, True])


TURNING = [
    Curriculum(start=0.9, end=0.5, steps=2),
    FalseNegatives(top=2, above=-1.0, from_step=2),
    FalseNegatives(top=2, above=-1.0, from_step=2, mode="attract"),
]


@pytest.mark.parametrize("positives", TURNING, ids=lambda p: f"{p.name} {getattr(p, 'mode', '')}")
def test_what_depends_on_the_step_turns_at_its_step_and_then_stays(positives) -> None:
    """The trainer's step is a tensor or an integer."""
    options = LossOptions(positives=positives, objective=InfoNCE())
    order = torch.arange(14)
    clips = replace(random_clips(14), label=order % 2, confidence=(order / 14.0).double())
    maps, audio, _ = random_parameters(14, pixels=3, channels=4)
    units = embed(maps, audio)
    by_step = {}
    for step in (0, 1, 2, 3, 100):
        by_step[step] = float(oracle(units, clips, options, step))
        for given in (step, torch.tensor(step)):
            found = float(global_loss(units, clips, options, World(), given).mean)
            assert found == pytest.approx(by_step[step], rel=1e-12)
    assert by_step[1] != by_step[2], "the case tells the steps apart"
    assert by_step[2] == by_step[3] == by_step[100]
    own_or_all = [
        float(oracle(units, clips, replace(options, positives=other))) for other in (OwnClip(), SameClass())
    ]
    assert not {by_step[1], by_step[2]} & set(own_or_all) or isinstance(positives, FalseNegatives)


@pytest.mark.slow
@pytest.mark.parametrize("target", [False, True], ids=["alone", "target"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_all_parts_in_every_direction_are_their_formulas(similarity: str, target: bool) -> None:
    check(similarity, True, [target])
