"""Films read in constant memory: frames with the sound around them, from any moment on.

Axes: `T` samples of a window, `t` of a piece, `H`, `W` pixels of a frame.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from cacl.errors import UserError
from cacl.files import regular
from cacl.media.picture import as_shown, pixel_shape
from cacl.media.sound import SoundLine, UnusableSound, one_channel, within_one
from cacl.media.tracks import frames_in, picture_track, sound_track

_LAYOUTS = {1: "mono", 2: "stereo"}
_MOST_CHANNELS = 8
"""Of a sound that is resampled as it is."""
_EARLIER = 1.0
"""Seconds before a moment at which its sound is sought: decoders need a little before they are right."""
_FRAME = 0.001
"""Seconds by which a frame may stand before the beginning: clocks are rounded."""


@dataclass(frozen=True)
class Part:
    """Which part of a film is meant, in seconds from its first frame."""

    start: float = 0.0
    seconds: float | None = None
    """How much of it; None to its end."""


@dataclass(frozen=True)
class Facts:
    """What a film's header says."""

    begin: float
    """Of its first frame on its own clock, seconds."""
    rate: float
    """Frames a second; 0 where it is not said."""
    frames: int | None
    """How many; None where it cannot be known before the end."""
    seconds: float | None
    """Length; None where it is not said."""
    pixels: int
    """Of a frame."""

    def seconds_of(self, part: Part) -> float | None:
        """Return how long a part is; None where that cannot be known."""
        if self.seconds is None:
            return part.seconds
        left = max(0.0, self.seconds - part.start)
        return left if part.seconds is None else min(left, part.seconds)

    def frames_in(self, memory: int) -> int:
        """Return how many frames, 2 to 32, are held in so many bytes."""
        return min(32, max(2, memory // max(1, 3 * self.pixels)))

    def frames_of(self, part: Part) -> int | None:
        """Return about how many frames a part has; None where that cannot be known."""
        if not self.frames or not self.rate:
            return None
        left = max(0, self.frames - round(part.start * self.rate))
        return left if part.seconds is None else min(left, max(1, round(part.seconds * self.rate)))


def address(path: str | Path) -> str:
    """Return a file's name for FFmpeg, which takes what stands before a colon for a protocol."""
    return f"file:{path}"


def open_film(path: str | Path, silent: bool = False) -> av.container.InputContainer:
    """Open a film that has a picture and a sound, or a picture alone where it may be `silent`.

    Raises UserError, naming the file, where one is missing.
    """
    film = _open(path, "film", "give a video, or a picture and --sound FILE")
    remedy = "give its sound with --sound FILE" if picture_track(film) else "give a film that has one"
    for kind, track in (("picture", picture_track(film)), ("sound", sound_track(film))):
        if track is None and not (silent and kind == "sound"):
            film.close()
            raise UserError(f"{path}: has no {kind}; {remedy}")
    return film


def facts(path: str | Path) -> Facts:
    """Return what a film's header says. Raises UserError where the file has no picture."""
    with open_film(path, silent=True) as film:
        track: Any = picture_track(film)
        rate = float(track.average_rate or track.guessed_rate or 0)
        seconds = _seconds(film, track)
        count = track.frames or (round(seconds * rate) if seconds and rate else None)
        return Facts(_begin(track), rate, count, seconds, track.width * track.height)


def frames(path: str | Path, part: Part = Part()) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, frame [H, W, 3] uint8) of a film, as shown, in the order of their showing.

    Seconds are on the film's own clock. Raises UserError where it cannot be decoded.
    """
    with open_film(path, silent=True) as film:
        stream: Any = picture_track(film)
        stream.thread_type, pixel = "AUTO", pixel_shape(stream)
        first = _begin(stream) + part.start
        end = float("inf") if part.seconds is None else first + part.seconds
        if part.start:
            _seek(film, stream, first)
        for frame in _decoded(film, stream, path):
            if frame.time is None or frame.time < first - _FRAME:
                continue
            if frame.time >= end - _FRAME:
                break
            yield float(frame.time), as_shown(frame, pixel)


class SlidingAudio:
    """The sound around any moment of a film, asked for in ascending order; holds two windows at most."""

    def __init__(
        self, path: str | Path, rate: int, samples: int, *, start: float = 0.0, endless: bool = False
    ) -> None:
        """Read a sound's windows of `samples` at `rate` Hz; none is asked for before `start`, seconds.

        Where it is `endless`, silence follows it.
        """
        self.rate, self.samples = rate, samples
        before = max(0.0, start - samples / rate)
        self._chunks = resampled(path, rate, before)
        if endless:
            self._chunks = itertools.chain(self._chunks, _silence(rate))
        self._first_second = begin_of_sound(path, before)
        self._start = 0
        self._held = np.zeros((0, 1), np.float32)
        self._ended = False

    def around(self, time: float) -> np.ndarray:
        """Return [T] float32, the window with `time` (seconds) in its middle, moved to lie within the sound.

        A sound shorter than the window is repeated, as the field does. Raises UserError where there is none.
        """
        first = max(0, round((time - self._first_second) * self.rate) - self.samples // 2)
        while not self._ended and self._start + len(self._held) < first + self.samples:
            self._pull()
        end = self._start + len(self._held)
        first = max(self._start, min(first, end - self.samples))
        window = self._held[first - self._start : first - self._start + self.samples]
        if not len(window):
            raise UserError("the film's sound track is empty; give a film with sound")
        self._forget(first)
        return np.resize(_heard(window), self.samples)

    def _pull(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
        elif not len(self._held):
            self._held = chunk
        else:
            if chunk.shape[1] != self._held.shape[1]:  # the silence that follows
                chunk = np.repeat(chunk[:, :1], self._held.shape[1], axis=1)
            self._held = np.concatenate([self._held, chunk])

    def _forget(self, first: int) -> None:
        """Drop what lies more than a window before `first`: later windows never need it."""
        unneeded = first - self.samples - self._start
        if unneeded > self.samples:
            self._held, self._start = self._held[unneeded:], self._start + unneeded


def read_audio(path: str | Path, rate: int) -> np.ndarray:
    """Return the whole sound of a recording, [T] float32 mono at `rate` Hz. Raises UserError without one."""
    chunks = list(resampled(path, rate))
    if not chunks:
        raise UserError(f"{path}: holds no sound that can be read")
    return _heard(np.concatenate(chunks))


def open_audio(path: str | Path) -> av.container.InputContainer:
    """Open whatever holds a sound. Raises UserError, naming the file, where there is none."""
    film = _open(path, "recording", remedy := "give a video or a recording with sound")
    if sound_track(film) is None:
        film.close()
        raise UserError(f"{path}: has no sound; {remedy}")
    return film


def resampled(path: str | Path, rate: int, start: float = 0.0) -> Iterator[np.ndarray]:
    """Yield the sound in pieces [t, channels] float32 at `rate` Hz, from about `start` seconds on."""
    with open_audio(path) as film:
        resampler = None
        for piece in gapless(film, path, start):
            resampler = resampler or AudioResampler(format="fltp", layout=piece.layout, rate=rate)
            for frame in resampler.resample(piece):
                yield frame.to_ndarray().T
        for frame in resampler.resample(None) if resampler else ():
            yield frame.to_ndarray().T


def gapless(
    film: av.container.InputContainer, path: str | Path, start: float = 0.0
) -> Iterator[av.AudioFrame]:
    """Yield the sound of a film without holes, in frames of as many channels each, from about `start` on.

    Raises UserError, naming the file, where it cannot be decoded.
    """
    line = SoundLine()
    for decoded in _decoded(film, _sought(film, start), path):
        try:
            for time, samples in line.follow(decoded):
                channels = samples.T if samples.shape[1] <= _MOST_CHANNELS else one_channel(samples)[None]
                layout = _LAYOUTS.get(len(channels), f"{len(channels)}c")
                planes = np.ascontiguousarray(channels, dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(planes, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = line.rate, Fraction(1, line.rate)
                frame.pts = round(time * line.rate)
                yield frame
        except UnusableSound as error:
            raise UserError(f"{path}: {error}; convert the sound anew") from None


def begin_of_sound(path: str | Path, start: float = 0.0) -> float:
    """Return the moment of the first sample that reading from `start` gives, seconds on the film's clock."""
    with open_audio(path) as film:
        first = next(_decoded(film, _sought(film, start), path), None)
        return float(first.time or 0) if first else 0.0


def _open(path: str | Path, kind: str, remedy: str) -> av.container.InputContainer:
    """Open a file for FFmpeg to read. Raises UserError, which ends with `remedy`, where it is no `kind`."""
    try:
        return av.open(address(regular(Path(path), remedy)))
    except (OSError, av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"not a {kind} that can be read"
        raise UserError(f"{path}: {reason}; {remedy}") from error


def _begin(track: Any) -> float:
    return float((track.start_time or 0) * track.time_base)


def _seconds(film: av.container.InputContainer, track: Any) -> float | None:
    if track.duration:
        return float(track.duration * track.time_base)
    return film.duration / av.time_base if film.duration else None


def _sought(film: av.container.InputContainer, start: float) -> Any:
    """Return the sound's track, the file set to a little before `start` seconds."""
    track: Any = sound_track(film)
    if start > _EARLIER:
        _seek(film, track, start - _EARLIER)
    return track


def _seek(film: av.container.InputContainer, track: Any, moment: float) -> None:
    """Go to a moment of a film, seconds on its clock, or to its beginning where that is not possible."""
    try:
        film.seek(int(moment / track.time_base), stream=track)
    except av.FFmpegError:
        film.seek(0)


def _silence(rate: int) -> Iterator[np.ndarray]:
    while True:
        yield np.zeros((rate, 1), np.float32)


def _heard(samples: np.ndarray) -> np.ndarray:
    """Return a sound [T, channels] as packing stores it, [T] float32."""
    return within_one(one_channel(samples)).astype(np.float32)


def _decoded(film: av.container.InputContainer, stream: Any, path: str | Path) -> Iterator[Any]:
    """Yield a stream's frames. Raises UserError, naming the file and the moment, where they are broken."""
    time = 0.0
    try:
        for packet in film.demux(stream):
            for frame in frames_in(packet):
                time = frame.time or time
                yield frame
    except av.FFmpegError as error:
        raise UserError(
            f"{path}: the {stream.type} cannot be decoded after {time:.2f} s ({error.strerror}); "
            "cut the film there or convert it anew"
        ) from error
