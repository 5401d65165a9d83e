"""A source of tiny clips with classes and gaps, and packing in this process: no worker is started."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cacl.annotation import SoundSource
from shards.clip import Clip, Rejection, Storage
from shards.manifest import Manifest
from shards.pack import merge
from shards.plan import PackPlan
from shards.sources.base import Source
from shards.writer import WORK, ShardWriter
from tests.shards.tiny import smooth_picture

TINY = Storage(frame_side=32, seconds=0.1)


@dataclass(frozen=True)
class Classed(Source):
    """Clip k is of class `classes[k]` and noise but for that; those of `broken` are rejected."""

    name: ClassVar[str] = "classed"
    storage: Storage = TINY
    classes: tuple[str, ...] = ()
    broken: tuple[int, ...] = ()

    def ids(self) -> list[str]:
        return [f"clip-{k:03d}" for k in range(len(self.classes))]

    def read(self, id: str) -> Clip | Rejection:
        number = int(id[-3:])
        if number in self.broken:
            return Rejection(id, "broken: by design")
        random = np.random.default_rng(number)
        audio = random.uniform(-0.5, 0.5, self.storage.samples).astype(np.float32)
        return Clip(id, smooth_picture(random, 32, 40), audio, (SoundSource(self.classes[number]),))


def write_shards(plan: PackPlan, out: Path) -> None:
    """Write every shard and its entry, as packing does before it merges."""
    (out / WORK).mkdir(parents=True)
    for number in range(plan.shards):
        ShardWriter(plan, out)(number, {}, lambda index: None)


def packed_here(plan: PackPlan, out: Path) -> Manifest:
    """Pack all shards and return their manifest."""
    write_shards(plan, out)
    (out / WORK / "plan.json").write_text(json.dumps({}))
    return merge(plan.head, out, 1.0)
