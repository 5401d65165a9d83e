"""Promise 6 as a context: nothing inside makes the host wait for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = (
    "_local_scalar_dense",
    "item",
    "equal",
    "allclose",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "bincount",
)


def waits_for_the_device(function: torch._ops.OpOverload, arguments: tuple[Any, ...]) -> bool:
    """Say whether an operation reads a value on a GPU, or has a shape that hangs on values."""
    name = function.name().split("::")[1]
    operation = name.split(".")[0]
    masks = operation.startswith("index") and any(
        isinstance(index, Tensor) and index.dtype == torch.bool
        for part in arguments[1:]
        for index in (part if isinstance(part, list | tuple) else [part])
    )
    return masks or operation in WAITING or name == "repeat_interleave.Tensor"


class NeverWaits(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        assert not waits_for_the_device(function, arguments), f"{function.name()} waits for the device"
        return function(*arguments, **(keywords or {}))
