"""A batch as a loader delivers it to a training."""

from __future__ import annotations

import torch

from cacl.types import Batch

CLIPS = 6


def host_batch(views: int = 1) -> Batch:
    """Return random clips of so many views, on the host."""
    generator = torch.Generator().manual_seed(1)
    shape = (CLIPS, *([views] if views > 1 else []), 3, 32, 32)
    return Batch(
        index=torch.arange(CLIPS),
        images=torch.randint(0, 255, shape, generator=generator, dtype=torch.uint8),
        waveforms=torch.rand(CLIPS, 4000, generator=generator) - 0.5,
        valid=torch.ones(CLIPS, dtype=torch.bool),
    )
