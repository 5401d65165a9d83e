"""What other codes stumbled over when they gather: each trap, taken on purpose, is seen by our test."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from cacl.loss import LossOptions, distributed, global_loss, sums
from cacl.loss.batch import GlobalBatch
from cacl.loss.objectives import InfoNCE
from cacl.loss.positives import OwnClip
from cacl.loss.regularizers import Fnac
from cacl.loss.similarities import MaxSimilarity
from cacl.training.step import train_step
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.loss.cases import Case, sgd_step
from tests.training.steps import engine_of, inputs, rows_of

PAIRS = LossOptions(similarity=MaxSimilarity(), objective=InfoNCE(), positives=OwnClip(), direction="both")
LOSSES = {
    "pairs": PAIRS,
    "fnac": replace(PAIRS, regularizers=(Fnac(),)),
    "far logits": replace(PAIRS, temperature=1e-3),
}


class PlainGather(World):
    """A gather without gradient: the other ranks' rows are constants (open_clip #616)."""

    def gather_rows(self, x, shares=None):
        whole = super().gather_rows(x.detach(), shares)
        n = len(x)
        return torch.cat([whole[: self.rank * n], x, whole[(self.rank + 1) * n :]])


class Interleaved(GlobalBatch):
    """Own pairs where another order of gathering would put them (SimCLR #37)."""

    @property
    def own(self):
        return torch.arange(len(self.clips.label)) * self.world.size + self.world.rank


def patched_collect(factor):
    """`_collect` with another factor of world size (lightly #1977, open_clip #894)."""
    collect = distributed._collect

    def other(*arguments):
        terms = collect(*arguments)
        return replace(terms, loss=terms.loss * factor)

    return mock.patch.object(distributed, "_collect", other)


def patched_gather(change):
    gather = GlobalBatch.gather
    return mock.patch.object(GlobalBatch, "gather", lambda *arguments: change(gather(*arguments)))


TRAPS = {
    "no factor of world size": lambda: patched_collect(1 / 2),
    "the factor twice": lambda: patched_collect(2),
    "labels not shifted by rank": lambda: patched_gather(lambda batch: replace(batch, first=0)),
    "wrong mask after the gather": lambda: patched_gather(lambda batch: Interleaved(**vars(batch))),
}


def trapped_step(world: World, trap: str | None, options: LossOptions):
    """`sgd_step` as another code would take it."""
    if trap == "plain gather":
        world = PlainGather(world.rank, world.size)
    with TRAPS[trap]() if trap in TRAPS else contextlib.nullcontext():
        return sgd_step(world, Case(options))


@pytest.mark.parametrize("trap", [None, "plain gather", *TRAPS])
@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_a_step_of_sgd_tells_every_trap_of_gathering(trap: str | None, options: LossOptions) -> None:
    """SGD without clipping: Adam would hide a factor."""
    expected = sgd_step(World(), Case(options))
    for found in run_ranks(2, trapped_step, trap, options):
        same = torch.allclose(found["weight"], expected["weight"], rtol=1e-10, atol=1e-10)
        assert same == (trap is None)


def without_largest(world: World, everywhere: bool) -> dict[str, torch.Tensor]:
    """Sums of exponentials without their largest logit: everywhere (Inf-CLIP's ring), or between ranks only."""
    if everywhere:
        plain = mock.patch.object(sums, "_largest", lambda logits, dim: torch.zeros_like(logits.sum(dim)))
    else:
        plain = mock.patch.object(World, "max", lambda self, x: x.detach())
    with plain:
        return sgd_step(world, Case(LOSSES["far logits"]))


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "between ranks"])
def test_far_logits_tell_sums_of_exponentials_without_their_largest(everywhere: bool) -> None:
    expected = sgd_step(World(), Case(LOSSES["far logits"]))
    assert expected["per_clip"].isfinite().all()
    results = run_ranks(2, without_largest, everywhere)
    assert not all(torch.allclose(found["per_clip"], expected["per_clip"]) for found in results)


def test_labels_are_never_shifted_where_nothing_is_gathered() -> None:
    """lightly #1177. A rank that is not one of the ranks cannot be made."""
    with pytest.raises(ValueError, match="rank 1 is not one of 1"):
        World(rank=1, size=1)


def bytes_reduced(world: World, in_every_micro_batch: bool) -> tuple[int, int]:
    """Bytes of gradients that a rank exchanges in a step of the cached form, and those of all parameters."""
    engine = engine_of(world)
    exchanged: list[int] = []

    def counted(state, bucket):
        exchanged.append(bucket.buffer().nbytes)
        return allreduce_hook(world.group, bucket)

    assert isinstance(engine.wrapped, DistributedDataParallel)
    engine.wrapped.register_comm_hook(None, counted)
    always = mock.patch.object(engine, "synchronizing", lambda wanted: contextlib.nullcontext())
    images, all_audio, clips = inputs()
    share = len(images) // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    micro_batches = list(zip(images[rows].split(2), all_audio[rows].split(2), strict=True))
    options = LossOptions(learn_temperature=True)
    with always if in_every_micro_batch else contextlib.nullcontext():
        train_step(
            engine,
            micro_batches,
            rows_of(clips, rows),
            lambda embeddings, own: global_loss(embeddings, own, options, world),
            seed=0,
            step=0,
            learning_rate_factor=1.0,
        )
    return sum(exchanged), sum(parameter.nbytes for parameter in engine.parameters)


@pytest.mark.parametrize("in_every_micro_batch", [False, True])
def test_the_cached_form_reduces_gradients_once_a_step(in_every_micro_batch: bool) -> None:
    """sentence-transformers #4027: its GradCache reduces them with every micro-batch."""
    for exchanged, once in run_ranks(2, bytes_reduced, in_every_micro_batch):
        assert exchanged == (3 * once if in_every_micro_batch else once)
