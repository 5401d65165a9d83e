"""Frozen networks that say what a sound is of, by name."""

from __future__ import annotations

import re
from pathlib import Path

from cacl.errors import UserError
from cacl.extras import named_extras
from cacl.model.model_files import model_file
from cacl.model.taggers.base import SoundTagger

KNOWN = "mn04, yamnet, onnx:FILE, tflite:FILE, transformers:FOLDER"


def is_known(name: str) -> bool:
    """Say whether `name` is a tagger's here, not a function of the user's."""
    return bool(re.fullmatch(r"mn\d\d|yamnet|(onnx|tflite|transformers):.+", name))


def build_tagger(name: str, weights: str | Path | None = None, sample_rate: int | None = None) -> SoundTagger:
    """Return the frozen tagger `name`.

    - mn04, or another width of EfficientAT's networks, and yamnet: from the file `weights`; None takes the
      one in the folder `CACL_MODELS`, or fetches it
    - onnx:FILE, tflite:FILE: from raw waveforms at `sample_rate` Hz to probabilities
    - transformers:FOLDER, or transformers:OWNER/NAME of the hub

    Raises UserError for an unknown name, weights that are missing or of another network, and options that
    the tagger does not take.
    """
    kind, _, place = name.partition(":")
    if not is_known(name):
        raise UserError(f"--tagger {name}: unknown; choose one of {KNOWN}")
    if weights and place:
        raise UserError(f"--tagger {name}: names its weights itself; leave out the file {weights}")
    if sample_rate and kind not in ("onnx", "tflite"):
        raise UserError(f"--tagger {name}: knows the rate that it hears; leave out --tagger-rate")
    with named_extras(f"--tagger {kind}"):
        if kind == "transformers":
            from cacl.model.taggers.hub import load_hub_tagger

            return load_hub_tagger(name)
        if place:
            from cacl.model.taggers.runtimes import load_runtime

            return load_runtime(name, Path(place), sample_rate)
        file = Path(weights) if weights else model_file(name)
        if name == "yamnet":
            from cacl.model.taggers.runtimes import load_yamnet

            return load_yamnet(name, file)
        from cacl.model.taggers.efficientat import load_efficientat

        return load_efficientat(name, file)
