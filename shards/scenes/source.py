"""Scenes as a source: `cacl pack scenes`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from cacl.annotation import OTHER_SOUND, SoundSource
from cacl.errors import UserError
from shards.clip import SCENE, Array, Clip, Rejection, Storage
from shards.scenes.cast import Cast, Wish, check_wish, draw_cast, draw_one
from shards.scenes.collections import Instance, Split
from shards.scenes.paint import Stuff, paint, tight_box
from shards.scenes.paste import NATURAL, PLAIN
from shards.scenes.sound import mix, voice
from shards.scenes.world import Material, World, open_world
from shards.sources.base import Source
from shards.sources.media import BrokenMedia

VERSION = 1
"""Raised whenever the same options would give other scenes."""
_STREAMS: dict[Split, int] = {"train": 0, "test": 1, "validation": 2}
_DEFAULT_CLIPS: dict[Split, int] = {"train": 3000, "test": 400, "validation": 240}
_CAST, _FRAME, _SOUND = 0, 1, 2
"""Keep the draws of one scene apart: who is in it can be known without painting it."""


@dataclass(frozen=True)
class Collections(Source):
    """What scenes are made of."""

    storage: Storage = SCENE
    objects: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "cut-out pictures: folders of <class>/*.png, coco:IMAGES,FILE, stamps, debian, varied",
            "required": True,
        },
    )
    sounds: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "recordings: folders of <class>/*, esc50:DIR, vggsound:SHARDS, stamps, debian, varied",
            "required": True,
        },
    )
    backgrounds: tuple[str, ...] = field(
        default=("debian",),
        metadata={"help": "folders of photographs, coco:IMAGES,FILE, wallpapers, debian (default), varied"},
    )
    split: Split = field(default="train", metadata={"help": "whose pictures, recordings and photographs"})
    seed: int = field(default=0, metadata={"help": "of the random streams"})
    least_originals: int = field(
        default=1, metadata={"help": "how many originals a class must have, of pictures and of recordings"}
    )
    most_originals: int = field(
        default=0, metadata={"help": "how many originals of a class this split uses; 0: all it has"}
    )

    def world(self) -> World:
        """Return what there is, opened once a process. Raises UserError."""
        return open_world(self.objects, self.sounds, self.backgrounds)

    @property
    def material(self) -> Material:
        """What the split makes its scenes of."""
        return self.world().material(self.split, self.least_originals, self.most_originals)

    def parameters(self) -> dict[str, Any]:
        """Return the options, what the collections are and the generator's version."""
        return {**super().parameters(), **self.world().identity(), "generator_version": VERSION}


@dataclass(frozen=True)
class Scenes(Wish, Collections):
    """Cut-out pictures pasted on photographs, any of them heard, with exact masks."""

    name: ClassVar[str] = "scenes"

    clips: int = field(
        default=0, metadata={"help": "how many scenes; 0: 3000 train, 400 test, 240 validation"}
    )
    clutter: int = field(
        default=8, metadata={"help": "most pieces of other photographs put behind the objects"}
    )
    pasting: Literal["natural", "plain"] = field(
        default="natural", metadata={"help": "plain: hard edges, nothing matched"}
    )

    def ids(self) -> list[str]:
        """Return `train-000000`, or `train-000000-0` and so on for the clips of one frame."""
        if not 0 <= self.clips < 10**6 or self.seed < 0 or not 0 <= self.clutter <= 100:
            raise UserError(
                f"{self.name}: --clips must lie in 0..999999, --clutter in 0..100, --seed at 0 or above"
            )
        check_wish(self, self.material)
        names = [f"{self.split}-{k:06d}" for k in range(self.clips or _DEFAULT_CLIPS[self.split])]
        if not self.clip_per_object:
            return names
        return [
            f"{name}-{k}" for number, name in enumerate(names) for k in range(len(self.cast_of(number).heard))
        ]

    def group(self, id: str) -> str:
        """Return the scene, whose clips stay on one side of a cut."""
        return "-".join(id.split("-")[:2])

    def cast_of(self, number: int) -> Cast:
        """Return who is in scene `number`."""
        return draw_cast(self.random(number, _CAST), self.material, self)

    def read(self, id: str) -> Clip | Rejection:
        """Paint the frame and mix the sound of one clip."""
        number, clip = int(id.split("-")[1]), int(id.split("-")[2]) if self.clip_per_object else 0
        cast = self.cast_of(number)
        heard = cast.heard[clip]
        try:
            frame, masks = self._frame(number, cast)
            audio = self._sound(number, clip, [*_voices(cast, heard), *filter(None, [cast.off_screen])])
            other = self._other(cast, heard)
            sounds = {} if other is None else {OTHER_SOUND: self._sound(number, -1, _voices(cast, (other,)))}
        except BrokenMedia as error:
            return Rejection(id, str(error), error.file)
        image = self.group(id) if self.clip_per_object else None
        return Clip(id, frame, audio, _sources(cast, masks, heard, other), sounds, image=image)

    def _other(self, cast: Cast, heard: tuple[int, ...]) -> int | None:
        """Return the object whose sound a test clip brings beside its own, if one is silent."""
        silent = [k for k in range(len(cast.roles)) if k not in heard]
        wanted = self.split == "test" and not self.clip_per_object and heard and silent
        return silent[0] if wanted else None

    def _frame(self, number: int, cast: Cast) -> tuple[Array, list[Array]]:
        random, world = self.random(number, _FRAME), self.world()
        material = self.material
        pieces = []
        for _ in range(int(random.integers((self.clutter + 1) // 2, self.clutter + 1))):
            photograph = draw_one(random, material.backgrounds)
            name = draw_one(random, material.classes)
            shape = draw_one(random, material.pictures[name])
            pieces.append((world.photograph(photograph), world.picture(shape)))
        pictures = [world.picture(role.picture) for role in cast.roles]
        stuff = Stuff(world.photograph(cast.background), pictures, pieces)
        return paint(random, stuff, self.storage.frame_side, NATURAL if self.pasting == "natural" else PLAIN)

    def _sound(self, number: int, clip: int, heard: list[Instance]) -> Array:
        """Return the sound of a frame's clip, [T] float32; `clip` -1 is the other object's."""
        random, world, samples = self.random(number, _SOUND + 1 + clip), self.world(), self.storage.samples
        voices = [voice(random, world.recording(each, self.storage.sample_rate), samples) for each in heard]
        ambience = self.material.ambience
        bed = None
        if ambience and random.random() < 0.5:
            bed = world.recording(draw_one(random, ambience), self.storage.sample_rate)
        return mix(random, voices, bed, samples)

    def random(self, number: int, draw: int) -> np.random.Generator:
        """Return the random stream of one of the draws for scene `number`."""
        return np.random.default_rng([VERSION, self.seed, _STREAMS[self.split], number, draw])


def _voices(cast: Cast, heard: tuple[int, ...]) -> list[Instance]:
    return [cast.roles[k].recording for k in heard]


def _sources(
    cast: Cast, masks: list[Array], heard: tuple[int, ...], other: int | None
) -> tuple[SoundSource, ...]:
    sources = [
        SoundSource(
            role.picture.class_name,
            () if (box := tight_box(mask)) is None else (box,),
            mask.astype(np.uint8) * 255,
            audible=k in heard,
            audio=OTHER_SOUND if k == other else "",
            picture=role.picture.name,
            recording=role.recording.name,
        )
        for k, (role, mask) in enumerate(zip(cast.roles, masks, strict=True))
    ]
    if cast.off_screen is not None:
        name, recording = cast.off_screen.class_name, cast.off_screen.name
        sources.append(SoundSource(name, (), visible=False, recording=recording))
    return tuple(sources)
