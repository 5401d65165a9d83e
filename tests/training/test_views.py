"""Promises 4 and 5 with two views of each frame: SSPL's step, cached or not, on any number of ranks, masked."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from cacl.loss import global_loss
from cacl.loss.options import LossOptions
from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.options import parse
from cacl.training.ema import Ema
from cacl.training.engines.ddp import DDP, DDPEngine
from cacl.training.optimization import SGD
from cacl.training.step import concatenate, derived_seed, train_step
from cacl.training.trainer import prepare
from cacl.types import Batch, ClipLabels
from cacl.world import World
from tests.helpers.ranks import run_ranks

CLIPS, MICRO, MASKED = 12, 4, 5
LOSS = parse(
    LossOptions,
    {
        "positives": {"name": "own-clip"},
        "objective": {"name": "sspl", "hidden": 16, "projection": 12, "bottleneck": 4},
    },
    "test",
)


def engine_of(world: World) -> DDPEngine:
    """A model whose towers and head learn; its towers do not look at other clips."""
    options = ModelOptions(
        image=image.SmallCnn(channels=16), audio=audio.SmallCnn(channels=16), dimension=8, image_dropout=0.5
    )
    model = Localizer(options, LOSS.scalars(), seed=3, head=LOSS.head).double().train()
    return DDP().build(model, SGD(learning_rate=0.1), world)


def batch_of(garbage: int = 0) -> Batch:
    """Twelve clips of two views, one of them masked, whose pixels are `garbage`."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 255, (CLIPS, 2, 3, 32, 32), generator=draw, dtype=torch.uint8)
    images[MASKED] = garbage
    waveforms = torch.randn(CLIPS, 4000, generator=draw, dtype=torch.float64)
    valid = torch.arange(CLIPS) != MASKED
    return Batch(torch.arange(CLIPS), images, waveforms, valid)


def clips_of(batch: Batch) -> ClipLabels:
    return ClipLabels(batch.index, batch.index, torch.ones(len(batch.index)), batch.valid)


def steps_on(world: World, garbage: int = 0, micro: int = MICRO) -> tuple[list[float], dict[str, Tensor]]:
    """Two steps on this rank's share; the losses, and the whole state after them."""
    engine, whole = engine_of(world), batch_of(garbage)
    share = CLIPS // world.size
    rows = slice(world.rank * share, (world.rank + 1) * share)
    batch = Batch(whole.index[rows], whole.images[rows], whole.waveforms[rows], whole.valid[rows])
    losses = []
    for step in range(2):
        record = train_step(
            engine,
            prepare(engine, batch, micro),
            clips_of(batch),
            partial(global_loss, options=LOSS, world=world),
            seed=0,
            step=step,
            learning_rate_factor=1.0,
        )
        assert int(record.terms.logged["valid"]) == CLIPS - 1
        losses.append(record.terms.mean.item())
    return losses, {name: value.clone() for name, value in engine.module.state_dict().items()}


def test_cached_form_equals_the_same_micro_batches_without_cache():
    engine, batch = engine_of(World()), batch_of()
    valid, parts = batch.valid.split(MICRO), []
    for number, inputs in enumerate(prepare(engine, batch, MICRO)):
        first = derived_seed(0, 0) + number * MICRO
        parts.append(engine.forward(*inputs, range(first, first + MICRO), valid[number]))
    global_loss(concatenate(parts), clips_of(batch), LOSS, World()).loss.backward()
    expected = [torch.clone(p.grad) for p in engine.parameters if p.grad is not None]
    assert len(expected) == len(engine.parameters), "towers and head learn"
    engine.optimizer.zero_grad()

    record = train_step(
        engine,
        prepare(engine, batch, MICRO),
        clips_of(batch),
        partial(global_loss, options=LOSS, world=World()),
        seed=0,
        step=0,
        learning_rate_factor=1.0,
    )
    torch.testing.assert_close(record.gradient_norm, torch.nn.utils.get_total_norm(expected))
    start = engine_of(World()).parameters
    for before, after, gradient in zip(start, engine.parameters, expected, strict=True):
        torch.testing.assert_close(after.data, before.data - 0.1 * gradient, rtol=0, atol=1e-12)


def test_ranks_change_nothing():
    losses, state = steps_on(World())
    for found_losses, found in run_ranks(3, steps_on):
        assert found_losses == pytest.approx(losses, abs=1e-12)
        for name, value in state.items():
            # Sums over ranks are added in another order: float64 rounding, nothing else.
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("micro", [MICRO, CLIPS], ids=["cached", "plain"])
def test_a_masked_clip_changes_no_step(micro):
    """BatchNorm of the head leaves it out, running statistics included."""
    losses, state = steps_on(World(), micro=micro)
    found_losses, found = steps_on(World(), garbage=200, micro=micro)
    assert found_losses == pytest.approx(losses, rel=1e-12)
    for name, value in state.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-12, msg=name)


def test_dropout_of_two_views_has_masks_of_their_own():
    engine, batch = engine_of(World()), batch_of()
    same = replace(batch, images=batch.images[:, :1].repeat(1, 2, 1, 1, 1))
    inputs = engine.prepare(same.images, same.waveforms)
    projections = engine.forward(*inputs, range(CLIPS), same.valid).extra["projections"]
    assert not torch.allclose(projections[:, 0], projections[:, 1])
    engine.module.image_dropout.eval()
    first, second = engine.forward(*inputs, range(CLIPS), same.valid).extra["projections"].unbind(1)
    assert torch.equal(first, second)


def test_evaluation_takes_one_view_and_is_that_of_the_first():
    engine = engine_of(World())
    batch = batch_of()
    with engine.evaluating() as embed, torch.no_grad():
        both, first = (
            embed(Batch(batch.index, images, batch.waveforms, batch.valid))
            for images in (batch.images, batch.images[:, 0])
        )
    torch.testing.assert_close((first.image, first.audio), (both.image, both.audio))
    assert not first.extra and both.extra


def test_a_moving_average_follows_the_head_too():
    engine = engine_of(World())
    average, batch = Ema(engine.module, 0.5), batch_of()
    train_step(
        engine,
        prepare(engine, batch, MICRO),
        clips_of(batch),
        partial(global_loss, options=LOSS, world=World()),
        seed=0,
        step=0,
        learning_rate_factor=1.0,
        average=average,
    )
    start = dict(engine_of(World()).module.named_parameters())
    for name, value in engine.module.named_parameters():
        expected = (start[name] + value) / 2
        torch.testing.assert_close(average.state_dict()[name], expected, rtol=1e-9, atol=1e-12)
