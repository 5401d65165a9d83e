"""COCO's photographs: what its masks cut out, and what is free of anything that can be heard.

Pictures leave out groups outlined as one, small objects, and those that the photograph's edge cuts. What
another object hides is missing from COCO's masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cacl.errors import UserError
from cacl.files import cache_folder, written
from shards.clip import Array
from shards.manifest import digest
from shards.scenes import reading
from shards.scenes.classes import class_of, class_table
from shards.scenes.coco_index import CocoIndex, decode_runs, open_index, read_polygons
from shards.scenes.collections import Instance
from shards.scenes.lazy import Lazy
from shards.sources import media

_LEAST_AREA = 48 * 48
"""Pixels of an object."""
_EDGE = 2
"""Pixels: an outline that comes so near to the photograph's edge goes on beyond it."""
_FINER = 4
"""Outlines are drawn so many times as large and reduced: soft edges, and exact to an eighth of a pixel."""
_LEAST_CROP = 128
"""Pixels of the short side of a background."""
_MARGIN = 4
"""Pixels that a background keeps from an object's box."""


@dataclass(frozen=True)
class Coco:
    """Photographs in a folder, and the index of their annotations. Pickled by the file's name."""

    label: str
    images: Path
    file: Path
    option: str

    @property
    def index(self) -> CocoIndex:
        """The annotations, opened once a process."""
        return open_index(self.file, self.option)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Our class of each of COCO's categories."""
        return tuple(class_of(name, "coco") for name in self.index.categories)

    def identity(self) -> dict[str, Any]:
        """Return the sha256 of the outlines' ids and of the images' names."""
        index = self.index
        return {"set": self.label, "sha256": digest([index.ids.tolist(), index.files, self.classes])}

    def photograph(self, image: int) -> Image.Image:
        """Return a photograph. Raises BrokenMedia where it is not what the annotations are of."""
        index = self.index
        picture = reading.open_image(self.images / index.files[image])
        if list(picture.size) != index.size[image].tolist():
            width, height = index.size[image]
            raise media.BrokenMedia(
                f"other picture: {picture.width}×{picture.height} pixels, annotated as {width}×{height}"
            )
        return picture.convert("RGB")

    def alpha(self, position: int) -> Array:
        """Return how much of each pixel in an annotation's box is its object's, [h, w] uint8, 0..255."""
        index = self.index
        x0, y0, x1, y1 = index.box[position].tolist()
        numbers = index.outline(position)
        if index.runs[position]:
            width, height = index.size[index.image[position]]
            return decode_runs(numbers, width, height)[y0:y1, x0:x1].astype(np.uint8) * 255
        large = Image.new("L", ((x1 - x0) * _FINER, (y1 - y0) * _FINER))
        for polygon in read_polygons(numbers):
            # Pillow's pixel k is drawn if the outline holds its center, k; ours lies at k + 1/2.
            corners = (polygon - [x0, y0]) * _FINER - 0.5
            ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
        return np.array(large.resize((x1 - x0, y1 - y0), Image.Resampling.BOX))


@dataclass(frozen=True)
class CocoPictures:
    """The objects that COCO's masks cut out of its photographs."""

    source: Coco

    @property
    def label(self) -> str:
        """What the instances' names begin with."""
        return self.source.label

    @cached_property
    def instances(self) -> Lazy:
        """The objects that are whole and large enough, sorted by name."""
        index = self.source.index
        size = index.size[index.image]
        inside = (index.box[:, :2] >= _EDGE).all(axis=1) & (index.box[:, 2:] <= size - _EDGE).all(axis=1)
        kept = inside & ~index.crowd & (index.area >= _LEAST_AREA)
        return Lazy(self.at, np.flatnonzero(kept))

    def at(self, position: int) -> Instance:
        """Return the object that an annotation outlines."""
        index = self.source.index
        stem = index.stem(int(index.image[position]))
        class_name = self.source.classes[index.category[position]]
        return Instance(class_name, f"{self.label}/{stem}/{index.ids[position]}", stem.rpartition("/")[2])

    def read(self, instance: Instance) -> Array:
        """Return an object, [h, w, 4] uint8. Raises BrokenMedia, naming the photograph."""
        index = self.source.index
        position = int(np.flatnonzero(index.ids == int(instance.name.rpartition("/")[2]))[0])
        image = int(index.image[position])
        with media.blame(index.files[image]):
            x0, y0, x1, y1 = index.box[position].tolist()
            picture = self.source.photograph(image).crop((x0, y0, x1, y1))
            picture.putalpha(Image.fromarray(self.source.alpha(position)))
            return reading.cut_picture(picture)

    def identity(self) -> dict[str, Any]:
        """Return what names the annotations, and which objects are used."""
        return {**self.source.identity(), "least_area": _LEAST_AREA, "edge": _EDGE}


@dataclass(frozen=True)
class CocoBackgrounds:
    """The photographs, or the largest crop of each, that show nothing of a class that can be heard."""

    source: Coco

    @property
    def label(self) -> str:
        """What the instances' names begin with."""
        return self.source.label

    @cached_property
    def crops(self) -> Array:
        """Of each image its largest free crop: x0, y0, x1, y1 in pixels, [I, 4] int32; 0 where there is none.

        Kept in the cache folder.
        """
        index = self.source.index
        audible = {row.name for row in class_table()}
        heard = np.array([name in audible for name in self.source.classes], bool)
        named = digest([self.source.identity(), heard.tolist(), _LEAST_CROP, _MARGIN])
        path = cache_folder() / f"coco-crops-{named[:32]}.npy"
        if not path.exists():
            crops = np.zeros((len(index.files), 4), np.int32)
            for image in range(len(index.files)):
                here = index.of_image(image)
                boxes = index.box[here.start : here.stop][heard[index.category[here.start : here.stop]]]
                crops[image] = free_crop(index.size[image], boxes) or 0
            with written(path, suffix=".npy") as partial:
                np.save(partial, crops)
        return np.load(path)

    @cached_property
    def instances(self) -> Lazy:
        """A background for each photograph that has room for one, sorted by name."""
        images = np.flatnonzero(self.crops[:, 2]).tolist()
        return Lazy(self.at, np.array(sorted(images, key=self.source.index.stem), np.int64))

    def at(self, image: int) -> Instance:
        """Return the background in a photograph."""
        stem = self.source.index.stem(image)
        return Instance("", f"{self.label}/{stem}", stem.rpartition("/")[2])

    @cached_property
    def _images(self) -> dict[str, int]:
        return {self.at(image).name: image for image in self.instances.positions.tolist()}

    def read(self, instance: Instance) -> Array:
        """Return a background, [h, w, 3] uint8. Raises BrokenMedia, naming the photograph."""
        image = self._images[instance.name]
        with media.blame(self.source.index.files[image]):
            x0, y0, x1, y1 = self.crops[image].tolist()
            return reading.reduce_photograph(self.source.photograph(image).crop((x0, y0, x1, y1)))

    def identity(self) -> dict[str, Any]:
        """Return what names the annotations, and which crops are used."""
        return {**self.source.identity(), "crops": digest(self.crops.tolist())}


def free_crop(size: Array, boxes: Array) -> tuple[int, int, int, int] | None:
    """Return the rectangle of a picture (width, height) that meets no box and has the longest short side.

    None where that is below 128 pixels. `boxes` [n, 4] are x0, y0, x1, y1 in pixels.
    """
    width, height = (int(edge) for edge in size)
    limits = np.array([width, height, width, height])
    grown = np.clip(boxes + _MARGIN * np.array([-1, -1, 1, 1]), 0, limits).tolist()
    tops = sorted({0, *(y1 for _, _, _, y1 in grown)})
    ends = sorted({height, *(y0 for _, y0, _, _ in grown)})
    best, crop = (_LEAST_CROP - 1, 0), None
    for top in tops:
        for end in ends:
            if end - top < best[0]:
                continue
            left = 0
            between = sorted((x0, x1) for x0, y0, x1, y1 in grown if y0 < end and y1 > top)
            for x0, x1 in [*between, (width, width)]:
                score = (min(x0 - left, end - top), (x0 - left) * (end - top))
                if score > best:
                    best, crop = score, (left, top, x0, end)
                left = max(left, x1)
    return crop


def open_coco(label: str, spec: str, option: str) -> Coco:
    """Open `IMAGES,FILE`. Raises UserError where it is not that, or names what is not there."""
    images, comma, file = spec.rpartition(",")
    if not comma or not images or not file:
        raise UserError(f"{option}: give coco:IMAGES,FILE: a folder of photographs and instances_….json")
    if not Path(images).is_dir():
        raise UserError(f"{option}: {images} is not a folder")
    source = Coco(label, Path(images), Path(file), option)
    if not len(source.index.ids):
        raise UserError(f"{option}: {file} outlines nothing (segmentation)")
    return source
