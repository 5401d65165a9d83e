"""The cut of a source in two: clips to train on, and a validation split, clips to choose by.

On which side a clip lies is a function of its group's name, the share and the seed alone. So a source that
grows moves no clip, several machines agree without a word, and a larger share takes more clips beside those
that a smaller one took. The share is kept up to chance: of G groups about `share · G` go to validation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

Side = Literal["train", "validation"]
SHARE = 0.02
"""Of the groups that go to validation, unless it is said."""


@dataclass(frozen=True)
class Cut:
    """One side of a cut. It decides over the content, so a manifest's parameters hold it."""

    side: Side
    share: float = SHARE
    """0..1, of the groups that go to validation."""
    seed: int = 0

    def keeps(self, group: str) -> bool:
        """Say whether the clips of a group lie on this side."""
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed} {group}".encode()).digest()[:8])
        return (drawn < self.share * 2**64) == (self.side == "validation")
