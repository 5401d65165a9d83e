"""The division of collections into training, validation and test, so that none has seen another's originals.

Pictures and backgrounds are divided together by the photographs that they were cut from, recordings by
theirs. Which side an original lies on is decided by its name and by what else there is of its classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np

from shards.scenes.collections import Backgrounds, Instance, Pictures, Sounds, Split
from shards.scenes.lazy import Lazy

SPLITS: tuple[Split, ...] = get_args(Split)
_SHARES: dict[Split, float] = {"train": 0.6, "test": 0.25, "validation": 0.15}
"""Of a class's originals, in the order in which the sides get their first."""


class Seen(NamedTuple):
    """What a class shows on every side, for want of originals."""

    class_name: str
    """Empty for backgrounds."""
    origin: str


class Share(NamedTuple):
    """What one side has, each sorted by name."""

    pictures: Sequence[Instance]
    sounds: Sequence[Instance]
    backgrounds: Sequence[Instance]


@dataclass(frozen=True)
class Division:
    """Three sides, and what they share in spite of themselves."""

    sides: dict[Split, Share]
    seen_pictures: tuple[Seen, ...]
    """Of pictures and backgrounds."""
    seen_sounds: tuple[Seen, ...]

    def __getitem__(self, split: Split) -> Share:
        return self.sides[split]


def divide(pictures: Pictures, sounds: Sounds, backgrounds: Backgrounds, seed: int = 0) -> Division:
    """Divide collections by their originals, about 60 % to train, 15 % to validate and 25 % to test.

    A class of three originals or more has one on each side, a class of two has none in validation, and the
    only one of a class is on all sides: `Seen`. So is one of a class whose originals all lie on one side
    because other classes are cut from them too. Backgrounds are wherever there is one.
    """
    photographs = _deal([pictures.instances, backgrounds.instances], seed)
    recordings = _deal([sounds.instances], seed)
    parts = (
        photographs.parts(pictures.instances),
        recordings.parts(sounds.instances),
        photographs.parts(backgrounds.instances),
    )
    sides = {split: Share(*(part[split] for part in parts)) for split in SPLITS}
    return Division(sides, tuple(sorted(photographs.seen)), tuple(sorted(recordings.seen)))


class _Deal(NamedTuple):
    side: dict[str, Split]
    """Of each origin."""
    seen: set[Seen]

    def parts(self, instances: Sequence[Instance]) -> dict[Split, Lazy]:
        """Return the instances of each side."""
        kept: dict[Split, list[int]] = {split: [] for split in SPLITS}
        for number, one in enumerate(instances):
            everywhere = (one.class_name, one.origin) in self.seen
            for split in SPLITS if everywhere else (self.side[one.origin],):
                kept[split].append(number)
        return {
            split: Lazy(instances.__getitem__, np.array(numbers, np.int64)) for split, numbers in kept.items()
        }


def _deal(collections: Iterable[Sequence[Instance]], seed: int) -> _Deal:
    """Give each origin a side, those of the rarest classes first."""
    origins: dict[str, set[str]] = defaultdict(set)
    for instances in collections:
        for one in instances:
            origins[one.class_name].add(one.origin)
    deal = _Deal({}, set())
    for class_name in sorted(origins, key=lambda name: (len(origins[name]), name)):
        own = sorted(origins[class_name], key=lambda origin: (_drawn(origin, seed), origin))
        if len(own) > 1:
            _deal_class(own, deal.side)
        had = {deal.side[origin] for origin in own} if len(own) > 1 else set()
        needed = set(SPLITS) if len(own) != 2 or not class_name else {"train", "test"}
        if needed - had:
            deal.seen.add(Seen(class_name, own[0]))
    for only in deal.seen:
        deal.side.setdefault(only.origin, "train")
    return deal


def _deal_class(own: list[str], side: dict[str, Split]) -> None:
    """Deal the origins of one class that have no side yet: to the sides that lack one, then by shares."""
    has: Counter[Split] = Counter(side[origin] for origin in own if origin in side)
    for origin in own:
        if origin not in side:
            lacking = [split for split in _SHARES if not has[split]]
            wanted = max(_SHARES, key=lambda split: _SHARES[split] * len(own) - has[split])
            side[origin] = lacking[0] if lacking else wanted
            has[side[origin]] += 1


def _drawn(origin: str, seed: int) -> str:
    return hashlib.sha256(f"{seed} {origin}".encode()).hexdigest()
