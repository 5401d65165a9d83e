"""Boxes that people drew: x0, y0, x1, y1 as shares of the frame, some a little out of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cacl.annotation import Box, SoundSource
from cacl.errors import UserError, shorten
from cacl.files import regular
from shards.annotation import BrokenAnnotation, parse_source
from shards.sources.lists import is_name
from shards.sources.media import BrokenMedia, blame, read_mask

_FLICKR_SIDE = 256
"""Pixels of the frames on which Flickr-SoundNet's boxes were drawn."""
_XML_LIMIT = 2**20
"""Bytes of an annotation."""
_PIXELS = 2.0
"""Boxes in 0..1 have no edge this far to the right or down."""

Entry = Mapping[str, Any]
"""Of a file of boxes: `file` and `class` and `bbox`, or `file` and `sources`."""


@lru_cache(maxsize=2)
def read_boxes(path: Path) -> dict[str, Entry]:
    """Return the entries of a JSON of boxes by clip. Raises UserError where it is not that."""
    try:
        entries = json.loads(regular(path, "give a file of JSON").read_bytes())
        found = {entry["file"]: entry for entry in entries}
        if not all(("bbox" in entry) != ("sources" in entry) for entry in entries):
            raise ValueError("an entry has neither bbox nor sources, or both")
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: there is no such file; name the annotations with --boxes") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: is not a list of file, class and bbox, or of file and sources ({shorten(repr(error))})"
        ) from None
    if len(found) != len(entries) or not all(isinstance(name, str) and is_name(name) for name in found):
        raise UserError(f"{path}: a file stands there twice or is no name")
    return found


def drawn_sources(entry: Entry, masks: Path | None = None) -> tuple[SoundSource, ...]:
    """Return the sources of an entry; their masks, if `masks` is the folder they are named from.

    Raises BrokenMedia where they are malformed.
    """
    if "bbox" in entry:
        boxes = entry["bbox"]
        name = str(entry.get("class", ""))
        return (_out_of_view(name) if boxes == [] else SoundSource(name, checked_boxes(boxes)),)
    try:
        if not isinstance(entry["sources"], list):
            raise BrokenAnnotation("sources: expected a list")
        named = [parse_source(one, f"sources[{k}]") for k, one in enumerate(entry["sources"])]
    except BrokenAnnotation as error:
        raise BrokenMedia(f"malformed box: {error}") from None
    return tuple(_drawn(source, name, masks) for source, name in named)


def _out_of_view(class_name: str) -> SoundSource:
    return SoundSource(class_name, boxes=(), visible=False)


def _drawn(source: SoundSource, mask: str, folder: Path | None) -> SoundSource:
    if source.audio or (mask and not is_name(mask)):
        raise BrokenMedia("malformed box: audio is not read from here, and a mask is a path below the file's")
    if source.boxes:
        source = replace(source, boxes=checked_boxes(source.boxes))
    elif source.boxes == ():
        source = replace(source, visible=False)
    if not mask or folder is None:
        return source
    with blame(mask):
        return replace(source, mask=read_mask(folder / mask))


def checked_boxes(boxes: Any) -> tuple[Box, ...]:
    """Return boxes as they are. Raises BrokenMedia when one is no box, or no part of any lies in the frame.

    The public boxes of VGG-SS hold some of no extent beside good ones, and edges such as -2.9e16; the field
    evaluates those clips by the others, so they are kept.
    """
    if not isinstance(boxes, list | tuple) or not boxes:
        raise BrokenMedia("no box: there must be one at least")
    checked = []
    for box in boxes:
        try:
            x0, y0, x1, y1 = (float(edge) for edge in box)
        except (TypeError, ValueError, OverflowError):
            raise BrokenMedia(f"malformed box: {box!r}") from None
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            raise BrokenMedia(f"malformed box: {box!r}")
        checked.append((x0, y0, x1, y1))
    if any(max(box) > _PIXELS for box in checked):
        raise BrokenMedia(f"box in pixels: {checked!r} is not in 0..1 of width and height")
    if not any(min(x1, 1) > max(x0, 0) and min(y1, 1) > max(y0, 0) for x0, y0, x1, y1 in checked):
        raise BrokenMedia(f"box outside the frame: {checked!r}")
    return tuple(checked)


def flickr_boxes(xml: bytes) -> tuple[Box, ...]:
    """Return the boxes of all annotators in an annotation of Flickr-SoundNet.

    Every `root/*/bbox` has five children: a name, then xmin, ymin, xmax, ymax on 256×256 pixels.
    """
    if len(xml) > _XML_LIMIT:
        raise BrokenMedia(f"unreadable XML: {len(xml)} bytes")
    try:
        boxes = ElementTree.fromstring(xml).findall("*/bbox")
        pixels = [[float(child.text or "") for child in list(box)[1:5]] for box in boxes]
    except (ElementTree.ParseError, ValueError) as error:
        raise BrokenMedia(f"unreadable XML: {error}") from None
    return checked_boxes([[edge / _FLICKR_SIDE for edge in box] for box in pixels])
