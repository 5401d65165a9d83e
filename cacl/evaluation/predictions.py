"""What any model says of a list of clips, from a file: maps, masks, or scored boxes.

| file | what it holds |
| --- | --- |
| `.npz` | `maps` [N, h, w] and `id` [N]: higher where the sound comes from |
| a folder | `<id>.png`, a mask each: 0 outside, anything else inside |
| `.json`, with `segmentation` | COCO's results: `image_id`, a mask as run lengths, perhaps `score` |
| `.json`, with `bbox` | `image_id`, `bbox` [x0, y0, x1, y1] in 0..1, and `score` |

Masks and boxes are regions: they have an outline and no order of pixels, so they are measured by regions' own
figures (`cacl.evaluation.protocols.regions`) and by no other.

Axes: `N` clips, `h`, `w` cells of a map, `H`, `W` pixels of a mask.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cacl.errors import UserError, brief, shorten
from cacl.evaluation.ground_truth import mask_map, pixel_boxes, union_map
from cacl.extras import named_extras
from cacl.files import regular

_FORMS = "give .npz with maps and id, a folder of <id>.png, or COCO's results as .json"
_LARGEST = 2**32
"""Bytes of a file of predictions."""
_MOST_PIXELS = 2**26
"""Of a mask; a damaged file may claim anything."""


@dataclass(frozen=True)
class Predictions:
    """What a file says, by clip."""

    kind: Literal["maps", "regions"]
    ids: Sequence[str]
    """[N] as the file has them, each once."""
    entries: Sequence[Any]
    """[N] of the kind's own: maps [h, w], masks' files, or lists of COCO's entries."""
    where: str
    threshold: float = 0.5
    """Regions with a lower score are left out."""

    def maps(self, rows: Sequence[int], size: int) -> Tensor:
        """Return the maps of some clips: [n, h, w] as they are, regions as [n, size, size] of 0 and 1.

        Raises UserError naming the clip whose entry is broken.
        """
        if self.kind == "maps":
            return torch.from_numpy(np.stack([self.entries[row] for row in rows])).float()
        return torch.stack([self._region(row, size).float() for row in rows])

    def _region(self, row: int, size: int) -> Tensor:
        try:
            return region_of(self.entries[row], size, self.threshold)
        except (ValueError, TypeError, KeyError, OSError, SyntaxError, OverflowError) as error:
            raise UserError(
                f"{self.where}: clip {self.ids[row]}: is no region ({shorten(error)}); {_FORMS}"
            ) from None


def read_predictions(path: Path, threshold: float = 0.5) -> Predictions:
    """Read a file of predictions, or a folder of masks.

    Raises UserError where it is none of the forms, or has a clip twice.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.png"))
        ids = [file.relative_to(path).with_suffix("").as_posix() for file in files]
        found = Predictions("regions", ids, files, str(path), threshold)
    elif path.suffix == ".npz":
        found = _read_maps(path)
    elif path.suffix == ".json":
        found = _read_json(path, threshold)
    else:
        raise UserError(f"--predictions {path}: is neither a folder nor .npz or .json; {_FORMS}")
    if not len(found.ids):
        raise UserError(f"--predictions {path}: holds no prediction; {_FORMS}")
    if len(set(found.ids)) < len(found.ids):
        twice = next(clip for clip in found.ids if list(found.ids).count(clip) > 1)
        raise UserError(f"--predictions {path}: has clip {twice} twice; every clip counts once")
    return found


def _read_maps(path: Path) -> Predictions:
    try:
        with np.load(regular(path, _FORMS, _LARGEST), allow_pickle=False) as file:
            maps, ids = file["maps"], [str(name) for name in np.atleast_1d(file["id"])]
    except FileNotFoundError:
        raise UserError(f"--predictions {path}: there is no such file") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"--predictions {path}: is no file of maps [N, h, w] and id [N] ({shorten(error)})"
        ) from None
    if maps.ndim != 3 or not np.issubdtype(maps.dtype, np.number) or np.iscomplexobj(maps):
        raise UserError(
            f"--predictions {path}: maps: expected real numbers [N, h, w], got {list(maps.shape)}"
        )
    if len(maps) != len(ids):
        raise UserError(f"--predictions {path}: has {len(maps)} maps and {len(ids)} ids; one belongs to one")
    broken = np.flatnonzero(~np.isfinite(maps).all((1, 2)))
    if len(broken):
        raise UserError(
            f"--predictions {path}: clip {ids[broken[0]]}: its map holds NaN or infinity ({len(broken)} of "
            f"{len(ids)} maps do); the model has diverged"
        )
    return Predictions("maps", ids, list(maps), str(path))


def _read_json(path: Path, threshold: float) -> Predictions:
    try:
        entries = json.loads(regular(path, _FORMS, _LARGEST).read_bytes())
        by_clip: dict[str, list[Mapping[str, Any]]] = {}
        for entry in entries:
            if ("segmentation" in entry) == ("bbox" in entry):
                raise ValueError(f"an entry needs segmentation or bbox, one of them: {brief(entry)}")
            by_clip.setdefault(str(entry["image_id"]), []).append(entry)
    except FileNotFoundError:
        raise UserError(f"--predictions {path}: there is no such file") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"--predictions {path}: is no list of COCO's results ({shorten(repr(error))})"
        ) from None
    return Predictions("regions", list(by_clip), list(by_clip.values()), str(path), threshold)


def region_of(entry: Any, size: int, threshold: float) -> Tensor:
    """Return the region of a clip's entry, bool [size, size]: the union of what scores `threshold` or more.

    `entry` is a mask's file or a list of COCO's entries. Raises ValueError and others for a broken one.
    """
    if isinstance(entry, Path):
        return mask_map(_read_png(entry), size)
    region = torch.zeros(size, size, dtype=torch.bool)
    for one in _scored(entry, threshold):
        if "bbox" in one:
            region |= union_map(pixel_boxes([_box(one["bbox"])], size, ""), size)
        else:
            region |= mask_map(_decode(one["segmentation"]), size)
    return region


def _scored(entries: Sequence[Mapping[str, Any]], threshold: float) -> Iterator[Mapping[str, Any]]:
    for one in entries:
        score = float(one.get("score", 1.0))
        if not np.isfinite(score):
            raise ValueError(f"score is {score}")
        if score >= threshold:
            yield one


def _box(box: Any) -> list[float]:
    edges = [float(edge) for edge in box]
    if len(edges) != 4 or not np.isfinite(edges).all() or max(edges) > 1.01:
        raise ValueError(f"bbox {edges} is not x0, y0, x1, y1 in 0..1 of width and height")
    return edges


def _read_png(path: Path) -> np.ndarray:
    with named_extras():
        from PIL import Image
    with Image.open(regular(path, "give a picture"), formats=["PNG"]) as picture:
        if picture.width * picture.height > _MOST_PIXELS:
            raise ValueError(f"it has {picture.width} × {picture.height} pixels")
        pixels = np.asarray(picture)
    # Some keep masks in the last channel of RGBA, most in one gray channel.
    return (pixels if pixels.ndim == 2 else pixels[..., :3].max(-1)) > 0


def _decode(segmentation: Mapping[str, Any]) -> np.ndarray:
    """Return a mask [H, W] bool from COCO's run lengths, compressed (text) or not (a list)."""
    with named_extras():
        from pycocotools import mask as coco

    height, width = (int(side) for side in segmentation["size"])
    counts = segmentation["counts"]
    if min(height, width) < 1 or height * width > _MOST_PIXELS:
        raise ValueError(f"its size is {height} × {width}")
    if isinstance(counts, list):
        if sum(int(count) for count in counts) != height * width or min(counts, default=0) < 0:
            raise ValueError("its run lengths do not fill its size")
        coded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    else:
        coded = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
        if int(coco.area(coded)) > height * width:
            raise ValueError("its run lengths do not fit its size")
    return np.asarray(coco.decode(coded)) > 0
