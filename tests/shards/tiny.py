"""A few real clips (JPEG, WAV, JSON, PNG bytes) behind the interface that decoding asks of a store."""

from __future__ import annotations

import io
import json
import wave
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from cacl.annotation import Annotation
from cacl.types import Batch


@dataclass
class TinyStore:
    clips: dict[int, dict[str, bytes]]
    shard_size: int = 7
    reads: list[int] = field(default_factory=list)
    announced: list[np.ndarray] = field(default_factory=list)

    @property
    def indices(self) -> np.ndarray:
        return np.array(sorted(self.clips), dtype=np.int64)

    @property
    def shards(self) -> list[np.ndarray]:
        numbers = self.indices // self.shard_size
        return [self.indices[numbers == number] for number in range(numbers.max() + 1)]

    def read(self, index: int) -> dict[str, bytes]:
        self.reads.append(index)
        return self.clips[index]

    def prefetch(self, indices: np.ndarray) -> None:
        self.announced.append(indices)

    def where(self, index: int) -> str:
        return f"tiny/shard-{index // self.shard_size:06d}.tar: {index:09d}"


def tiny_store(indices=range(40), *, height=48, width=64, seconds=0.5, rate=1000) -> TinyStore:
    return TinyStore({index: clip(index, height, width, seconds, rate) for index in indices})


def clip(index: int, height: int, width: int, seconds: float, rate: int) -> dict[str, bytes]:
    random = np.random.default_rng(index)
    mask = np.zeros((height, width), np.uint8)
    mask[:10, :20] = 255
    annotation = {"index": index, "id": f"clip{index}", "boxes": [[0, 0, 20 / width, 10 / height]]}
    return {
        "jpg": jpg(smooth_picture(random, height, width)),
        "wav": wav(random.normal(0, 0.1, int(seconds * rate)), rate),
        "other.wav": wav(random.normal(0, 0.1, int(seconds * rate)), rate),
        "json": json.dumps(annotation).encode(),
        "mask.png": _image(mask, "PNG"),
    }


def smooth_picture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[H, W, 3] uint8: colored gradients and blobs, as photographs have no pixel noise."""
    small = random.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def jpg(pixels: np.ndarray, quality: int = 92) -> bytes:
    return _image(pixels, "JPEG", quality=quality)


def wav(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _image(pixels: np.ndarray, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def notes_of(batch: Batch) -> list[Annotation]:
    """The annotations of a batch that is decoded for an evaluation."""
    assert batch.annotations is not None, "the batch was decoded without annotations"
    return batch.annotations
