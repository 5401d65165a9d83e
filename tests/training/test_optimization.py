"""Optimizers: which parameters learn at which rate, and which decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cacl.model import audio, image
from cacl.model.localizer import Localizer, ModelOptions
from cacl.training.optimization import SGD, Adam, AdamW, OptimizerOptions

SMALL = ModelOptions(
    image=image.SmallCnn(channels=16, norm="batch"), audio=audio.SmallCnn(channels=16), dimension=8
)


def model_of() -> Localizer:
    """A model with every part: towers, heads, a head and a scalar of the loss."""
    return Localizer(SMALL, {"bias": 0.0}, seed=1, head=lambda channels: nn.Linear(channels, 4))


def seen(optimizer: OptimizerOptions) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of every parameter, by name."""
    model = model_of()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = optimizer.build(model.named_parameters()).param_groups
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_groups_are_by_part_and_decay(kind):
    expected = {name: p.ndim for name, p in model_of().named_parameters()}
    for options, rate_of in (
        ({}, dict.fromkeys(("image", "audio", "loss", "scalars"), 0.1)),
        ({"rates": {"loss": 0.3}}, {"image": 0.1, "audio": 0.1, "loss": 0.3, "scalars": 0.3}),
        ({"rates": {"image": 0.2, "audio": 0.4}}, {"image": 0.2, "audio": 0.4, "loss": 0.1, "scalars": 0.1}),
    ):
        for decay in ("matrices", "all"):
            found = seen(kind(learning_rate=0.1, weight_decay=0.5, decay=decay, **options))
            assert found.keys() == expected.keys()
            for name, (rate, decayed) in found.items():
                part = name.split(".")[0].split("_")[0]
                assert rate == rate_of[part], name
                assert decayed == (0.5 if decay == "all" or expected[name] >= 2 else 0.0), name


def test_decay_all_is_torchs_own_adamw():
    ours, theirs = model_of(), model_of()
    options = AdamW(learning_rate=0.1, weight_decay=0.5, decay="all")
    optimizers = (
        options.build(ours.named_parameters()),
        torch.optim.AdamW(theirs.parameters(), lr=0.1, weight_decay=0.5),
    )
    for step in range(3):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            draw = torch.Generator().manual_seed(step)
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=draw)
            optimizer.step()
    for name, value in ours.named_parameters():
        # float32; ours is fused, which rounds in another order.
        torch.testing.assert_close(value, theirs.get_parameter(name), rtol=1e-5, atol=1e-6)
