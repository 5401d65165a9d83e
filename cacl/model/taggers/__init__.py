"""Frozen networks that say what a sound is of, by name."""

from __future__ import annotations

import re
from pathlib import Path

from cacl.errors import UserError
from cacl.extras import named_extras
from cacl.model.model_files import model_file
from cacl.model.taggers.base import SoundTagger

KNOWN = "mn04 (or another of EfficientAT's)"


def build_tagger(name: str, weights: str | Path | None = None) -> SoundTagger:
    """Return the frozen tagger `name`: mn04 or another of EfficientAT's.

    `weights` is its file; None takes the one in the folder `CACL_MODELS`, or fetches it. Raises UserError
    for an unknown name, and for weights that are missing or of another network.
    """
    with named_extras(f"--tagger {name}"):
        if re.fullmatch(r"mn\d\d", name):
            from cacl.model.taggers.efficientat import load_efficientat

            return load_efficientat(name, Path(weights) if weights else model_file(name))
    raise UserError(f"--tagger {name}: unknown; choose {KNOWN}")
