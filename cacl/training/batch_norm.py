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

    Every operation is one of all buffers together: a GPU spends longer on a launch than on a buffer.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = moving_norms(model)
        means = [b for m in norms for b in (m.running_mean, m.running_var) if b is not None]
        # Through .data: autograd would take a buffer for changed between forward and backward, which in
        # training mode does not read it.
        self._means: list[Tensor] = [b.data for b in means]
        self._counters = [m.num_batches_tracked for m in norms if m.num_batches_tracked is not None]
        self._before, self._counted = _flat(self._means), _flat(self._counters)
        self._sum = torch.zeros_like(self._before)
        self._collected = 0

    @torch.no_grad()
    def collect(self) -> None:
        """Call after the first forward of each micro-batch, before a backward that may compute it again."""
        self._sum += _flat(self._means)
        self._collected += 1
        _put(self._before, self._means)

    @torch.no_grad()
    def finish(self, world: World, gradient_norm: Tensor) -> None:
        """Call once, after the step's update; every rank has collected equally often.

        Where `gradient_norm` (0-d) is not finite, the update was skipped and the statistics stay as they
        were, decided on the device.
        """
        if not self._means:
            return
        moved = world.sum(self._sum) / (self._collected * world.size)
        taken = torch.isfinite(gradient_norm) & torch.isfinite(moved).all()
        _put(torch.where(taken, moved, self._before), self._means)
        _put(self._counted + taken.long(), self._counters)


def moving_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the norms whose running statistics a forward of `model` moves in its present mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [norm for norm in norms if norm.training and norm.track_running_stats]


def _flat(tensors: list[Tensor]) -> Tensor:
    """Return a copy of all values, one after the other."""
    return torch.cat([t.flatten() for t in tensors]) if tensors else torch.zeros(0)


def _put(values: Tensor, tensors: list[Tensor]) -> None:
    """Copy what `_flat` returned, or its like, into the tensors."""
    if tensors:
        parts = values.split([t.numel() for t in tensors])
        torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])
