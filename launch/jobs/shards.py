"""What is in packed shards, and whether it is whole."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cacl.annotation import Annotation
from cacl.errors import UserError
from cacl.files import written
from cacl.media.still import FRAMES, open_picture
from shards.decoders.clip import annotation
from shards.manifest import Manifest
from shards.pack import REJECTED
from shards.store import Store, open_store
from shards.verify import verify


@dataclass(frozen=True)
class ShardsSummary:
    """What lies in a folder or at an address of shards."""

    manifest: Manifest
    clips: int
    size: int
    """Bytes of all shards."""
    rejections: list[tuple[str, int]]
    """Reasons for which clips were rejected, and how many; the most frequent first."""


def summarize_shards(location: str | Path) -> ShardsSummary:
    """Return what is in packed shards. Raises UserError if there are none."""
    store = open_store(location)
    size = sum(shard.filesize for shard in store.manifest.shards)
    reasons: Counter[str] = Counter()
    rejected = Path(location) / REJECTED
    if rejected.exists():
        lines = map(json.loads, rejected.read_text(encoding="utf-8").splitlines())
        reasons.update(line["reason"].partition(":")[0] for line in lines)
    return ShardsSummary(store.manifest, sum(map(len, store.shards)), size, reasons.most_common())


def verify_shards(location: str | Path, workers: int = 1) -> list[str]:
    """Return what is wrong with packed shards, a sentence each, after reading every byte and sample."""
    return list(verify(location, workers))


def draw_shards(location: str | Path, out: Path, clips: int = 40) -> int:
    """Write frames and what is known of them on one sheet; return how many there are, evenly taken.

    Raises UserError where `out` is no picture's name.
    """
    from cacl.viewing.sheet import draw_sheet

    store = open_store(location)
    places = np.linspace(0, len(store.indices) - 1, min(clips, len(store.indices))).round().astype(int)
    sheet = draw_sheet(_frame_and_note(store, int(store.indices[place])) for place in places)
    try:
        with written(out, suffix=out.suffix) as partial:
            sheet.save(partial)
    except ValueError:
        raise UserError(f"{out}: is no name of a picture; name one such as sheet.png") from None
    return len(places)


def _frame_and_note(store: Store, index: int) -> tuple[Image.Image, Annotation]:
    members = store.read(index)
    return open_picture(members["jpg"], FRAMES).convert("RGB"), annotation(members)
