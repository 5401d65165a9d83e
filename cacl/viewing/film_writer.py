"""Films written with the sound of another one: MP4, WebM, Matroska, QuickTime, or a GIF without sound.

Axes: `H`, `W` pixels of a frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.filter import Graph

from cacl.errors import UserError
from cacl.files import written
from cacl.media.tracks import sound_track
from cacl.viewing.film import address, gapless, open_audio

_CLOCK = Fraction(1, 90_000)
"""Seconds of a tick of the written film, which every common frame rate divides."""


class _Codecs(NamedTuple):
    picture: str
    options: dict[str, str]
    sound: str | None
    rates: tuple[int, ...] = ()
    """Samples a second that the sound may have; () for any."""


_H264 = _Codecs("libx264", {"crf": "20", "preset": "veryfast"}, "aac")
_VP9 = _Codecs(
    "libvpx-vp9",
    {"crf": "33", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"},
    "libopus",
    (48_000,),
)
_CODECS = {".mp4": _H264, ".mkv": _H264, ".mov": _H264, ".webm": _VP9, ".gif": _Codecs("gif", {}, None)}
ENDINGS = tuple(_CODECS)
"""Of files that can be written."""
SOUNDLESS = (".gif",)


@dataclass(frozen=True)
class Sound:
    """The sound that a written film gets: a stretch of a recording, or of another film."""

    path: str | Path
    start: float = 0.0
    """The moment of it, on its own clock, that stands at the film's first frame; seconds."""
    end: float | None = None
    """Where it is cut at the latest, seconds; with one it ends with the picture, without it may go on."""


@contextmanager
def film_writer(path: str | Path, sound: Sound, width: int, height: int) -> Iterator[FilmWriter]:
    """Yield what writes a film with the sound of another one; it is complete at the end, or absent.

    The ending of `path` says which kind of film. Raises UserError where the sound cannot be opened, or the
    film cannot be written.
    """
    path = Path(path)
    codecs = check_ending(path)
    with (
        open_audio(sound.path) if codecs.sound else contextlib.nullcontext() as audio,
        written(path, suffix=path.suffix) as partial,
        _created(partial, path) as film,
    ):
        writer = FilmWriter(film, path, codecs, audio, sound, (width, height))
        yield writer
        writer.finish()


def name_beside(film: Path) -> str:
    """Return what is written of a film: its name with -sound, another ending than .mp4 kept in it."""
    ending = "" if film.suffix.lower() == ".mp4" else film.suffix.lower().replace(".", "-")
    return f"{film.stem}{ending}-sound.mp4"


def check_ending(path: Path) -> _Codecs:
    """Return what a film is written with. Raises UserError for an ending that is not known."""
    if path.suffix.lower() not in _CODECS:
        raise UserError(f"{path}: is no name of a film that can be written; end it in {', '.join(ENDINGS)}")
    return _CODECS[path.suffix.lower()]


def _created(partial: Path, path: Path) -> av.container.OutputContainer:
    try:
        return av.open(address(partial), "w")
    except (OSError, av.FFmpegError, ValueError) as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be written as a film ({error}); name a file such as out.mp4")


class FilmWriter:
    """Encodes frames, and between them the sound of another film. See `film_writer`."""

    def __init__(
        self,
        film: av.container.OutputContainer,
        path: Path,
        codecs: _Codecs,
        audio: av.container.InputContainer | None,
        sound: Sound,
        size: tuple[int, int],
    ) -> None:
        self._film, self._sound = film, sound
        self._origin: float | None = None
        self._last = self._gap = 0.0
        width, height = size
        try:
            self._video = _stream(film, codecs.picture, options=codecs.options)
            self._audio = _AudioLine(film, audio, codecs, sound) if audio else None
        except (OSError, av.FFmpegError, ValueError) as error:
            raise _unwritable(path, error) from error
        self._video.width, self._video.height = width - width % 2, height - height % 2
        self._palette = None
        if codecs.picture == "gif":
            self._video.pix_fmt, self._video.codec_context.time_base = "pal8", Fraction(1, 100)
            self._palette = _Palette(self._video.width, self._video.height)
        else:
            self._video.pix_fmt, self._video.codec_context.time_base = "yuv420p", _CLOCK

    def add(self, time: float, picture: np.ndarray) -> None:
        """Append a frame [H, W, 3] uint8 shown at `time` (seconds), and the sound up to it.

        The written film begins at 0, with the first frame.
        """
        self._origin = time if self._origin is None else self._origin
        since = time - self._origin
        self._last, self._gap = since, since - self._last if since else self._gap
        even = np.ascontiguousarray(picture[: self._video.height, : self._video.width])
        frame = av.VideoFrame.from_ndarray(even, format="rgb24")
        clock = self._video.codec_context.time_base
        frame.pts, frame.time_base = round(since / clock), clock
        for ready in self._palette.of(frame) if self._palette else (frame,):
            self._film.mux(self._video.encode(ready))
        if self._audio:
            self._audio.write(since)

    def finish(self) -> None:
        """Write the rest of the sound and what the encoders still hold."""
        for ready in self._palette.rest() if self._palette else ():
            self._film.mux(self._video.encode(ready))
        if self._audio:
            self._audio.write(float("inf") if self._sound.end is None else self._last + self._gap)
            self._audio.finish()
        self._film.mux(self._video.encode(None))


def _stream(film: av.container.OutputContainer, codec: str, **how: Any) -> Any:
    return film.add_stream(codec, **how)


class _AudioLine:
    """The sound of a written film, encoded little by little."""

    def __init__(
        self,
        film: av.container.OutputContainer,
        audio: av.container.InputContainer,
        codecs: _Codecs,
        sound: Sound,
    ) -> None:
        assert codecs.sound is not None
        self._film, self._sound = film, sound
        track: Any = sound_track(audio)
        rate = track.rate if not codecs.rates or track.rate in codecs.rates else codecs.rates[0]
        self._pieces = _stretch(gapless(audio, sound.path, sound.start), sound)
        self._stream = _stream(film, codecs.sound, rate=rate)
        self._resampler = AudioResampler(format="fltp", layout=self._stream.layout, rate=rate)
        self._reached = 0.0

    def write(self, until: float) -> None:
        """Encode the sound up to a moment of the written film, seconds."""
        while self._reached <= until and (piece := next(self._pieces, None)) is not None:
            self._reached = float(piece.time or 0) + piece.samples / piece.sample_rate
            for frame in self._resampler.resample(piece):
                self._film.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode what is still held."""
        for frame in self._resampler.resample(None):
            self._film.mux(self._stream.encode(frame))
        self._film.mux(self._stream.encode(None))


def _stretch(pieces: Iterator[av.AudioFrame], sound: Sound) -> Iterator[av.AudioFrame]:
    """Yield the sound from its start to its end, its clock set so that the start is 0."""
    for piece in pieces:
        samples: Any = piece.to_ndarray()
        rate = piece.sample_rate
        begin = round((float(piece.time or 0) - sound.start) * rate)
        stop = samples.shape[1]
        if sound.end is not None and sound.end < float("inf"):
            stop = min(stop, round((sound.end - sound.start) * rate) - begin)
            if stop <= 0:
                return
        kept = samples[:, max(0, -begin) : stop]
        if kept.shape[1]:
            cut = av.AudioFrame.from_ndarray(np.ascontiguousarray(kept), format="fltp", layout=piece.layout)
            cut.sample_rate, cut.time_base, cut.pts = rate, Fraction(1, rate), max(0, begin)
            yield cut


class _Palette:
    """Frames in 256 colors, each in the best ones of its own: no film is held to find them."""

    def __init__(self, width: int, height: int) -> None:
        self._graph = Graph()
        self._source: Any = self._graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("rgb24"), time_base=Fraction(1, 100)
        )
        split, sink = self._graph.add("split"), self._graph.add("buffersink")
        colors = self._graph.add("palettegen", "stats_mode=single")
        dither = "dither=bayer:bayer_scale=5:diff_mode=rectangle:new=1"
        used = self._graph.add("paletteuse", dither)
        self._source.link_to(split)
        split.link_to(colors, 0)
        split.link_to(used, 1, 0)
        colors.link_to(used, 0, 1)
        used.link_to(sink)
        self._graph.configure()

    def of(self, frame: av.VideoFrame) -> Iterator[Any]:
        """Yield the frames that are ready once this one is known."""
        self._source.push(frame)
        return self._ready()

    def rest(self) -> Iterator[Any]:
        """Yield what is left."""
        self._source.push(None)
        return self._ready()

    def _ready(self) -> Iterator[Any]:
        while True:
            try:
                yield self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
