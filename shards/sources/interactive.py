"""IS3 and VPO: pictures with several objects, each with a sound of its own, a clip for each object.

The key of an object is `<picture>_<object>`; its picture and its sound bear its name. Their tables are those
of kaistmm/SSLalignment: `image` and `audio`, paths of which the last part counts, and `gt_box`, corners on
the picture at 224 × 224.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

from cacl.annotation import Box, SoundSource
from cacl.errors import UserError, brief
from shards.sources import media
from shards.sources.lists import is_name
from shards.sources.published import PublishedSet, four_numbers, located, masked, read_json

_SIDE = 224
"""Pixels of the pictures on which the boxes were drawn, whatever the form of the picture's file."""
_PICTURES, _SOUNDS, _MASKS = (
    ("images", "visual_frames", "frames"),
    ("audio_wav", "audio_waw", "audio"),
    ("gt_segmentation", "gt_masks", "gray_masks"),
)
"""Folders, by the names that they have been handed on under; without any, files lie at the root."""
_BOX, _CLASS = ("gt_box", "bbox", "box"), ("category", "class", "label")
_FIX = "give the table of boxes with --boxes, a list of image, audio and gt_box"


class _Object(NamedTuple):
    """What a table says of an object; nothing where there is no table."""

    class_name: str = ""
    box: Box | None = None


@dataclass(frozen=True)
class InteractiveSet(PublishedSet):
    """Pictures, sounds and masks named <picture>_<object>, and a table of boxes."""

    tables: ClassVar[tuple[str, ...]]
    """Names of the table at the root."""

    boxes: Path | None = field(
        default=None, metadata={"help": "the table of boxes; default: what the set calls it, at the root"}
    )

    @property
    def box_file(self) -> Path | None:
        """None: the table is of a form of its own."""
        return None

    @property
    def table(self) -> Path | None:
        """The table of boxes, if there is one."""
        there = (self.root / name for name in self.tables)
        return self.boxes or next((path for path in there if path.exists()), None)

    def all_ids(self) -> list[str]:
        """Return the objects of the table; without one, of pictures and sounds."""
        return list(_objects(self))

    def picture(self, name: str) -> str:
        """Return the picture, of which every object has a copy."""
        return f"{_folder(self.root, _PICTURES)}{name}.jpg"

    def recording(self, name: str) -> str:
        """Return the sound of an object."""
        return f"{_folder(self.root, _SOUNDS)}{name}.wav"

    def image(self, name: str) -> str:
        """Return the picture that the objects share."""
        return picture_of(name)

    def truth(self, name: str) -> tuple[SoundSource, ...]:
        """Return the object that sounds, and then the others of its picture."""
        beside = [other for other in _pictures(self)[picture_of(name)] if other != name]
        found = [self._source(name), *(self._source(other, audible=False) for other in sorted(beside))]
        return tuple(found) if beside else (*found, *self.unnamed(name))

    def unnamed(self, name: str) -> Iterable[SoundSource]:
        """Return what else a picture shows of which no other object is known."""
        return ()

    def class_of(self, name: str) -> str:
        """Return the class that an object's name tells."""
        return ""

    def _source(self, name: str, audible: bool = True) -> SoundSource:
        known = _objects(self).get(name)
        if known is None:
            raise media.BrokenMedia("missing: the list names it, and the set has no such object")
        class_name = known.class_name or self.class_of(name)
        found = SoundSource(class_name)
        if folder := _folder(self.root, _MASKS):
            file = f"{folder}{name}.jpg"
            with media.blame(file):
                found = masked(class_name, media.read_mask(media.in_any_form(self.root, file)))
        if known.box is not None:
            found = replace(located(class_name, known.box), mask=found.mask)
        return replace(found, audible=audible)


@dataclass(frozen=True)
class Is3(InteractiveSet):
    """Generated pictures with two objects: images/, audio_wav/ and perhaps gt_segmentation/ and a table."""

    name: ClassVar[str] = "is3"
    tables: ClassVar[tuple[str, ...]] = ("IS3_annotation.json", "synthetic3240_bbox.json")

    def class_of(self, name: str) -> str:
        """Return the last word of `<object>_<object>_<number>_<the one that sounds>`."""
        return name.rpartition("_")[2]

    def unnamed(self, name: str) -> Iterable[SoundSource]:
        """Return the other object that the name tells."""
        both = picture_of(name).split("_")[:2]
        others = [other for other in both if other != self.class_of(name)]
        return [SoundSource(others[0], audible=False)] if len(both) == 2 and len(others) == 1 else []


@dataclass(frozen=True)
class Vpo(InteractiveSet):
    """VPO-SS or VPO-MS: COCO's pictures in visual_frames/, audio_wav/, perhaps gray_masks/, and a table."""

    name: ClassVar[str] = "vpo"
    tables: ClassVar[tuple[str, ...]] = ("vpo_ss_bbox.json", "vpo_ms_bbox.json")


def picture_of(name: str) -> str:
    """Return the picture of an object: what stands before the last underscore."""
    return name.rpartition("_")[0]


def _folder(root: Path, names: tuple[str, ...]) -> str:
    return next((f"{name}/" for name in names if (root / name).is_dir()), "")


@lru_cache(maxsize=2)
def _pictures(source: InteractiveSet) -> dict[str, list[str]]:
    """Return the objects of each picture."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in _objects(source):
        found[picture_of(name)].append(name)
    return found


@lru_cache(maxsize=2)
def _objects(source: InteractiveSet) -> dict[str, _Object]:
    """Return the objects by name. Raises UserError where the table is malformed."""
    if source.table is not None:
        return _read_table(source.table)
    files = [
        path.stem
        for folder, suffix in ((_PICTURES, ".jpg"), (_SOUNDS, ".wav"))
        for path in (source.root / _folder(source.root, folder)).glob(f"*{suffix}")
    ]
    return {name: _Object() for name in files if picture_of(name)}


def _read_table(path: Path) -> dict[str, _Object]:
    entries = read_json(path, _FIX)
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: is no list of annotations; {_FIX}")
    found: dict[str, _Object] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: annotation {number}"
        name = _name(entry, where)
        if name in found:
            raise UserError(f"{where}: image: {name!r} stands there twice; take one of them out")
        box = next((key for key in _BOX if key in entry), _BOX[0])
        label = next((entry[key] for key in _CLASS if isinstance(entry.get(key), str)), "")
        x0, y0, x1, y1 = (edge / _SIDE for edge in four_numbers(entry, box, where, _FIX))
        found[name] = _Object(label, (x0, y0, x1, y1))
    return found


def _name(entry: Any, where: str) -> str:
    image = entry.get("image") if isinstance(entry, dict) else None
    name = PurePosixPath(image).stem if isinstance(image, str) else ""
    if not is_name(name) or not picture_of(name):
        raise UserError(
            f"{where}: image: expected a path to <picture>_<object>.jpg, got {brief(image)}; {_FIX}"
        )
    return name
