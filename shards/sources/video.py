"""One moment of a video: the frame that is shown then, and the sound around it, in this process.

Times are seconds from the file's beginning. As a rule one pass over the file does: the video is decoded up to
the wanted frame, and what no later frame refers to is skipped on the way; the sound is decoded within its
window. A seek that lands too late is made again from further back.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cacl.media.picture import as_shown, pixel_shape
from cacl.media.still import PIXEL_LIMIT
from cacl.media.tracks import frames_in, picture_track, sound_track
from shards.clip import Array, Storage
from shards.sources.media import (
    ALONE,
    BrokenMedia,
    Needs,
    Recording,
    explain,
    fit_audio,
    fit_frame,
    is_missing,
)
from shards.sources.moments import Motion, ShownFrame, SoundPart

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

_TRUNCATED = 0.5
"""Seconds that may lack at the end of a file against what its header announces."""
_SETTLING = 0.5
"""Seconds before a part from which on it is decoded: filters of sound need a packet or two."""
_STEPS = (4.0, 32.0)
"""Seconds before that to which a seek goes back where it landed late; after them, the file's beginning."""
_NEAR = 0.5
"""Seconds before the wanted frame in which every frame is decoded."""


class Moment(NamedTuple):
    """What is kept of a video."""

    frame: Array
    """[S, S', 3] uint8."""
    recording: Recording
    frame_seconds: float | None = None
    """When the frame is shown, in the file's time; None where it is no video."""


@dataclass(frozen=True)
class Window:
    """Which part of a video is wanted."""

    start: float
    """Seconds."""
    seconds: float
    frame_at: float | None
    """Seconds after `start`; None: the middle of what there is."""
    needs: Needs


def read_video(film: Path | bytes, window: Window, storage: Storage) -> Moment:
    """Decode one moment of a video: the file at a path, or its content.

    Raises BrokenMedia for everything that is the file's fault, OSError when the storage fails.
    """
    import av

    with FilmFile(film) as file:
        try:
            return _read(file, window, storage)
        # FFmpeg's errors are OSErrors and ValueErrors too; `file` knows which came from the storage.
        except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError) as error:
            if file.fault is not None:
                raise file.fault from None
            raise BrokenMedia(f"undecodable video: {explain(error)}") from None


def _read(file: FilmFile, window: Window, storage: Storage) -> Moment:
    """Pass over the file, again from further back as long as the wanted moment was not met."""
    import av

    begins, skipping, length = _begins(window.start), True, None
    begin = next(begins)
    while True:
        with open_film(file) as container:
            if length is None and window.frame_at is None and not container.duration:
                length = _measured(container, window.start + window.seconds)
                continue
            length = length or (container.duration or 0) / 1e6
            found = _Pass(container, window, length, skipping)
            try:
                found.run(begin)
            except av.FFmpegError:
                # A decoder that begins in the middle may want what came before.
                if begin is None or file.fault is not None:
                    raise
                begin = next(begins)
                continue
            if skipping and found.frame.passed_over:
                skipping = False
            elif begin is not None and found.late:
                begin = next(begins)
            else:
                return found.moment(storage)


def _begins(start: float) -> Iterator[float | None]:
    """Yield where to begin with a part, in seconds, further and further back; None: at the beginning."""
    yield from (begin for step in (_SETTLING, *_STEPS) if (begin := start - step) > 0)
    yield None


def open_film(file: FilmFile) -> InputContainer:
    """Open a film from its beginning. Raises what PyAV raises."""
    import av

    file.seek(0)
    return av.open(file, "r", metadata_errors="ignore", options=ALONE)


def _measured(container: InputContainer, enough: float) -> float:
    """Return how long a film is that does not say it, in seconds; no more than is `enough` needs be read."""
    origin, length = (container.start_time or 0) / 1e6, 0.0
    for packet in container.demux(*container.streams.video, *container.streams.audio):
        length = max(length, _end(packet) - origin)
        if length >= enough:
            break
    return length


def _end(packet: Packet) -> float:
    """Return when what is in a packet ends, in seconds on the file's clock; -inf where it has no time."""
    if packet.pts is None or packet.time_base is None:
        return -math.inf
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


class FilmFile:
    """A file for FFmpeg to read, which remembers the storage's faults."""

    def __init__(self, film: Path | bytes) -> None:
        self.fault: OSError | None = None
        self._file: BinaryIO
        if isinstance(film, bytes):
            self._file = io.BytesIO(film)
            if not film:
                raise BrokenMedia("empty: zero bytes")
            return
        try:
            self._file = film.open("rb")
        except OSError as error:
            if not is_missing(error):
                raise
            raise BrokenMedia("missing: there is no such file") from None
        if not os.fstat(self._file.fileno()).st_size:
            self._file.close()
            raise BrokenMedia("empty: zero bytes")

    def read(self, size: int) -> bytes:
        """Return the next bytes. Raises OSError, and remembers it."""
        try:
            return self._file.read(size)
        except OSError as error:
            self.fault = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._file.tell()

    def __enter__(self) -> FilmFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Pass:
    """One pass over the packets of a container."""

    def __init__(self, container: InputContainer, window: Window, length: float, skipping: bool) -> None:
        """`length` of the film in seconds, 0 where that is not known."""
        self.container, self.window, self.length, self.skipping = container, window, length, skipping
        self.video, self.audio = film_tracks(container)
        self.origin = (container.start_time or 0) / 1e6
        there = max(0.0, min(length - window.start, window.seconds))
        frame_at = there / 2 if window.frame_at is None else window.frame_at
        self.end = window.start + window.seconds
        self.frame = ShownFrame(window.start + frame_at, self.origin)
        self.sound = SoundPart(window.start, window.seconds, self.origin)
        self.motion = Motion()
        self.watching = window.needs.moving
        self.begun = self.over = window.start
        """When the latest packet begins and ends, seconds."""
        self.whole = False
        """Whether there are no more."""

    @property
    def late(self) -> bool:
        """Whether the pass began after what is wanted."""
        return self.frame.late or self.sound.late

    def run(self, begin: float | None) -> None:
        """Demultiplex from `begin` (seconds; None: the beginning) until frame and sound are complete."""
        self.video.codec_context.thread_count = 1
        if begin is not None:
            self.container.seek(int((begin + self.origin) * 1e6))
        # Fractions would cost as much as the sound's decoder.
        second = {stream.index: float(stream.time_base or 0) for stream in (self.video, self.audio)}
        for packet in self.container.demux(self.video, self.audio):
            time = None
            if packet.pts is not None:
                time = packet.pts * second[packet.stream_index] - self.origin
                self.begun = max(self.begun, time)
                self.over = max(self.over, time + (packet.duration or 0) * second[packet.stream_index])
            if packet.stream is self.video:
                self._decode_video(packet, time)
            elif not self.sound.complete:
                for samples in frames_in(packet):
                    self.sound.add(samples)
            if self.frame.passed and not self.watching and self.sound.complete:
                return
        self.whole = True

    def _decode_video(self, packet: Any, time: float | None) -> None:
        if self.frame.passed and time is not None and time > self.end + 1:
            self.watching = False
        if self.frame.passed and not self.watching:
            return
        # A frame to which no other refers need not be decoded where it is not wanted itself.
        early = time is not None and time < self.frame.target - _NEAR
        skip = early and self.skipping and not self.watching
        self.video.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"
        if skip and time is not None and not packet.is_discard:
            self.frame.skipped = max(self.frame.skipped, time)
        for frame in frames_in(packet):
            self.frame.add(frame)
            if self.watching and self.frame.last >= self.window.start:
                self.motion.add(frame)
                self.watching = not self.motion.seen

    def moment(self, storage: Storage) -> Moment:
        """Return what was found. Raises BrokenMedia where it is not all there."""
        announced = min(self.length, self.end)
        if self.whole and self.begun < announced - _TRUNCATED:
            raise BrokenMedia(f"truncated: the file ends at {self.begun:.2f} s of {announced:.2f} s")
        frame = self.frame.result(self.over)
        recording = fit_audio(*self.sound.result(), storage, self.window.needs)
        if self.window.needs.moving and not self.motion.seen:
            raise BrokenMedia(f"still frames: nothing moves up to {self.frame.last:.2f} s")
        picture = as_shown(frame, pixel_shape(self.video))
        return Moment(fit_frame(picture, storage), recording, self.frame.time)


def film_tracks(container: InputContainer) -> tuple[Any, Any]:
    """Return the tracks that a player shows and plays. Raises BrokenMedia where one is missing or huge."""
    video, audio = picture_track(container), sound_track(container)
    if video is None:
        raise BrokenMedia("no video: the file has no video stream")
    if audio is None:
        raise BrokenMedia("no sound: the file has no audio stream")
    if video.width * video.height > PIXEL_LIMIT:
        raise BrokenMedia(f"too large: {video.width}×{video.height} pixels")
    return video, audio
