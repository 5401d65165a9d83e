"""Write a run's trained model and its recipe into one .safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cacl
from cacl.errors import UserError
from cacl.runs.directory import Run
from cacl.runs.export import export as write_export


def export(
    run: str | Path,
    out: str | Path | None = None,
    *,
    weights: Literal["model", "ema"] | None = None,
    checkpoint: str = "latest",
    license: str = "",
) -> tuple[Path, int]:
    """Return the file that was written, by default next to the run directory, and the step of its weights.

    `license` says what others may do with it. Raises UserError for a file of another ending, and if the run
    has no such checkpoint.
    """
    file = Path(out or f"{Run(run).folder}.safetensors")
    if file.suffix != ".safetensors":
        raise UserError(f"--out {file}: give it the ending .safetensors")
    return file, write_export(Run(run), file, weights, checkpoint, license, cacl.__version__)
