"""The localizer without training, `tags`, as a run is: with what it sees and hears, and its θ.

It has no run directory. Its θ was fitted once, by `python -m benchmarks.tags fit`, on clips of VGG-Sound that
have no boxes, and comes with cacl.
"""

from __future__ import annotations

import json
from pathlib import Path

import cacl.model.tags
from cacl.model.tags.localizer import TagLocalizer, load_tags
from cacl.runs import calibration
from cacl.runs.calibration import Calibration
from cacl.runs.load import Heard

NAME = "tags"
"""What it is called where a run is asked for; a run directory of this name is ./tags."""
HEARD = Heard(size=416, sample_rate=32_000, duration=3.0)
TRAINED_ON = "AudioSet, ImageNet and COCO, each network by its authors, never on pairs"
FITTED = Path(cacl.model.tags.__file__).with_name("calibration.json")


def open_tags() -> tuple[TagLocalizer, list[Calibration]]:
    """Return the localizer and what was fitted to it.

    Raises UserError where a network's file cannot be had, and MissingLibrary where a library is missing.
    """
    return load_tags(), fitted()


def fitted() -> list[Calibration]:
    """Return the θ that comes with cacl."""
    return [calibration.read(json.loads(FITTED.read_text("utf-8")), str(FITTED))]
