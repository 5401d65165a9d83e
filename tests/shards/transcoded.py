"""Films encoded anew: at another size, with another codec, or in part."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_RATE = 48_000


def transcode(
    source: Path,
    path: Path,
    *,
    size: tuple[int, int],
    begin: float = 0.0,
    audio_codec: str = "aac",
    audio_rate: int = 64_000,
) -> Path:
    """Encode the film `source` anew from `begin` seconds on, with `audio_rate` bits of sound a second."""
    frames, samples, fps = _decoded(source, begin)
    with av.open(str(path), "w") as out:
        video = out.add_stream("h264", rate=fps)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.options = {"crf": "32"}
        audio = out.add_stream(audio_codec, rate=_RATE, layout="mono")
        assert isinstance(audio, av.AudioStream)
        audio.bit_rate = audio_rate
        for number, frame in enumerate(frames):
            frame = frame.reformat(*size, format="yuv420p")
            frame.pts, frame.time_base = number, 1 / fps
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for at in range(0, len(samples), 1152):
            sound = av.AudioFrame.from_ndarray(samples[None, at : at + 1152], format="flt", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = _RATE, at, Fraction(1, _RATE)
            out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    return path


def _decoded(source: Path, begin: float) -> tuple[list[av.VideoFrame], np.ndarray, Fraction]:
    with av.open(str(source)) as film:
        fps = film.streams.video[0].average_rate
        assert fps is not None
        frames = [frame for frame in film.decode(video=0) if frame.time is not None and frame.time >= begin]
    with av.open(str(source)) as film:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
        parts = [part.to_ndarray()[0] for frame in film.decode(audio=0) for part in resampler.resample(frame)]
    return frames, np.concatenate(parts)[round(begin * _RATE) :].astype(np.float32), fps
