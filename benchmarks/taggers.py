"""How often taggers hear what sounds: the right class among the five best, on real clips of VGG-Sound.

    python -m benchmarks.taggers --json

Counted are the distinct clips in `CACL_REAL_DIR` whose class AudioSet has, those of VGG-SS and the others
each by themselves; models lie in its `models`. Which of AudioSet's 527 classes are right for one of
VGG-Sound's 309 was written down from the names alone before any run (`benchmarks/vggsound_audioset.csv`):
those that name the same thing or its sound, not what is wider (*Animal*, *Music*); 84 classes, of most
species of birds and of games, have none. Sounds are what packing stores: mono, ten seconds, at the rate in
the row's name; shorter ones are repeated. `low` and `high` are Wilson's 95 % interval in percent, `clips`
is how many were counted, `probability` the mean of what a clip's likeliest right class is given. Without
`CACL_REAL_DIR` there are no rows.

- `taggers/<tagger>/<set>/<rate>`: percent of the clips with a right class among the five best
- `taggers/<tagger>/speed`: milliseconds of a processor that a sound of ten seconds takes, one at a time
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.tables import plain_table
from cacl.model.taggers import SoundTagger, build_tagger
from cacl.model.taggers.base import audioset_classes
from cacl.model.taggers.rates import AtRate
from cacl.threads import torch_threads
from shards.clip import Storage
from shards.sources.media import NOTHING
from shards.sources.recordings import read_audio

TAGGERS = {"mn04": "mn04_as_mAP_432.pt", "yamnet": "yamnet.tflite"}
"""Their files in `models`."""
RATES = (32_000, 16_000)
"""Hz at which sounds are stored."""
BEST, SECONDS, REPEATS = 5, 10.0, 20
Row = dict[str, Any]


class Heard(NamedTuple):
    """A real clip and what is right for it."""

    file: Path
    group: str
    """The set that it belongs to."""
    right: tuple[str, ...]
    """AudioSet's names."""


def right_classes() -> dict[str, tuple[str, ...]]:
    """Return AudioSet's classes that are right for each of VGG-Sound's; none where AudioSet has none."""
    with Path(__file__).with_name("vggsound_audioset.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = audioset_classes()
    return {row["class"]: tuple(names[int(k)] for k in row["indices"].split()) for row in rows}


def clips(folder: Path) -> list[Heard]:
    """Return the clips of VGG-Sound in `CACL_REAL_DIR` whose class AudioSet has, each once."""
    right, found = right_classes(), {}
    for row in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        place = row["file"].partition("/")[0]
        if place not in ("vggss", "vggss_pairs", "vggsound") or row["file"].endswith(".jpg"):
            continue
        group = "other" if place == "vggsound" else "VGG-SS"
        classes = right.get(row.get("cls") or "", ())
        # One is there as a film and as three seconds of its sound: the film counts.
        if classes and (place != "vggss_pairs" or row["key"] not in found):
            found[row["key"]] = Heard(folder / row["file"], group, classes)
    return list(found.values())


def wilson(right: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was seen `right` times in `of`."""
    z = 1.959964
    middle = (right + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * math.sqrt(right * (of - right) / of + z * z / 4)
    return middle - half, middle + half


def hear(tagger: AtRate, clip: Heard, rate: int) -> tuple[bool, float]:
    """Return whether a class that is right for a clip is among the five best, and how likely one is."""
    recording = read_audio(clip.file, Storage(sample_rate=rate, seconds=SECONDS), NOTHING)
    probability = tagger(torch.from_numpy(recording.samples)[None])[0]
    right = [k for k, name in enumerate(tagger.tagger.classes) if name in clip.right]
    return bool(set(right) & set(probability.topk(BEST).indices.tolist())), float(probability[right].max())


def accuracy(name: str, tagger: SoundTagger, heard: list[Heard]) -> Iterator[Row]:
    """Yield a row for each set of clips and each rate at which they are stored."""
    known = [clip for clip in heard if set(clip.right) & set(tagger.classes)]
    for rate in RATES:
        results = [(clip.group, *hear(AtRate(tagger, rate), clip, rate)) for clip in known]
        for group in dict.fromkeys(clip.group for clip in known):
            found, likely = zip(*(result[1:] for result in results if result[0] == group), strict=True)
            low, high = wilson(sum(found), len(found))
            yield {
                "benchmark": f"taggers/{name}/{group}/{rate // 1000} kHz",
                "ours": round(100 * sum(found) / len(found), 1),
                "unit": "%",
                "low": round(100 * low, 1),
                "high": round(100 * high, 1),
                "clips": len(found),
                "probability": round(sum(likely) / len(likely), 3),
            }


def speed(name: str, tagger: SoundTagger) -> Row:
    """Return how long one sound takes."""
    noise = 0.1 * torch.randn(
        1, round(SECONDS * tagger.sample_rate), generator=torch.Generator().manual_seed(0)
    )
    took = []
    with torch_threads(1):
        for _ in range(REPEATS + 1):
            start = time.process_time()
            tagger(noise)
            took.append(time.process_time() - start)
    median = sorted(took[1:])[REPEATS // 2]
    return {"benchmark": f"taggers/{name}/speed", "ours": 1000 * median, "unit": "ms", "threads": 1}


def rows() -> Iterator[Row]:
    """Yield every row."""
    real = os.environ.get("CACL_REAL_DIR")
    if not real:
        return
    heard = clips(Path(real))
    for name, file in TAGGERS.items():
        tagger = build_tagger(name, Path(real) / "models" / file)
        yield from accuracy(name, tagger, heard)
        yield speed(name, tagger)


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    for found in rows():
        print(json.dumps(found) if arguments.json else plain_table([found]), flush=True)


if __name__ == "__main__":
    main()
