"""What is heard in a scene: voices at a random loudness, something in the distance, noise.

Audio is float32 in -1..1, mono; loudness is the root of the mean square, dB below full scale.
"""

from __future__ import annotations

import numpy as np

from shards.clip import Array

Random = np.random.Generator
_LOUDNESS, _SPREAD = -20.0, 6.0
"""dB: of a voice, and how far one may lie above or below."""
_AMBIENCE = (-36.0, -26.0)
"""dB, of what is heard in the distance."""
_NOISE = (-60.0, -40.0)
"""dB, of white noise."""


def voice(random: Random, recording: Array, samples: int) -> Array:
    """Return `samples` of a recording [t] from a random place, repeated if it is shorter, at its loudness."""
    room = len(recording) - samples
    start = int(random.integers(room + 1 if room >= 0 else len(recording)))
    cut = recording[(start + np.arange(samples)) % len(recording)]
    return cut * np.float32(_gain(cut, _LOUDNESS + random.uniform(-_SPREAD, _SPREAD)))


def mix(random: Random, voices: list[Array], ambience: Array | None, samples: int) -> Array:
    """Return the sum of voices [samples] each, of ambience and noise; scaled down rather than clipped."""
    sound = 10 ** (random.uniform(*_NOISE) / 20) * random.standard_normal(samples)
    if ambience is not None:
        bed = voice(random, ambience, samples)
        sound = sound + bed * _gain(bed, random.uniform(*_AMBIENCE))
    for each in voices:
        sound = sound + each
    return (sound / max(1.0, float(np.abs(sound).max()))).astype(np.float32)


def _gain(audio: Array, loudness: float) -> float:
    """Return the factor that brings `audio` to `loudness` in dB."""
    level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return 10 ** (loudness / 20) / max(level, 1e-4)
