"""What the host reads of the device, while the device works on."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """A copy for the host of what a tensor holds now, read later.

    Whoever reads waits until the copy has come, and for nothing that the device was given after it.
    """

    def __init__(self, value: Tensor) -> None:
        self._value, self._arrived = value.detach(), None
        if value.is_cuda:
            self._value = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._value.copy_(value.detach(), non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def read(self) -> Tensor:
        """Return the copy, which on a CPU is the tensor itself."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value
