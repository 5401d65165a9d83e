"""A step's loss, gradient, learned scalars, time and traffic, read from the device one step late."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cacl.training.host_copy import HostCopy
from cacl.training.step import StepRecord
from cacl.world import World


@dataclass(frozen=True)
class PendingStep:
    """A step whose numbers have not been read from the device yet."""

    step: int
    learning_rate: float
    record: StepRecord
    figures: HostCopy
    """Loss, gradient norm, and what is logged of the step beside them: those `names`."""
    names: list[str]
    index: Tensor
    """[n] clips of this rank."""
    step_seconds: float
    seconds: Callable[[], dict[str, float]]
    exchanged: int
    """Bytes that this rank received from others."""


@dataclass(frozen=True)
class StepReport:
    """A step's numbers, on the host."""

    line: dict[str, Any]
    """What is logged of it."""
    is_finite: bool
    """Whether loss and gradient are."""
    bad_clips: list[int]
    """Clips of this rank whose loss is not finite."""


class Meter:
    """Measures steps from one `close_step` to the next."""

    def __init__(self, world: World, batches_per_epoch: int) -> None:
        self.world, self.batches_per_epoch = world, batches_per_epoch
        world.clock.start()
        self._started = time.perf_counter()
        self._exchanged = sum(world.traffic.values())

    def close_step(self, step: int, learning_rate: float, record: StepRecord, index: Tensor) -> PendingStep:
        """Stop the clocks of step number `step` (from 1), and start those of the next."""
        now = time.perf_counter()
        elapsed, self._started = now - self._started, now
        exchanged = sum(self.world.traffic.values())
        received, self._exchanged = exchanged - self._exchanged, exchanged
        logged = {**record.terms.logged, **record.scalars}
        values = [record.terms.mean, record.gradient_norm, *logged.values()]
        figures = HostCopy(torch.stack([value.detach().double() for value in values]))
        seconds = self.world.clock.take()
        return PendingStep(
            step, learning_rate, record, figures, list(logged), index, elapsed, seconds, received
        )

    def read(self, pending: PendingStep) -> StepReport:
        """Wait for a step's numbers, and return them."""
        loss, gradient_norm, *numbers = pending.figures.read().tolist()
        is_finite = math.isfinite(loss) and math.isfinite(gradient_norm)
        clips = len(pending.index) * self.world.size
        seconds = pending.seconds()
        line = {
            "step": pending.step,
            "epoch": (pending.step - 1) // self.batches_per_epoch,
            "loss": loss,
            "world_size": self.world.size,
            "learning_rate": pending.learning_rate,
            "gradient_norm": gradient_norm,
            **dict(zip(pending.names, numbers, strict=True)),
            "clips_per_second": round(clips / pending.step_seconds, 3),
            "step_seconds": round(pending.step_seconds, 5),
            "data_wait_share": round(seconds.get("data", 0.0) / pending.step_seconds, 4),
            "seconds": {name: round(value, 5) for name, value in seconds.items()},
            "exchanged_bytes": pending.exchanged,
            "memory_mib": memory_mib(self.world.device),
        }
        return StepReport(line, is_finite, [] if is_finite else _bad_clips(pending))

    def close(self) -> None:
        """Stop the clocks."""
        self.world.clock.stop()


def _bad_clips(pending: PendingStep) -> list[int]:
    per_clip = pending.record.terms.per_clip.detach().cpu()
    bad: list[int] = pending.index[~torch.isfinite(per_clip)].tolist()
    return bad


def memory_mib(device: torch.device) -> int:
    """Return the most memory that this process has held so far, in MiB: the GPU's where there is one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    import resource  # not on every system, and needed here only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
