"""What stands for parts of CUDA while a flow pretends that there is a device."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import torch

from tests.device.frames import Crossing, here


class Event:
    """A CUDA event of the device that there is not."""

    flow: ClassVar[Any]
    """The `DeviceFlow`."""

    def __init__(self, enable_timing: bool = False) -> None:
        self._number, self._time = 0, 0.0

    def record(self, stream: Any = None) -> None:
        self.flow.launched += 1
        self._number, self._time = self.flow.launched, time.perf_counter()

    def synchronize(self) -> None:
        self.flow.wait("Event.synchronize", until=self._number)

    def query(self) -> bool:
        self.flow.landed = max(self.flow.landed, self._number)
        return True

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds; CUDA refuses too to say them of an event that has not come."""
        if end._number > self.flow.landed:
            raise Crossing(f"Event.elapsed_time of an event that nobody has waited for{here()}")
        return (end._time - self._time) * 1000


class Generator(torch.Generator):
    """A generator that draws for the device, or for the host, and is one of the host in truth."""

    on_device: bool

    def __new__(cls, device: Any = "cpu") -> Generator:
        generator = super().__new__(cls)
        generator.on_device = torch.device(device).type == "cuda"
        return generator

    def __init__(self, device: Any = "cpu") -> None:
        """Take the device that `__new__` has seen."""


class Autocast(torch.autocast):
    """Autocast of the device, which is the host in truth; that of the host touches nothing of the device."""

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: Any = None
    ) -> None:
        if device_type != "cuda":
            dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")
        super().__init__("cpu", dtype, enabled, cache_enabled)
