"""What is learned: similarity, positives, objectives, the exact cross-rank loss, trainer and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from cacl.viewing.localize import SoundFinder


def load(run: str | Path, which: Literal["model", "ema"] = "model") -> SoundFinder:
    """Return a trained model, ready for pictures [H, W, 3] uint8 and sounds [T] of any size and length.

        finder = cacl.load("runs/demo")             # a run directory, or a file that `cacl export` wrote
        cosines = finder.map(picture, sound)        # [h, w] in -1..1; sound at finder.sample_rate

    `which` weights of a run; a file holds what was exported. Raises UserError where the run has no valid
    checkpoint, or the file is not an exported model or holds other weights than the ema that was asked for.
    """
    from cacl.runs.export import open_export
    from cacl.runs.load import open_model
    from cacl.viewing.localize import SoundFinder

    path = Path(run)
    model, recipe = open_export(path, which) if path.is_file() else open_model(path, which)
    heard = recipe["data"]["augmentation"]
    return SoundFinder(model, heard["size"], heard["sample_rate"], heard["duration"])
