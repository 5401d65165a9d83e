"""The sound of a track, every sample at its moment, and as one channel.

Axes: `t` samples of a piece, `T` of a sound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

_HOLE = 0.1
"""Seconds by which a frame comes later than the samples before it end, from which on something is missing.
Less is the rounding of clocks, as in FFmpeg's `aresample` (min_hard_comp)."""
_LONGEST_HOLE = 3600.0
"""Seconds. What jumps further has a broken clock, and nothing is missing."""
_SILENT_PIECE = 1.0
"""Seconds of silence at once."""
_CHANNEL_LIMIT = 64
_CANCELED = 0.1
"""Share of the loudness of independent channels below which a mix has lost what they hold."""
_CLIPPED = 0.02
"""Share of samples beyond ±1 that is cut off, as players do; loud music has 0.01. More are no peaks."""


class UnusableSound(ValueError):
    """A sound that cannot be put together. Its message is `class of fault: particulars`."""


class Piece(NamedTuple):
    """What comes next of a sound."""

    time: float
    """Of its first sample, seconds on the track's clock."""
    samples: np.ndarray
    """[t, channels] float32 in -1..1."""


class SoundLine:
    """Joins the decoded frames of a track: silence where packets are missing, channels as in the first."""

    def __init__(self, start: float = 0.0) -> None:
        """`start`: when the sound begins, in seconds, where its first frame has no time."""
        self.rate = 0
        """Samples a second, Hz; 0 before the first frame."""
        self.start = start
        """Of the first sample, seconds on the track's clock."""
        self._channels = 0
        self._count = 0

    @property
    def end(self) -> float:
        """Where the sound has come to, seconds."""
        return self.start + self._count / self.rate if self.rate else self.start

    def follow(self, frame: Any) -> Iterator[Piece]:
        """Yield what a decoded frame adds, before it the silence of a hole, a second at once.

        Raises UnusableSound where the rate changes or there are too many channels.
        """
        samples = _as_float(frame)
        if not self.rate:
            self.rate, self._channels = frame.sample_rate, samples.shape[1]
            self.start = self.start if frame.time is None else frame.time
        if frame.sample_rate != self.rate:
            raise UnusableSound(f"wrong rate: it changes from {self.rate} to {frame.sample_rate} Hz")
        late = 0.0 if frame.time is None else frame.time - self.end
        if _HOLE < late < _LONGEST_HOLE:
            yield from self._silence(round(late * self.rate))
        if samples.shape[1] != self._channels:
            samples = np.repeat(one_channel(samples)[:, None], self._channels, axis=1)
        yield self._take(samples)

    def _silence(self, length: int) -> Iterator[Piece]:
        whole = round(_SILENT_PIECE * self.rate)
        for begin in range(0, length, whole):
            yield self._take(np.zeros((min(whole, length - begin), self._channels), np.float32))

    def _take(self, samples: np.ndarray) -> Piece:
        piece = Piece(self.end, samples)
        self._count += len(samples)
        return piece


def one_channel(samples: np.ndarray) -> np.ndarray:
    """Return the mean of channels [T, channels] float, [T] float64; the loudest one where they cancel out.

    Of two channels that is so where their correlation is below -0.9, as of a recorder wired wrongly.
    """
    mono: np.ndarray = samples.mean(axis=1, dtype=np.float64)
    power = np.square(samples, dtype=np.float64).mean(axis=0)
    # Independent channels leave a share of 1 / channels.
    if np.square(mono).mean() < _CANCELED * power.mean() / len(power):
        return samples[:, int(power.argmax())].astype(np.float64)
    return mono


def within_one(audio: np.ndarray) -> np.ndarray:
    """Return `audio` [T] as it is, or with its peak at 1 where more than a few samples lie beyond ±1.

    Files of floats may hold any range, such as that of 16-bit integers.
    """
    loud = np.abs(audio)
    if not len(audio) or np.count_nonzero(loud > 1) <= _CLIPPED * len(audio):
        return audio
    scaled: np.ndarray = audio / loud.max()
    return scaled


def _as_float(frame: Any) -> np.ndarray:
    """Return a frame's samples, [t, channels] float32 in -1..1."""
    channels = frame.layout.nb_channels
    if not 1 <= channels <= _CHANNEL_LIMIT:
        raise UnusableSound(f"undecodable sound: {channels} channels")
    samples: np.ndarray = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    return samples.astype(np.float32)
