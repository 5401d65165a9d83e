"""The plain values that pass between the rooms.

Axes: `N` clips of the global batch, `n` on this rank, `m` in a micro-batch, `P` pixels of a map, `H` heads,
`D` channels, `K` soft classes, `T` samples of sound, `S` pixels of an image's side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from cacl.annotation import Annotation


@dataclass(frozen=True)
class Batch:
    """What a loader delivers. Image `k` and waveform `k` belong to clip `index[k]`."""

    index: Tensor
    """[n] int64, a clip's position in its source's sorted id list."""
    images: Tensor
    """[n, 3, S, S] uint8, RGB; [n, V, 3, S, S] where a training has V > 1 views of each frame."""
    waveforms: Tensor
    """[n, T] float32 in -1..1, mono."""
    valid: Tensor
    """[n] bool; False marks a clip that could not be decoded (its tensors are zeros)."""
    annotations: list[Annotation] | None = None
    """What is known of each clip, for evaluation only."""


@dataclass(frozen=True)
class ClipLabels:
    """What the loss knows of clips beside their embeddings: small, and gathered over all ranks."""

    index: Tensor
    """[n] int64."""
    label: Tensor
    """[n] int64 pseudo-label; -1 where unknown, which is a class of its own for every clip."""
    confidence: Tensor
    """[n] float32 in 0..1."""
    valid: Tensor
    """[n] bool; clips with False are no row, no positive and no negative."""
    soft: Tensor | None = None
    """[n, K] float32, a distribution over classes."""

    def to(self, device: torch.device) -> ClipLabels:
        """Return the same on another device."""
        parts = (self.index, self.label, self.confidence, self.valid)
        index, label, confidence, valid = (to_device(part, device) for part in parts)
        soft = None if self.soft is None else to_device(self.soft, device)
        return ClipLabels(index, label, confidence, valid, soft)


@dataclass(frozen=True)
class Embeddings:
    """What the model makes of a batch. Vectors have unit length along D."""

    image: Tensor
    """[n, H, P, D], one vector a pixel and head."""
    audio: Tensor
    """[n, H, D]."""
    scalars: dict[str, Tensor] = field(default_factory=dict)
    """Learned 0-d parameters of the loss, such as `logit_scale` and `bias`."""
    target: Embeddings | None = None
    """The same clips through the moving average of the model, without gradient."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """[n, ...] each: what the loss's own head (`LossOptions.head`) adds, such as SSPL's predictions."""


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Return `value` on `device`; a GPU gets it in its turn, and the host goes on.

    It travels from pinned memory: from any other, the host would wait for what the GPU was given before.
    """
    if device.type == "cuda" and not value.is_cuda and not value.is_pinned():
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
