"""The moving average holds buffers too, and equals its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cacl.training.ema import Ema


def test_parameters_and_running_statistics_are_averaged_and_counters_copied() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double()
    ema = Ema(model, 0.9)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 5, 5).double()).pow(2).sum().backward()
        optimizer.step()
        ema.update()
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = 0.9 * expected[name] + 0.1 * value
            else:
                expected[name] = value
    torch.testing.assert_close(ema.state_dict(), expected)
    assert not torch.equal(ema.state_dict()["1.running_mean"], torch.zeros(4).double())
    assert int(ema.state_dict()["1.num_batches_tracked"]) == 3


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
