"""Faster or smaller encoders are the same encoders: gradients, running statistics, and their copies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cacl.loss import LossOptions, global_loss
from cacl.model import audio, image
from cacl.model.acceleration import speed_up
from cacl.model.localizer import Localizer, ModelOptions
from cacl.training.ema import Ema
from cacl.training.engines import DDP
from cacl.training.optimization import SGD
from cacl.training.step import train_step
from cacl.types import ClipLabels
from cacl.world import World

CHOICES = {
    "the paper's pair": ModelOptions(image=image.ResNet18(), audio=audio.ResNet18()),
    "timm": ModelOptions(image=image.Timm(model="mobilenetv3_small_050")),
    "small": ModelOptions(
        image=image.SmallCnn(channels=16, norm="batch"), audio=audio.SmallCnn(channels=16, norm="batch")
    ),
}
SMALL = CHOICES["small"]


def inputs(clips: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (clips, 3, 64, 64), generator=draw, dtype=torch.uint8)
    return images, torch.randn(clips, 16000, generator=draw)


def model_of(options: ModelOptions, recompute: bool = False, compile: bool = False) -> Localizer:
    model = Localizer(options, seed=1).train()
    speed_up(model, compile, False, recompute)
    return model


def gradients(
    model: Localizer, give: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor
) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of a plain function of the embeddings, and the bytes that the graph kept for them.

    `give` hands to backward what forward kept.
    """
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    prepared = model.prepare(*inputs())
    with torch.autograd.graph.saved_tensors_hooks(keep, give):
        embeddings = model(*prepared)
    weights = torch.randn(embeddings.image.shape, generator=torch.Generator().manual_seed(2))
    ((embeddings.image * weights).sum() + embeddings.audio[..., 0].sum()).backward()
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found, sum(kept.values())


@pytest.mark.parametrize("name", CHOICES)
def test_recomputed_activations_give_the_same_gradients_and_are_not_kept(name):
    expected, whole = gradients(model_of(CHOICES[name]))
    found, kept = gradients(model_of(CHOICES[name], recompute=True))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    assert kept < 0.8 * whole, (kept, whole)


def test_a_step_that_computes_twice_moves_running_statistics_once():
    images, waveforms = inputs()
    clips = ClipLabels(torch.arange(4), torch.arange(4), torch.ones(4), torch.ones(4, dtype=torch.bool))
    loss = LossOptions()
    states = []
    for recompute in (False, True):
        engine = DDP().build(model_of(SMALL, recompute), SGD(learning_rate=0.1), World())
        train_step(
            engine,
            [engine.prepare(images, waveforms)],
            clips,
            lambda embeddings, own: global_loss(embeddings, own, loss, World()),
            seed=0,
            step=0,
            learning_rate_factor=1.0,
        )
        states.append(engine.module.state_dict())
    assert any("running_var" in name for name in states[0])
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


@pytest.mark.parametrize("wanted", [False, True])
def test_kernels_lie_with_channels_innermost_where_that_is_wanted(wanted):
    model = Localizer(SMALL, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    speed_up(model, False, wanted, False)
    kernel = model.image_trunk.body.get_parameter("3.weight")
    assert kernel.is_contiguous(memory_format=torch.channels_last) == wanted
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("option", ["recompute", "compile"])
def test_a_moving_average_does_not_compute_through_the_model_it_was_copied_from(option):
    model = model_of(SMALL, **{option: True})
    average = Ema(model, 0.9).module
    assert isinstance(average, Localizer)
    prepared = average.prepare(*inputs())
    before = average.image_trunk.forward(prepared[0])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(average.image_trunk.forward(prepared[0]), before)


@pytest.mark.parametrize("name", CHOICES)
def test_a_backward_takes_activations_that_a_compiler_computed_again(name):
    """A compiled backward computes cheap activations again, and rounds them as it may: here by one bit of 23."""
    expected, _ = gradients(model_of(CHOICES[name]))
    draw = torch.Generator().manual_seed(3)

    def rounded(tensor: torch.Tensor) -> torch.Tensor:
        bits = torch.randint(0, 2, tensor.shape, generator=draw)
        return tensor * (1 + bits * 2.0**-23) if tensor.is_floating_point() else tensor

    found, _ = gradients(model_of(CHOICES[name]), rounded)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.slow
def test_compiled_encoders_give_the_same_gradients():
    expected, _ = gradients(model_of(SMALL))
    found, _ = gradients(model_of(SMALL, compile=True))
    for key, value in expected.items():
        # Fused kernels round in other places; gradients are of the order of 1.
        torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4, msg=key)
