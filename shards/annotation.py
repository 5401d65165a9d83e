"""The `json` member of a clip: an annotation of version 2, written and read, and of version 1, read.

Both forms are described in docs/data.md. Whoever made a file, what it says is checked field by field.

Axes: `H`, `W` pixels of the frame.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import numpy as np

from cacl.annotation import OTHER_SOUND, VERSION, Annotation, Array, Box, SoundSource
from cacl.errors import UserError, shorten
from cacl.media.still import MASKS, UnreadablePicture, open_picture

ANNOTATION_LIMIT = 2**20
"""Bytes of a `json` member: ten thousand boxes and more."""
MASK_PIXELS = 2**28
"""Pixels of all masks of a clip; more are refused before anything is allocated for them."""
_EVERY_CLIP = frozenset({"jpg", "wav", "json"})
_MASK, _OTHER_MASK = "mask.png", "other.mask.png"


class BrokenAnnotation(ValueError):
    """An annotation is not what it must be; the message says which field and how."""


@dataclass(frozen=True)
class Noted:
    """What the `json` of a clip says: masks are only named."""

    annotation: Annotation
    masks: tuple[str, ...] = ()
    """The member that holds each source's mask, empty where it has none."""

    @property
    def members(self) -> set[str]:
        """The members that the clip must have."""
        audio = {source.audio for source in self.annotation.sources or ()}
        return {*_EVERY_CLIP, *audio, *self.masks} - {""}


def mask_name(number: int) -> str:
    """Return the member that holds the mask of source `number`, counted from 0."""
    return f"{number}.mask.png"


def write_annotation(annotation: Annotation) -> bytes:
    """Return the `json` member; it names the masks by `mask_name`. What is not known is left out.

    Raises UserError for one that would be too long to be read.
    """
    note: dict[str, Any] = {"format_version": VERSION, "index": annotation.index, "id": annotation.id}
    for name in ("image", "film", "time", "seconds"):
        if (value := getattr(annotation, name)) is not None:
            note[name] = value
    if annotation.tags:
        note["tags"] = list(annotation.tags)
    if annotation.sources is not None:
        note["sources"] = [_described(source, number) for number, source in enumerate(annotation.sources)]
    data = json.dumps(note, ensure_ascii=False, sort_keys=True, allow_nan=False).encode()
    if len(data) > ANNOTATION_LIMIT:
        raise UserError(
            f"{annotation.id}: its annotation has {len(data)} bytes and {ANNOTATION_LIMIT} are read; give it "
            "fewer boxes or sources"
        )
    return data


def _described(source: SoundSource, number: int) -> dict[str, Any]:
    """Return the fields of a source that are not those of one of which nothing is known."""
    found = {field.name: getattr(source, field.name) for field in fields(source) if field.name != "mask"}
    kept = {name: value for name, value in found.items() if value != getattr(SoundSource, name)}
    return kept if source.mask is None else {**kept, "mask": mask_name(number)}


def read_annotation(members: Mapping[str, bytes], size: tuple[int, int]) -> Annotation:
    """Return what is known of a clip whose frame has `size` (H, W), its masks decoded, [H, W] uint8.

    Raises BrokenAnnotation for what is malformed or lacks a member, UserError for an unknown version.
    """
    noted = parse_annotation(members.get("json", b""), members.keys())
    if absent := noted.members - members.keys():
        raise BrokenAnnotation(
            f"the annotation names a member that the clip does not have: {shorten(min(absent))}"
        )
    if np.prod(size) * sum(map(bool, noted.masks)) > MASK_PIXELS:
        raise BrokenAnnotation(f"the annotation has masks of more than {MASK_PIXELS} pixels")
    sources = noted.annotation.sources
    if sources is not None:
        sources = tuple(
            replace(source, mask=_read_mask(members[name], name, size)) if name else source
            for source, name in zip(sources, noted.masks, strict=True)
        )
    return replace(noted.annotation, sources=sources)


def parse_annotation(data: bytes, members: Collection[str] = ()) -> Noted:
    """Return what a `json` member of version 1 or 2 says; `members` are those that the clip has.

    Raises BrokenAnnotation and UserError as `read_annotation` does.
    """
    if len(data) > ANNOTATION_LIMIT:
        raise BrokenAnnotation(f"the annotation has {len(data)} bytes; {ANNOTATION_LIMIT} are read")
    try:
        note = json.loads(data)
    except (ValueError, RecursionError):
        note = None
    if not isinstance(note, dict):
        raise BrokenAnnotation("has no annotation (json)")
    version = note.get("format_version", 1)
    if version == VERSION and type(version) is int:
        return _parse_version_2(note)
    if "format_version" not in note:
        return _parse_version_1(note, members)
    raise UserError(
        f"clip {_short(note.get('id'))}: its annotation has the format_version {_short(version)}, and this "
        f"cacl reads 1 and {VERSION}; install a newer one, or pack again"
    )


def _parse_version_2(note: Mapping[str, Any]) -> Noted:
    if _text(note, "id") == "":
        raise BrokenAnnotation("the annotation has no id")
    entries = note.get("sources")
    if entries is None:
        return Noted(_clip(note, "time", None))
    if not isinstance(entries, list):
        raise BrokenAnnotation(f"sources: expected a list, got {_short(entries)}")
    found = [parse_source(entry, f"sources[{number}]") for number, entry in enumerate(entries)]
    return Noted(_clip(note, "time", tuple(source for source, _ in found)), tuple(mask for _, mask in found))


def _parse_version_1(note: Mapping[str, Any], members: Collection[str]) -> Noted:
    """Version 1 says what is heard in the note itself, and of a silent object under `other`."""
    named = [(note, _MASK, SoundSource())]
    if "other" in note or {OTHER_SOUND, _OTHER_MASK} & set(members):
        other = note.get("other", {})
        if not isinstance(other, dict):
            raise BrokenAnnotation(f"other: expected an object, got {_short(other)}")
        named.append((other, _OTHER_MASK, SoundSource(audible=False, audio=OTHER_SOUND)))
    elif not ({"class_name", "boxes"} & note.keys() or _MASK in members or note.get("sounding") is False):
        return Noted(_clip(note, "frame_seconds", None))
    sources = []
    for entry, _, source in named:
        boxes = _boxes(entry, "boxes")
        if boxes is None and entry.get("sounding") is False:
            boxes = ()
        visible = boxes is None or len(boxes) > 0
        sources.append(replace(source, class_name=_text(entry, "class_name"), boxes=boxes, visible=visible))
    masks = tuple(mask if mask in members else "" for _, mask, _ in named)
    return Noted(_clip(note, "frame_seconds", tuple(sources)), masks)


def _clip(note: Mapping[str, Any], time: str, sources: tuple[SoundSource, ...] | None) -> Annotation:
    index = note.get("index", -1)
    if type(index) is not int:
        raise BrokenAnnotation(f"index: expected a number, got {_short(index)}")
    return Annotation(
        id=_text(note, "id"),
        index=index,
        sources=sources,
        image=_text(note, "image") or None,
        film=_text(note, "film") or None,
        time=_number(note, time),
        seconds=_number(note, "seconds"),
        tags=_words(note, "tags"),
    )


def parse_source(entry: Any, where: str) -> tuple[SoundSource, str]:
    """Return a source without its mask, and what its `mask` names (empty where it has none).

    Raises BrokenAnnotation, naming the field by `where`, for a wrong type and for an unknown field.
    """
    if not isinstance(entry, dict):
        raise BrokenAnnotation(f"{where}: expected an object, got {_short(entry)}")
    plain = {field.name: field.default for field in fields(SoundSource) if field.default is not MISSING}
    if unknown := entry.keys() - plain.keys():
        raise BrokenAnnotation(f"{where}: has no {_short(min(unknown))}; its fields are {', '.join(plain)}")
    found: dict[str, Any] = {"boxes": _boxes(entry, where)}
    for name, default in plain.items():
        if isinstance(default, str):
            found[name] = _text(entry, name, where)
        elif isinstance(default, bool):
            found[name] = entry.get(name, default)
            if not isinstance(found[name], bool):
                raise BrokenAnnotation(f"{where}: {name}: expected true or false, got {_short(found[name])}")
    return SoundSource(**found), _text(entry, "mask", where)


def _boxes(entry: Mapping[str, Any], where: str) -> tuple[Box, ...] | None:
    boxes = entry.get("boxes")
    if boxes is None:
        return None
    if not isinstance(boxes, Sequence) or isinstance(boxes, str):
        raise BrokenAnnotation(f"{where}: boxes: expected a list, got {_short(boxes)}")
    for box in boxes:
        if not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
            raise BrokenAnnotation(f"{where}: {_short(box)} is not a box of four finite numbers in 0..1")
    return tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in boxes)


def _text(entry: Mapping[str, Any], name: str, where: str = "") -> str:
    text = entry.get(name)
    if text is not None and not isinstance(text, str):
        raise BrokenAnnotation(f"{where + ': ' if where else ''}{name}: expected text, got {_short(text)}")
    return text or ""


def _words(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    words = entry.get(name)
    if words is not None and not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise BrokenAnnotation(f"{name}: expected a list of texts, got {_short(words)}")
    return tuple(words or ())


def _number(entry: Mapping[str, Any], name: str) -> float | None:
    number = entry.get(name)
    if number is not None and not _is_number(number):
        raise BrokenAnnotation(f"{name}: expected a finite number, got {_short(number)}")
    return None if number is None else float(number)


def _is_number(value: Any) -> bool:
    # An integer of hundreds of digits is finite, and no float.
    return type(value) in (int, float) and -1e300 < value < 1e300 and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_mask(data: bytes, name: str, size: tuple[int, int]) -> Array:
    """Return a mask [H, W] uint8, 255 on visible pixels."""
    try:
        image = open_picture(data, MASKS, "mask")
    except UnreadablePicture as error:
        raise BrokenAnnotation(f"{name}: is no picture ({error})") from error
    if (image.height, image.width) == size:
        return np.asarray(image.convert("L"))
    raise BrokenAnnotation(f"{name} is not of the frame's size")
