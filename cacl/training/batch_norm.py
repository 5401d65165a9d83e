"""BatchNorm's running statistics, the same on any number of ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cacl.world import World


class RunningStatistics:
    """Moves running statistics once a step, by the mean over all micro-batches of all ranks.

    A forward in training mode moves them by itself: r ← (1 - momentum) r + momentum s. `collect` notes what r
    came to and puts the old value back, so that every micro-batch starts from the same r; since the rule is
    linear in s, the mean of the noted values is the rule applied to the mean of all s.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        norms = [m for m in norms if m.training and m.track_running_stats]
        self._means: list[Tensor] = [
            b for m in norms for b in (m.running_mean, m.running_var) if b is not None
        ]
        self._counters = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
        self._before = [b.clone() for b in self._means]
        self._counted = [c + 1 for c in self._counters]
        self._sums = [torch.zeros_like(b) for b in self._means]
        self._collected = 0

    @torch.no_grad()
    def collect(self) -> None:
        """Call after the first forward of each micro-batch, before a backward that may compute it again."""
        for total, buffer in zip(self._sums, self._means, strict=True):
            total += buffer
        self._collected += 1
        self._restore()

    @torch.no_grad()
    def finish(self, world: World, gradient_norm: Tensor) -> None:
        """Call once, after the step's update; every rank has collected equally often.

        Where `gradient_norm` (0-d) is not finite, the update was skipped and the statistics stay as they
        were, decided on the device.
        """
        self._restore()
        if not self._means:
            return
        flat = world.sum(torch.cat([total.flatten() for total in self._sums]))
        flat /= self._collected * world.size
        taken = torch.isfinite(gradient_norm) & torch.isfinite(flat).all()
        parts = flat.split([b.numel() for b in self._means])
        for buffer, part in zip(self._means, parts, strict=True):
            buffer.copy_(torch.where(taken, part.view_as(buffer), buffer))
        for counter, value in zip(self._counters, self._counted, strict=True):
            counter.copy_(torch.where(taken, value, value - 1))

    def _restore(self) -> None:
        for buffer, before in zip(self._means, self._before, strict=True):
            # Through .data: autograd would take the buffer for changed between forward and backward, which in
            # training mode does not read it.
            buffer.data.copy_(before)
