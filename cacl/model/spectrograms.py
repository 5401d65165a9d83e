"""Spectrograms in batches, on the device of the waveforms.

Axes: `n` clips, `T` samples, `F` frequencies or mel bands, `t` frames, `E` examples of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import scipy.signal
import torch
from pydantic import Field
from torch import Tensor

from cacl.errors import UserError
from cacl.limits import Hertz
from cacl.options import Options

_SEGMENT, _OVERLAP = 512, 274
"""Window and overlap in samples of the field's spectrogram, the same at every rate."""
_WINDOW, _HOP, _FFT, _EXAMPLE = 400, 160, 512, 96
"""Of VGGish at 16 kHz: a window, a hop and a transform in samples, and an example in frames."""


def log_spectrogram(waveforms: Tensor, rate: int) -> Tensor:
    """Return the field's log spectrogram [n, 257, t] of waveforms [n, T] (float, -1..1) at `rate` Hz.

    `log(S + 1e-7) / 12`, S the power density of scipy's `spectrogram(x, rate, nperseg=512, noverlap=274)`:
    Tukey(0.25) window, each segment without its mean, density scaling (SLAVC, EZ-VSL, FNAC).
    """
    window = _tukey(waveforms.device, waveforms.dtype)
    segments = waveforms.unfold(-1, _SEGMENT, _SEGMENT - _OVERLAP)
    spectrum = torch.fft.rfft((segments - segments.mean(-1, keepdim=True)).mul_(window))
    power = magnitude_squared(spectrum).div_(rate * window.square().sum())
    power[..., 1:-1] *= 2
    # In place: fresh memory would cost a processor more than the arithmetic does.
    return power.add_(1e-7).log_().div_(12).transpose(1, 2)


def log_mel(waveforms: Tensor, rate: int, bands: int, hop: float = 0.01) -> Tensor:
    """Return the natural log of mel power [n, bands, t] of waveforms [n, T] at `rate` Hz; `hop` in seconds.

    Hann windows of four hops; 1e-6 is added before the logarithm, about the power of 16-bit silence.
    """
    step = round(hop * rate)
    size = 2 ** (4 * step - 1).bit_length()
    window = torch.hann_window(4 * step, device=waveforms.device, dtype=waveforms.dtype)
    spectrum = torch.stft(
        waveforms, size, step, 4 * step, window, center=True, pad_mode="constant", return_complex=True
    )
    power = magnitude_squared(spectrum).div_(window.square().sum())
    filters = _mel_filters(size, bands, rate, waveforms.device, waveforms.dtype)
    return (filters @ power + 1e-6).log()


@dataclass(frozen=True)
class LogMel(Options):
    """Log-mel bands, every clip with mean 0 and deviation 1, so that gain is gone."""

    name: Literal["log-mel"] = "log-mel"
    bands: Annotated[int, Field(gt=0, le=1024)] = 64
    """Mel bands, the height of the spectrogram."""
    rate: Hertz = 16000
    """Hz of the waveforms that the loader delivers."""
    hop: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Seconds from one frame to the next."""

    def __post_init__(self) -> None:
        if self.hop * self.rate < 1:
            raise UserError(f"model.features.hop: {self.hop:g} s hold no sample at {self.rate} Hz; use more")

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Return sounds [n, 1, bands, t] of waveforms [n, T]."""
        with torch.autocast(waveforms.device.type, enabled=False):
            mel = log_mel(waveforms, self.rate, self.bands, self.hop)
            mean, deviation = mel.mean((1, 2), keepdim=True), mel.std((1, 2), keepdim=True)
            return ((mel - mean) / (deviation + 1e-3)).unsqueeze(1)


@dataclass(frozen=True)
class LogSpectrogram(Options):
    """The field's log spectrogram."""

    name: Literal["log-spectrogram"] = "log-spectrogram"
    rate: Hertz = 16000
    """Hz of the waveforms that the loader delivers."""

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Return sounds [n, 1, 257, t] of waveforms [n, T]."""
        with torch.autocast(waveforms.device.type, enabled=False):
            return log_spectrogram(waveforms, self.rate).unsqueeze(1)


@dataclass(frozen=True)
class VggishLogMel(Options):
    """VGGish's log-mel examples: 96 frames of 10 ms by 64 bands.

    `log(mel + 0.01)` of spectral magnitudes in windows of 25 ms, bands of HTK's mel from 125 to 7,500 Hz
    (Hershey et al. 2017; github.com/tensorflow/models, `audioset/vggish`). Frames that fill no example are
    left out.
    """

    name: Literal["vggish-log-mel"] = "vggish-log-mel"
    rate: Literal[16000] = 16000
    """Hz of the waveforms that the loader delivers; VGGish knows no other."""
    stretch: bool = False
    """Stretch each waveform to -1..1 first, from its least to its largest sample, as SSPL does."""
    makes: ClassVar[str] = "examples"

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Return examples [n, E, 96, 64] of waveforms [n, T].

        Raises UserError for sound shorter than one.
        """
        with torch.autocast(waveforms.device.type, enabled=False):
            mel = vggish_log_mel(stretched(waveforms) if self.stretch else waveforms)
            examples = mel.shape[1] // _EXAMPLE
            if not examples:
                raise UserError(
                    f"data.augmentation.duration: {waveforms.shape[1]} samples hold no example of VGGish, "
                    "which takes 0.975 s; use more"
                )
            return mel[:, : examples * _EXAMPLE].unflatten(1, (examples, _EXAMPLE))


@dataclass(frozen=True)
class Waveform(Options):
    """The waveforms as they are, for a sound network with a front end of its own: `tagger`."""

    name: Literal["waveform"] = "waveform"
    rate: Hertz = 32000
    """Hz of the waveforms that the loader delivers."""
    makes: ClassVar[str] = "waveform"

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Return waveforms [n, T]."""
        return waveforms


def stretched(waveforms: Tensor) -> Tensor:
    """Return waveforms [n, T] stretched to -1..1, as SSPL does.

    Each goes from its least to its largest sample; 1e-3 is added to what it is divided by.
    """
    above = waveforms - waveforms.min(1, keepdim=True).values
    return 2 * (above / (above.max(1, keepdim=True).values + 1e-3) - 0.5)


def vggish_log_mel(waveforms: Tensor) -> Tensor:
    """Return VGGish's log-mel [n, t, 64] of waveforms [n, T] at 16 kHz."""
    window = torch.hann_window(_WINDOW, device=waveforms.device, dtype=waveforms.dtype)
    frames = waveforms.unfold(-1, _WINDOW, _HOP) * window
    magnitudes = torch.fft.rfft(frames, _FFT).abs()
    filters = straight_filters(_FFT, 64, 16000, 125, 7500, waveforms.device, waveforms.dtype)
    return (magnitudes @ filters + 0.01).log()


AudioFeatures = Annotated[LogMel | LogSpectrogram | VggishLogMel | Waveform, Field(discriminator="name")]


def magnitude_squared(spectrum: Tensor) -> Tensor:
    """Return |z|² of complex `spectrum`, several times as fast as by `view_as_real`."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


@lru_cache(maxsize=8)
def _tukey(device: torch.device, dtype: torch.dtype) -> Tensor:
    window: np.ndarray = scipy.signal.get_window(("tukey", 0.25), _SEGMENT)
    return torch.as_tensor(window, dtype=dtype, device=device)


@lru_cache(maxsize=8)
def _mel_filters(size: int, bands: int, rate: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return [bands, size // 2 + 1]: triangles of area 1 that stand evenly on the mel scale of HTK.

    They are torchaudio's `melscale_fbanks(..., norm="slaney")`; a torchaudio loads next to few torches only.
    """
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    left, peak, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequencies = np.linspace(0, rate / 2, size // 2 + 1)
    rising, falling = (frequencies - left) / (peak - left), (right - frequencies) / (right - peak)
    filters = np.minimum(rising, falling).clip(min=0) * 2 / (right - left)
    return torch.as_tensor(filters, dtype=dtype, device=device)


@lru_cache(maxsize=8)
def straight_filters(
    size: int, bands: int, rate: int, low: float, high: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return [size // 2 + 1, bands]: triangles of height 1 from `low` to `high` Hz.

    They are straight and even on the mel scale, as Kaldi's and VGGish's are.
    """
    mel = _mel(np.linspace(0, rate / 2, size // 2 + 1))
    edges = np.linspace(_mel(low), _mel(high), bands + 2)
    left, peak, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (mel[:, None] - left) / (peak - left), (right - mel[:, None]) / (right - peak)
    filters = np.minimum(rising, falling).clip(min=0)
    return torch.as_tensor(filters, dtype=dtype, device=device)


def _mel(hertz: Any) -> Any:
    return 1127 * np.log1p(np.asarray(hertz) / 700)
