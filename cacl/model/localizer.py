"""The localizer: one vector a place of the image, one vector a sound, and their cosine as the map.

Axes: `n` clips, `S` pixels of an image's side, `T` samples, `H` heads, `h` × `w` = `P` places of a map,
`D` channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from cacl.errors import UserError
from cacl.limits import MOST_VALUES, Channels
from cacl.model.audio import AudioEncoder, SmallCnn
from cacl.model.dropout import ClipDropout
from cacl.model.heads import ImageHead, LinearHead
from cacl.model.image import EfficientNetLite0, ImageEncoder
from cacl.model.initialization import Initialization, initialize_as_ez_vsl
from cacl.model.spectrograms import AudioFeatures, LogMel
from cacl.options import Options
from cacl.types import Embeddings


@dataclass(frozen=True)
class ModelOptions(Options):
    """Which encoders, and the space in which image and sound meet."""

    image: ImageEncoder = field(default_factory=EfficientNetLite0)
    audio: AudioEncoder = field(default_factory=SmallCnn)
    features: AudioFeatures = field(default_factory=LogMel)
    head: ImageHead = field(default_factory=LinearHead)
    dimension: Channels = 128
    """Channels D of an embedding."""
    heads: PositiveInt = 1
    """Pairs of an image head and a sound head; SLAVC has two."""
    image_dropout: float = 0.0
    """Share of the trunk's image features that training sets to 0 before the heads (SLAVC: 0.9)."""
    initialization: Initialization = "torch"
    """How heads and sound network begin: as torch's layers do, or as EZ-VSL, SLAVC and FNAC draw them."""

    def __post_init__(self) -> None:
        if not 0 <= self.image_dropout < 1:
            raise UserError(f"model.image_dropout: {self.image_dropout} must lie in 0 <= p < 1")
        widest = max(self.dimension, getattr(self.head, "hidden", 0))
        if self.heads * widest > MOST_VALUES:
            raise UserError(
                f"model.heads: {self.heads} of {widest} channels are more than {MOST_VALUES}; use fewer"
            )
        heard, made = (
            getattr(part, key, "spectrogram")
            for part, key in ((self.audio, "hears"), (self.features, "makes"))
        )
        if heard != made:
            raise UserError(
                f"model.features: {self.features.name} makes {made} of a sound, but model.audio "
                f"{self.audio.name} hears {heard}; vggish and vggish-log-mel go together, tagger and waveform"
            )
        rate = getattr(self.audio, "rate", self.features.rate)
        if rate != self.features.rate:
            raise UserError(
                f"model.features.rate: {self.features.rate} Hz, but model.audio {self.audio.name} hears "
                f"{rate}; set it and data.augmentation.sample_rate so, and pack with --sample-rate {rate}"
            )


class Localizer(nn.Module):
    """Every learned parameter of a run, the loss's scalars too."""

    def __init__(
        self,
        options: ModelOptions,
        scalars: Mapping[str, float] | None = None,
        seed: int = 0,
        head: Callable[[int], nn.Module | None] = lambda channels: None,
    ) -> None:
        """Build with weights drawn from `seed`; torch's global random state is left as it was.

        `scalars` names the loss's learned scalars and their first values; `head` of the dimension D makes the
        module that the loss learns with the model, if it has one (see `cacl.loss.objectives.Objective.head`).
        """
        super().__init__()
        self.features = options.features
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.image_trunk = options.image.build()
            self.audio_trunk = options.audio.build()
            channels = self.image_trunk.channels
            self.image_heads = nn.ModuleList(
                options.head.build(channels, options.dimension) for _ in range(options.heads)
            )
            self.audio_heads = nn.ModuleList(
                nn.Linear(self.audio_trunk.channels, options.dimension) for _ in range(options.heads)
            )
            if options.initialization == "ez-vsl":
                initialize_as_ez_vsl(self.audio_trunk, self.image_heads, self.audio_heads)
            self.loss_head = head(options.dimension)
        self.image_dropout = ClipDropout(options.image_dropout)
        # One value in one axis: DeepSpeed cannot broadcast a 0-d parameter.
        values = {name: nn.Parameter(torch.tensor([float(value)])) for name, value in (scalars or {}).items()}
        self.scalars = nn.ParameterDict(values)
        self._scale = options.head.scale

    def grid(self, image_size: int) -> tuple[int, int]:
        """Return the height and width of the map of a square image of `image_size` pixels."""
        side = self.image_trunk.side(image_size) * self._scale
        return side, side

    @torch.no_grad()
    def prepare(self, images: Tensor, waveforms: Tensor) -> tuple[Tensor, Tensor]:
        """Do everything that has no learned gradient: normalize, frozen trunk, spectrogram.

        `images` [n, 3, S, S] uint8, or [n, V, 3, S, S] of V views; `waveforms` [n, T] float. Returns what
        `forward` takes.
        """
        if images.dtype != torch.uint8 or images.dim() not in (4, 5) or len(images) != len(waveforms):
            raise ValueError(
                f"expected uint8 images [n, 3, S, S] and waveforms [n, T], received {images.dtype} "
                f"{tuple(images.shape)} and {tuple(waveforms.shape)}"
            )
        seen = [self._see(view) for view in _views(images)]
        sounds = self.audio_trunk.prepare(self.features(waveforms))
        return seen[0] if images.dim() == 4 else torch.stack(seen, 1), sounds

    def _see(self, images: Tensor) -> Tensor:
        """Return normalized pixels of one view [n, 3, S, S], or a frozen trunk's features of them."""
        pixels = self.image_trunk.normalize(images)
        return self.image_trunk(pixels) if self.image_trunk.frozen else pixels

    def forward(
        self,
        images: Tensor,
        spectrograms: Tensor,
        keys: Sequence[int] | None = None,
        valid: Tensor | None = None,
    ) -> Embeddings:
        """Return unit vectors of prepared images and sounds: maps [n, H, P, D], audio [n, H, D], float32.

        `keys` are n numbers that dropout's masks are drawn from in training (see `ClipDropout`). Of several
        views the first makes the maps, and all of them go to the loss's head, which learns from the clips
        that are `valid` [n] bool (None: all).
        """
        maps = [self._map(view, _of_view(keys, number)) for number, view in enumerate(_views(images))]
        # Clones: a wrapper that looks for used parameters through grad_fn would miss a leaf.
        scalars = {name: value[0] for name, value in self.scalars.items()}
        embeddings = Embeddings(image=_unit(maps[0]), audio=self._embed_audio(spectrograms), scalars=scalars)
        return embeddings if self.loss_head is None else self.loss_head(embeddings, maps, valid)

    @torch.no_grad()
    def hear(self, waveforms: Tensor) -> Tensor:
        """Return the unit vectors [n, H, D] of sounds [n, T] float, as `prepare` and `forward` make them."""
        return self._embed_audio(self.audio_trunk.prepare(self.features(waveforms)))

    def _embed_audio(self, spectrograms: Tensor) -> Tensor:
        """Return the unit vectors [n, H, D] of prepared sounds."""
        heard = self.audio_trunk(spectrograms)
        return _unit(torch.stack([head(heard) for head in self.audio_heads], dim=1))

    def _map(self, images: Tensor, keys: Sequence[int] | None) -> Tensor:
        """Return the vectors of one view's places [n, H, P, D], not yet of unit length."""
        features = images if self.image_trunk.frozen else self.image_trunk(images)
        features = self.image_dropout(features, keys)
        return torch.stack([head(features).flatten(2).transpose(1, 2) for head in self.image_heads], dim=1)


def localization_map(maps: Tensor, audio: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
    """Return the cosine of each place with its own clip's sound, averaged over heads: [n, h, w] in -1..1.

    `maps` [n, H, P, D] and `audio` [n, H, D] are unit vectors; without `grid` the map is square.
    """
    cosine = torch.einsum("nhpd,nhd->nhp", maps, audio).mean(1)
    side = math.isqrt(cosine.shape[1])
    return cosine.unflatten(1, grid or (side, side))


def _views(images: Tensor) -> tuple[Tensor, ...]:
    """Return the views, [n, C, S, S] each, of images [n, C, S, S] or [n, V, C, S, S]."""
    return (images,) if images.dim() == 4 else images.unbind(1)


def _of_view(keys: Sequence[int] | None, number: int) -> Sequence[int] | None:
    """Return the keys of view `number`: the clips' own for the first, others for another.

    They differ in bit 31, the highest that torch's generator on a processor reads.
    """
    return keys if keys is None or number == 0 else [key ^ (number << 31) for key in keys]


def _unit(x: Tensor) -> Tensor:
    """Scale vectors to length 1 in float32 at least, whatever autocast made of them."""
    return functional.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
