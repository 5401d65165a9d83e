"""Sources whose reading kills, hangs or fails for real. Importable, for packing processes are spawned."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from shards.clip import Clip, Rejection, Storage
from shards.sources.base import Source

SMALL = Storage(frame_side=32, seconds=0.1)


@dataclass(frozen=True)
class Fragile(Source):
    """Twelve clips; those named die, hang or are rejected when they are read."""

    name: ClassVar[str] = "fragile"
    storage: Storage = SMALL
    dies: tuple[str, ...] = ()
    dies_once: tuple[str, ...] = ()
    hangs: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    memory: Path = field(default=Path())

    def ids(self) -> list[str]:
        return [f"clip-{k:02d}" for k in range(12)]

    def read(self, id: str) -> Clip | Rejection:
        if id in self.dies:
            os.kill(os.getpid(), signal.SIGSEGV)
        if id in self.dies_once and not (self.memory / id).exists():
            (self.memory / id).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if id in self.hangs:
            time.sleep(1000)
        if id in self.broken:
            return Rejection(id, "broken: by design", f"{id}.mp4")
        level = int(id[-2:])
        audio = np.linspace(-1, 1, self.storage.samples, dtype=np.float32) * level / 12
        return Clip(id, np.full((32, 32, 3), 20 * level, np.uint8), audio)
