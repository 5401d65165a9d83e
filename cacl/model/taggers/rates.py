"""A tagger hears sounds of another rate: the stored rate is checked, and what is stored brought to its own.

Axes: `n` sounds, `T` samples, `t` samples at the other rate, `K` classes.
"""

from __future__ import annotations

from fractions import Fraction

import scipy.signal
import torch
from torch import Tensor, nn

from cacl.errors import UserError
from cacl.model.taggers.base import SoundTagger


class AtRate(nn.Module):
    """A tagger of waveforms at `rate` Hz, which are brought to the rate that it hears."""

    def __init__(self, tagger: SoundTagger, rate: int) -> None:
        super().__init__()
        self.tagger, self.rate = tagger, rate

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return probabilities [n, K] of waveforms [n, T]."""
        return self.hear(waveforms)[0]

    def hear(self, waveforms: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return probabilities [n, K], and embeddings [n, D] where the network has some."""
        return self.tagger.hear(resample(waveforms, self.rate, self.tagger.sample_rate))


def at_rate(tagger: SoundTagger, rate: int, data: str, accept: bool = False) -> AtRate:
    """Return the tagger for sounds that `data` stores at `rate` Hz.

    Raises UserError where that is less than it hears, unless such sounds are accepted: what a higher rate
    would have held is missing then.
    """
    if rate < tagger.sample_rate and not accept:
        raise UserError(
            f"--tagger {tagger.name}: hears {tagger.sample_rate} Hz, and {data} stores {rate}; pack it again "
            f"with: cacl pack … --sample-rate {tagger.sample_rate}, or take what is there with --accept-rate"
        )
    return AtRate(tagger, rate)


def resample(waveforms: Tensor, rate: int, wanted: int) -> Tensor:
    """Return waveforms [n, T] at `rate` Hz as [n, t] at `wanted` Hz, t = ⌈T · wanted / rate⌉, float32.

    By scipy's `resample_poly` on the processor, as packing does it.
    """
    ratio = Fraction(wanted, rate)
    if ratio == 1:
        return waveforms
    audio = waveforms.float().cpu().numpy()
    resampled = scipy.signal.resample_poly(audio, ratio.numerator, ratio.denominator, axis=1)
    return torch.from_numpy(resampled.astype("float32")).to(waveforms.device)
