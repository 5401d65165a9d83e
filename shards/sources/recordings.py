"""Recordings of every kind that libsndfile or FFmpeg reads, decoded whole or a reason why not."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from cacl.media.tracks import frames_in, sound_track
from shards.clip import Array, Storage
from shards.sources.media import ALONE, BrokenMedia, Needs, Recording, explain, fit_audio, read_bytes
from shards.sources.moments import SoundPart

DECODED = 4
"""Times the stored length, how much of a recording is decoded; its channels and peaks are judged by that."""
_TRUNCATED = 0.5
"""Seconds that may lack against what a container announces."""
_EXACT = ("mp4", "matroska", "asf")
"""Containers whose headers say how long they are; of others FFmpeg guesses."""


def read_audio(path: Path, storage: Storage, needs: Needs, middle: float | None = None) -> Recording:
    """Return the recording in a file, mono at the storage's rate and length.

    Of a longer one what lies around `middle`, in seconds, without leaving it; None: what comes first. Raises
    BrokenMedia when it is damaged, not finite, or has not what it `needs`.
    """
    return decode_audio(read_bytes(path), storage, needs, middle)


def decode_audio(data: bytes, storage: Storage, needs: Needs, middle: float | None = None) -> Recording:
    """Return the recording in a file's bytes as `read_audio` does."""
    seconds = storage.seconds * (DECODED if middle is None else 1)
    return fit_audio(*decode_samples(data, seconds, middle), storage, needs)


def decode_samples(data: bytes, seconds: float, middle: float | None = None) -> tuple[Array, int]:
    """Return `seconds` of a recording, [t, channels] float32, and its rate in Hz.

    They are the first ones, or lie around `middle` as those of `read_audio`; what libsndfile reads, else
    the track of a film. Raises BrokenMedia.
    """
    import soundfile

    if not data:
        raise BrokenMedia("empty: zero bytes")
    _refuse_truncated(data)
    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        return _part_of_track(data, seconds, middle, f"undecodable sound: {explain(error)}")
    with file:
        rate, expected = file.samplerate, file.frames
        limit = round(seconds * rate)
        try:
            if middle is not None:
                begin = round((middle - seconds / 2) * rate)
                expected -= file.seek(max(0, min(begin, expected - limit)))
            audio = file.read(min(expected, limit), dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError, MemoryError) as error:
            raise BrokenMedia(f"undecodable sound: {explain(error)}") from None
        # How long an MP3 is stands nowhere in it: libsndfile guesses.
        if len(audio) < min(expected, limit) and file.format != "MP3":
            raise BrokenMedia(f"truncated sound: {len(audio)} of {expected} samples")
    return audio, rate


def _part_of_track(data: bytes, seconds: float, middle: float | None, reason: str) -> tuple[Array, int]:
    if middle is None:
        return _track(data, seconds, reason)
    audio, rate = _track(data, middle + seconds, reason)
    length = round(seconds * rate)
    begin = max(0, min(round((middle - seconds / 2) * rate), len(audio) - length))
    return audio[begin : begin + length], rate


def _track(data: bytes, seconds: float, reason: str) -> tuple[Array, int]:
    """Return the first `seconds` of the track that a player plays, [t, channels], and its rate.

    Raises BrokenMedia: with `reason` where there is none.
    """
    import av

    try:
        file = av.open(io.BytesIO(data), "r", metadata_errors="ignore", options=ALONE)
    except (av.FFmpegError, ValueError, MemoryError, EOFError):
        raise BrokenMedia(reason) from None
    with file:
        track = sound_track(file)
        if track is None:
            raise BrokenMedia(reason)
        part = SoundPart(0.0, seconds, (file.start_time or 0) / 1e6)
        try:
            for packet in file.demux(track):
                for frame in frames_in(packet):
                    part.add(frame)
                if part.complete:
                    break
        except (av.FFmpegError, ValueError, OverflowError, MemoryError, EOFError) as error:
            raise BrokenMedia(f"undecodable sound: {explain(error)}") from None
        audio, rate = part.result()
        announced = (file.duration or 0) / 1e6 if any(kind in file.format.name for kind in _EXACT) else 0.0
    if len(audio) / rate < min(announced, seconds) - _TRUNCATED:
        raise BrokenMedia(f"truncated sound: {len(audio) / rate:.2f} s of {announced:.2f} s")
    return audio, rate


def _refuse_truncated(data: bytes) -> None:
    """Raise BrokenMedia when a WAV's data chunk is longer than its file, which libsndfile passes over."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        # Recorders that write to a pipe leave the greatest size there is.
        if name == b"data" and size < 2**31 - 2**16 and at + 8 + size > len(data):
            raise BrokenMedia(f"truncated sound: {len(data) - at - 8} of {size} bytes")
        at += 8 + size + size % 2
