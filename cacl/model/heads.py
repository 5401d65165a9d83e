"""Image heads: from features [n, C, h, w] to embeddings [n, D, scale·h, scale·w], not yet of unit length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from cacl.errors import UserError
from cacl.limits import Channels
from cacl.options import Options


@dataclass(frozen=True)
class LinearHead(Options):
    """One 1×1 convolution, as SLAVC and EZ-VSL have it."""

    name: Literal["linear"] = "linear"
    scale = 1

    def build(self, channels: int, dimension: int) -> nn.Module:
        """Return the head."""
        return nn.Conv2d(channels, dimension, 1)


@dataclass(frozen=True)
class NoHead(Options):
    """None: a place's vector is the trunk's own, as in SSPL.

    `model.dimension` is then the trunk's channels.
    """

    name: Literal["none"] = "none"
    scale = 1

    def build(self, channels: int, dimension: int) -> nn.Module:
        """Return the head. Raises UserError unless the dimension is the trunk's."""
        if channels != dimension:
            raise UserError(
                f"model.dimension: {dimension}, but head none keeps the {channels} channels of model.image; "
                f"set it to {channels}"
            )
        return nn.Identity()


@dataclass(frozen=True)
class MlpHead(Options):
    """Two 1×1 convolutions with a ReLU between them."""

    name: Literal["mlp"] = "mlp"
    hidden: Channels = 256
    """Channels between the two convolutions."""
    scale = 1

    def build(self, channels: int, dimension: int) -> nn.Module:
        """Return the head."""
        return nn.Sequential(
            nn.Conv2d(channels, self.hidden, 1), nn.ReLU(), nn.Conv2d(self.hidden, dimension, 1)
        )


@dataclass(frozen=True)
class DecoderHead(Options):
    """A light decoder for finer maps: every step doubles the resolution and sharpens by a depthwise 3×3."""

    name: Literal["decoder"] = "decoder"
    hidden: Channels = 128
    """Channels of the decoder."""
    scale: Literal[2, 4] = 2
    """How many times finer than the trunk's map."""

    def build(self, channels: int, dimension: int) -> nn.Module:
        """Return the head."""
        layers: list[nn.Module] = [nn.Conv2d(channels, self.hidden, 1), nn.ReLU()]
        for _ in range(self.scale // 2):
            layers += [
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(self.hidden, self.hidden, 3, padding=1, groups=self.hidden),
                nn.Conv2d(self.hidden, self.hidden, 1),
                nn.ReLU(),
            ]
        return nn.Sequential(*layers, nn.Conv2d(self.hidden, dimension, 1))


ImageHead = Annotated[LinearHead | NoHead | MlpHead | DecoderHead, Field(discriminator="name")]
