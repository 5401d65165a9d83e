"""One moment of a video: a frame and the sound around it, in one pass over the file, in this process.

Times are seconds from the file's beginning. The video is decoded up to the wanted frame only, and what no
later frame refers to is skipped on the way; the sound is decoded within its window only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shards.clip import Array, Storage
from shards.pictures import PIXEL_LIMIT
from shards.sources.media import BrokenMedia, Recording, explain, fit_audio, fit_frame, is_missing

if TYPE_CHECKING:
    from av.container import InputContainer

_STILL = 0.5
"""Mean difference of two frames in gray levels of 255, on 32×32 pixels, below which nothing has moved."""
_TRUNCATED = 0.5
"""Seconds that may lack at the end of a file against what its header announces."""
_CHANNEL_LIMIT = 64


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
    shortest: float
    """Seconds of sound that there must be."""


def read_video(path: Path, window: Window, storage: Storage) -> Moment:
    """Decode one moment of the video at `path`.

    Raises BrokenMedia for everything that is the file's fault, OSError when the storage fails.
    """
    import av

    with _File(path) as file:
        try:
            with av.open(file, "r", metadata_errors="ignore") as container:
                return _Pass(container, window, storage).run()
        # FFmpeg's errors are OSErrors and ValueErrors too; `file` knows which came from the storage.
        except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError) as error:
            if file.fault is not None:
                raise file.fault from None
            raise BrokenMedia(f"undecodable video: {explain(error)}") from None


class _File:
    """A file for FFmpeg to read, which remembers the storage's faults."""

    def __init__(self, path: Path) -> None:
        self.fault: OSError | None = None
        try:
            self._file = path.open("rb")
        except OSError as error:
            if not is_missing(error):
                raise
            raise BrokenMedia("missing: there is no such file") from None
        if not os.fstat(self._file.fileno()).st_size:
            self._file.close()
            raise BrokenMedia("empty: zero bytes")

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.fault = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Pass:
    """One pass over the packets of a container."""

    def __init__(self, container: InputContainer, window: Window, storage: Storage) -> None:
        self.container, self.storage, self.window = container, storage, window
        pictures = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
        if not pictures:
            raise BrokenMedia("no video: the file has no video stream")
        if not container.streams.audio:
            raise BrokenMedia("no sound: the file has no audio stream")
        self.video, self.audio_stream = pictures[0], container.streams.audio[0]
        if self.video.width * self.video.height > PIXEL_LIMIT:
            raise BrokenMedia(f"too large: {self.video.width}×{self.video.height} pixels")
        self.origin = (container.start_time or 0) / 1e6
        self.target = window.start + self._frame_at()
        self.end = window.start + window.seconds
        self.frames = _Frames(self.target, self.origin)
        self.audio = _Audio(window.start, window.seconds, self.origin)

    def _frame_at(self) -> float:
        if self.window.frame_at is not None:
            return self.window.frame_at
        there = (self.container.duration or 0) / 1e6 - self.window.start
        return max(0.0, min(there, self.window.seconds) / 2)

    def run(self) -> Moment:
        """Demultiplex until frame and sound are complete."""
        self.video.codec_context.thread_count = 1
        if self.window.start > 0:
            self.container.seek(int((self.window.start + self.origin) * 1e6))
        last = self.window.start
        # Fractions would cost as much as the sound's decoder.
        second = {stream.index: float(stream.time_base or 0) for stream in (self.video, self.audio_stream)}
        for packet in self.container.demux(self.video, self.audio_stream):
            time = None
            if packet.pts is not None:
                time = packet.pts * second[packet.stream_index] - self.origin
                last = max(last, time)
            if packet.stream is self.video and not self.frames.complete:
                self._decode_video(packet, time)
            elif packet.stream is self.audio_stream and not self.audio.complete:
                for samples in packet.decode():
                    self.audio.add(samples)
            if self.frames.complete and self.audio.complete:
                break
        else:
            self._refuse_truncated(last)
        frame, seconds = self.frames.result()
        recording = fit_audio(*self.audio.result(), self.storage, self.window.shortest)
        return Moment(fit_frame(frame, self.storage), recording, seconds)

    def _decode_video(self, packet: Any, time: float | None) -> None:
        if time is not None and time > self.end + 1 and self.frames.chosen is not None:
            self.frames.close()
            return
        before = time is not None and time < self.target - 1e-3
        # A frame to which no other refers need not be decoded where it is not wanted itself.
        self.video.codec_context.skip_frame = "NONREF" if before else "DEFAULT"
        for frame in packet.decode():
            self.frames.add(frame)

    def _refuse_truncated(self, last: float) -> None:
        """Raise BrokenMedia when the packets end, at `last` seconds, before the end that the header names."""
        announced = min((self.container.duration or 0) / 1e6, self.end)
        if last < announced - _TRUNCATED:
            raise BrokenMedia(f"truncated: the file ends at {last:.2f} s of {announced:.2f} s")


@dataclass
class _Frames:
    """The wanted frame, and whether anything moves before or after it."""

    target: float
    origin: float
    chosen: Any = None
    time: float = 0.0
    moves: bool = False
    closed: bool = False
    last: float = 0.0
    _first: Array | None = None
    _seen: int = 0

    @property
    def complete(self) -> bool:
        return self.closed or (self.chosen is not None and self.moves)

    def add(self, frame: Any) -> None:
        """Take the first frame at or after the target; compare with the first of all as long as need be."""
        time = self.last if frame.time is None else frame.time - self.origin
        self.last = time
        if self.chosen is None and time >= self.target - 1e-3:
            if frame.is_corrupt:
                raise BrokenMedia(f"undecodable video: the frame at {time:.2f} s is corrupt")
            self.chosen, self.time = frame, time
        self._seen += 1
        later = self.chosen is not None and self._seen % 5 == 1
        if not self.moves and (self._first is None or frame is self.chosen or later):
            small = frame.to_ndarray(format="gray", width=32, height=32).astype(np.float32)
            if self._first is None:
                self._first = small
            self.moves = bool(np.abs(small - self._first).mean() > _STILL)

    def close(self) -> None:
        """The window has ended."""
        self.closed = True

    def result(self) -> tuple[Array, float]:
        if self.chosen is None and self._seen == 0:
            raise BrokenMedia("undecodable video: it has no frame")
        if self.chosen is None:
            raise BrokenMedia(
                f"truncated video: no frame at {self.target:.2f} s, the last at {self.last:.2f} s"
            )
        if not self.moves:
            raise BrokenMedia(f"still frames: nothing moves up to {self.last:.2f} s")
        picture = self.chosen.to_ndarray(format="rgb24")
        turns = round(self.chosen.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(picture, turns)), self.time


@dataclass
class _Audio:
    """Samples within the window."""

    start: float
    seconds: float
    origin: float
    rate: int = 0
    first: float = 0.0
    count: int = 0
    parts: list[Array] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.rate > 0 and self.first + self.count / self.rate >= self.start + self.seconds

    def add(self, frame: Any) -> None:
        samples = _as_float(frame)
        if not self.parts:
            self.rate = frame.sample_rate
            self.first = 0.0 if frame.time is None else frame.time - self.origin
        elif frame.sample_rate != self.rate or samples.shape[1] != self.parts[0].shape[1]:
            raise BrokenMedia(f"wrong rate: it changes from {self.rate} to {frame.sample_rate} Hz")
        self.parts.append(samples)
        self.count += len(samples)

    def result(self) -> tuple[Array, int]:
        if not self.parts:
            raise BrokenMedia("undecodable sound: it has no sample")
        audio = np.concatenate(self.parts)
        offset = round((self.start - self.first) * self.rate)
        # Sound that sets in late stays in step with the frame.
        audio = audio[offset:] if offset >= 0 else np.pad(audio, ((-offset, 0), (0, 0)))
        return audio[: round(self.seconds * self.rate)], self.rate


def _as_float(frame: Any) -> Array:
    """Return a frame's samples, [t, channels] float32 in -1..1."""
    channels = frame.layout.nb_channels
    if not 1 <= channels <= _CHANNEL_LIMIT:
        raise BrokenMedia(f"undecodable sound: {channels} channels")
    samples: Array = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(-1, channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    return samples.astype(np.float32)


def video_files(root: Path) -> Iterator[Path]:
    """Yield every video under `root`."""
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            yield path


VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".ogv"}
)
