"""Sound encoders: from a spectrogram [n, 1, F, t] to one vector a clip [n, C].

Axes: `n` clips, `E` examples of a clip, `F` bands, `t` frames, `C` channels.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cacl.errors import UserError
from cacl.limits import Channels
from cacl.model.blocks import convolution_blocks, resnet_body, run_body, vgg_layers
from cacl.model.model_files import model_file
from cacl.model.taggers.efficientat import RATE, EfficientAT, load_efficientat
from cacl.model.weights import load_state
from cacl.options import Options


class AudioTrunk(nn.Module):
    """`body` maps sounds [n, 1, F, t] to vectors [n, channels].

    `frozen`, if given, comes before it and learns nothing: `body` maps what it returns.
    """

    def __init__(self, body: nn.Module, channels: int, frozen: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.channels = body, channels
        self.frozen = None if frozen is None else frozen.requires_grad_(False).eval()
        self.recompute = False

    def train(self, mode: bool = True) -> AudioTrunk:
        """Set the mode, except that a frozen part always stays in eval mode."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self

    def prepare(self, spectrograms: Tensor) -> Tensor:
        """Return what `forward` takes: what the frozen part, if any, makes of them."""
        return spectrograms if self.frozen is None else self.frozen(spectrograms)

    def forward(self, spectrograms: Tensor) -> Tensor:
        """Return vectors [n, channels] of what `prepare` returned."""
        return run_body(self.body, spectrograms, self.recompute)


@dataclass(frozen=True)
class SmallCnn(Options):
    """Four strided convolutions and the mean and maximum over what they leave."""

    name: Literal["small-cnn"] = "small-cnn"
    channels: Annotated[int, Field(ge=8, le=2048)] = 256
    """Channels of the last convolution; the vector of a clip has twice as many."""
    norm: Literal["group", "batch"] = "group"
    """How activations are normalized: `group` does not look at other clips, `batch` does."""

    def build(self) -> AudioTrunk:
        """Return the trunk, with random weights."""
        widths = [1, self.channels // 8, self.channels // 4, self.channels // 2, self.channels]
        body = nn.Sequential(*convolution_blocks(widths, self.norm), _MeanAndMax())
        return AudioTrunk(body, 2 * self.channels)


@dataclass(frozen=True)
class ResNet18(Options):
    """ResNet-18 on one channel with a maximum over places: the paper's sound encoder, as in SLAVC."""

    name: Literal["resnet18"] = "resnet18"

    def build(self) -> AudioTrunk:
        """Return the trunk, with random weights; its state names are torchvision's."""
        from torchvision.models import resnet18

        network: Any = resnet18()
        network.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        stages = OrderedDict(resnet_body(network).named_children())
        body = nn.Sequential(OrderedDict(**stages, avgpool=nn.AdaptiveMaxPool2d(1), flatten=nn.Flatten()))
        return AudioTrunk(body, 512)


@dataclass(frozen=True)
class Vggish(Options):
    """VGGish, frozen, and a layer that learns, as SSPL has it.

    Hershey et al. 2017 (arXiv:1609.09430). The vector of a clip is the mean over its examples, which the
    features `vggish-log-mel` make.
    """

    name: Literal["vggish"] = "vggish"
    weights: str = "none"
    """"none" (random) or the file of torchvggish's weights, `vggish-10086976.pth`."""
    hidden: Channels = 512
    """Channels of the layer that learns: a ReLU of a linear map of VGGish's 128."""
    hears: ClassVar[str] = "examples"

    def build(self) -> AudioTrunk:
        """Return the trunk; the frozen part's state names are torchvggish's."""
        network = _VggishNetwork()
        if self.weights != "none":
            load_state(network, self._file())
        body = nn.Sequential(nn.Linear(128, self.hidden), nn.ReLU(), _MeanOverExamples())
        return AudioTrunk(body, self.hidden, frozen=network)

    def _file(self) -> Path:
        """Return the file of the weights. Raises UserError, with its address, if none."""
        if not (file := Path(self.weights)).is_file():
            raise UserError(
                f"vggish: weights: there is no file {self.weights!r}; torchvggish publishes "
                "vggish-10086976.pth at https://github.com/harritaylor/torchvggish/releases"
            )
        return file


@dataclass(frozen=True)
class Tagger(Options):
    """A tagger of sounds, frozen, and a layer that learns.

    It hears the waveforms that the features `waveform` hand on, and makes of each the embedding from which it
    would tell AudioSet's classes.
    """

    name: Literal["tagger"] = "tagger"
    tagger: Annotated[str, Field(pattern=r"^mn(0[1-9]|[1-4]\d)$")] = "mn04"
    """Which of EfficientAT's networks: mn04, or another width."""
    weights: str = "published"
    """"published" (its authors' file, in `CACL_MODELS` or fetched), "none" (random), or a file."""
    hidden: Channels = 512
    """Channels of the layer that learns: a ReLU of a linear map of the normalized embedding."""
    hears: ClassVar[str] = "waveform"
    rate: ClassVar[int] = RATE

    def build(self) -> AudioTrunk:
        """Return the trunk. Raises UserError for weights that are missing or of another network."""
        network = load_efficientat(self.tagger, self._file())
        wide = network.channels
        body = nn.Sequential(nn.LayerNorm(wide), nn.Linear(wide, self.hidden), nn.ReLU())
        return AudioTrunk(body, self.hidden, frozen=_Embedding(network))

    def _file(self) -> Path | None:
        if self.weights == "none":
            return None
        return model_file(self.tagger) if self.weights == "published" else Path(self.weights)


AudioEncoder = Annotated[SmallCnn | ResNet18 | Vggish | Tagger, Field(discriminator="name")]


class _Embedding(nn.Module):
    """From waveforms [n, T] to a tagger's embeddings [n, D]."""

    def __init__(self, tagger: EfficientAT) -> None:
        super().__init__()
        self.tagger = tagger

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return the embeddings. Raises UserError for sounds that are longer than the tagger takes."""
        seconds = waveforms.shape[1] / self.tagger.sample_rate
        if seconds > self.tagger.seconds:
            raise UserError(
                f"data.augmentation.duration: {seconds:.1f} s, but model.audio tagger hears "
                f"{self.tagger.seconds:g} s at most; use less"
            )
        embeddings = self.tagger.hear(waveforms)[1]
        assert embeddings is not None  # EfficientAT has some
        return embeddings


class _VggishNetwork(nn.Module):
    """From examples [n, E, 96, 64] of log-mel (time × bands) to vectors [n, E, 128]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = vgg_layers(1, [64], [128], [256] * 2, [512] * 2)
        widths = (512 * 4 * 6, 4096, 4096, 128)
        layers = [(nn.Linear(before, after), nn.ReLU()) for before, after in pairwise(widths)]
        self.embeddings = nn.Sequential(*(part for layer in layers for part in layer))

    def forward(self, examples: Tensor) -> Tensor:
        features = self.features(examples.flatten(0, 1).unsqueeze(1))
        # Channels go innermost, as in the TensorFlow network that the weights come from.
        vectors = self.embeddings(features.permute(0, 2, 3, 1).flatten(1))
        return vectors.unflatten(0, examples.shape[:2])


class _MeanOverExamples(nn.Module):
    def forward(self, vectors: Tensor) -> Tensor:
        return vectors.mean(1)


class _MeanAndMax(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        # Not amax: its backward looks for the place that equals the maximum, and finds none where a compiler
        # computes the features again and rounds otherwise; max keeps the place.
        return torch.cat([features.mean((2, 3)), features.flatten(2).max(2).values], dim=1)
