"""Whether to stop: asked on every rank, answered on all of them after the same step."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cacl.training.host_copy import HostCopy
from cacl.world import World


class StopFlag:
    """True on all ranks once any rank was told to stop; the answer is read one step late."""

    def __init__(self, requested: Callable[[], bool], world: World) -> None:
        """`requested` says whether this rank was told to stop."""
        self.requested, self.world = requested, world
        self._pending: HostCopy | None = None

    def exchange(self) -> bool:
        """Ask all ranks, and return what they had answered the last time. Nothing waits for the device."""
        before = self.read()
        mine = torch.full((1,), float(self.requested()), device=self.world.device)
        self._pending = HostCopy(self.world.max(mine))
        return before

    def read(self) -> bool:
        """Return what all ranks answered the last time; waits for the device if that was just now."""
        return self._pending is not None and bool(self._pending.read())
