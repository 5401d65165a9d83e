"""Which classes collections of pictures and recordings have, and how much of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.progress import progress
from shards.scenes import film_files
from shards.scenes.collections import Instance, Split
from shards.scenes.source import Scenes
from shards.scenes.specs import NOTHING, open_backgrounds, open_pictures, open_sounds
from shards.scenes.split import SPLITS, divide


@dataclass(frozen=True)
class Amount:
    """How much there is of a class on one side: pictures or recordings."""

    instances: int
    origins: int
    """Photographs or recordings that they were cut from."""
    sides: dict[Split, int]
    """Instances in each part of the split."""
    seen: bool
    """Whether an origin lies in all parts, for want of others."""


@dataclass(frozen=True)
class ClassCount:
    """How much there is of a class."""

    class_name: str
    pictures: Amount
    recordings: Amount

    @property
    def missing(self) -> str:
        """What there is none of: `pictures`, `recordings`, or empty."""
        if not self.pictures.instances:
            return "pictures"
        return "" if self.recordings.instances else "recordings"


@dataclass(frozen=True)
class ClassTable:
    """What collections hold."""

    classes: tuple[ClassCount, ...]
    """Sorted by name."""
    backgrounds: Amount


def count_classes(
    objects: tuple[str, ...], sounds: tuple[str, ...], backgrounds: tuple[str, ...] = ()
) -> ClassTable:
    """Count what collections hold, by class and part of the split, without decoding any of it.

    They are named and divided as `cacl pack scenes` does it; backgrounds have a part in the division where
    pictures were cut from them. Raises UserError where one cannot be opened.
    """
    pictures, recordings = open_pictures(objects), open_sounds(sounds)
    photographs = open_backgrounds(backgrounds) if backgrounds else NOTHING
    division = divide(pictures, recordings, photographs)
    parts = division.sides.items()
    seen, seen_sounds = (
        {one.class_name for one in named} for named in (division.seen_pictures, division.seen_sounds)
    )
    shown = _amounts(pictures.instances, {split: side.pictures for split, side in parts}, seen)
    heard = _amounts(recordings.instances, {split: side.sounds for split, side in parts}, seen_sounds)
    behind = _amounts(photographs.instances, {split: side.backgrounds for split, side in parts}, seen)
    none = Amount(0, 0, dict.fromkeys(SPLITS, 0), False)
    return ClassTable(
        tuple(
            ClassCount(name, shown.get(name, none), heard.get(name, none))
            for name in sorted({*shown, *heard})
        ),
        behind.get("", none),
    )


def _amounts(
    instances: Iterable[Instance], parts: dict[Split, Iterable[Instance]], seen: set[str]
) -> dict[str, Amount]:
    """Return how much there is of each class."""
    counts: Counter[str] = Counter()
    origins: dict[str, set[str]] = {}
    for one in instances:
        counts[one.class_name] += 1
        origins.setdefault(one.class_name, set()).add(one.origin)
    of_part = {split: Counter(one.class_name for one in part) for split, part in parts.items()}
    return {
        name: Amount(count, len(origins[name]), {s: of_part[s][name] for s in SPLITS}, name in seen)
        for name, count in counts.items()
    }


def make_films(scenes: Scenes, out: Path, *, films: int, seconds: float, workers: int = 1) -> int:
    """Make films of `seconds` each into `out`, and what packs them; return how many clips they give.

    Raises UserError for options that give no films.
    """
    made = film_files.make_films(scenes, out, films=films, seconds=seconds, workers=workers)
    for _ in progress(made, desc="films", total=films, unit="film"):
        pass
    return len(json.loads((out / "boxes.json").read_text()))
