"""The global batch as one rank sees it: its own clips among those of all ranks.

Axes: `n` clips on this rank, `N` of all ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cacl.types import ClipLabels, Embeddings
from cacl.world import World


@dataclass(frozen=True)
class GlobalBatch:
    """This rank's clips among those of all ranks."""

    clips: ClipLabels
    """[n]"""
    columns: ClipLabels
    """[N]"""
    first: int
    """Column of this rank's first clip."""
    world: World
    shares: Sequence[int] | None
    step: int | Tensor

    @classmethod
    def gather(
        cls, clips: ClipLabels, world: World, step: int | Tensor, shares: Sequence[int] | None
    ) -> GlobalBatch:
        """Exchange what is known of clips apart from their embeddings."""
        n = len(clips.label)
        first = sum(shares[: world.rank]) if shares else world.rank * n
        return cls(clips, gather_clips(clips, world, shares), first, world, shares, step)

    @property
    def own(self) -> Tensor:
        """[n] int64, the column of each of this rank's clips."""
        return torch.arange(self.first, self.first + len(self.clips.label), device=self.clips.label.device)


def gather_clips(clips: ClipLabels, world: World, shares: Sequence[int] | None = None) -> ClipLabels:
    """Return the clips of all ranks [N], in one exchange.

    They travel as float64, which holds every index and label exactly. Soft labels, if any, take a second one.
    """
    if world.size == 1:
        return clips
    columns = [clips.index, clips.label, clips.confidence, clips.valid]
    packed = world.gather_rows(torch.stack([column.double() for column in columns], 1), shares)
    return ClipLabels(
        index=packed[:, 0].long(),
        label=packed[:, 1].long(),
        confidence=packed[:, 2].to(clips.confidence.dtype),
        valid=packed[:, 3].bool(),
        soft=None if clips.soft is None else world.gather_rows(clips.soft, shares),
    )


def take_rows(clips: ClipLabels, where: slice) -> ClipLabels:
    """Return the rows `where` of `clips`."""
    soft = None if clips.soft is None else clips.soft[where]
    return ClipLabels(
        clips.index[where], clips.label[where], clips.confidence[where], clips.valid[where], soft
    )


def wide(x: Tensor) -> Tensor:
    """Return half precision as float32, the least precision of any reduction."""
    return x if x.dtype == torch.float64 else x.float()


def upcast(embeddings: Embeddings) -> Embeddings:
    """Return the embeddings with wide vectors."""
    target = None if embeddings.target is None else upcast(embeddings.target)
    return replace(embeddings, image=wide(embeddings.image), audio=wide(embeddings.audio), target=target)
