"""What is seen of a training: steps read one late, checked, logged and shown."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from cacl.errors import UserError
from cacl.runs.directory import Run
from cacl.training.sinks import Sink
from cacl.training.step import StepRecord
from cacl.world import World


@dataclass(frozen=True)
class Pending:
    """A step whose numbers have not been read from the device yet."""

    step: int
    learning_rate: float
    record: StepRecord
    stop: Tensor
    """[1], above 0 if any rank asks to stop."""
    index: Tensor
    """[n] clips of this rank, to name those of a loss that is not finite."""
    step_seconds: float
    seconds: Callable[[], dict[str, float]]
    exchanged: int
    """Bytes that this rank received from others."""


class Meter:
    """Reads steps one late, checks them, logs them. Rank 0 writes; every rank reads and may raise."""

    def __init__(
        self,
        world: World,
        run: Run,
        sinks: list[Sink],
        non_finite: Literal["stop", "skip"],
        batches_per_epoch: int,
        first_step: int,
        last_step: int,
    ) -> None:
        self.world, self.run, self.sinks, self.non_finite = world, run, sinks, non_finite
        self.batches_per_epoch, self.last_step = batches_per_epoch, last_step
        self.skipped = 0
        world.clock.start()
        self._lap_start = time.perf_counter()
        self._exchanged = sum(world.traffic.values())
        self._bar = tqdm(
            total=last_step,
            initial=first_step,
            unit="step",
            desc="train",
            disable=not (world.is_main and sys.stderr.isatty()),
        )

    def lap(
        self, step: int, learning_rate: float, record: StepRecord, stop: Tensor, index: Tensor
    ) -> Pending:
        """Close a step's clocks."""
        now = time.perf_counter()
        elapsed, self._lap_start = now - self._lap_start, now
        exchanged = sum(self.world.traffic.values())
        received, self._exchanged = exchanged - self._exchanged, exchanged
        return Pending(step, learning_rate, record, stop, index, elapsed, self.world.clock.take(), received)

    def read(self, pending: Pending) -> bool:
        """Wait for one step's numbers, check and log them; return whether any rank asked to stop.

        Raises UserError with the clips' indices where loss or gradient is not finite and that ends the run.
        """
        terms, norm = pending.record.terms, pending.record.gradient_norm
        counts = {**terms.counts, **pending.record.scalars}
        values = [terms.mean, norm, pending.stop[0], *counts.values()]
        loss, norm_value, stop, *numbers = torch.stack([v.detach().double() for v in values]).tolist()
        if not (math.isfinite(loss) and math.isfinite(norm_value)):
            self._not_finite(pending)
        clips = len(pending.index) * self.world.size
        seconds = pending.seconds()
        line = {
            "step": pending.step,
            "epoch": (pending.step - 1) // self.batches_per_epoch,
            "loss": loss,
            "world_size": self.world.size,
            "learning_rate": pending.learning_rate,
            "gradient_norm": norm_value,
            **dict(zip(counts, numbers, strict=True)),
            "clips_per_second": round(clips / pending.step_seconds, 3),
            "step_seconds": round(pending.step_seconds, 5),
            "data_wait_share": round(seconds.get("data", 0.0) / pending.step_seconds, 4),
            "seconds": {name: round(value, 5) for name, value in seconds.items()},
            "exchanged_bytes": pending.exchanged,
            "memory_mib": memory_mib(self.world.device),
        }
        if self.skipped:
            line["skipped_steps"] = self.skipped
        if self.world.is_main:
            self.write(line)
            self._show(line)
        return bool(stop)

    def write(self, line: dict[str, Any]) -> None:
        """Log one line everywhere; rank 0 calls this."""
        self.run.log(line)
        for sink in self.sinks:
            sink.log(line)

    def _not_finite(self, pending: Pending) -> None:
        bad = pending.index[~torch.isfinite(pending.record.terms.per_clip.detach().cpu())].tolist()
        indices = sorted(index for part in self.world.gather_objects(bad) for index in part)
        self.skipped += 1
        text = f"step {pending.step}: loss or gradient is not finite; clips {indices or 'unknown'}"
        if self.non_finite == "stop":
            raise UserError(f"{text}; see training.non_finite, learning rate and temperature", exit_code=1)
        if self.world.is_main:
            tqdm.write(f"{text}; the update was skipped", file=sys.stderr)

    def _show(self, line: dict[str, Any]) -> None:
        self._bar.update(line["step"] - self._bar.n)
        self._bar.set_postfix(loss=f"{line['loss']:.4f}", refresh=False)
        every = max(1, self.last_step // 20)
        if self._bar.disable and (line["step"] % every == 0 or line["step"] == self.last_step):
            print(
                f"step {line['step']}/{self.last_step} epoch {line['epoch']} loss {line['loss']:.4f} "
                f"{line['clips_per_second']:.1f} clips/s, waiting for data {line['data_wait_share']:.0%}",
                file=sys.stderr,
                flush=True,
            )

    def close(self) -> None:
        """Leave the terminal and the other logs in order."""
        self.world.clock.stop()
        self._bar.close()
        for sink in self.sinks:
            sink.close()


def memory_mib(device: torch.device) -> int:
    """Return the most memory that this process has held so far, in MiB: the GPU's where there is one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10
