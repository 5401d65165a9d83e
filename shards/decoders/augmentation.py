"""What is cut out of a stored clip: random parts are a pure function of (seed, epoch, clip index, view)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from cacl.errors import UserError
from cacl.limits import MOST_SAMPLES, Hertz, Pixels, Seconds
from cacl.options import Options
from shards.order import VIEWS, random_words


@dataclass(frozen=True)
class Augmentation(Options):
    """The field's crops: short side to 246, crop of 224, flip; in evaluation the whole frame at 224×224."""

    size: Pixels = 224
    """Pixels of a delivered image's side, S."""
    short_side: Pixels = 246
    """Pixels of the short side that a training frame is resized to before the crop."""
    square: bool = False
    """Resize both sides to that, whatever the frame's shape, as SSPL does; evaluation always does so."""
    flip: float = 0.5
    """Share of training clips that are mirrored."""
    views: Literal[1, 2] = 1
    """Crops and flips of each training frame: 2 for a loss that compares them, such as sspl."""
    duration: Seconds = 3.0
    """Seconds of sound that are delivered."""
    window: Literal["random", "middle"] = "random"
    """Where they lie in a longer sound in training; in evaluation it is the middle."""
    sample_rate: Hertz = 16000
    """Hz; the stored sound must have it."""

    def __post_init__(self) -> None:
        if not 0 < self.size <= self.short_side:
            raise UserError(
                f"augmentation.short_side: {self.short_side} is less than augmentation.size "
                f"({self.size}); a crop must fit into the resized frame"
            )
        if self.samples < 1:
            raise UserError("augmentation.duration: must hold at least one sample of sound")
        if self.samples > MOST_SAMPLES:
            raise UserError(
                f"augmentation.duration: {self.samples} samples of sound are more than {MOST_SAMPLES}; "
                "use less"
            )
        if not 0 <= self.flip <= 1:
            raise UserError(f"augmentation.flip: {self.flip} is no probability; use 0 to 1")

    @property
    def samples(self) -> int:
        """Samples of a delivered waveform, T."""
        return round(self.duration * self.sample_rate)


class ClipView(NamedTuple):
    """One clip's random draws; the first three are in 0..1 of the room that the clip leaves."""

    left: float
    top: float
    start: float
    mirrored: bool


MIDDLE = ClipView(0.5, 0.5, 0.5, False)
"""The view of evaluation; of an image it is the whole."""


def draw(augmentation: Augmentation, seed: int, epoch: int, index: int, number: int = 0) -> ClipView:
    """Return view `number` of clip `index` in an epoch; neither batch, rank nor worker matters."""
    further = (number,) if number else ()  # the first view is that of a training of one
    words = random_words(4, seed, epoch, VIEWS, index, *further)
    left, top, start, flip = (float(word) / 2**64 for word in words)
    middle = augmentation.window == "middle"
    return ClipView(left, top, MIDDLE.start if middle else start, flip < augmentation.flip)


def fit_short_side(augmentation: Augmentation, height: int, width: int) -> tuple[int, int]:
    """Return height and width, in pixels, of a training frame after its short side was resized."""
    if augmentation.square:
        return augmentation.short_side, augmentation.short_side
    short = min(height, width)
    return round(height * augmentation.short_side / short), round(width * augmentation.short_side / short)


def corner(augmentation: Augmentation, view: ClipView, height: int, width: int) -> tuple[int, int]:
    """Return top and left, in pixels, of the crop in a resized frame of `height` × `width`."""
    room = (height - augmentation.size + 1, width - augmentation.size + 1)
    return min(int(view.top * room[0]), room[0] - 1), min(int(view.left * room[1]), room[1] - 1)
