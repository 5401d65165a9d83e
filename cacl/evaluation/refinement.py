"""Object guidance (OGL, EZ-VSL): mix the sound's map with a map of where any object is.

Axes: `n` clips, `N` clips of the test set, `S` pixels of an image's side.

The object map is the mean over channels of a frozen ImageNet network's last features, |·|, for ResNet-18 at
224 pixels 7×7. Both published mixings are `alpha · sound + (1 − alpha) · object`; they differ in how the two
are brought to one scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cacl.evaluation.clip_results import ClipResults
from cacl.evaluation.protocols.base import Protocol
from cacl.evaluation.systems import Maps
from cacl.evaluation.upsampling import upsample
from cacl.model.image import Trunk, object_map


@dataclass(frozen=True)
class MinMax:
    """EZ-VSL and FNAC: each map by its own lowest and highest value."""

    alpha: float = 0.4

    def mix(self, audio: Tensor, objects: Tensor) -> Tensor:
        """Return [n, S, S] in -1..1 from maps [n, S, S] of any scale."""
        return 2 * (self.alpha * _min_max(audio) + (1 - self.alpha) * _min_max(objects)) - 1


@dataclass(frozen=True)
class FixedRange:
    """SLAVC: cosines from [-1, 1] and object maps from [0, 2.5].

    A clip's confidence keeps its meaning. SLAVC's own sound maps are cosine / tau from [-1/tau, 1/tau], which
    is the same.
    """

    alpha: float = 0.4
    highest_object: float = 2.5

    def mix(self, audio: Tensor, objects: Tensor) -> Tensor:
        """Return [n, S, S] on the scale of cosines, from cosines and mean absolute features [n, S, S]."""
        return self.alpha * audio + (1 - self.alpha) * (2 * objects / self.highest_object - 1)


Mixing = MinMax | FixedRange
MIXINGS: dict[str, type[Mixing]] = {"min-max": MinMax, "fixed-range": FixedRange}

ALPHAS = tuple(step / 10 for step in range(11))
"""Among these alpha is chosen."""


def object_maps(trunk: Trunk) -> Maps:
    """Return the maps [n, h, w] of a frozen trunk, the mean over channels of |features|, deaf to sound."""

    @torch.inference_mode()
    def maps(images: Tensor, waveforms: Tensor) -> Tensor:
        return object_map(trunk(trunk.normalize(images)))

    return maps


def mix_maps(audio: Maps, objects: Maps, mixing: Mixing, protocol: Protocol) -> Maps:
    """Return maps [n, S, S] that mix both at the protocol's pixels, upsampled as it says."""

    def maps(images: Tensor, waveforms: Tensor) -> Tensor:
        pair = (one(images, waveforms).float() for one in (audio, objects))
        return mixing.mix(*(upsample(one, protocol.size, protocol.upsampling) for one in pair))

    return maps


def once_a_batch(maps: Maps) -> Maps:
    """Return the same maps, computed once for all who ask for those of one batch after another."""
    last: list[Tensor] = []

    def remembered(images: Tensor, waveforms: Tensor) -> Tensor:
        if not (last and last[0] is images and last[1] is waveforms):
            last[:] = [images, waveforms, maps(images, waveforms)]
        return last[2]

    return remembered


def choose_alpha(trials: Mapping[float, ClipResults], ranked_by: str) -> float:
    """Return the alpha whose results have the highest mean of the column `ranked_by`.

    The results are of validation clips, none of which is reported.
    """
    return best_alpha({alpha: float(np.nanmean(results[ranked_by])) for alpha, results in trials.items()})


def best_alpha(quality: Mapping[float, float]) -> float:
    """Return the alpha of the highest quality, the smallest of those that tie."""
    return min(quality, key=lambda alpha: (-quality[alpha], alpha))


def _min_max(maps: Tensor) -> Tensor:
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)
