"""The moving average equals its definition, and computes targets in the mode that the recipe names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cacl.errors import UserError
from cacl.model.image import SmallCnn
from cacl.model.localizer import Localizer
from cacl.options import parse
from cacl.training.ema import Ema, TargetOptions
from cacl.training.options import TrainingOptions
from tests.training.steps import MODEL, inputs


def trained(ema: Ema, steps: int = 3) -> list[dict[str, torch.Tensor]]:
    """Take SGD steps with the model of an average that follows; return the model's states, the first included."""
    model = ema.model
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    states = [{name: value.clone() for name, value in model.state_dict().items()}]
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 5, 5).double()).pow(2).sum().backward()
        optimizer.step()
        ema.update()
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    return states


def test_parameters_are_averaged_and_running_statistics_copied() -> None:
    torch.manual_seed(0)
    ema = Ema(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double(), 0.9)
    first, *later = trained(ema)
    expected = first
    for state in later:
        for name, value in state.items():
            buffer = name.startswith("1.running") or name.startswith("1.num")
            expected[name] = value if buffer else 0.9 * expected[name] + 0.1 * value
    torch.testing.assert_close(ema.state_dict(), expected)
    assert not torch.equal(ema.state_dict()["1.running_mean"], torch.zeros(4).double())
    assert int(ema.state_dict()["1.num_batches_tracked"]) == 3


def test_running_statistics_of_the_batch_follow_the_averages_own_forwards() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    ema = Ema(model, 0.9, TargetOptions(statistics="batch"))
    trained(ema)
    assert torch.equal(ema.state_dict()["1.running_mean"], torch.zeros(4).double()), "it had no forward yet"
    images = torch.randn(2, 3, 5, 5).double()
    ema.module(images)
    mean = ema.module.get_submodule("0")(images).mean((0, 2, 3))
    torch.testing.assert_close(ema.state_dict()["1.running_mean"], 0.1 * mean)


@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize("dropout", [False, True])
def test_targets_are_computed_in_the_mode_that_is_named(statistics, dropout) -> None:
    model = Localizer(MODEL, seed=3).double().train()
    target = Ema(model, 0.9, TargetOptions(statistics=statistics, dropout=dropout)).module
    images, spectrograms, _ = inputs()

    def embed(module: nn.Module, clips: slice, keys: range) -> torch.Tensor:
        with torch.no_grad():
            return module(images[clips], spectrograms[clips], keys).image[:2]

    two, few, many = range(7, 9), slice(0, 2), slice(0, 6)
    by_batch = not torch.allclose(embed(target, few, two), embed(target, many, range(7, 13)))
    assert by_batch == (statistics == "batch"), "other clips count where statistics are the batch's"
    dropped = not torch.allclose(embed(target, few, two), embed(target, few, range(8, 10)))
    assert dropped == dropout, "keys count where there is dropout"
    assert model.training


def test_a_frozen_trunk_stays_in_eval_mode_whatever_the_target() -> None:
    frozen = Localizer(replace(MODEL, image=SmallCnn(norm="batch", frozen=True)), seed=0)
    target = Ema(frozen, 0.9, TargetOptions(statistics="batch", dropout=True)).module
    assert isinstance(target, Localizer)
    assert not any(part.training for part in target.image_trunk.modules())
    norms = [part for part in target.audio_trunk.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and all(norm.training for norm in norms)


def test_an_average_goes_on_from_its_saved_state_and_takes_no_gradient() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema.update()
    other = Ema(model, 0.5)
    other.load_state_dict(ema.state_dict())
    torch.testing.assert_close(other.state_dict(), ema.state_dict())
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())


def test_a_decay_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Ema(nn.Linear(1, 1), 1.5)


@pytest.mark.parametrize("choice", [{"measured": "ema"}, {"target": {"dropout": True}}], ids=str)
def test_choices_about_an_average_that_is_not_kept_are_refused(choice) -> None:
    (key,) = choice
    with pytest.raises(UserError, match=rf"training\.{key}: .* training\.ema_decay"):
        parse(TrainingOptions, choice, "test")
    parse(TrainingOptions, {**choice, "ema_decay": 0.9}, "test")
