"""Small random batches, and the same batch dealt over ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from cacl.types import ClipLabels, Embeddings


def random_clips(n: int, classes: int = 3, seed: int = 0, invalid: Sequence[int] = ()) -> ClipLabels:
    """Labels in -1..classes-1, confidences, soft labels; the clips `invalid` are not valid."""
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(n, dtype=torch.bool)
    valid[list(invalid)] = False
    return ClipLabels(
        index=torch.randperm(10 * n, generator=g)[:n],
        label=torch.randint(-1, classes, (n,), generator=g),
        confidence=torch.rand(n, generator=g, dtype=torch.float64),
        valid=valid,
        soft=torch.rand(n, classes + 1, generator=g, dtype=torch.float64).softmax(1),
    )


def random_parameters(n: int, heads: int = 1, pixels: int = 6, channels: int = 5, seed: int = 0):
    """Inputs of a tiny "model": raw maps and sounds [n, ...] and a shared weight [channels, channels]."""
    g = torch.Generator().manual_seed(seed + 1)
    maps = torch.randn(n, heads, pixels, channels, generator=g, dtype=torch.float64)
    audio = torch.randn(n, heads, channels, generator=g, dtype=torch.float64)
    weight = torch.randn(channels, channels, generator=g, dtype=torch.float64)
    return maps, audio, weight


def embed(
    maps: torch.Tensor, audio: torch.Tensor, scalars: dict[str, torch.Tensor] | None = None
) -> Embeddings:
    """Unit vectors."""
    return Embeddings(F.normalize(maps, dim=-1), F.normalize(audio, dim=-1), scalars or {})


def take(clips: ClipLabels, where: slice | torch.Tensor) -> ClipLabels:
    """Rows of `clips`."""
    soft = None if clips.soft is None else clips.soft[where]
    return ClipLabels(
        clips.index[where], clips.label[where], clips.confidence[where], clips.valid[where], soft
    )


def at_best_pixels(
    maps: torch.Tensor, audio: torch.Tensor, of: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """The products [n, N] of [n, H, P, D] and [N, H, D] at the best pixels of others, mean over heads."""
    found, others = (
        torch.einsum("ihpd,jhd->ijhp", pair[0].double(), pair[1].double()) for pair in ((maps, audio), of)
    )
    return found.gather(3, others.argmax(3, keepdim=True)).squeeze(3).mean(2)
