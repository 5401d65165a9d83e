"""Tracks for tools in which people annotate: COCO, CVAT (for video 1.1) and Label Studio (video).

Each is what the tool's documentation says of files that it imports. Frames are numbered from 0, and from 1 in
Label Studio.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cacl.files import write_text
from cacl.viewing.tracks import Moment, Track

LABEL = "sound source"
"""Of all that is found: a model knows where sound comes from, and not what makes it."""


def export(form: str, path: Path, track: Track) -> None:
    """Write a track in one of `FORMS`, whole or not at all."""
    write_text(path, FORMS[form](track))


def coco(track: Track) -> str:
    """Return instances in COCO's form, of an image for each moment, named by film and frame."""
    stem = Path(track.film).stem
    images = [
        {
            "id": number,
            "file_name": f"{stem}_{one.frame:06d}.jpg",
            "width": track.width,
            "height": track.height,
            "film": track.film,
            "frame": one.frame,
            "time": one.time,
        }
        for number, one in enumerate(track.moments, 1)
    ]
    annotations: list[dict[str, Any]] = []
    for image, one in zip(images, track.moments, strict=True):
        if one.box is not None:
            x, y, right, bottom = _pixels(one, track)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": 1,
                    "bbox": [x, y, round(right - x, 2), round(bottom - y, 2)],
                    "area": one.area,
                    "segmentation": one.mask,
                    "iscrowd": 0,
                    "score": one.confidence,
                }
            )
    whole = {
        "info": {"description": f"where the sound is in {track.film}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": LABEL, "supercategory": ""}],
    }
    return json.dumps(whole, indent=1) + "\n"


def cvat(track: Track) -> str:
    """Return tracks of boxes in "CVAT for video 1.1": one for each stretch in which something sounds."""
    root = ElementTree.Element("annotations")
    _words(root, version="1.1")
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    size = str(track.frames)
    _words(task, name=track.film, size=size, mode="interpolation", overlap="0", flipped="False")
    label = ElementTree.SubElement(ElementTree.SubElement(task, "labels"), "label")
    _words(label, name=LABEL, attributes="")
    shape = ElementTree.SubElement(task, "original_size")
    _words(shape, width=str(track.width), height=str(track.height))
    for number, (stretch, end) in enumerate(stretches(track)):
        line = ElementTree.SubElement(root, "track", id=str(number), label=LABEL, source="auto")
        for one in stretch:
            _cvat_box(line, one, track, one.frame, outside=False)
        if end < track.frames:
            _cvat_box(line, stretch[-1], track, end, outside=True)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def label_studio(track: Track) -> str:
    """Return a task of Label Studio with a prediction: regions of key frames, in percent of the picture.

    It fits a labeling configuration with `<Video name="video" value="$video"/>`,
    `<VideoRectangle name="box" toName="video"/>` and `<Labels name="videoLabels" toName="video">`.
    """
    rate = track.frame_rate or 1.0
    results = []
    for number, (stretch, end) in enumerate(stretches(track)):
        keys = [(one.frame, one, True) for one in stretch]
        # What is not enabled ends with its frame: up to there the last box stays.
        last = (end - 1, stretch[-1], False)
        keys = [*keys, last] if end - 1 > stretch[-1].frame else [*keys[:-1], (*keys[-1][:2], False)]
        value = {
            "framesCount": track.frames,
            "duration": round(track.frames / rate, 4),
            "sequence": [_percent(one, frame, rate, enabled) for frame, one, enabled in keys],
            "labels": [LABEL],
        }
        results.append(
            {
                "id": f"sound{number}",
                "type": "videorectangle",
                "from_name": "box",
                "to_name": "video",
                "origin": "prediction",
                "score": max(one.confidence for one in stretch),
                "value": value,
            }
        )
    task = {"data": {"video": track.film}, "predictions": [{"model_version": "cacl", "result": results}]}
    return json.dumps([task], indent=1) + "\n"


FORMS: dict[str, Callable[[Track], str]] = {"coco": coco, "cvat": cvat, "labelstudio": label_studio}
"""By name: what makes a file's text."""


def stretches(track: Track) -> Iterator[tuple[list[Moment], int]]:
    """Yield the moments of each stretch in which something sounds, and the frame with which it is over."""
    stretch: list[Moment] = []
    for one in track.moments:
        if one.box is not None:
            stretch.append(one)
        elif stretch:
            yield stretch, one.frame
            stretch = []
    if stretch:
        before = track.moments[-2].frame if len(track.moments) > 1 else stretch[-1].frame - 1
        yield stretch, min(track.frames, 2 * stretch[-1].frame - before)


def _pixels(one: Moment, track: Track) -> list[float]:
    assert one.box is not None
    sides = (track.width, track.height) * 2
    return [round(share * side, 2) for share, side in zip(one.box, sides, strict=True)]


def _cvat_box(line: ElementTree.Element, one: Moment, track: Track, frame: int, outside: bool) -> None:
    corners = zip(("xtl", "ytl", "xbr", "ybr"), _pixels(one, track), strict=True)
    places = {name: f"{value:.2f}" for name, value in corners}
    flags = {"frame": str(frame), "outside": str(int(outside)), "occluded": "0", "keyframe": "1"}
    ElementTree.SubElement(line, "box", {**flags, **places, "z_order": "0"})


def _percent(one: Moment, frame: int, rate: float, enabled: bool) -> dict[str, Any]:
    assert one.box is not None
    left, top, right, bottom = (100 * share for share in one.box)
    place = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    when = {"frame": frame + 1, "time": round((frame + 1) / rate, 4), "enabled": enabled, "rotation": 0}
    return {**when, **{name: round(value, 3) for name, value in place.items()}}


def _words(parent: ElementTree.Element, **texts: str) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = text
