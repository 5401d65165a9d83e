"""Promises 4 and 5: micro-batches are the unit of determinism, and the step is exact on any number of ranks."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from cacl.loss import LossOptions, global_loss
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.training.ema import Ema
from cacl.training.engines.ddp import DDP
from cacl.training.optimization import SGD
from cacl.training.step import concatenate, derived_seed, train_step
from cacl.types import Embeddings
from cacl.world import World
from tests.helpers.ranks import run_ranks
from tests.helpers.waiting import NeverWaits
from tests.training.steps import CLIPS, LOSS, MICRO, MODEL, engine_of, inputs, rows_of


def step_on(world: World, steps: int = 2) -> tuple[list[float], dict[str, Tensor]]:
    """Take steps with the cached form on this rank's share; return losses and the whole state after them."""
    engine = engine_of(world)
    loss = parse(LossOptions, LOSS, "test")
    images, spectrograms, clips = inputs()
    share = CLIPS // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    micro_batches = list(zip(images[rows].split(MICRO), spectrograms[rows].split(MICRO), strict=True))
    losses = []
    for step in range(steps):
        record = train_step(
            engine,
            micro_batches,
            rows_of(clips, rows),
            lambda embeddings, own: global_loss(embeddings, own, loss, world),
            seed=0,
            step=step,
            learning_rate_factor=1.0,
        )
        losses.append(record.terms.mean.item())
    return losses, {name: value.clone() for name, value in engine.module.state_dict().items()}


def test_cached_form_equals_the_same_micro_batches_without_cache():
    _, cached = step_on(World(), steps=1)
    engine = engine_of(World())
    loss = parse(LossOptions, LOSS, "test")
    images, spectrograms, clips = inputs()
    parts = []
    key = derived_seed(0, 0)  # dropout is keyed by seed, step and the clip's place
    for micro_batch in zip(images.split(MICRO), spectrograms.split(MICRO), strict=True):
        parts.append(engine.forward(*micro_batch, range(key, key := key + MICRO)))
    whole = concatenate(parts)
    global_loss(whole, clips, loss, World()).loss.backward()
    engine.update(1.0)
    for name, parameter in engine.module.named_parameters():
        torch.testing.assert_close(parameter.data, cached[name], rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize(("micro", "with_graph"), [(CLIPS, [True]), (4, [False] * 3 + [True] * 3)])
def test_a_single_micro_batch_is_computed_once_and_of_several_no_graph_is_kept(micro, with_graph):
    """What each forward is: with a graph, whose memory lasts until its backward, or without."""
    engine, loss = engine_of(World()), parse(LossOptions, LOSS, "test")
    images, spectrograms, clips = inputs()
    forward, seen = engine.forward, list[bool]()

    def watched(*prepared: Any) -> Embeddings:
        seen.append(torch.is_grad_enabled())
        return forward(*prepared)

    with mock.patch.object(engine, "forward", watched):
        train_step(
            engine,
            list(zip(images.split(micro), spectrograms.split(micro), strict=True)),
            clips,
            lambda embeddings, own: global_loss(embeddings, own, loss, World()),
            seed=0,
            step=0,
            learning_rate_factor=1.0,
        )
    assert seen == with_graph


def test_one_two_three_and_six_ranks_end_in_the_same_model():
    losses, state = step_on(World())
    assert any("running_mean" in name for name in state)
    for size in (2, 3, 6):
        for other_losses, other_state in run_ranks(size, step_on):
            assert other_losses == pytest.approx(losses, abs=1e-12)
            for name, value in state.items():
                # Sums over ranks are added in another order: float64 rounding, nothing else.
                torch.testing.assert_close(other_state[name], value, rtol=1e-9, atol=1e-10, msg=name)


def test_a_gradient_that_is_not_finite_changes_nothing():
    engine = engine_of(World())
    before = {name: value.clone() for name, value in engine.module.state_dict().items()}
    for parameter in engine.parameters:
        parameter.grad = torch.full_like(parameter, torch.nan)
    norm = engine.update(1.0)
    assert not torch.isfinite(norm)
    for name, value in engine.module.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("micro", [MICRO, CLIPS], ids=["cached", "plain"])
@pytest.mark.parametrize("linear", [False, True], ids=["pairs", "class sums"])
def test_the_host_never_waits_for_the_device_within_a_step(micro, linear):
    """Promise 6. A step with clipping, a moving average, learned scalars, and the check for finite gradients."""
    parts = {"similarity": {"name": "mean"}, "objective": {"name": "contrast"}} if linear else {}
    loss = parse(LossOptions, {**LOSS, **parts}, "test")
    model = Localizer(MODEL, loss.scalars(), seed=3).double().train()
    engine = DDP().build(model, SGD(learning_rate=0.1), World(), clip_gradient_norm=0.1)
    average = Ema(model, 0.9)
    images, spectrograms, clips = inputs()
    micro_batches = list(zip(images.split(micro), spectrograms.split(micro), strict=True))
    for step in range(2):  # the second has an optimizer's state
        with NeverWaits():
            record = train_step(
                engine,
                micro_batches,
                clips,
                lambda embeddings, own: global_loss(embeddings, own, loss, World()),
                seed=0,
                step=step,
                learning_rate_factor=1.0,
                average=average,
            )
            loss.clamp_(dict(model.scalars))
    with pytest.raises(AssertionError, match="waits for the device"), NeverWaits():
        record.terms.mean.item()


def test_random_parts_of_the_model_are_keyed_by_step_and_micro_batch():
    seeds = {derived_seed(0, step, number) for step in range(50) for number in range(50)}
    assert len(seeds) == 2500
    assert derived_seed(7, 1, 2) == derived_seed(7, 1, 2)
