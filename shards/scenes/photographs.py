"""Photographs of COCO with recordings of what they show: test clips with true masks and no edge that was cut.

A clip is a photograph with a recording of one class in it; its truth are the masks of all of that class. So
VPO's single-source clips are made (Chen et al., "Unraveling Instance Associations", CVPR 2024).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from PIL import Image

from cacl.annotation import SoundSource
from cacl.errors import UserError
from shards.clip import SCENE, Array, Clip, Rejection, Storage
from shards.scenes.cast import draw_one
from shards.scenes.classes import class_table
from shards.scenes.coco import Coco
from shards.scenes.collections import Instance, Sounds
from shards.scenes.sound import mix, voice
from shards.scenes.specs import NOTHING, open_backgrounds, open_photographs, open_pictures, open_sounds
from shards.scenes.split import SPLITS, divide
from shards.sources import media
from shards.sources.base import Source

VERSION = 1
"""Raised whenever the same options would give other clips."""
LEAST_SHARE = 0.01
"""Of the photograph's pixels that a class must have to be paired with a recording."""


@dataclass(frozen=True)
class Photographs(Source):
    """Photographs of COCO, each with a recording of a class that it shows; nothing is pasted."""

    name: ClassVar[str] = "photographs"
    shard_size: ClassVar[int] = 100

    photographs: tuple[str, ...] = field(
        default=(), metadata={"help": "coco:IMAGES,instances.json, or varied", "required": True}
    )
    sounds: tuple[str, ...] = field(
        default=(),
        metadata={"help": "DIR/<class>/*, esc50:DIR, vggsound:SHARDS, debian or varied", "required": True},
    )
    split: Literal["train", "validation", "test", "all"] = field(
        default="test", metadata={"help": "the recordings of which side of `scenes` with the same --sounds"}
    )
    objects: tuple[str, ...] = field(
        default=(), metadata={"help": "--objects of `scenes`: what it has on another side is left out"}
    )
    backgrounds: tuple[str, ...] = field(
        default=(), metadata={"help": "--backgrounds of `scenes`: what it has on another side is left out"}
    )
    clips: int = field(default=0, metadata={"help": "how many pairs of photograph and class; 0: all"})
    seed: int = field(default=0, metadata={"help": "for other pairs and recordings"})
    storage: Storage = SCENE

    def ids(self) -> list[str]:
        """Return `<photograph>+<class>` of every pair, or of those that were drawn.

        Raises UserError where a collection cannot be opened or no class has both sides.
        """
        found = list(_plan(self).pairs)
        if not found:
            raise UserError(
                "--sounds: no recording is of a class that the photographs show; see what there is: "
                "cacl scenes classes --objects … --sounds …"
            )
        if not 0 <= self.clips <= len(found):
            raise UserError(f"--clips {self.clips}: there are {len(found)} pairs of a photograph and a class")
        drawn = sorted(found, key=lambda id: hashlib.sha256(f"{self.seed} {id}".encode()).digest())
        return sorted(drawn[: self.clips or len(drawn)])

    def read(self, id: str) -> Clip | Rejection:
        """Return one photograph with a recording of one of its classes."""
        plan = _plan(self)
        source, image, class_name = plan.pairs[id]
        digest = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8])
        random = np.random.default_rng([VERSION, self.seed, digest])
        recording = draw_one(random, plan.recordings[class_name])
        try:
            samples = plan.sounds.read(recording, self.storage.sample_rate)
            with media.blame(source.index.files[image]):
                photograph = source.photograph(image)
                frame = media.fit_frame(np.array(photograph), self.storage)
        except media.BrokenMedia as error:
            return Rejection(id, str(error), error.file)
        heard_alone = voice(random, samples, self.storage.samples)
        audio = mix(random, [heard_alone], None, self.storage.samples)
        audible = {*plan.recordings, *(row.name for row in class_table())}
        shown = _shown(source, image, frame.shape[1::-1], audible)
        heard = shown.pop(class_name)
        sources = [
            SoundSource(class_name, *heard, recording=recording.name),
            *(SoundSource(other, *what, audible=False) for other, what in shown.items()),
        ]
        return Clip(id, frame, audio, tuple(sources), image=self.group(id))

    def group(self, id: str) -> str:
        """Return the photograph."""
        source, image, _ = _plan(self).pairs[id]
        return source.index.stem(image)

    def parameters(self) -> dict[str, Any]:
        """Return the options, the version, and what the collections are."""
        plan = _plan(self)
        sides = {
            "photographs": [each.identity() for each in plan.photographs],
            "sounds": plan.sounds.identity(),
        }
        return {**super().parameters(), "version": VERSION, **sides}


class _Shown(NamedTuple):
    boxes: tuple[tuple[float, float, float, float], ...]
    mask: Array


def _shown(source: Coco, image: int, extent: tuple[int, ...], audible: set[str]) -> dict[str, _Shown]:
    """Return boxes and mask [h, w] uint8, at `extent` (w, h), of each class in an image that is audible."""
    index = source.index
    width, height = index.size[image].tolist()
    boxes = defaultdict(list)
    masks: dict[str, Array] = defaultdict(lambda: np.zeros((height, width), np.uint8))
    for position in index.of_image(image):
        class_name = source.classes[index.category[position]]
        if class_name in audible:
            x0, y0, x1, y1 = index.box[position].tolist()
            boxes[class_name].append((x0 / width, y0 / height, x1 / width, y1 / height))
            part = masks[class_name][y0:y1, x0:x1]
            np.maximum(part, source.alpha(position), out=part)
    found = {}
    for class_name, mask in masks.items():
        small = np.asarray(Image.fromarray(mask).resize((extent[0], extent[1]), Image.Resampling.BOX))
        found[class_name] = _Shown(tuple(boxes[class_name]), (small > 127).astype(np.uint8) * 255)
    return found


class _Plan(NamedTuple):
    photographs: tuple[Coco, ...]
    sounds: Sounds
    recordings: dict[str, list[Instance]]
    """Of the split, by class."""
    pairs: dict[str, tuple[Coco, int, str]]
    """Photograph and class by id."""


@lru_cache(maxsize=2)
def _plan(options: Photographs) -> _Plan:
    photographs, sounds = open_photographs(options.photographs), open_sounds(options.sounds)
    used, taken = _side(options, sounds)
    recordings = defaultdict(list)
    for one in used:
        recordings[one.class_name].append(one)
    pairs: dict[str, tuple[Coco, int, str]] = {}
    for source in photographs:
        index = source.index
        shares: dict[tuple[int, str], float] = defaultdict(float)
        pixels = index.size.prod(axis=1, dtype=np.int64)[index.image]
        for image, category, share in zip(
            index.image.tolist(), index.category.tolist(), (index.area / pixels).tolist(), strict=True
        ):
            shares[image, source.classes[category]] += share
        for (image, class_name), share in shares.items():
            stem = index.stem(image)
            if share < LEAST_SHARE or class_name not in recordings or stem.rpartition("/")[2] in taken:
                continue
            if pairs.setdefault(f"{stem}+{class_name}", (source, image, class_name))[0] is not source:
                raise UserError(f"--photographs: two of the sets have a photograph {stem}; name one of them")
    return _Plan(photographs, sounds, dict(recordings), pairs)


def _side(options: Photographs, sounds: Sounds) -> tuple[Any, set[str]]:
    """Return the recordings to use, and the photographs that `scenes` shows on another side."""
    if options.split == "all":
        return sounds.instances, set()
    pictures = open_pictures(options.objects) if options.objects else NOTHING
    backgrounds = open_backgrounds(options.backgrounds) if options.backgrounds else NOTHING
    division = divide(pictures, sounds, backgrounds)
    others = [division[split] for split in SPLITS if split != options.split]
    shown = {one.origin for side in others for some in (side.pictures, side.backgrounds) for one in some}
    return division[options.split].sounds, shown
