"""Do edges alone find the objects? The control of pasted scenes, beside real frames.

    python -m benchmarks.edges scenes=data/scenes real=data/vggss --write docs/scenes.md

Where pictures are pasted with hard edges, an edge detector outlines the objects, and a map that follows edges
is rewarded for it. So, for each data set whose boxes are known: how much of a frame's sharpest tenth lies in
the boxes of visible objects, over the boxes' share of the frame; and in how many frames the sharpest place
does, over the same. 1 is chance.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, sobel

from benchmarks.pages import put
from benchmarks.tables import table
from cacl.annotation import join_boxes
from cacl.evaluation.compare import Estimate, Statistic, mean_over_clips
from cacl.evaluation.ground_truth import pixel_boxes, union_map
from cacl.media.still import FRAMES, open_picture
from shards.clip import Array
from shards.decoders.clip import annotation
from shards.store import Store, open_store

SIDE = 224
DETAIL, PLACE = 2.0, 6.0
"""Sigmas, pixels, over which edges are summed: for the sharpest tenth, for the sharpest place."""
SHARPEST = 0.1
_FIGURES = ("sharp", "place")
RESAMPLES = 2000


def main() -> None:
    """Measure each data set and print a row for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", metavar="NAME=SHARDS", help="packed clips whose boxes are known")
    parser.add_argument("--json", action="store_true", help="a JSON a line")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    arguments = parser.parse_args()
    rows = []
    for word in arguments.data:
        name, _, location = word.partition("=")
        rows.append({"data": name, **summarize(measure(open_store(location)))})
        if arguments.json:
            print(json.dumps(rows[-1]), flush=True)
    text = draw_table(rows)
    if not arguments.json:
        print(text)
    if arguments.write:
        put(arguments.write, "edges", text)


def measure(store: Store) -> Array:
    """Return what edges find in each frame with a visible object, [N, 3]: see `find`."""
    rows, seen = [], set()
    for index in map(int, store.indices):
        members = store.read(index)
        note = annotation(members)
        boxes = join_boxes(note.sources or ())
        if boxes and note.image not in seen:
            seen |= {note.image} - {None}
            frame = open_picture(members["jpg"], FRAMES).convert("L")
            small = frame.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            rows.append(find(np.asarray(small), union_map(pixel_boxes(boxes, SIDE, note.id), SIDE).numpy()))
    return np.array(rows)


def find(gray: Array, inside: Array) -> tuple[float, float, float]:
    """Return which shares lie in `inside`: of the sharp pixels, of all, of the sharpest place (0 or 1).

    `gray` is [S, S] uint8, `inside` [S, S] bool.
    """
    smooth = gaussian_filter(gray.astype(np.float32), 1.0)
    strength = np.hypot(sobel(smooth, 0), sobel(smooth, 1))
    detail = gaussian_filter(strength, DETAIL)
    sharp = detail >= np.quantile(detail, 1 - SHARPEST)
    place = gaussian_filter(strength, PLACE).argmax()
    return float((sharp & inside).sum() / sharp.sum()), float(inside.mean()), float(inside.flat[place])


def summarize(found: Array) -> dict[str, float | int]:
    """Return both figures relative to area, with intervals over frames, and the mean area."""
    sharp = mean_over_clips(found[:, 0] / found[:, 1]).interval()
    place = _over_area(found).interval()
    return {
        "frames": len(found),
        "area": float(found[:, 1].mean()),
        **{f"sharp{end}": value for end, value in _ends(sharp).items()},
        **{f"place{end}": value for end, value in _ends(place).items()},
    }


def draw_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = []
    for row in rows:
        spans = [f"{row[one]:.2f} [{row[f'{one}_low']:.2f}, {row[f'{one}_high']:.2f}]" for one in _FIGURES]
        lines.append([str(row["data"]), str(row["frames"]), f"{row['area']:.2f}", *spans])
    head = ["frames of", "N", "area of the boxes", "sharpest tenth ÷ area", "sharpest place ÷ area"]
    return table(head, lines)


def _over_area(found: Array) -> Statistic:
    def ratio(weights: Array) -> Array:
        value: Array = (weights @ found[:, 2:]) / (weights @ found[:, 1:2])
        return value

    return Statistic(len(found), ratio, RESAMPLES)


def _ends(estimate: Estimate) -> dict[str, float]:
    return {"": estimate.value, "_low": estimate.low, "_high": estimate.high}


if __name__ == "__main__":
    main()
