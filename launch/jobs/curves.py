"""What a run's log holds, as curves."""

from __future__ import annotations

import numpy as np

from cacl.runs.directory import Run


def losses(run: Run) -> np.ndarray:
    """Return a training's steps and the loss of each, float64 [N, 2]."""
    lines = ((line["step"], line["loss"]) for line in run.stream() if "loss" in line)
    return np.fromiter(lines, dtype=(np.float64, 2))
