"""Leaks by content: the prints of 200,000 clips against those of 5,000, and how many pairs are false.

    python -m benchmarks.audit --json [--clips 200000] [--tested 5000]

- `audit/frames`: the reference compares pair by pair as users of ImageHash do, `one - other`
- `audit/sounds`: the reference lays one sound along the other at every shift and counts the bits that differ

The references are timed on drawn pairs for `--seconds` and reckoned up to all. Prints are drawn, those of
sounds so that neighboring words share most of their bits, as recordings' do; ten planted pairs must be found.

- `audit/false-frames`, `audit/false-sounds`: of a million unrelated pairs of real media, how many are alike.
  Looked at are all pairs of photographs, and a million pairs of stretches of sounds of two classes, each of
  three seconds or what there is of them; `nearest` is the smallest difference that was found, 0..1, and
  `limit` the largest of those that count as alike. The media are those that `CACL_VARIED_DIR` names; without
  it these rows are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import soundfile
from PIL import Image

from benchmarks.tables import plain_table
from shards.alike import (
    FRAME_BITS,
    SOUND_ERRORS,
    Alike,
    Frames,
    Words,
    alike_frames,
    alike_sounds,
    errors_of,
)
from shards.prints import frame_print, sound_print

WORDS, STRETCH, PLANTED = 830, 256, 10
STRETCHES, AT_ONCE = 1_000_000, 10_000
Row = dict[str, Any]


def draw_frames(clips: int, random: np.random.Generator) -> Frames:
    """Return prints [N, 4]."""
    return random.integers(0, 2**64, (clips, 4), dtype=np.uint64)


def draw_sounds(clips: int, random: np.random.Generator) -> Words:
    """Return prints [N, W] of which a word differs from the one before by an eighth of its bits."""
    changes = random.integers(0, 2**32, (clips, WORDS), dtype=np.uint32)
    for _ in range(2):
        changes[:, 1:] &= random.integers(0, 2**32, (clips, WORDS - 1), dtype=np.uint32)
    return np.maximum(np.bitwise_xor.accumulate(changes, axis=1), 1)


def frame_pairs(a: Frames, b: Frames) -> Callable[[int, int], bool]:
    """Return what says of one pair whether it is alike, by ImageHash."""
    hashes = [
        [imagehash.ImageHash(np.unpackbits(one.view(np.uint8)).reshape(16, 16) > 0) for one in some]
        for some in (a, b)
    ]
    return lambda i, j: bool(hashes[0][i] - hashes[1][j] <= FRAME_BITS)


def sound_pairs(a: Words, b: Words) -> Callable[[int, int], bool]:
    """Return what says of one pair whether it is alike at any shift."""

    def alike(i: int, j: int) -> bool:
        for shift in range(STRETCH - WORDS, WORDS - STRETCH + 1):
            mine = a[i, max(0, -shift) : WORDS - max(0, shift)]
            other = b[j, max(0, shift) : WORDS - max(0, -shift)]
            if np.bitwise_count(mine ^ other).mean() / 32 <= SOUND_ERRORS:
                return True
        return False

    return alike


def seconds_a_pair(alike: Callable[[int, int], bool], most: int, seconds: float) -> float:
    """Return how long one pair of the first `most` clips of both sides takes."""
    random = np.random.default_rng(1)
    spent, done = 0.0, 0
    while spent < seconds:
        pairs = random.integers(0, most, (10, 2)).tolist()
        start = time.perf_counter()
        for i, j in pairs:
            alike(i, j)
        spent, done = spent + time.perf_counter() - start, done + len(pairs)
    return spent / done


def row(name: str, search: Callable[[], Alike], pair: float, pairs: int) -> Row:
    """Return one comparison of all pairs. Raises AssertionError where a planted one is missed."""
    start = time.perf_counter()
    found = search()
    ours = time.perf_counter() - start
    assert found.pairs.tolist() == [[k, k] for k in range(PLANTED)], "not the planted pairs and no other"
    sides = {"ours": ours, "reference": pair * pairs, "unit": "s", "ratio": pair * pairs / ours}
    return {"benchmark": name, **sides, "pairs": pairs, "threads": len(os.sched_getaffinity(0))}


def speed(clips: int, tested: int, seconds: float) -> Iterator[Row]:
    """Yield both comparisons."""
    random = np.random.default_rng(0)
    a, b = draw_frames(clips, random), draw_frames(tested, random)
    b[:PLANTED] = a[:PLANTED] ^ np.uint64(1)
    pair = seconds_a_pair(frame_pairs(a[:500], b[:500]), min(500, tested), seconds)
    yield row("audit/frames", lambda: alike_frames(a, b), pair, clips * tested)
    heard, other = draw_sounds(clips, random), draw_sounds(tested, random)
    other[:PLANTED, 100:] = heard[:PLANTED, :-100]
    pair = seconds_a_pair(sound_pairs(heard, other), min(500, tested), seconds)
    yield row("audit/sounds", lambda: alike_sounds(heard, other), pair, clips * tested)


def false_frames(folder: Path) -> Row:
    """Return how many pairs of photographs are alike."""
    files = sorted(folder.glob("*.jpg"))
    bits = np.stack([np.unpackbits(frame_print(Image.open(file)).view(np.uint8)) for file in files])
    far = (bits[:, None] != bits[None]).sum(2)[np.triu_indices(len(files), 1)]
    return _false("audit/false-frames", far / 256, FRAME_BITS / 256)


def false_sounds(folder: Path) -> Row:
    """Return how many stretches of sounds of different classes are alike."""
    files = sorted(folder.glob("*/*.ogg"))
    found = []
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        found.append(sound_print(samples.mean(1), rate))
    prints = np.zeros((len(found), max(map(len, found))), np.uint32)
    for print_, words in zip(prints, found, strict=True):
        print_[: len(words)] = words
    classes = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    random, differences = np.random.default_rng(0), np.empty(0)
    while len(differences) < STRETCHES:
        i, j = random.integers(0, len(files), (2, AT_ONCE))
        at, other = random.integers(0, prints.shape[1], (2, AT_ONCE))
        keep = (classes[i] != classes[j]) & (prints[i, at] != 0) & (prints[j, other] != 0)
        errors = errors_of(prints, prints, i[keep], j[keep], at[keep], other[keep])
        differences = np.append(differences, errors[errors < 1])
    return _false("audit/false-sounds", differences[:STRETCHES], SOUND_ERRORS)


def _false(name: str, differences: np.ndarray, limit: float) -> Row:
    rate = 1e6 * float((differences <= limit).mean())
    facts = {"pairs": len(differences), "nearest": round(float(differences.min()), 3), "limit": limit}
    return {"benchmark": name, "ours": rate, "unit": "in a million", **facts}


def rows(clips: int, tested: int, seconds: float) -> Iterator[Row]:
    """Yield every row."""
    yield from speed(clips, tested, seconds)
    if media := os.environ.get("CACL_VARIED_DIR"):
        yield false_frames(Path(media) / "photographs")
        yield false_sounds(Path(media) / "sounds")


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--clips", type=int, default=200_000)
    parser.add_argument("--tested", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each reference")
    arguments = parser.parse_args()
    for found in rows(arguments.clips, arguments.tested, arguments.seconds):
        print(json.dumps(found) if arguments.json else plain_table([found]), flush=True)


if __name__ == "__main__":
    main()
