"""A trained model for pictures and sounds of any size and length.

Axes: `H`, `W` pixels of a picture, `h`, `w` cells of a map, `n` pictures, `T` samples of sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cacl.errors import UserError
from cacl.evaluation.systems import maps_of
from cacl.evaluation.upsampling import upsample
from cacl.model.localizer import Localizer
from cacl.model.tags.localizer import TagLocalizer
from cacl.runs.calibration import PLAIN, Calibration
from cacl.viewing.inputs import Picture, Sound, picture_of, sound_of


@dataclass(frozen=True, repr=False)
class SoundFinder:
    """A trained model, ready for pictures and sounds of any size and length. See `cacl.load`."""

    model: Localizer | TagLocalizer
    image_size: int = 224
    sample_rate: int = 16000
    duration: float = 3.0
    """Seconds of sound that the model hears at once."""
    calibrations: tuple[Calibration, ...] = ()
    """What was fitted to these weights by `cacl calibrate`, each under another upsampling."""
    name: str = ""
    """What the model is, such as its run and its towers."""
    trained_on: str = ""
    """The data that the model has learned from, as its recipe names them; "" where that is not known."""

    @property
    def theta(self) -> float | None:
        """The cosine above which something sounds, of maps as `pixels` makes them; None if not fitted."""
        return next((one.theta for one in self.calibrations if one.upsampling == PLAIN), None)

    @property
    def scale(self) -> tuple[float, float | None, float]:
        """The values of maps that mean nothing, θ, and as sure as the model is of sounds it knows.

        The last is 1, the highest cosine, where it was not measured.
        """
        fitted = next((one for one in self.calibrations if one.upsampling == PLAIN), None)
        if fitted is None:
            return 0.0, None, 1.0
        return 0.0, fitted.theta, 1.0 if fitted.best is None else fitted.best

    @property
    def samples(self) -> int:
        """Samples of a window of sound, T."""
        return round(self.duration * self.sample_rate)

    def maps(self, pictures: list[np.ndarray], windows: list[np.ndarray]) -> Tensor:
        """Return cosines [n, h, w] in -1..1 for frames [H, W, 3] uint8 and windows [T] float32 in -1..1.

        Raises UserError where they are not finite: the sound or the model's weights are not.
        """
        device = next(self.model.parameters()).device
        resized = [self._resize(picture) for picture in pictures]
        waveforms = torch.from_numpy(np.stack(windows)).float()
        found = maps_of(self.model)(torch.stack(resized).to(device), waveforms.to(device)).cpu()
        if not torch.isfinite(found).all():
            fault = "the model has diverged; take an earlier checkpoint"
            if not torch.isfinite(waveforms).all():
                fault = "the sound holds NaN or infinity; mend it"
            raise UserError(f"the map of where the sound is holds NaN or infinity: {fault}")
        return found

    def map(self, picture: Picture, sound: Sound, sample_rate: float | None = None) -> np.ndarray:
        """Return the map [h, w] of one picture and its sound, cosines in -1..1, float32.

            finder.map("frame.jpg", "sound.wav")
            finder.map(image, samples, sample_rate=44100)

        A picture is a file, an image of Pillow of any mode, or an array: gray, RGB or RGBA of any integers,
        of floats in 0..1 or of booleans. A sound is a file, or an array of any number of channels, [T] or
        with them on either side, of floats or integers, at `sample_rate` Hz, which every array needs. Of a
        sound that is longer than `duration` the middle is heard; a shorter one is repeated. Raises UserError,
        one sentence, for anything else.
        """
        heard = sound_of(sound, sample_rate, self.sample_rate)
        return self.maps([picture_of(picture)], [middle(heard, self.samples)])[0].numpy()

    def pixels(self, raw: Tensor) -> Tensor:
        """Return a map [h, w] at 224 × 224 pixels (bicubic), on which it is drawn and compared with θ."""
        return upsample(raw[None], 224, PLAIN)[0]

    def sounds(self, raw: Tensor) -> bool | None:
        """Say whether a map [h, w] has a pixel above θ: something in view sounds. None without a θ."""
        return None if self.theta is None else bool((self.pixels(raw) > self.theta).any())

    def __repr__(self) -> str:
        """Return three lines: the model, what it sees and hears, and what it has learned from."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        theta = "no θ (cacl calibrate fits it)" if self.theta is None else f"θ {self.theta:.4f}"
        return (
            f"SoundFinder: {self.name or type(self.model).__name__}, {count / 1e6:.1f} million parameters\n"
            f"  sees {self.image_size} × {self.image_size} pixels, hears {self.duration:g} s at "
            f"{self.sample_rate} Hz\n"
            f"  {theta}; trained on {self.trained_on or 'data that are not named'}"
        )

    def _resize(self, picture: np.ndarray) -> Tensor:
        image = torch.tensor(picture).permute(2, 0, 1)
        size = (self.image_size, self.image_size)
        return F.interpolate(image[None], size, mode="bicubic", antialias=True)[0]


def middle(audio: np.ndarray, samples: int) -> np.ndarray:
    """Return the middle [T] of a sound, repeated where it is shorter."""
    if len(audio) < samples:
        return np.resize(audio, samples)
    start = (len(audio) - samples) // 2
    return audio[start : start + samples]
