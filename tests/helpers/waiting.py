"""Promise 6 as a context: nothing inside makes the host wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = (
    "_local_scalar_dense",
    "item",
    "equal",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "bincount",
)


class NeverWaits(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: reading a value, or a shape that hangs on values."""

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.name().split("::")[1]
        operation = name.split(".")[0]
        masks = operation.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for part in arguments[1:]
            for index in (part if isinstance(part, list | tuple) else [part])
        )
        waits = operation in WAITING or name == "repeat_interleave.Tensor"
        assert not waits and not masks, f"{name} waits for the device"
        return function(*arguments, **(keywords or {}))
