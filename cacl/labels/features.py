"""What frames and sounds look like before any class: the vectors that clustering and fusion work on.

Axes: `n` clips of a batch, `N` of the data set, `T` samples, `D` numbers of a vector.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cacl.errors import UserError
from cacl.files import regular, written
from cacl.labels.classify import ClassifyFrames
from cacl.model.localizer import Localizer, localization_map
from cacl.model.spectrograms import log_mel
from cacl.resumable import Arrays, require_finite
from cacl.types import Batch

FORMAT_VERSION = 1
_HOP = 0.02
"""Seconds between the frames of sound that are counted."""


@dataclass(frozen=True)
class Features:
    """Vectors of clips, sorted by index."""

    index: npt.NDArray[np.int64]
    """[N]."""
    image: npt.NDArray[np.float32]
    """[N, D] of the frame."""
    audio: npt.NDArray[np.float32]
    """[N, D] of the sound."""
    header: dict[str, Any]
    """What made them: encoders, their weights, the data set's fingerprint."""

    def write(self, path: Path) -> None:
        """Write one `.npz` file: complete or not at all."""
        header = json.dumps({"format_version": FORMAT_VERSION, **self.header}, sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as partial, partial.open("wb") as stream:
            np.savez(stream, index=self.index, image=self.image, sound=self.audio, header=np.array(header))

    @classmethod
    def load(cls, path: Path) -> Features:
        """Return the features of a file. Raises UserError for another format."""
        with np.load(regular(path, "delete it")) as arrays:
            header = json.loads(str(arrays["header"]))
            if header.pop("format_version") != FORMAT_VERSION:
                raise UserError(f"{path}: format_version: not one that this cacl reads; delete the file")
            return cls(arrays["index"], arrays["image"], arrays["sound"], header)


@dataclass(frozen=True)
class ClipFeatures:
    """Work for `resumable_map`: the frame's embedding by a frozen classifier, and a vector of the sound."""

    frames: ClassifyFrames
    audio: Callable[[Tensor], Tensor]
    """From waveforms [n, T] to vectors [n, D]."""

    def __call__(self, batch: Batch) -> Arrays:
        """Return "image" and "sound". Raises UserError where one is not finite."""
        audio = self.audio(batch.waveforms).cpu().numpy()
        require_finite({"sound": audio}, batch, "what hears it")
        return {"image": self.frames(batch)["embedding"], "sound": audio}


@dataclass(frozen=True)
class AudioStatistics:
    """Log-mel statistics, without any network: level, spread and speed of change of each band.

    Each is [bands] over the frames of a clip, after the clip's mean level is taken out: mean, deviation, and
    deviation of the difference from frame to frame.
    """

    rate: int
    bands: int = 64

    def __call__(self, waveforms: Tensor) -> Tensor:
        """Return vectors [n, 3 · bands] of waveforms [n, T]."""
        mel = log_mel(waveforms, self.rate, self.bands, _HOP)
        mel = mel - mel.mean((1, 2), keepdim=True)
        return torch.cat([mel.mean(2), mel.std(2), mel.diff(dim=2).std(2)], dim=1)


@dataclass(frozen=True)
class ModelFeatures:
    """Work for `resumable_map`: embeddings of a trained localizer, for a second round of labels."""

    model: Localizer

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Arrays:
        """Return "sound" [n, H · D], and "image" [n, H · D] at the place that the model localizes.

        Raises UserError where one is not finite.
        """
        embeddings = self.model(*self.model.prepare(batch.images, batch.waveforms))
        place = localization_map(embeddings.image, embeddings.audio).flatten(1).argmax(1)
        at_place = embeddings.image[torch.arange(len(place), device=place.device), :, place]
        vectors = {"image": at_place, "sound": embeddings.audio}
        arrays = {name: rows.flatten(1).cpu().numpy() for name, rows in vectors.items()}
        require_finite(arrays, batch, "the trained model")
        return arrays
