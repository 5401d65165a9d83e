"""What is learned: similarity, positives, objectives, the exact cross-rank loss, trainer and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cacl.evaluation.localize import SoundFinder


def load(run: str | Path, which: Literal["model", "ema"] = "model") -> SoundFinder:
    """Return a run's trained model, ready for pictures [H, W, 3] uint8 and sounds [T] of any size and length.

        finder = cacl.load("runs/demo")
        cosines = finder.map(picture, sound)        # [h, w] in -1..1; sound at finder.sample_rate

    Raises UserError where the run has no valid checkpoint.
    """
    from cacl.evaluation.localize import SoundFinder
    from cacl.run import open_model

    model, recipe = open_model(run, which)
    heard = recipe["data"]["augmentation"]
    return SoundFinder(model, heard["size"], heard["sample_rate"], heard["duration"])
