"""A loss, a batch, and the one step of SGD that every way of computing it must end in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cacl.loss import LossOptions, global_loss
from cacl.world import World
from tests.loss.batches import embed, random_clips, random_parameters, take
from tests.loss.combinations import heads_of

N = 24
STEP = 2


@dataclass(frozen=True)
class Case:
    """A loss and the batch that it is computed of."""

    options: LossOptions
    target: bool = False
    clips: int = N
    invalid: tuple[int, ...] = (3, 10)
    seed: int = 0


def sgd_step(world: World, case: Case, shares: Sequence[int] | None = None) -> dict[str, torch.Tensor]:
    """One step of SGD on this rank's rows, with gradients averaged over ranks as DDP does."""
    options, heads = case.options, heads_of(case.options)
    sizes = shares or [case.clips // world.size] * world.size
    where = slice(sum(sizes[: world.rank]), sum(sizes[: world.rank + 1]))
    maps, audio, weight = random_parameters(case.clips, heads, seed=case.seed)
    maps, audio = maps[where].requires_grad_(), audio[where].requires_grad_()
    weight.requires_grad_()
    scalars = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in options.scalars().items()
    }
    embeddings = embed(maps @ weight, audio @ weight, scalars)
    if case.target:
        other_maps, other_audio, _ = random_parameters(case.clips, heads, seed=case.seed + 9)
        embeddings = replace(embeddings, target=embed(other_maps[where], other_audio[where]))
    clips = take(random_clips(case.clips, seed=case.seed, invalid=case.invalid), where)
    terms = global_loss(embeddings, clips, options, world, STEP, shares)
    terms.loss.backward()
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
    return {**rows, **after, "mean": terms.mean, **terms.logged}
