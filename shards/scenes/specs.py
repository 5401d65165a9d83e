"""Collections by what a user writes: `DIR`, `coco:IMAGES,FILE`, `esc50:DIR`, `vggsound:SHARDS`, `varied`.

`varied` is a folder of real pictures and recordings that `CACL_VARIED_DIR` names, with `debian` beside it;
`debian` is what some of Debian's packages hold, and `stamps` those of Tux Paint alone.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from cacl.errors import UserError
from shards.clip import Array
from shards.manifest import digest
from shards.scenes.classes import class_table
from shards.scenes.coco import Coco, CocoBackgrounds, CocoPictures, open_coco
from shards.scenes.collections import Backgrounds, Instance, Pictures, Sounds
from shards.scenes.esc50 import esc50
from shards.scenes.files import Files, photograph_folder, picture_folder, share_duplicates, sound_folder
from shards.scenes.lazy import Lazy
from shards.scenes.packages import PACKAGES, STAMPS, WALLPAPERS, unpacked
from shards.scenes.packed import packed_sounds

VARIABLE = "CACL_VARIED_DIR"

Opener = Callable[[str, str, str], list[Any]]
"""opener(label, what follows the colon, the option for messages) → parts of a collection."""


@lru_cache(maxsize=4)
def open_pictures(specs: tuple[str, ...]) -> Pictures:
    """Return the pictures of several specs as one collection, without decoding any.

    Raises UserError, naming the spec, where one is unknown, not there, or holds nothing to use.
    """
    return _JoinedPictures(_open(specs, "--objects", _PICTURES))


@lru_cache(maxsize=4)
def open_sounds(specs: tuple[str, ...]) -> Sounds:
    """Return the recordings of several specs as one collection. Raises as `open_pictures` does."""
    return _JoinedSounds(_open(specs, "--sounds", _SOUNDS))


@lru_cache(maxsize=4)
def open_backgrounds(specs: tuple[str, ...]) -> Backgrounds:
    """Return the photographs of several specs as one collection. Raises as `open_pictures` does."""
    return _JoinedPictures(_open(specs, "--backgrounds", _BACKGROUNDS))


@lru_cache(maxsize=4)
def open_photographs(specs: tuple[str, ...]) -> tuple[Coco, ...]:
    """Return annotated photographs, `coco:IMAGES,FILE` or `varied`. Raises as `open_pictures` does."""
    openers: dict[str, Opener] = {
        "coco": lambda *named: [open_coco(*named)],
        "varied": lambda label, value, option: [_varied_photographs(label, option)],
    }
    return tuple(_open(specs, "--photographs", openers).values())


@dataclass(frozen=True)
class _Joined:
    """Several collections as one; the head of an instance's name says whose it is."""

    parts: dict[str, Any]
    """By label, in the order of the instances' names."""

    @cached_property
    def instances(self) -> Sequence[Instance]:
        """All instances, sorted by name."""
        return Lazy(self.at, np.arange(self._ends[-1]))

    def at(self, position: int) -> Instance:
        """Return an instance by its place among all."""
        number = bisect_right(self._ends, position) - 1
        found: Instance = self._instances[number][position - self._ends[number]]
        return found

    def identity(self) -> dict[str, Any]:
        """Return what each part says, and which table of classes was used."""
        return {
            "sets": [part.identity() for part in self.parts.values()],
            "classes": digest(class_table()),
        }

    @cached_property
    def _instances(self) -> list[Sequence[Instance]]:
        return [part.instances for part in self.parts.values()]

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(map(len, self._instances), initial=0))

    def part(self, instance: Instance) -> Any:
        """Return the collection that an instance is of."""
        return self.parts[instance.name.partition("/")[0]]


class _JoinedPictures(_Joined):
    def read(self, instance: Instance) -> Array:
        """Return a picture or a photograph, as its collection does."""
        found: Array = self.part(instance).read(instance)
        return found


NOTHING = _JoinedPictures({})
"""No pictures, or no backgrounds."""


class _JoinedSounds(_Joined):
    def read(self, instance: Instance, sample_rate: int) -> Array:
        """Return a recording, as its collection does."""
        found: Array = self.part(instance).read(instance, sample_rate)
        return found


def _open(specs: tuple[str, ...], option: str, openers: dict[str, Opener]) -> dict[str, Any]:
    """Return the parts of all specs by their labels."""
    if not specs:
        raise UserError(f"{option}: names nothing; give {', '.join(_FORMS[kind] for kind in openers)}")
    parts: list[Any] = []
    labels: Counter[str] = Counter()
    for spec in dict.fromkeys(specs):
        kind, colon, value = spec.partition(":")
        if kind not in openers or bool(colon) != (":" in _FORMS[kind]):
            if "folder" not in openers or (kind in _FORMS and not Path(spec).is_dir()):
                raise UserError(f"{option} {spec}: give {', '.join(_FORMS[kind] for kind in openers)}")
            kind, value = "folder", spec
        labels[kind] += 1
        label = kind if labels[kind] == 1 else f"{kind}{labels[kind]}"
        parts += openers[kind](label, value, f"{option} {spec}")
    files = [part for part in parts if isinstance(part, Files)]
    parts = [part for part in parts if not isinstance(part, Files)] + share_duplicates(files)
    # The separator counts: names of `folder/…` come before those of `folder2/…`.
    return {part.label: part for part in sorted(parts, key=lambda part: f"{part.label}/")}


def _varied(option: str) -> Path:
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise UserError(
            f"{option}: {VARIABLE} is not set: a folder of real pictures and recordings (objects/<class>, "
            "sounds/<class>, photographs) that cannot be fetched; `debian` is what packages alone hold"
        )
    return Path(folder)


def _packages(make: Callable[[str, Path, str], Files], side: str, packages: tuple[str, ...]) -> Opener:
    """Return the opener of what packages have of one side: objects, sounds or backgrounds."""

    def opener(label: str, value: str, option: str) -> list[Any]:
        folders = unpacked(packages, side)
        return [make(package, folder, option) for package, folder in folders.items()]

    return opener


def _with_varied(make: Callable[[str, Path, str], Files], side: str, others: Opener) -> Opener:
    def opener(label: str, value: str, option: str) -> list[Any]:
        return [make(label, _varied(option) / side, option), *others(label, value, option)]

    return opener


def _folder(make: Callable[[str, Path, str], Files]) -> Opener:
    return lambda label, value, option: [make(label, Path(value), option)]


def _varied_photographs(label: str, option: str) -> Coco:
    folder = _varied(option)
    return open_coco(label, f"{folder / 'photographs'},{folder / 'instances.json'}", option)


def _varied_backgrounds(label: str, value: str, option: str) -> list[Any]:
    """Return what is free of anything that sounds in the photographs, and Debian's backgrounds."""
    return [CocoBackgrounds(_varied_photographs(label, option)), *_DEBIAN_BACKGROUNDS(label, value, option)]


_FORMS = {
    "folder": "DIR",
    "coco": "coco:IMAGES,FILE",
    "esc50": "esc50:DIR",
    "vggsound": "vggsound:SHARDS",
    "stamps": "stamps",
    "debian": "debian",
    "wallpapers": "wallpapers",
    "varied": "varied",
}
_DEBIAN_PICTURES = _packages(picture_folder, "objects", PACKAGES)
_DEBIAN_SOUNDS = _packages(sound_folder, "sounds", PACKAGES)
_WALLPAPERS = _packages(photograph_folder, "backgrounds", WALLPAPERS)
_DEBIAN_BACKGROUNDS = _packages(photograph_folder, "backgrounds", (*PACKAGES, *WALLPAPERS))
_PICTURES: dict[str, Opener] = {
    "folder": _folder(picture_folder),
    "coco": lambda *named: [CocoPictures(open_coco(*named))],
    "stamps": _packages(picture_folder, "objects", STAMPS),
    "debian": _DEBIAN_PICTURES,
    "varied": _with_varied(picture_folder, "objects", _DEBIAN_PICTURES),
}
_SOUNDS: dict[str, Opener] = {
    "folder": _folder(sound_folder),
    "esc50": lambda label, value, option: [esc50(label, Path(value), option)],
    "vggsound": lambda *named: [packed_sounds(*named)],
    "stamps": _packages(sound_folder, "sounds", STAMPS),
    "debian": _DEBIAN_SOUNDS,
    "varied": _with_varied(sound_folder, "sounds", _DEBIAN_SOUNDS),
}
_BACKGROUNDS: dict[str, Opener] = {
    "folder": _folder(photograph_folder),
    "coco": lambda *named: [CocoBackgrounds(open_coco(*named))],
    "wallpapers": _WALLPAPERS,
    "debian": _DEBIAN_BACKGROUNDS,
    "varied": _varied_backgrounds,
}
