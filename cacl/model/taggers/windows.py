"""Sounds in windows of one length, for networks that take no other.

Axes: `n` sounds, `T` samples, `W` windows of a sound, `w` samples of one.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def windows(waveforms: Tensor, width: int, hop: int) -> Tensor:
    """Return windows [n, W, w] of waveforms [n, T], `hop` samples apart; the last one ends in zeros."""
    samples = waveforms.shape[1]
    hops = -(-max(0, samples - width) // hop)
    return functional.pad(waveforms, (0, width + hops * hop - samples)).unfold(1, width, hop)
