"""The mode itself: a right program has the values of the host, and every kind of crossing is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.device.flow import DEVICE, DeviceFlow
from tests.device.frames import Crossing
from tests.helpers.gradients import gradient_of

Program = Callable[[Tensor, Tensor], Any]
"""Of a tensor on the device and one on the host, [3] each."""

MIXING: dict[str, Program] = {
    "arithmetic": lambda there, here: there + here,
    "a 0-d tensor": lambda there, here: there + here.sum(),
    "torch.tensor of a number": lambda there, here: there * torch.tensor(2.0),
    "a factory without a device": lambda there, here: there + torch.arange(3),
    "a list of tensors": lambda there, here: torch.cat([there, here]),
    "a where": lambda there, here: torch.where(here > 0, there, 0),
    "a mask of the host": lambda there, here: there[here > 0],
    "an index of the host": lambda there, here: there[here.long()],
    "an index of the device": lambda there, here: here[there.long()],
    "in place": lambda there, here: here.add_(there),
    "NumPy's": lambda there, here: there + torch.from_numpy(np.ones(3, np.float32)),
    "made on the host by name": lambda there, here: there + torch.zeros_like(there, device="cpu"),
    "a module of the host": lambda there, here: nn.Linear(3, 3)(there),
    "in a function of torch's": lambda there, here: nn.functional.cosine_similarity(there, here, dim=0),
    "under inference": torch.inference_mode()(lambda there, here: there.float() @ here),
    "in a backward": lambda there, here: Scaled.apply(there.requires_grad_(), here).sum().backward(),
}
READING: dict[str, Program] = {
    "item": lambda there, here: there.sum().item(),
    "bool": lambda there, here: bool(there.any()),
    "if": lambda there, here: 1 if there[0] > 0 else 0,
    "float": lambda there, here: float(there[0]),
    "int as an index": lambda there, here: range(there.long()[0]),
    "in": lambda there, here: 1.0 in there,
    "tolist": lambda there, here: there.tolist(),
    "numpy": lambda there, here: there.numpy(),
    "NumPy's asarray": lambda there, here: np.asarray(there),
    "repr": lambda there, here: repr(there),
    "format": lambda there, here: f"{there[0]:.3f}",
    "cpu": lambda there, here: there.cpu(),
    "to by name": lambda there, here: there.to("cpu"),
    "to by keyword": lambda there, here: there.to(device="cpu", dtype=torch.float64),
    "to another's place": lambda there, here: there.to(here),
    "copy_": lambda there, here: here.copy_(there),
    "copy_ without waiting": lambda there, here: here.copy_(there, non_blocking=True),
    "a mask": lambda there, here: there[there > 0],
    "assignment by a mask": lambda there, here: there.__setitem__(there > 0, there[:1]),
    "nonzero": lambda there, here: there.nonzero(),
    "masked_select": lambda there, here: there.masked_select(there > 0),
    "unique": lambda there, here: there.unique(),
    "equal": lambda there, here: there.equal(there),
    "allclose": lambda there, here: torch.allclose(there, there),
    "repeat_interleave": lambda there, here: there.repeat_interleave(there.long()),
    "of a view of a view": lambda there, here: there[1:].detach().view(2, 1)[0].item(),
    "after inference": lambda there, here: torch.inference_mode()(torch.mul)(there, 2).cpu(),
    "an event": lambda there, here: torch.cuda.Event().synchronize(),
    "in a backward": lambda there, here: Peeking.apply(there.requires_grad_()).sum().backward(),
}


class Scaled(torch.autograd.Function):
    """Its backward mixes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.factor = factor
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.factor, None


class Peeking(torch.autograd.Function):
    """Its backward reads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        assert gradients[0].device == DEVICE
        return gradients[0] * gradients[0].sum().item()


def run(program: Program, *crossings: str) -> None:
    with DeviceFlow(crossings):
        program(torch.ones(3, device=DEVICE), torch.ones(3))


@pytest.mark.parametrize("name", MIXING)
def test_host_and_device_do_not_mix(name):
    with pytest.raises(Crossing, match="mixes"):
        run(MIXING[name])


@pytest.mark.parametrize("name", READING)
def test_the_host_does_not_read_the_device(name):
    with pytest.raises(Crossing, match=r"reads or awaits|on the device"):
        run(READING[name])


@pytest.mark.parametrize("name", READING.keys() - {"numpy", "NumPy's asarray"})
def test_the_host_reads_in_functions_that_are_named(name):
    readers = {f"{__name__}.<lambda>", f"{__name__}.Peeking.backward", f"{__name__}.run"}
    run(READING[name], *readers)


def test_numpy_wants_a_copy_first():
    with DeviceFlow([f"{__name__}.test_numpy_wants_a_copy_first"]) as flow:
        there = torch.arange(3, device=DEVICE)
        with pytest.raises(Crossing, match="numpy"):
            there.numpy()
        assert there.cpu().numpy().tolist() == [0, 1, 2]
    assert flow.crossed == {f"{__name__}.test_numpy_wants_a_copy_first"}


def test_within_a_step_an_upload_does_not_wait():
    with DeviceFlow(within_step=True):
        here = torch.ones(3)
        pinned = here.pin_memory()
        assert pinned.is_pinned() and not here.is_pinned()
        assert pinned.to(DEVICE, non_blocking=True).device == DEVICE
        for waits in (
            lambda: here.to(DEVICE, non_blocking=True),
            lambda: pinned.to(DEVICE),
            lambda: torch.tensor([1.0], device=DEVICE),
        ):
            with pytest.raises(Crossing, match="not non_blocking or not of pinned"):
                waits()


def test_within_a_step_a_named_function_sends_copies_and_waits_for_none():
    name = f"{__name__}.test_within_a_step_a_named_function_sends_copies_and_waits_for_none"
    with DeviceFlow([name], within_step=True):
        there = torch.ones(3, device=DEVICE)
        there.to("cpu", non_blocking=True)
        for waits in (lambda: there.cpu(), lambda: there.sum().item()):
            with pytest.raises(Crossing, match="awaits the device within a step"):
                waits()


def test_a_copy_is_read_when_an_event_after_it_has_come():
    name = f"{__name__}.test_a_copy_is_read_when_an_event_after_it_has_come"
    with DeviceFlow([name]):
        there, early, late = torch.ones(3, device=DEVICE), torch.cuda.Event(), torch.cuda.Event()
        early.record()
        copies = [
            torch.empty(3, pin_memory=True).copy_(there, non_blocking=True),
            there.to("cpu", non_blocking=True),
        ]
        late.record()
        for waited in (None, early):
            if waited is not None:
                waited.synchronize()
            for copied in copies:
                for read in (lambda c=copied: c.tolist(), lambda c=copied: c.sum()):
                    with pytest.raises(Crossing, match="has not arrived"):
                        read()
        with pytest.raises(Crossing, match="nobody has waited for"):
            early.elapsed_time(late)
        late.synchronize()
        assert [copied.tolist() for copied in copies] == [[1.0] * 3] * 2 and early.elapsed_time(late) > 0


def train(place: torch.device) -> list[Tensor]:
    """A right program: factories, a module and its copy, a backward, a fused optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)).to(place)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer: Any = torch.optim.AdamW(model.parameters(), fused=True)
    for _ in range(2):
        x = torch.linspace(-1, 1, 24, device=place).view(6, 4)
        own = torch.arange(6, device=x.device)
        loss = torch.where(x[own, 0] > 0, model(x).square().sum(1), 0).logsumexp(0)
        loss.backward()
        norm = nn.utils.get_total_norm([gradient_of(p) for p in model.parameters()])
        nn.utils.clip_grads_with_norm_(model.parameters(), 0.1, norm)
        optimizer.found_inf = (~torch.isfinite(norm)).float()
        optimizer.step()
        optimizer.zero_grad()
        torch._foreach_lerp_(list(average.parameters()), [p.data for p in model.parameters()], 0.1)
    (state, *_) = optimizer.state.values()
    return [*model.state_dict().values(), *average.state_dict().values(), *state.values(), norm]


def test_a_right_program_has_the_values_of_the_host():
    expected = train(torch.device("cpu"))
    with DeviceFlow(within_step=False) as flow:
        found = train(DEVICE)
        assert {tensor.device for tensor in found} == {DEVICE} and not any(tensor.is_cpu for tensor in found)
        assert torch.ones(3).device.type == "cpu" and torch.zeros(2, device="cpu").device.type == "cpu"
    assert not flow.crossed and len(found) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_autocast_is_the_device_s():
    with DeviceFlow():
        layer, x = nn.Linear(3, 3, device=DEVICE), torch.ones(2, 3, device=DEVICE)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
            with torch.autocast("cpu", enabled=False):
                assert layer(x).dtype == torch.bfloat16, "that of the host touches nothing here"
            with torch.autocast("cuda", enabled=False):
                assert layer(x).dtype == torch.float32
