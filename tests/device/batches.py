"""A batch as a loader delivers it to a training."""

from __future__ import annotations

import torch

from cacl.types import Batch

CLIPS = 6


def host_batch() -> Batch:
    """Return random clips, on the host."""
    generator = torch.Generator().manual_seed(1)
    return Batch(
        index=torch.arange(CLIPS),
        images=torch.randint(0, 255, (CLIPS, 3, 32, 32), generator=generator, dtype=torch.uint8),
        waveforms=torch.rand(CLIPS, 4000, generator=generator) - 0.5,
        valid=torch.ones(CLIPS, dtype=torch.bool),
    )
