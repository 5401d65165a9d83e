"""Films that tell the time: the picture by a bar, the sound by its pitch; with odd clocks, tracks and matrices."""

from __future__ import annotations

import io
import struct
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

RATE = 16000
SPAN = 16.0
"""Seconds for which the bar goes from left to right, and the pitch from 200 to 3400 Hz."""
WIDTH, HEIGHT = 160, 64


def picture(time: float) -> np.ndarray:
    """Return [h, w, 3] uint8 with a bar at `time`."""
    pixels = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    at = round(time / SPAN * WIDTH)
    pixels[:, max(0, at - 2) : at + 2] = 230
    return pixels


def told_by(frame: np.ndarray) -> float:
    """Return the time that a picture tells, in seconds."""
    columns = frame.mean(axis=(0, 2))
    return float(np.flatnonzero(columns > 0.7 * columns.max()).mean() / len(columns) * SPAN)


def sound(seconds: float, start: float = 0.0) -> np.ndarray:
    """Return [T] float32 that tells the time from `start` on."""
    time = start + np.arange(round(seconds * RATE)) / RATE
    return (0.4 * np.sin(2 * np.pi * (200 * time + 100 * time**2))).astype(np.float32)


def heard_at(audio: np.ndarray, time: float, span: float = 0.2) -> float | None:
    """Return the time that a sound tells around `time`; None where it is silent."""
    part = audio[round((time - span / 2) * RATE) :][: round(span * RATE)]
    if np.abs(part).max() < 1e-2:
        return None
    size = 1 << 16
    pitch = np.abs(np.fft.rfft(part * np.hanning(len(part)), size)).argmax() * RATE / size
    return float((pitch - 200) / 200)


def every(start: float, end: float, fps: int = 25) -> list[float]:
    """Return the times of frames from `start` to `end`."""
    return [k / fps for k in range(round(start * fps), round(end * fps))]


def timed(
    path: Path,
    times: Iterable[float],
    seconds: float,
    *,
    hole: tuple[float, float] = (0, 0),
    gop: int = 25,
    codecs: tuple[str, str] = ("libx264", "pcm_s16le"),
    options: dict[str, str] | None = None,
    channels: tuple[float, ...] = (1.0,),
    late: float = 0.0,
) -> Path:
    """Encode a film with pictures at `times`, and `seconds` of sound from `late` on but for a `hole`.

    `channels` are the factors by which each channel has the sound.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clock, (video_codec, audio_codec) = Fraction(1, 1000), codecs
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    with av.open(str(path), "w") as film:
        video: Any = film.add_stream(video_codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base, video.codec_context.gop_size = clock, gop
        audio: Any = film.add_stream(audio_codec, rate=RATE, layout=layout)
        packets: list[Any] = []
        for time in times:
            frame = av.VideoFrame.from_ndarray(picture(time), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), clock
            packets += video.encode(frame)
        packets += video.encode(None)
        samples = sound(seconds, late)
        kind = audio.codec_context.format.name
        for at in range(0, len(samples), 1024):
            if not hole[0] <= late + at / RATE < hole[1]:
                part = np.stack([samples[at : at + 1024] * factor for factor in channels])
                packets += audio.encode(_frame(part, kind, layout, at + round(late * RATE)))
        packets += audio.encode(None)
        film.mux(sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)))
    return path


def _frame(part: np.ndarray, kind: str, layout: str, pts: int) -> av.AudioFrame:
    if kind.startswith("s16"):
        part = np.rint(part * 32767).astype(np.int16)
    if not kind.endswith("p"):
        part = part.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format=kind, layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = RATE, pts, Fraction(1, RATE)
    return frame


def ffmpeg(*words: object) -> bytes:
    """Run FFmpeg, which others wrote, and return what it prints."""
    command = ["ffmpeg", "-nostdin", "-y", "-v", "error", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def ffmpegs_frame(path: Path, at: float | None = None) -> np.ndarray:
    """Return the frame that FFmpeg gives as a PNG, [h, w, 3] uint8."""
    where = [] if at is None else ["-ss", at]
    png = ffmpeg(*where, "-i", path, "-frames:v", 1, "-c:v", "png", "-f", "image2pipe", "-")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def with_matrix(path: Path, matrix: tuple[float, ...]) -> Path:
    """Write (a, b, c, d) into the display matrix of an MP4's picture."""
    data = bytearray(path.read_bytes())
    a, b, c, d = (round(value * 65536) for value in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
