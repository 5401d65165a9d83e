"""The Extended form of scenes: the test clips, and their frames again with nothing in view that sounds.

Every frame stands there twice: with its own object's sound, and then, by turns, in silence or with the sound
of an object of a kind that is not in the frame. So half of the clips are non-sounding, as in the field's
Extended VGG-SS and Extended Flickr-SoundNet.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from cacl.annotation import SILENCE, SoundSource
from cacl.errors import UserError
from shards.clip import Array, Clip
from shards.sources.generated import Generated
from shards.sources.scenes import VERSION, SceneOptions, Scenes, Split, mix
from shards.sources.stamps import Stamps

ABSENT = "absent"
"""Class name, in reports, of all that is heard and not in view."""
_STREAM = 2
"""Keeps these draws apart from those of the scenes, which have the streams 0 and 1."""


@dataclass(frozen=True)
class Extended(SceneOptions):
    """The test clips of a source and as many in which nothing in view sounds; those have no boxes."""

    scenes_class: ClassVar[type[Scenes]]

    split: Split = field(default="test", metadata={"help": "test is the only one"})

    @property
    def scenes(self) -> Scenes:
        """The source of the frames, with the same options."""
        return self.scenes_class(self.storage, self.split, self.clips, self.seed, self.level)

    def ids(self) -> list[str]:
        """Return `test-000000`, `test-000000-silence`, `test-000001`, `test-000001-absent` and so on."""
        if self.split != "test":
            raise UserError(f"{self.name}: --split {self.split}: only test clips have an Extended form")
        self.check()
        kinds = (SILENCE, ABSENT)
        return [
            id for number, own in enumerate(self.scenes.ids()) for id in (own, f"{own}-{kinds[number % 2]}")
        ]

    def group(self, id: str) -> str:
        """Return the scene, whose frame stands there twice."""
        return "-".join(id.split("-")[:2])

    def parameters(self) -> dict[str, Any]:
        """Return those of the scenes, which have the same options."""
        return self.scenes.parameters()

    def read(self, id: str) -> Clip:
        """Return the scene with its own sound, or with the one that the id names."""
        own, _, kind = id.removeprefix("test-").partition("-")
        scene = self.scenes.read(f"test-{own}")
        clip = replace(scene, id=id, sources=scene.annotation.heard, sounds={}, image=self.group(id))
        if not kind:
            return clip
        if kind == SILENCE:
            return replace(clip, audio=np.zeros_like(clip.audio), sources=())
        shown = {source.class_name for source in scene.sources or ()}
        source = SoundSource(ABSENT, boxes=(), visible=False)
        return replace(clip, audio=self._absent(shown, int(own)), sources=(source,))

    def _absent(self, shown: set[str], number: int) -> Array:
        """Return the sound, [T] float32, of an object of another kind and recording than the `shown`."""
        objects = self.scenes.bank().objects
        seen = [each for each in objects if shown & {each.class_name, each.family}]
        taken = {each.family for each in seen} | {each.voice for each in seen}
        absent = [each for each in objects if not taken & {each.family, each.voice}]
        random = np.random.default_rng([VERSION, self.seed, _STREAM, number])
        return mix(random, absent[random.integers(len(absent))].audio, self.storage.samples)


@dataclass(frozen=True)
class ExtendedStamps(Extended):
    """The test clips of `stamps` and as many in which nothing in view sounds."""

    name: ClassVar[str] = "extended-stamps"
    scenes_class: ClassVar[type[Scenes]] = Stamps


@dataclass(frozen=True)
class ExtendedGenerated(Extended):
    """The test clips of `generated` and as many in which nothing in view sounds."""

    name: ClassVar[str] = "extended-generated"
    scenes_class: ClassVar[type[Scenes]] = Generated
