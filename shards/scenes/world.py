"""All that scenes can be made of, opened once a process and divided between the splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from shards.scenes.collections import Backgrounds, Instance, Pictures, Sounds, Split
from shards.scenes.lazy import Lazy
from shards.scenes.split import divide

_PICTURES, _RECORDINGS, _PHOTOGRAPHS = 512, 512, 64
"""How many decoded ones a process keeps."""


class Material(NamedTuple):
    """What one split makes its scenes of."""

    classes: tuple[str, ...]
    """Those that have a picture and a recording here, sorted."""
    pictures: dict[str, Sequence[Instance]]
    recordings: dict[str, Sequence[Instance]]
    ambience: Sequence[Instance]
    """Recordings of what has no picture, such as rain."""
    backgrounds: Sequence[Instance]


class World:
    """Collections of pictures, recordings and photographs, and whose they are."""

    def __init__(self, pictures: Pictures, sounds: Sounds, backgrounds: Backgrounds) -> None:
        self._pictures, self._sounds, self._backgrounds = pictures, sounds, backgrounds
        self._sides = divide(pictures, sounds, backgrounds)
        self.material = cache(self._material)
        self.picture = lru_cache(_PICTURES)(pictures.read)
        self.recording = lru_cache(_RECORDINGS)(sounds.read)
        self.photograph = lru_cache(_PHOTOGRAPHS)(backgrounds.read)

    def _material(self, split: Split, least: int = 1, most: int = 0) -> Material:
        """Return what belongs to a split, of the classes that have `least` originals of either kind.

        `most` of a class's originals are used, all if it is 0.
        """
        side = self._sides[split]
        pictures, recordings = _by_class(side.pictures, most), _by_class(side.sounds, most)
        enough = pictures.keys() & recordings.keys()
        if least > 1:  # public sets have hundreds of thousands of instances to look through
            enough &= _with_originals(self._pictures.instances, least)
            enough &= _with_originals(self._sounds.instances, least)
        ambience = [one for one in side.sounds if one.class_name.startswith("_")]
        return Material(tuple(sorted(enough)), pictures, recordings, ambience, side.backgrounds)

    def identity(self) -> dict[str, Any]:
        """Return what the collections are, for the manifest: no paths."""
        return {
            "objects": self._pictures.identity(),
            "sounds": self._sounds.identity(),
            "backgrounds": self._backgrounds.identity(),
        }


@lru_cache(maxsize=2)
def open_world(objects: tuple[str, ...], sounds: tuple[str, ...], backgrounds: tuple[str, ...]) -> World:
    """Open collections by the words that name them. Raises UserError."""
    from shards.scenes.specs import open_backgrounds, open_pictures, open_sounds

    return World(open_pictures(objects), open_sounds(sounds), open_backgrounds(backgrounds))


def _by_class(instances: Sequence[Instance], most: int) -> dict[str, Sequence[Instance]]:
    """Return the instances of each class, those of its first `most` originals unless that is 0."""
    places: dict[str, list[int]] = defaultdict(list)
    origins: dict[str, set[str]] = defaultdict(set)
    for number, one in enumerate(instances):
        own = origins[one.class_name]
        if not most or one.origin in own or len(own) < most:
            own.add(one.origin)
            places[one.class_name].append(number)
    return {name: Lazy(instances.__getitem__, np.array(own)) for name, own in places.items()}


def _with_originals(instances: Sequence[Instance], least: int) -> set[str]:
    origins: dict[str, set[str]] = defaultdict(set)
    for one in instances:
        origins[one.class_name].add(one.origin)
    return {name for name, own in origins.items() if len(own) >= least}
