"""What every tagger is: a frozen tower of sound that says which classes it hears.

Axes: `n` sounds, `T` samples, `K` classes, `D` numbers of an embedding.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from cacl.errors import UserError


class SoundTagger(nn.Module):
    """A frozen network of sounds with a front end of its own: rate, bands, normalization.

    A subclass writes `_hear`. Classes of one sound need not exclude each other.
    """

    def __init__(
        self, name: str, sample_rate: int, classes: tuple[str, ...], weights: str, seconds: float = 10.0
    ) -> None:
        super().__init__()
        self.name = name
        """As it was asked for."""
        self.sample_rate = sample_rate
        """Hz of the waveforms that it hears."""
        self.classes = classes
        """Names, in the order of the probabilities."""
        self.weights = weights
        """sha256 of its weights."""
        self.seconds = seconds
        """Of the longest sound that it takes."""

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return probabilities [n, K], float32 in 0..1, of waveforms [n, T], float32 in -1..1.

        Raises UserError for sounds longer than `seconds`.
        """
        return self.hear(waveforms)[0]

    @torch.no_grad()
    def hear(self, waveforms: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the probabilities, and embeddings [n, D] where the network has some.

        Raises UserError for sounds longer than `seconds`.
        """
        self.check_length(waveforms.shape[1] / self.sample_rate)
        return self._hear(waveforms)

    def check_length(self, seconds: float) -> None:
        """Raise UserError for sounds of so many seconds if they are longer than it takes."""
        if seconds > self.seconds + 0.01:
            raise UserError(
                f"--tagger {self.name}: takes sounds of up to {self.seconds:g} s, not of {seconds:.1f} s; "
                f"pack them again with: cacl pack … --seconds {self.seconds:g}"
            )

    def _hear(self, waveforms: Tensor) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError


@lru_cache
def audioset_classes() -> tuple[str, ...]:
    """Return AudioSet's 527 classes in the order that its models share.

    The table is AudioSet's `class_labels_indices.csv` (research.google.com/audioset, CC BY 4.0) as it is.
    """
    with Path(__file__).with_name("audioset.csv").open(newline="", encoding="utf-8") as file:
        return tuple(row["display_name"] for row in csv.DictReader(file))
