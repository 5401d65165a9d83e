"""What is known of a clip: which sources are heard in its sound, and where in its frame they are seen.

The form of version 2, as shards hold it, is described in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VERSION = 2
SILENCE = "silence"
"""What reports call a clip in which nothing sounds."""
OWN_SOUND, OTHER_SOUND = "wav", "other.wav"
"""The members of a clip that hold its sound, and that of an object which is silent in it."""
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares (0..1) of the frame's width and height, from the upper left corner."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class SoundSource:
    """Something that is heard, seen, or both."""

    class_name: str = ""
    """Empty where it is not known."""
    boxes: tuple[Box, ...] | None = None
    """None where they are not known; () where the source is not in view."""
    mask: Array | None = field(default=None, compare=False)
    """[H, W] uint8 or bool, its visible pixels not 0; None where they are not known."""
    audible: bool = True
    """Whether the clip's sound has it."""
    visible: bool = True
    """Whether the frame shows it."""
    audio: str = ""
    """The member of the clip that plays this source alone, such as `other.wav`; empty where there is none."""
    picture: str = ""
    """Which picture of its class it is, where the frame was made of pictures."""
    recording: str = ""
    """Which recording of its class is heard, where the sound was made of recordings."""
    aside: bool = False
    """Whether it is what others say of a clip whose truth is told already, and no part of that truth."""


@dataclass(frozen=True)
class Annotation:
    """What is known of one clip."""

    id: str
    index: int = -1
    """Position of the clip in its data set."""
    sources: tuple[SoundSource, ...] | None = None
    """None where nothing is known of what sounds; () where nothing does."""
    image: str | None = None
    """Shared by clips that have the same frame, each with a sound of its own."""
    film: str | None = None
    """Shared by clips of one film."""
    time: float | None = None
    """Of the frame, seconds into the file that was packed."""
    seconds: float | None = None
    """Length of the sound before it was repeated or cut to the stored length."""
    tags: tuple[str, ...] = ()
    """What else is said of the clip, a word each, such as `static_image`."""

    @property
    def heard(self) -> tuple[SoundSource, ...]:
        """The sources that the clip's sound has, as far as they are part of the truth."""
        return self.heard_in(OWN_SOUND)

    def heard_in(self, audio: str) -> tuple[SoundSource, ...]:
        """Return the sources that a member plays: `wav` the clip's sound, another one of them alone."""
        if audio == OWN_SOUND:
            return tuple(one for one in self.sources or () if one.audible and not one.aside)
        return tuple(source for source in self.sources or () if source.audio == audio)

    @property
    def class_name(self) -> str:
        """The class of the first source that is heard: empty where it is not known, `SILENCE` if none is."""
        if self.sources is not None and not self.heard:
            return SILENCE
        return next((source.class_name for source in self.heard), "")

    @property
    def boxes(self) -> list[Box] | None:
        """Where the sound comes from: [] if from nothing in view, None if that is not known."""
        return None if self.sources is None else join_boxes(self.heard)

    @property
    def mask(self) -> Array | None:
        """[H, W] bool, the visible pixels of all that is heard; None if nothing is or one's are not known."""
        masks = [source.mask for source in self.heard if source.visible]
        known = [mask != 0 for mask in masks if mask is not None]
        return np.any(np.stack(known), axis=0) if known and len(known) == len(masks) else None


def join_boxes(sources: Iterable[SoundSource]) -> list[Box] | None:
    """Return all boxes of visible sources, None where those of one are not known; none of those aside."""
    found: list[Box] = []
    for source in sources:
        if source.visible and not source.aside:
            if source.boxes is None:
                return None
            found += source.boxes
    return found
