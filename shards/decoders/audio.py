"""A stored sound (16-bit mono WAV, as every shard holds it) to a waveform: only the window is read."""

from __future__ import annotations

import io
import wave

import numpy as np

from cacl.errors import UserError
from shards.decoders.augmentation import Augmentation, ClipView

_HEADER_BYTES = 44
"""The shortest header of a WAV."""


def waveform(
    audio: bytes, augmentation: Augmentation, view: ClipView, seconds: float | None = None
) -> np.ndarray:
    """Return the window of a stored sound, [T] float32 in -1..1.

    A longer sound gives the window that starts at `view.start` of what it leaves free (0.5 = the middle), a
    shorter one is tiled, as the field does. `seconds` is how much of the stored sound is no repetition by the
    packer; None is all of it. Raises UserError at another sample rate, and ValueError,
    wave.Error or EOFError where the sound is broken.
    """
    with wave.open(io.BytesIO(audio)) as file:
        if file.getframerate() != augmentation.sample_rate:
            raise UserError(
                f"augmentation.sample_rate: {augmentation.sample_rate} Hz are asked for, but the stored "
                f"sound has {file.getframerate()} Hz; set it so, or pack at {augmentation.sample_rate} Hz"
            )
        if (file.getsampwidth(), file.getnchannels()) != (2, 1):
            raise ValueError(
                f"{file.getnchannels()} channels of {8 * file.getsampwidth()} bits; 16-bit mono is read"
            )
        length = file.getnframes()
        if not 0 < 2 * length <= len(audio) - _HEADER_BYTES:
            raise ValueError(f"the header names {length} samples of sound, {len(audio)} bytes are there")
        if seconds is not None:
            length = min(length, max(round(seconds * augmentation.sample_rate), 1))
        room = max(length - augmentation.samples, 0)
        file.setpos(min(int(view.start * (room + 1)), room))
        stored = np.frombuffer(file.readframes(min(augmentation.samples, length)), "<i2")
    samples = stored.astype(np.float32) / 32768
    return samples if len(samples) == augmentation.samples else np.resize(samples, augmentation.samples)
