"""Scenes: a background, one object that is heard, and silent objects of other classes.

The pixels of every object are known exactly, for they are painted here and never overlap. What differs
between `stamps` and `generated` is only where objects and backgrounds come from: the `Bank`.

Axes: `S` pixels of the frame's side, `T` samples of sound.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from cacl.annotation import OTHER_SOUND, SoundSource
from cacl.errors import UserError
from shards.clip import SCENE, Array, Clip, Storage
from shards.scenes.paint import tight_box
from shards.scenes.place import place
from shards.sources.base import Source

VERSION = 1
"""Raised whenever the same options would give other scenes."""

Random = np.random.Generator
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Level:
    """How hard the training clips are. Test clips are the same at every level."""

    alone: float
    """Share of the training clips that show the sounding object only."""
    silent: tuple[int, int]
    """Fewest and most silent objects in the others."""
    same_size: bool
    """Whether silent objects are as large as the sounding one."""
    speed: float = 0.0
    """Recordings play up to exp(speed) times faster or slower, pitch and all."""
    noise: tuple[float, float] = (-40.0, -20.0)
    """Loudness of noise in the sound, dB over the recording's."""
    beneath: tuple[float, float] | None = None
    """Loudness of another object's recording beneath the sound, dB over the first's; None has none."""
    families: bool = False
    """Whether objects of a kind (a cow and a white cow) are one class."""


LEVELS = {
    "easy": Level(alone=1 / 3, silent=(1, 2), same_size=False),
    "two-object": Level(alone=0.0, silent=(1, 1), same_size=True),
    "middle": Level(
        alone=0.2,
        silent=(1, 2),
        same_size=False,
        speed=0.15,
        noise=(-30.0, -10.0),
        beneath=(-15.0, -9.0),
        families=True,
    ),
    "hard": Level(
        alone=0.0,
        silent=(1, 3),
        same_size=True,
        speed=0.25,
        noise=(-20.0, -5.0),
        beneath=(-12.0, -6.0),
        families=True,
    ),
}
LevelName = Literal["easy", "two-object", "middle", "hard"]


class Object(NamedTuple):
    """Something that can be seen and heard."""

    class_name: str
    voice: str
    """Names the recording: objects of one voice cannot be told apart by ear, and never meet."""
    picture: Array
    """[h, w, 4] uint8, RGB and alpha."""
    audio: Array
    """[t] int16, any length, at the storage's rate."""
    family: str
    """Names objects of a kind, which are one class at some levels."""


class Bank(Protocol):
    """Objects, and backgrounds that training and test do not share."""

    objects: list[Object]

    def background(self, random: Random, split: Split, side: int) -> Array:
        """Return a random background, [S, S, 3] uint8."""
        ...


class PaintedObject(NamedTuple):
    """An object in the frame."""

    object: Object
    mask: Array
    """[S, S] bool."""

    def source(self, audible: bool = True, audio: str = "") -> SoundSource:
        """Return what is known of it; `audio` is the member that plays it alone."""
        box = tight_box(self.mask)
        assert box is not None  # an object has eight pixels at least a side
        return SoundSource(self.object.class_name, (box,), self.mask, audible=audible, audio=audio)


@dataclass(frozen=True)
class SceneOptions(Source):
    """What may be set of scenes."""

    storage: Storage = SCENE
    split: Split = field(default="train", metadata={"help": "which half of the backgrounds"})
    clips: int = field(default=0, metadata={"help": "how many clips; 0: 3000 for train, 400 for test"})
    seed: int = field(default=0, metadata={"help": "of the random streams"})
    level: LevelName = field(default="easy", metadata={"help": "how hard the training clips are"})

    def check(self) -> None:
        """Raise UserError for options that give no scenes."""
        if not 0 <= self.clips < 10**6 or self.seed < 0:
            raise UserError(f"{self.name}: --clips must lie in 0..999999 and --seed must not be negative")


@dataclass(frozen=True)
class Scenes(SceneOptions):
    """Clips made of a bank's objects and backgrounds; each has a random stream of its own."""

    @abstractmethod
    def bank(self) -> Bank:
        """Return the objects and backgrounds, loaded once a process."""

    def ids(self) -> list[str]:
        """Return `train-000000` and so on."""
        self.check()
        self.bank()
        count = self.clips or {"train": 3000, "test": 400}[self.split]
        return [f"{self.split}-{number:06d}" for number in range(count)]

    def parameters(self) -> dict[str, Any]:
        """Return the options and the generator's version."""
        return {**super().parameters(), "generator_version": VERSION}

    def read(self, id: str) -> Clip:
        """Paint the scene and mix the sound of one clip."""
        stream = {"train": 0, "test": 1}[self.split]
        random = np.random.default_rng([VERSION, self.seed, stream, int(id.rpartition("-")[2])])
        bank, side = self.bank(), self.storage.frame_side
        frame = bank.background(random, self.split, side).copy()
        level = LEVELS[self.level]
        objects = (
            [each._replace(class_name=each.family) for each in bank.objects]
            if level.families
            else bank.objects
        )
        painted = _paint(frame, *_cast(random, objects, self.split, level), random)
        first = painted[0]
        if self.split == "train":
            audio = _hear(random, first.object, objects, level, self.storage.samples)
            silent = [replace(each.source(audible=False), mask=None) for each in painted[1:]]
            return Clip(id, frame, audio, (first.source(), *silent))
        audio = mix(random, first.object.audio, self.storage.samples)
        other = painted[1]
        sounds = {OTHER_SOUND: mix(random, other.object.audio, self.storage.samples)}
        return Clip(id, frame, audio, (first.source(), other.source(False, OTHER_SOUND)), sounds)


def _cast(random: Random, bank: list[Object], split: Split, level: Level) -> tuple[list[Object], Array]:
    """Choose objects, the sounding one first, and their sizes: the root of the area over the frame's side."""
    sounding = bank[random.integers(len(bank))]
    others = [
        each for each in bank if each.voice != sounding.voice and each.class_name != sounding.class_name
    ]
    if split == "test":
        count, same_size = 1, True
    else:
        alone = random.random() < level.alone
        count = 0 if alone else int(random.integers(level.silent[0], level.silent[1] + 1))
        same_size = level.same_size
    silent = [others[k] for k in random.choice(len(others), size=count, replace=False)]
    size = random.uniform(0.3, 0.48)
    sizes = size * random.uniform(0.9, 1.1, count) if same_size else random.uniform(0.22, 0.45, count)
    return [sounding, *silent], np.array([size, *sizes])


def _paint(frame: Array, objects: list[Object], sizes: Array, random: Random) -> list[PaintedObject]:
    """Paint objects into `frame` where no two boxes meet."""
    mirrored = random.random(len(objects)) < 0.5
    shapes = [(each.picture.shape[1], each.picture.shape[0]) for each in objects]
    extents, corners = place(shapes, sizes, len(frame), random)
    painted = []
    for each, extent, corner, flip in zip(objects, extents, corners, mirrored, strict=True):
        picture = each.picture[:, ::-1] if flip else each.picture
        painted.append(PaintedObject(each, _blend(frame, picture, extent, corner)))
    return painted


def _blend(frame: Array, picture: Array, extent: tuple[int, int], corner: tuple[int, int]) -> Array:
    """Paint `picture` into `frame` at `corner` and return its mask, [S, S] bool: half opaque and more."""
    resized = np.asarray(Image.fromarray(picture).resize(extent, Image.Resampling.LANCZOS), dtype=np.int32)
    (x, y), (width, height) = corner, extent
    under = frame[y : y + height, x : x + width]
    alpha = resized[..., 3:]
    under[:] = (resized[..., :3] * alpha + under * (255 - alpha) + 127) // 255
    mask = np.zeros(frame.shape[:2], bool)
    mask[y : y + height, x : x + width] = alpha[..., 0] * 2 > min(255, int(alpha.max()))
    return mask


def _hear(random: Random, sounding: Object, bank: list[Object], level: Level, samples: int) -> Array:
    """Return what is heard in a training clip of this level, [T] float32."""
    recording = _at_speed(random, sounding.audio, level.speed)
    audio = mix(random, recording, samples, level.noise)
    if level.beneath is None:
        return audio
    others = [
        each for each in bank if each.voice != sounding.voice and each.class_name != sounding.class_name
    ]
    other = _at_speed(random, others[random.integers(len(others))].audio, level.speed)
    gain = 10 ** (random.uniform(*level.beneath) / 20)
    return np.clip(audio + gain * mix(random, other, samples, level.noise), -1, 1).astype(np.float32)


def _at_speed(random: Random, recording: Array, most: float) -> Array:
    """Return the recording [t] int16 played faster or slower by up to exp(most), pitch and all."""
    if most == 0.0:
        return recording
    speed = float(np.exp(random.uniform(-most, most)))
    places = np.arange(0.0, len(recording) - 1, speed)
    return np.interp(places, np.arange(len(recording)), recording.astype(np.float64)).astype(np.int16)


def mix(
    random: Random, recording: Array, samples: int, noise_range: tuple[float, float] = (-40.0, -20.0)
) -> Array:
    """Return `samples` of the recording [t] int16, repeated from a random offset, at a random gain, in noise.

    The recording's loudness is brought to -20 dB, the gain lies within 6 dB of it, noise in `noise_range` dB.
    """
    audio = recording.astype(np.float64) / 32768
    start = int(random.integers(len(audio)))
    repeated = audio[(start + np.arange(samples)) % len(audio)]
    loudness = max(float(np.sqrt(np.mean(np.square(audio)))), 1e-4)
    gain = 0.1 / loudness * 10 ** (random.uniform(-6, 6) / 20)
    noise = 0.1 * 10 ** (random.uniform(*noise_range) / 20) * random.standard_normal(samples)
    return np.clip(repeated * gain + noise, -1, 1).astype(np.float32)
