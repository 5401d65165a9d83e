"""The rungs of asynchronous successive halving (Li et al. 2020, arXiv:1810.05934), kept in a JSON file.

Ray's ASHA decides in the same way, but can be kept only as a pickle, and Ray forgets it when a sweep is
restored: then the rungs are empty and everything passes. These are written before a decision takes effect and
read at every start.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cacl.errors import UserError
from cacl.files import write_json
from launch.sweeping.space import Asha

FORMAT_VERSION = 1


@dataclass
class Rungs:
    """Which score each trial had when it came to each rung; more is better."""

    options: Asha
    file: Path
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    """Step of a rung → name of a trial → score."""

    def __post_init__(self) -> None:
        """Make the rungs, with the scores that an earlier life of the sweep has left in the file.

        Raises UserError for a file of another format.
        """
        step = float(self.options.first_step)
        while step <= self.options.last_step:
            self.scores[math.ceil(step)] = {}
            step *= self.options.reduction
        if self.file.exists():
            body = json.loads(self.file.read_text())
            if body["format_version"] != FORMAT_VERSION:
                raise UserError(
                    f"{self.file}: its format_version is not {FORMAT_VERSION}, which this cacl reads; go on "
                    "with the cacl that wrote it, or give a new --out"
                )
            for rung, scores in body["scores"].items():
                self.scores[int(rung)].update(scores)

    def enter(self, trial: str, step: int, score: float) -> bool:
        """Enter a score at the highest rung that the trial has come to; say whether the trial continues.

        It does if the score is in the best share of those that came before it. A trial is scored once per
        rung: if it returns to a rung it continues. A score that is not a number never does.
        """
        rung = max((rung for rung in self.scores if rung <= step), default=None)
        if rung is None or trial in self.scores[rung]:
            return True
        others = [other for other in self.scores[rung].values() if math.isfinite(other)]
        self.scores[rung][trial] = score
        share = 100 * (1 - 1 / self.options.reduction)
        return math.isfinite(score) and (not others or score >= float(np.percentile(others, share)))

    def save(self) -> None:
        """Write the scores, whole or not at all."""
        write_json(self.file, {"format_version": FORMAT_VERSION, "scores": self.scores})
