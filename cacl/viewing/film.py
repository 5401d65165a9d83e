"""Films in and out in constant memory: frames with the sound around them, and an overlay with its sound.

Axes: `T` samples of a window, `H`, `W` pixels of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.resampler import AudioResampler

from cacl.errors import UserError
from cacl.files import regular, written
from cacl.media.picture import as_shown, pixel_shape
from cacl.media.sound import SoundLine, UnusableSound, one_channel, within_one
from cacl.media.tracks import frames_in, picture_track, sound_track

_CLOCK = Fraction(1, 90_000)
"""Seconds of a tick of the written film, which every common frame rate divides."""
_LAYOUTS = {1: "mono", 2: "stereo"}
_MOST_CHANNELS = 8
"""Of a sound that is resampled as it is."""


def _address(path: str | Path) -> str:
    """Return a file's name for FFmpeg, which takes what stands before a colon for a protocol."""
    return f"file:{path}"


def _open(path: str | Path, kind: str, remedy: str) -> av.container.InputContainer:
    """Open a file for FFmpeg to read. Raises UserError, which ends with `remedy`, where it is no `kind`."""
    try:
        return av.open(_address(regular(Path(path), remedy)))
    except (OSError, av.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or f"not a {kind} that can be read"
        raise UserError(f"{path}: {reason}; {remedy}") from error


def open_film(path: str | Path) -> av.container.InputContainer:
    """Open a film that has a picture and a sound. Raises UserError, naming the file, where one is missing."""
    film = _open(path, "film", "give a video, or a picture and --sound FILE")
    for kind, track in (("picture", picture_track(film)), ("sound", sound_track(film))):
        if track is None:
            film.close()
            raise UserError(f"{path}: has no {kind}; a film needs both, a picture and a sound")
    return film


def frames(path: str | Path) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, frame [H, W, 3] uint8) of a film, as shown, in the order of their showing.

    Raises UserError where it cannot be decoded.
    """
    with open_film(path) as film:
        stream: Any = picture_track(film)
        stream.thread_type, pixel = "AUTO", pixel_shape(stream)
        for frame in _decoded(film, stream, path):
            if frame.time is not None:
                yield float(frame.time), as_shown(frame, pixel)


class SlidingAudio:
    """The sound around any moment of a film, asked for in ascending order; holds two windows at most."""

    def __init__(self, path: str | Path, rate: int, samples: int) -> None:
        self.rate, self.samples = rate, samples
        self._chunks = _resampled(path, rate)
        self._first_second = _begin_of_audio(path)
        self._start = 0
        self._held = np.zeros((0, 1), np.float32)
        self._ended = False

    def around(self, time: float) -> np.ndarray:
        """Return [T] float32, the window with `time` (seconds) in its middle, moved to lie within the film.

        A film shorter than the window is repeated, as the field does. Raises UserError where there is no
        sound.
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
        else:
            self._held = np.concatenate([self._held, chunk]) if len(self._held) else chunk

    def _forget(self, first: int) -> None:
        """Drop what lies more than a window before `first`: later windows never need it."""
        unneeded = first - self.samples - self._start
        if unneeded > self.samples:
            self._held, self._start = self._held[unneeded:], self._start + unneeded


@contextmanager
def film_writer(path: str | Path, audio_of: str | Path, width: int, height: int) -> Iterator[FilmWriter]:
    """Yield what writes an H.264 film with the sound of another one; it is complete at the end, or absent.

    Raises UserError where the film or its sound cannot be opened.
    """
    path = Path(path)
    with (
        open_film(audio_of) as audio,
        written(path, suffix=path.suffix) as partial,
        _created(partial, path) as film,
    ):
        writer = FilmWriter(film, audio, path, audio_of, width, height)
        yield writer
        writer.finish()


def _created(partial: Path, path: Path) -> av.container.OutputContainer:
    try:
        return av.open(_address(partial), "w")
    except (OSError, av.FFmpegError, ValueError) as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be written as a film ({error}); name a file such as out.mp4")


class FilmWriter:
    """Encodes frames, and between them the sound of another film. See `film_writer`."""

    def __init__(
        self,
        film: av.container.OutputContainer,
        audio: av.container.InputContainer,
        path: Path,
        audio_of: str | Path,
        width: int,
        height: int,
    ) -> None:
        self._film = film
        self._audio_frames = _gapless(audio, audio_of)
        track: Any = sound_track(audio)
        rate = track.rate
        try:
            self._video = film.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
            self._audio = film.add_stream("aac", rate=rate)
        except (OSError, av.FFmpegError, ValueError) as error:
            raise _unwritable(path, error) from error
        self._video.width, self._video.height = width - width % 2, height - height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.time_base = _CLOCK
        self._resampler = AudioResampler(format="fltp", layout=self._audio.layout, rate=rate)

    def add(self, time: float, picture: np.ndarray) -> None:
        """Append a frame [H, W, 3] uint8 shown at `time` (seconds), and the sound up to it."""
        even = np.ascontiguousarray(picture[: self._video.height, : self._video.width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts, frame.time_base = round(time / _CLOCK), _CLOCK
        self._film.mux(self._video.encode(frame))
        self._add_audio(time)

    def _add_audio(self, until: float) -> None:
        for decoded in self._audio_frames:
            for frame in self._resampler.resample(decoded):
                self._film.mux(self._audio.encode(frame))
            if decoded.time is not None and decoded.time > until:
                break

    def finish(self) -> None:
        """Write the rest of the sound and what the encoders still hold."""
        self._add_audio(float("inf"))
        for frame in self._resampler.resample(None):
            self._film.mux(self._audio.encode(frame))
        self._film.mux(self._audio.encode(None))
        self._film.mux(self._video.encode(None))


def read_audio(path: str | Path, rate: int) -> np.ndarray:
    """Return the whole sound of a recording, [T] float32 mono at `rate` Hz. Raises UserError without one."""
    chunks = list(_resampled(path, rate))
    if not chunks:
        raise UserError(f"{path}: holds no sound that can be read")
    return _heard(np.concatenate(chunks))


def _heard(samples: np.ndarray) -> np.ndarray:
    """Return a sound [T, channels] as packing stores it, [T] float32."""
    return within_one(one_channel(samples)).astype(np.float32)


def _open_audio(path: str | Path) -> av.container.InputContainer:
    """Open whatever holds a sound. Raises UserError, naming the file, where there is none."""
    film = _open(path, "recording", remedy := "give a video or a recording with sound")
    if sound_track(film) is None:
        film.close()
        raise UserError(f"{path}: has no sound; {remedy}")
    return film


def _resampled(path: str | Path, rate: int) -> Iterator[np.ndarray]:
    """Yield the sound in pieces [t, channels] float32 at `rate` Hz."""
    with _open_audio(path) as film:
        resampler = None
        for piece in _gapless(film, path):
            resampler = resampler or AudioResampler(format="fltp", layout=piece.layout, rate=rate)
            for frame in resampler.resample(piece):
                yield frame.to_ndarray().T
        for frame in resampler.resample(None) if resampler else ():
            yield frame.to_ndarray().T


def _gapless(film: av.container.InputContainer, path: str | Path) -> Iterator[av.AudioFrame]:
    """Yield the sound of a film without holes, in frames of as many channels each.

    Raises UserError, naming the file, where it cannot be decoded.
    """
    line = SoundLine()
    for decoded in _decoded(film, sound_track(film), path):
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


def _begin_of_audio(path: str | Path) -> float:
    """Return the moment of the first sample on the film's clock, seconds."""
    with _open_audio(path) as film:
        first = next(_decoded(film, sound_track(film), path), None)
        return float(first.time or 0) if first else 0.0
