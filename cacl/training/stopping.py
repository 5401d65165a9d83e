"""Whether to stop, and how: asked on every rank, answered on all of them after the same step."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cacl.processes import GO_ON
from cacl.training.host_copy import HostCopy
from cacl.world import World


class StopFlag:
    """What any rank was told, on all ranks; the answer is read one step late."""

    def __init__(self, requested: Callable[[], int], world: World) -> None:
        """`requested` says GO_ON, STOP or INTERRUPT; False and True are the first two."""
        self.requested, self.world = requested, world
        self._pending: HostCopy | None = None

    def exchange(self) -> int:
        """Ask all ranks, and return what they had answered the last time. Nothing waits for the device."""
        before = self.read()
        mine = torch.full((1,), float(self.requested()), device=self.world.device)
        self._pending = HostCopy(self.world.max(mine))
        return before

    def read(self) -> int:
        """Return what all ranks answered the last time; waits for the device if that was just now."""
        answer = self._pending.read() if self._pending is not None else None
        return int(answer) if answer else GO_ON
