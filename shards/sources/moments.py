"""The frame that is shown at one moment, and the sound of a part, out of the frames that a decoder gives.

Times are seconds from the file's beginning, which is `origin` on the file's own clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cacl.media.sound import SoundLine, UnusableSound
from shards.clip import Array
from shards.sources.media import BrokenMedia

_ROUNDED = 1e-3
"""Seconds by which a container may round its times."""
_STILL_SIDE = 40
"""Cells of the picture's width, in whose means something moves."""
_STILL = 20.0
"""Levels of 255 by which a cell changes when something moves; codecs change a still one by 7 or so."""


@dataclass
class ShownFrame:
    """The last frame that begins at or before the target: what a player shows then."""

    target: float
    origin: float
    chosen: Any = None
    time: float = 0.0
    """When the chosen frame begins."""
    passed: bool = False
    """Whether a later one came, so that the chosen one is final."""
    skipped: float = -1.0
    """The latest time, up to the target, of packets from which no frame was asked."""
    last: float = 0.0
    _interval: float = 0.0

    @property
    def late(self) -> bool:
        """Whether the frame at the target was not among those decoded, or not whole."""
        return self.chosen is None or self.time > self.target + _ROUNDED or self.chosen.is_corrupt

    @property
    def passed_over(self) -> bool:
        """Whether a frame that nothing refers to was skipped and is the one that is shown."""
        return self.skipped > self.time + _ROUNDED

    def add(self, frame: Any) -> None:
        """Take the next frame in the order of showing."""
        time = self.last + self._interval if frame.time is None else frame.time - self.origin
        self._interval, self.last = max(0.0, time - self.last), time
        early = time <= self.target + _ROUNDED
        # A film whose picture begins late shows its first frame.
        if early or self.chosen is None:
            self.chosen, self.time = frame, time
        self.passed = self.passed or not early

    def result(self, end: float) -> Any:
        """Return the frame; the last one is shown until the file ends, at `end` seconds.

        Raises BrokenMedia.
        """
        if self.chosen is None:
            raise BrokenMedia("undecodable video: it has no frame")
        if self.chosen.is_corrupt:
            raise BrokenMedia(f"undecodable video: the frame at {self.time:.2f} s is corrupt")
        if not self.passed and self.target >= max(end, self.time + _ROUNDED):
            raise BrokenMedia(
                f"truncated video: no frame at {self.target:.2f} s, the last at {self.last:.2f} s"
            )
        return self.chosen


@dataclass
class Motion:
    """Whether anything moves: a cell of the picture that differs from the first frame's, in any frame."""

    seen: bool = False
    _first: Array | None = None

    def add(self, frame: Any) -> None:
        """Compare a frame with the first."""
        if self.seen:
            return
        rows = max(1, round(_STILL_SIDE * frame.height / frame.width))
        size = {"width": _STILL_SIDE, "height": rows, "interpolation": "AREA"}
        small = frame.to_ndarray(format="rgb24", **size).astype(np.float32)
        if self._first is None:
            self._first = small
        self.seen = self._first.shape != small.shape or bool(np.abs(small - self._first).max() > _STILL)


@dataclass
class SoundPart:
    """The samples from `start` on, `seconds` long."""

    start: float
    seconds: float
    origin: float
    _parts: list[Array] = field(default_factory=list)
    _first: float = 0.0

    def __post_init__(self) -> None:
        self._line = SoundLine(self.origin)

    @property
    def complete(self) -> bool:
        """Whether no more is needed."""
        return self._line.rate > 0 and self._line.end - self.origin >= self.start + self.seconds

    @property
    def late(self) -> bool:
        """Whether the sound sets in after the start."""
        return not self._parts or self._first > self.start + _ROUNDED

    def add(self, frame: Any) -> None:
        """Take the next frame. Raises BrokenMedia."""
        try:
            for piece in self._line.follow(frame):
                begin = piece.time - self.origin
                end = begin + len(piece.samples) / self._line.rate
                if not self._parts:
                    self._first = begin
                if end > self.start and (not self._parts or begin < self.start + self.seconds):
                    self._parts.append(piece.samples)
        except UnusableSound as error:
            raise BrokenMedia(str(error)) from None

    def result(self) -> tuple[Array, int]:
        """Return the samples [t, channels] and their rate. Raises BrokenMedia where there is none."""
        if not self._parts:
            raise BrokenMedia("undecodable sound: it has no sample")
        rate, length = self._line.rate, round(self.seconds * self._line.rate)
        audio = np.concatenate(self._parts)
        offset = round((self.start - self._first) * rate)
        if offset >= 0:
            return audio[offset : offset + length], rate
        # Sound that sets in late stays in step with the frame.
        return np.pad(audio, ((min(-offset, length), 0), (0, 0)))[:length], rate
