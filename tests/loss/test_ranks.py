"""Promise 5: value, gradients and one SGD step on any number of ranks are those of one process."""

from __future__ import annotations

import pytest
import torch

from cacl.loss import LossOptions, global_loss
from cacl.loss.objective import InfoNCE, Sigmoid
from cacl.loss.positives import OwnClip, SameClass
from cacl.loss.regularizers import Fnac
from cacl.loss.similarity import MaxSimilarity
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.combinations import SIMILARITIES, combinations, heads_of
from tests.ranks import run_ranks

N = 12
SHARES = {1: (12,), 2: (5, 7), 3: (3, 5, 4), 4: (2, 4, 1, 5)}


def steps(world: World, options: list[LossOptions], equal: bool, heads: int) -> list[dict[str, torch.Tensor]]:
    """`sgd_step` for each of the options."""
    return [sgd_step(world, each, equal, heads) for each in options]


def sgd_step(world: World, options: LossOptions, equal: bool, heads: int) -> dict[str, torch.Tensor]:
    """One step of SGD on this rank's rows, with gradients averaged over ranks as DDP does."""
    shares = None if equal else SHARES[world.size]
    sizes = [N // world.size] * world.size if equal else SHARES[world.size]
    where = slice(sum(sizes[: world.rank]), sum(sizes[: world.rank + 1]))
    maps, audio, weight = random_parameters(N, heads)
    maps, audio = maps[where].requires_grad_(), audio[where].requires_grad_()
    weight.requires_grad_()
    scalars = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in options.scalars().items()
    }
    clips = take(random_clips(N, invalid=(3, 10)), where)
    terms = global_loss(embed(maps @ weight, audio @ weight, scalars), clips, options, world, 0, shares)
    terms.backward_scalar.backward()
    shared = {"weight": weight, **scalars}
    after = {
        name: value.detach() - 0.1 * world.sum(value.grad) / world.size for name, value in shared.items()
    }
    rows = {
        "maps": maps.grad / world.size,
        "audio": audio.grad / world.size,
        "per_clip": terms.per_clip.detach(),
    }
    rows = {name: world.gather_rows(value, shares) for name, value in rows.items()}
    return {**rows, **after, "mean": terms.mean, **terms.counts}


def check(options: dict[str, LossOptions], heads: int, size: int, equal: bool) -> None:
    expected = steps(World(), list(options.values()), True, heads)
    for result in run_ranks(size, steps, list(options.values()), equal, heads):
        for name, found, wanted in zip(options, result, expected, strict=True):
            # Only the order of sums differs in float64, of a few hundred terms of size 1.
            torch.testing.assert_close(
                found, wanted, rtol=1e-10, atol=1e-10, msg=lambda m, k=name: f"{k}: {m}"
            )


@pytest.mark.parametrize("similarity", [s.name for s in SIMILARITIES])
def test_all_parts_on_three_unequal_ranks_are_one_process(similarity: str) -> None:
    common = {"temperature": 0.2, "learn_temperature": True, "memory_mib": 0.004}
    check(combinations(similarity, False, **common), heads_of(similarity), 3, equal=False)


FEW = {
    "mean eq. (3) both": LossOptions(direction="both"),
    "mean eq. (3) both, class sums": LossOptions(positives=SameClass(number_of_classes=3), direction="both"),
    "max multi-positive infonce both": LossOptions(
        similarity=MaxSimilarity(), objective=InfoNCE(), direction="both", learn_temperature=True
    ),
    "max fnac": LossOptions(
        similarity=MaxSimilarity(),
        objective=InfoNCE(),
        positives=OwnClip(),
        regularizers=(Fnac(),),
        memory_mib=0.01,
    ),
    "sigmoid": LossOptions(objective=Sigmoid(), learn_temperature=True),
}


@pytest.mark.parametrize("equal", [True, False], ids=["equal", "unequal"])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_number_of_ranks_is_one_process(size: int, equal: bool) -> None:
    check(FEW, 1, size, equal)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("similarity", [s.name for s in SIMILARITIES])
def test_all_parts_in_every_direction_on_ranks_are_one_process(similarity: str, size: int) -> None:
    common = {"temperature": 0.2, "learn_temperature": True}
    check(combinations(similarity, True, **common), heads_of(similarity), size, equal=False)
