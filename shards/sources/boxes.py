"""Boxes that people drew: x0, y0, x1, y1 as shares of the frame, some a little out of it."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

from shards.sources.media import BrokenMedia

_FLICKR_SIDE = 256
"""Pixels of the frames on which Flickr-SoundNet's boxes were drawn."""
_XML_LIMIT = 2**20
"""Bytes of an annotation."""


def checked_boxes(boxes: list[Any]) -> list[list[float]]:
    """Return boxes as they are. Raises BrokenMedia when one is no box, or no part of any lies in the frame.

    The public boxes of VGG-SS hold some of no extent beside good ones, and edges such as -2.9e16; the field
    evaluates those clips by the others, so they are kept.
    """
    if not isinstance(boxes, list) or not boxes:
        raise BrokenMedia("no box: there must be one at least")
    checked = []
    for box in boxes:
        try:
            x0, y0, x1, y1 = (float(edge) for edge in box)
        except (TypeError, ValueError):
            raise BrokenMedia(f"malformed box: {box!r}") from None
        if not all(map(math.isfinite, (x0, y0, x1, y1))):
            raise BrokenMedia(f"malformed box: {box!r}")
        checked.append([x0, y0, x1, y1])
    if not any(min(x1, 1) > max(x0, 0) and min(y1, 1) > max(y0, 0) for x0, y0, x1, y1 in checked):
        raise BrokenMedia(f"box outside the frame: {checked!r}")
    return checked


def flickr_boxes(xml: bytes) -> list[list[float]]:
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
