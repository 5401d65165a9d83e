"""COCO's instance annotations as a compact index, made once and mapped into memory by every process.

`instances_train2017.json` has 860,000 annotations in 450 MB of text, which take gigabytes once parsed. The
index holds the same outlines in a sixth of them, in the cache folder, under the sha256 of the file.

The format is that of https://cocodataset.org/#format-data: polygons, or runs of pixels (counts that
begin with those outside, down the columns), as numbers or as COCO's text of six bits a character.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cacl.errors import UserError, shorten
from cacl.files import cache_folder, locked, regular, sha256_file
from cacl.media.still import PIXEL_LIMIT
from shards.clip import Array
from shards.sources.lists import is_name

_VERSION = 1
_POLYGON_UNIT = 100
"""Coordinates are kept as whole hundredths of a pixel, the precision of COCO's files."""
_FARTHEST = 10**6
"""Pixels."""
_ARRAYS = ("image", "category", "crowd", "runs", "ids", "area", "box", "start", "numbers", "size")


@dataclass(frozen=True)
class CocoIndex:
    """Annotations sorted by `<image>/<id>`, as texts; A annotations, I images."""

    files: tuple[str, ...]
    """[I] names of the images' files, sorted by what comes before their ending."""
    categories: tuple[str, ...]
    image: Array
    """[A] int32 position in `files`."""
    category: Array
    """[A] int16 position in `categories`."""
    crowd: Array
    """[A] bool: a group that is outlined as one."""
    runs: Array
    """[A] bool: runs of pixels; else polygons."""
    ids: Array
    """[A] int64."""
    area: Array
    """[A] float32, pixels."""
    box: Array
    """[A, 4] int32: x0, y0, x1, y1 in pixels, whatever the file says in `bbox`."""
    start: Array
    """[A + 1] int64: where an outline begins in `numbers`."""
    numbers: Array
    """int32: counts of runs, or how many numbers a polygon has and those, in hundredths of a pixel."""
    size: Array
    """[I, 2] int32: width, height."""

    def outline(self, position: int) -> Array:
        """Return the numbers of an annotation's outline, int32."""
        return np.asarray(self.numbers[self.start[position] : self.start[position + 1]])

    def stem(self, image: int) -> str:
        """Return an image's name without its ending."""
        return _stem(self.files[image])

    def of_image(self, image: int) -> range:
        """Return the positions of an image's annotations."""
        first, last = np.searchsorted(self.image, [image, image + 1])
        return range(int(first), int(last))


def _stem(file: str) -> str:
    stem, dot, ending = file.rpartition(".")
    return stem if dot and "/" not in ending else file


@lru_cache(maxsize=8)
def open_index(path: Path, option: str) -> CocoIndex:
    """Return the index of an annotation file, made at the first call on this machine.

    Raises UserError, with `option` as its head, where the file is not COCO's.
    """
    try:
        folder = cache_folder() / f"coco-{_VERSION}-{sha256_file(path)[:32]}"
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{option}: {path}: there is no such file; name COCO's instances_….json") from None
    with locked(folder.with_suffix(".lock")):
        if not folder.exists():
            _write(_parse(path, option), folder)
    names = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    return CocoIndex(tuple(names["files"]), tuple(names["categories"]), **arrays)


def _write(index: CocoIndex, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="coco-") as temporary:
        ready = Path(temporary) / "ready"
        ready.mkdir()
        for name in _ARRAYS:
            np.save(ready / f"{name}.npy", getattr(index, name))
        names = {"files": index.files, "categories": index.categories}
        (ready / "names.json").write_text(json.dumps(names), encoding="utf-8")
        shutil.move(ready, folder)


class _Outline(NamedTuple):
    name: str
    """Image and id, by which annotations are sorted."""
    image: int
    category: int
    crowd: bool
    runs: bool
    id: int
    area: float
    box: tuple[int, int, int, int]
    numbers: Array


def _parse(path: Path, option: str) -> CocoIndex:
    try:
        whole = json.loads(regular(path, "give the file of annotations").read_bytes())
        # With the separator, by which instances' names go on: `a/1` comes behind `a-b/1`.
        images = sorted(whole["images"], key=lambda image: f"{_stem(image['file_name'])}/")
        position = {image["id"]: number for number, image in enumerate(images)}
        names = {category["id"]: str(category["name"]) for category in whole["categories"]}
        categories = {id: number for number, id in enumerate(sorted(names))}
        size = np.array([[image["width"], image["height"]] for image in images], np.int32).reshape(-1, 2)
        if (size < 1).any() or (size.prod(axis=1, dtype=np.int64) > PIXEL_LIMIT).any():
            raise ValueError(f"an image has no pixels, or over {PIXEL_LIMIT}")
        files = tuple(str(image["file_name"]) for image in images)
        if len(set(files)) != len(files) or not all(map(is_name, files)):
            raise ValueError("an image stands there twice or is no name")
        outlines = []
        for one in whole.pop("annotations"):
            image, id = position[one["image_id"]], int(one["id"])
            crowd = bool(one.get("iscrowd", 0))
            head = (f"{_stem(files[image])}/{id}", image, categories[one["category_id"]], crowd)
            if (form := _form(one.get("segmentation"), size[image])) is not None:
                outlines.append(_Outline(*head, form[0], id, *form[1:]))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{option}: {path} is not an annotation file of COCO (images, annotations, categories): "
            f"{shorten(repr(error))}"
        ) from None
    if len({one.id for one in outlines}) != len(outlines):
        raise UserError(f"{option}: {path}: two annotations have one id")
    outlines.sort(key=lambda one: one.name)
    return _collect(files, tuple(names[id] for id in sorted(names)), size, outlines)


def _collect(
    files: tuple[str, ...], categories: tuple[str, ...], size: Array, outlines: list[_Outline]
) -> CocoIndex:
    def column(name: str, kind: Any) -> Array:
        return np.array([getattr(one, name) for one in outlines], kind)

    lengths = [0, *(len(one.numbers) for one in outlines)]
    return CocoIndex(
        files,
        categories,
        column("image", np.int32),
        column("category", np.int16),
        column("crowd", bool),
        column("runs", bool),
        column("id", np.int64),
        column("area", np.float32),
        column("box", np.int32).reshape(-1, 4),
        np.cumsum(lengths, dtype=np.int64),
        np.concatenate([np.empty(0, np.int32), *(one.numbers for one in outlines)]),
        size,
    )


def _form(segmentation: Any, size: Array) -> tuple[bool, float, tuple[int, int, int, int], Array] | None:
    """Return whether these are runs, their area, box and numbers; None where nothing is outlined."""
    if isinstance(segmentation, dict):
        height, width = (int(edge) for edge in segmentation["size"])
        if [width, height] != size.tolist():
            raise ValueError(f"runs of {width}×{height} pixels in an image of {size[0]}×{size[1]}")
        counts = segmentation["counts"]
        runs = np.array(read_counts(counts) if isinstance(counts, str) else counts, np.int64)
        if (runs < 0).any() or runs.sum() != width * height:
            raise ValueError(f"runs do not fill {width}×{height} pixels")
        mask = decode_runs(runs, width, height)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            return None
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return True, float(mask.sum()), box, runs.astype(np.int32)
    polygons = [np.array(one, np.float64) for one in segmentation or [] if len(one) >= 6]
    if not polygons:
        return None
    points = np.concatenate([one[: len(one) // 2 * 2].reshape(-1, 2) for one in polygons])
    if not (np.abs(points) < _FARTHEST).all():
        raise ValueError("a polygon has a corner that is nowhere near its image")
    low, high = np.maximum(points.min(axis=0), 0), np.minimum(points.max(axis=0), size)
    if (high <= low).any():
        return None
    box = (math.floor(low[0]), math.floor(low[1]), math.ceil(high[0]), math.ceil(high[1]))
    return False, sum(map(_area, polygons)), box, np.concatenate(list(_hundredths(polygons)))


def _area(polygon: Array) -> float:
    """Return the area inside a polygon [x, y, x, y …], by the shoelace formula."""
    x, y = polygon[0::2][: len(polygon) // 2], polygon[1::2]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _hundredths(polygons: list[Array]) -> Iterable[Array]:
    for one in polygons:
        even = one[: len(one) // 2 * 2]
        yield np.array([len(even)], np.int32)
        yield np.rint(even * _POLYGON_UNIT).astype(np.int32)


def read_polygons(numbers: Array) -> list[Array]:
    """Return the polygons of an outline, each [corners, 2] float64 in pixels."""
    found, at = [], 0
    while at < len(numbers):
        count = int(numbers[at])
        found.append(numbers[at + 1 : at + 1 + count].reshape(-1, 2) / _POLYGON_UNIT)
        at += 1 + count
    return found


def decode_runs(runs: Array, width: int, height: int) -> Array:
    """Return the mask [height, width] bool of runs that fill it down the columns, outside first."""
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def read_counts(text: str) -> list[int]:
    """Return the counts in COCO's text.

    Five bits a character, the lowest first; from the fourth on the difference to the one before last.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"{character!r} is no character of runs")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
