"""EfficientAT: MobileNetV3 that tells AudioSet's classes (Schmid et al. 2023, arXiv:2211.04772).

Axes: `n` sounds, `T` samples, `t` frames, `K` classes, `D` channels.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cacl.errors import UserError
from cacl.model.spectrograms import magnitude_squared, straight_filters
from cacl.model.streamline import streamline
from cacl.model.taggers.base import SoundTagger, audioset_classes
from cacl.model.weights import put_state, read_weights, sha256
from cacl.threads import over_threads

RATE = 32_000
"""Hz."""
BANDS = 128
_FFT, _WINDOW, _HOP = 1024, 800, 320
"""Samples."""
_CHUNK = 8
"""Sounds at a time on a processor: activations stay in its cache."""


class EfficientAT(SoundTagger):
    """One of EfficientAT's networks `mnNN`, NN tenths of MobileNetV3-Large's width; hears 32 kHz."""

    def __init__(self, name: str, network: nn.Module, weights: str) -> None:
        super().__init__(name, RATE, audioset_classes(), weights)
        self.network: Any = network

    @property
    def channels(self) -> int:
        """Numbers D of an embedding."""
        return int(self.network.classifier[0].in_features)

    def _hear(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities [n, K] and embeddings [n, D], what the last map holds on the average."""
        if waveforms.device.type != "cpu":
            return self._part(waveforms)
        parts = over_threads(self._part, waveforms.split(_CHUNK), len(os.sched_getaffinity(0)))
        probabilities, embeddings = (torch.cat(column) for column in zip(*parts, strict=True))
        return probabilities, embeddings

    @torch.no_grad()
    def _part(self, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(waveforms.device.type, enabled=False):
            embeddings = self.network.features(log_mel(waveforms.float()).unsqueeze(1)).mean((2, 3))
            return self.network.classifier(embeddings).sigmoid(), embeddings


def load_efficientat(name: str, file: Path | None) -> EfficientAT:
    """Return the tagger `name` ("mn04", "mn10" …) with the weights of its authors' `file`; None: random ones.

    The tensors stand in the order of torchvision's MobileNetV3. Raises UserError for another file.
    """
    from torchvision.models import mobilenet_v3_large
    from torchvision.ops import SqueezeExcitation

    known = re.fullmatch(r"mn(0[1-9]|[1-4]\d)", name)
    if known is None:
        raise UserError(f"--tagger {name}: EfficientAT's networks are called mn04, mn10, mn40 …; name one")
    network = mobilenet_v3_large(width_mult=int(known[1]) / 10, num_classes=len(audioset_classes()))
    network.features[0][0] = _on_one_channel(network.features[0][0])
    for module in network.modules():
        if isinstance(module, SqueezeExcitation):
            module.scale_activation = nn.Sigmoid()
    if file:
        put_state(network, _as_convolutions(read_weights(file), network), file, in_order=True)
    weights = sha256(network.state_dict())
    network.eval().requires_grad_(False)
    streamline(network)
    return EfficientAT(name, network, weights)


def log_mel(waveforms: Tensor) -> Tensor:
    """Return EfficientAT's input [n, 128, t] of waveforms [n, T] at 32 kHz.

    Pre-emphasis 0.97; power in symmetric Hann windows of 25 ms every 10 ms; Kaldi's mel bands from 0 to
    15,000 Hz; (log(x + 1e-5) + 4.5) / 5. Sounds under 33 ms end in zeros.
    """
    waveforms = functional.pad(waveforms, (0, max(0, _FFT + 1 - waveforms.shape[1])))
    emphasized = waveforms[:, 1:] - 0.97 * waveforms[:, :-1]
    window = torch.hann_window(_WINDOW, periodic=False, device=waveforms.device)
    spectrum = torch.stft(emphasized, _FFT, _HOP, _WINDOW, window, center=True, return_complex=True)
    filters = straight_filters(_FFT, BANDS, RATE, 0, 15_000, waveforms.device, waveforms.dtype)
    return (filters.T @ magnitude_squared(spectrum)).add_(1e-5).log_().add_(4.5).div_(5)


def _on_one_channel(convolution: Any) -> nn.Conv2d:
    shape = (convolution.kernel_size, convolution.stride, convolution.padding)
    return nn.Conv2d(1, convolution.out_channels, *shape, bias=False)


def _as_convolutions(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Give the linear layers of the gates [C', C] the shape of torchvision's, [C', C, 1, 1]."""
    expected = list(network.state_dict().values())
    if len(state) != len(expected):
        return state
    return {
        name: value[..., None, None] if (*value.shape, 1, 1) == like.shape else value
        for (name, value), like in zip(state.items(), expected, strict=True)
    }
