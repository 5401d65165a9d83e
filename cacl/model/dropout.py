"""Dropout that belongs to a clip: neither rank, micro-batch nor other clips change its mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class ClipDropout(nn.Module):
    """Sets a share of each clip's features to 0 in training and scales up the rest."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, features: Tensor, keys: Sequence[int] | None = None) -> Tensor:
        """Return features [n, ...] with each value 0 by chance `rate`; in eval mode as they are.

        A clip's mask is a function of its number in `keys` (n of them) and of the kind of device. Without
        keys masks are drawn from torch's global random state.
        """
        if not self.training or not self.rate:
            return features
        if keys is None:
            return functional.dropout(features, self.rate)
        kept = torch.empty(features.shape, dtype=torch.bool, device=features.device)
        generator = torch.Generator(features.device)
        for clip, key in zip(kept, keys, strict=True):
            clip.bernoulli_(1 - self.rate, generator=generator.manual_seed(key))
        return features * kept / (1 - self.rate)
